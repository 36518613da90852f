import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import ensembletheory as et
from ensembletheory.laws.univariate import log_tail, quantile, smaller_tail

MIXTURE = et.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [[0.25], [0.09]])


def test_tails_are_those_of_scipy_and_keep_their_digits():
    x = np.array([-12.0, -2.0, 0.0, 0.7, 8.0])
    tails = jax.jit(jax.vmap(lambda t, side: log_tail(MIXTURE, t, side), (0, None)))
    below, above = tails(x, 1.0), tails(x, -1.0)
    logs = [[scipy.special.logsumexp([np.log(0.3) + tail[0], np.log(0.7) + tail[1]]) for tail in zip(first, second, strict=True)] for first, second in _component_log_tails(x)]
    series_end = 105 / 20.0**8  # the first term that JAX's series leaves out, where it takes over
    np.testing.assert_allclose(below, logs[0], rtol=1e-12, atol=series_end)
    np.testing.assert_allclose(above, logs[1], rtol=1e-12, atol=series_end)


def _component_log_tails(x):
    laws = scipy.stats.norm(-2, 0.5), scipy.stats.norm(1, 0.3)
    return [[law.logcdf(x) for law in laws], [law.logsf(x) for law in laws]]


@pytest.mark.parametrize("law", [MIXTURE, et.Gaussian([0.5], 4.0)], ids=["mixture", "gaussian"])
def test_quantile_inverts_the_tails(law):
    x = np.array([-9.0, -2.2, -0.1, 1.0, 9.0])
    found = jax.jit(jax.vmap(lambda t: quantile(law, *smaller_tail(law, t))))(x)
    np.testing.assert_allclose(found, x, rtol=1e-12)


def test_quantile_has_the_derivative_of_the_implicit_function_theorem():
    def lower_quantile(shift):
        law = et.GaussianMixture(jnp.asarray([0.4, 0.6]), jnp.stack([shift, jnp.asarray(1.0)])[:, None], jnp.asarray([[0.5], [2.0]]))
        return quantile(law, jnp.asarray(1.0), jnp.log(0.3))

    at, step = jax.jit(jax.value_and_grad(lower_quantile)), 1e-5
    (above, _), (below, _), (_, slope) = (at(shift) for shift in (-1.0 + step, -1.0 - step, -1.0))
    assert float(slope) == pytest.approx(float(above - below) / (2 * step), abs=1e-9)
