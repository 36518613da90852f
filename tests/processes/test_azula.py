"""The denoiser of a Gaussian beside azula's, where azula and torch are installed (they come with no extra of this package)."""

import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from tests.helpers import spd

torch = pytest.importorskip("torch")
azula = pytest.importorskip("azula")


def test_the_denoiser_of_a_gaussian_is_azulas():
    from azula.denoise import GaussianDenoiser
    from azula.linalg.covariance import FullCovariance
    from azula.noise import RectifiedSchedule

    rng = np.random.default_rng(0)
    mean, cov, x = rng.normal(size=3), spd(rng, 3), rng.normal(size=(4, 3))
    values, vectors = np.linalg.eigh(cov)
    theirs = GaussianDenoiser(torch.tensor(mean), FullCovariance(torch.tensor(vectors), torch.tensor(values)), RectifiedSchedule(alpha_min=1e-9, sigma_min=1e-3))
    ours = et.processes.OptimalTransportPath(sigma_min=1e-3).denoiser(et.Gaussian(mean, cov))
    for t in (0.1, 0.5, 0.9):
        expected = theirs(torch.tensor(x), torch.tensor(t, dtype=torch.float64)).mean.numpy()
        np.testing.assert_allclose(ours.batch(jnp.asarray(t), jnp.asarray(x)), expected, rtol=1e-7)  # azula's signal ends at 1e-9 instead of 0
