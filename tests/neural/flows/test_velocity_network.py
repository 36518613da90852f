import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembletheory.laws import Gaussian
from ensembletheory.neural import FlowMatching, VelocityNetwork
from ensembletheory.processes import LinearInterpolant, OptimalTransportPath, VariancePreserving

MEAN, SCALE = np.array([0.7, -1.2]), 1.3
LAW = Gaussian(MEAN, SCALE**2)
POINT = np.array([0.4, 2.0])
ONES, POINTS = np.ones((3, 2)), np.stack([POINT] * 3)
SLOPES = {  # a, a', s, s' by hand
    "linear": (LinearInterpolant(), lambda t: (1 - t, -1.0, t, 1.0)),
    "transport": (OptimalTransportPath(0.1), lambda t: (1 - t, -1.0, 0.1 + 0.9 * t, 0.9)),
    "diffusion": (VariancePreserving(), lambda t: _diffusion(t)),
}


def _diffusion(t):
    b, I = 0.1 + 19.9 * t, 0.1 * t + 9.95 * t**2
    a, s = np.exp(-I / 2), np.sqrt(-np.expm1(-I))
    return a, -b / 2 * a, s, b / 2 * np.exp(-I) / s


@eqx.filter_jit
def saying(process, output, times, points):
    """What a network says, at pairs of times and points, whose perceptron says `output` whatever it is asked."""
    network = VelocityNetwork(jax.random.key(0), process, LAW, width=4, depth=1)

    def one(t, x, output):
        last = jnp.zeros_like(network.network.layers[-1]).at[:, -1].set(output)
        return eqx.tree_at(lambda n: n.network.layers[-1], network, last)(t, x)

    return jax.vmap(one)(times, points, output)


@pytest.mark.parametrize("name", ["linear", "diffusion", pytest.param("transport", marks=pytest.mark.verify)])
def test_the_network_around_its_perceptron_is_the_formula(name):
    """Zero gives the velocity of the isotropic Gaussian; the target of the perceptron, of variance one, gives that of flow matching, a' X_0 + s' X_1."""
    process, slopes = SLOPES[name]
    times = np.array([1e-3, 0.3, 0.9])
    e, z = np.random.default_rng(0).normal(size=(2, 3, 2))
    exact, targets, outputs, points = [], [], [], []
    for t, e_t, z_t in zip(times, e, z, strict=True):
        a, da, s, ds = slopes(t)
        root = np.sqrt(a**2 * SCALE**2 + s**2)
        of_source, of_data = a * SCALE / root, -s / root  # of independent variables of variance one
        assert of_source**2 + of_data**2 == pytest.approx(1, rel=1e-12)
        x = a * (MEAN + SCALE * e_t) + s * z_t
        exact.append(da * MEAN + (a * da * SCALE**2 + s * ds) / root**2 * (x - a * MEAN))
        targets.append(da * (MEAN + SCALE * e_t) + ds * z_t)
        outputs.append(of_source * z_t + of_data * e_t)
        points.append(x)
    points = np.asarray(points)
    np.testing.assert_allclose(saying(process, 0 * ONES, times, points), exact, rtol=1e-9)
    np.testing.assert_allclose(saying(process, np.asarray(outputs), times, points), targets, rtol=1e-9)


def test_on_the_linear_path_nothing_happens_at_the_ends():
    """Towards data W c / sqrt(v) -> 1 and towards noise c; the network is as smooth there as elsewhere."""
    said = saying(LinearInterpolant(), ONES, np.array([0.0, 1e-7, 1.0]), POINTS)
    at_data = -MEAN - (POINT - MEAN) + 1
    np.testing.assert_allclose(said[0], at_data, rtol=1e-14)
    np.testing.assert_allclose(said[1], at_data, atol=1e-6)
    np.testing.assert_allclose(said[2], -MEAN + POINT + SCALE, rtol=1e-14)


def test_where_noise_begins_infinitely_fast_the_network_refuses():
    network = eqx.filter_jit(lambda: VelocityNetwork(jax.random.key(0), VariancePreserving(), LAW, width=4, depth=1))()
    with pytest.raises(ValueError, match="`t`: got 0; expected a later time"):
        network.check(jnp.asarray(0.0))
    network.check(jnp.asarray(1e-3))
    assert not np.any(np.isfinite(saying(VariancePreserving(), ONES, np.zeros(3), POINTS)))
    with pytest.raises(ValueError, match="`start`: got 0; expected a later time"):
        FlowMatching(VariancePreserving(), LAW, start=0.0)
    for start in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="`start`"):
            FlowMatching(LinearInterpolant(), LAW, start=start)
