"""The second moment of importance weights against quadrature and the table of the two-dimensional posterior correlation."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import ensembletheory as et
from ensembletheory.latent import best_diagonal_encoder, hadamard_gap, iwae_second_moment, iwae_threshold
from tests.helpers import spd


def model_with_posterior_correlation(r):
    """A two-dimensional PPCA model whose posterior covariance is proportional to [[1, r], [r, 1]]."""
    M = np.linalg.inv(np.array([[1.0, r], [r, 1.0]])) * 3.0
    return et.Ppca(np.linalg.cholesky(M - 0.4 * np.eye(2)).T, np.zeros(2), 0.4)


@pytest.mark.parametrize(("r", "moment", "gap"), [(0.1, 1.010415, 0.005025), (0.3, 1.1375, 0.047155), (0.45, 1.829590, 0.113137), (0.49, 3.818641, 0.137284)])
def test_table_of_the_posterior_correlation(r, moment, gap):
    model = model_with_posterior_correlation(r)
    assert float(iwae_second_moment(model, best_diagonal_encoder(model), [0.4, -0.3])) == pytest.approx(moment, rel=1e-5)  # six printed digits
    assert float(hadamard_gap(model)) == pytest.approx(gap, abs=5e-7)


@pytest.mark.parametrize("r", [-0.51, 0.5 + 1e-6, 0.9])
def test_no_second_moment_beyond_correlation_one_half(r):
    model = model_with_posterior_correlation(r)
    assert float(iwae_threshold(model, best_diagonal_encoder(model))) < 0
    assert float(iwae_second_moment(model, best_diagonal_encoder(model), [0.4, -0.3])) == np.inf


def test_the_threshold_is_at_one_half():
    for r in (0.5 - 1e-6, -0.5 + 1e-6):
        model = model_with_posterior_correlation(r)
        assert float(iwae_threshold(model, best_diagonal_encoder(model))) > 0
        assert np.isfinite(float(iwae_second_moment(model, best_diagonal_encoder(model), [0.0, 0.0])))


def test_second_moment_of_any_encoder_is_the_integral():
    rng = np.random.default_rng(0)
    model = et.Ppca(rng.normal(size=(3, 2)), rng.normal(size=3), 0.5)
    encoder = et.AffineKernel(rng.normal(size=(2, 3)) / 4, [0.1, -0.2], spd(rng, 2, 0.5, 0.9))
    x = rng.normal(size=3)
    posterior, law = model.posterior.at(jnp.asarray(x)), encoder.at(jnp.asarray(x))
    p, e = scipy.stats.multivariate_normal(posterior.mean, posterior.cov), scipy.stats.multivariate_normal(law.mean, law.cov)
    truth = scipy.integrate.dblquad(lambda b, a: np.exp(2 * p.logpdf([a, b]) - e.logpdf([a, b])), -12, 12, -12, 12, epsabs=1e-9)[0]
    assert float(iwae_threshold(model, encoder)) > 0
    assert float(iwae_second_moment(model, encoder, x)) == pytest.approx(truth, rel=1e-7)
