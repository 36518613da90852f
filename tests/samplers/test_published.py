"""Numbers of the theory for Karras et al.'s sampler and for Analytic-DPM, through the samplers' own laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.samplers import AnalyticDpm, Ddim, EdmHeun, Euler, Sampler, edm_grid, padded

EDM = et.processes.EdmPath()
VARIANCES = np.array([0.25, 1.0, 0.01])
STD = {  # from N(0, 80^2), by levels: (Euler, Heun) for every variance
    10: [(0.365213, 0.609798), (0.7508, 1.17543), (0.0674185, 0.135742)],
    18: [(0.423031, 0.527625), (0.859455, 1.04473), (0.081025, 0.109017)],
    40: [(0.464851, 0.504877), (0.936062, 1.0079), (0.0912254, 0.101551)],
    79: [(0.482098, 0.501176), (0.967464, 1.00187), (0.0955023, 0.100359)],
}


@pytest.mark.parametrize(("column", "scheme"), [(0, Euler()), (1, EdmHeun())])
def test_standard_deviations_along_the_schedule_of_edm(column, scheme):
    data = et.Gaussian(np.zeros(3), VARIANCES)
    field = et.processes.convert(EDM, EDM.denoiser(data), scheme.takes)
    grids = jnp.stack([padded(edm_grid(EDM, levels), 80) for levels in STD])
    factors = jax.jit(jax.vmap(lambda grid: Sampler(EDM, field, scheme, grid).coordinatewise_kernel(3).a))(grids)
    printed = np.array([[pair[column] for pair in row] for row in STD.values()])
    np.testing.assert_allclose(80 * np.abs(factors), printed, rtol=2e-5)


DISCRETE = et.processes.DiscreteVariancePreserving(np.linspace(1e-4, 0.02, 1000))


@pytest.mark.parametrize(("variances", "printed"), [([4.0, 4.0], [3.9999, 3.9999]), ([4.0, 0.25], [3.30815, 0.349547])])
def test_analytic_dpm_without_the_last_noise(variances, printed):
    """Ten evenly spaced steps, and then, as in the original, none of the noise of the step to time 0; anisotropic data get a compromise."""
    data, times = et.Gaussian([0.0, 0.0], variances), np.linspace(1000, 1, 10)
    first = Sampler(DISCRETE, DISCRETE.denoiser(data), AnalyticDpm(DISCRETE, data, times), times)
    last = Sampler(DISCRETE, DISCRETE.denoiser(data), Ddim(), [1.0, 0.0])
    np.testing.assert_allclose(last.law(first.law(DISCRETE.marginal(data, 1000.0))).covariance.diagonal(), printed, rtol=2e-5)
