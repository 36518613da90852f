import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembletheory.laws import Gaussian
from ensembletheory.neural import ScoreNetwork
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.processes import LinearInterpolant, VariancePreserving

MEAN, SCALE = np.array([0.7, -1.2]), 1.3
LAW = Gaussian(MEAN, SCALE**2)
PROCESSES = [VariancePreserving(), LinearInterpolant()]
at = eqx.filter_jit(lambda field, t, x: field(jnp.asarray(t), x))


def constant(process, output) -> ScoreNetwork:
    """A network whose perceptron says `output` whatever it is asked."""
    network = ScoreNetwork(jax.random.key(0), process, LAW, width=4, depth=1)
    last = jnp.zeros_like(network.network.layers[-1]).at[:, -1].set(jnp.asarray(output))
    return eqx.tree_at(lambda n: n.network.layers, network, (*network.network.layers[:-1], last))


@pytest.mark.parametrize("process", PROCESSES)
def test_a_network_that_says_zero_is_exact_for_an_isotropic_gaussian(process):
    x, network, exact = jnp.array([0.4, 2.0]), constant(process, [0.0, 0.0]), process.score(LAW)
    for t in jnp.array([1e-3, 0.1, 0.5, 0.9]):
        np.testing.assert_allclose(at(network, t, x), at(exact, t, x), rtol=1e-10)  # 1 - exp(-small) loses 4 digits at t = 1e-3


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("t", [1e-3, 0.3, 0.9])
def test_the_target_of_the_network_has_variance_one_and_gives_the_denoising_target(process, t):
    """F = [s (X_0 - m) - a c^2 Z] / (c sqrt v) for X_0 = m + c E: a combination of the independent E and Z, whose squared coefficients sum to one."""
    a, s = float(process.a(jnp.asarray(t))), float(jnp.sqrt(process.noise_variance(jnp.asarray(t))))
    root = np.sqrt(a**2 * SCALE**2 + s**2)
    of_data, of_noise = s / root, -a * SCALE / root
    assert of_data**2 + of_noise**2 == pytest.approx(1, rel=1e-12)
    e, z = np.random.default_rng(0).normal(size=(2, 2))
    x = a * (MEAN + SCALE * e) + s * z
    np.testing.assert_allclose(at(constant(process, of_data * e + of_noise * z), t, jnp.asarray(x)), -z / s, rtol=1e-9)


def test_without_signal_the_score_is_that_of_the_noise_whatever_the_network():
    x, horizon = jnp.array([0.4, -3.0]), jnp.asarray(1.0)
    for key in range(3):
        np.testing.assert_array_equal(at(ScoreNetwork(jax.random.key(key), PROCESSES[1], LAW), horizon, x), -x)
    loud = constant(PROCESSES[0], [1.0, -1.0])
    a = float(PROCESSES[0].a(horizon))  # 0.0066
    np.testing.assert_allclose(at(loud, horizon, x) + x, a * MEAN + a * SCALE * np.array([1.0, -1.0]), atol=20 * a**2)


def test_only_the_perceptron_is_trained():
    network = ScoreNetwork(jax.random.key(0), PROCESSES[0], LAW, width=4, depth=1)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda n: jnp.sum(n(jnp.asarray(0.3), jnp.array([0.1, 0.2])))))(network)
    assert all(np.any(part) for part in jax.tree.leaves(gradient.network))
    for fixed in (gradient.process, gradient.mean, gradient.scale):
        assert not any(np.any(part) for part in jax.tree.leaves(fixed))


def test_the_network_is_smooth_and_finite_over_the_whole_path():
    network = ScoreNetwork(jax.random.key(0), PROCESSES[0], LAW)
    times = jnp.geomspace(1e-6, 1.0, 50)
    values = eqx.filter_jit(jax.vmap(lambda t: jax.jacfwd(network, argnums=1)(t, jnp.array([1.0, 5.0]))))(times)
    assert np.all(np.isfinite(values))


@pytest.mark.parametrize("depth", [0, 2])
def test_the_perceptron_is_its_formula(depth):
    perceptron = Perceptron(jax.random.key(1), 3, 2, width=5, depth=depth)
    x = h = np.array([0.3, -1.0, 2.0])
    for layer in perceptron.layers[:-1]:
        h = np.asarray(layer) @ np.append(h, 1.0)
        h = h / (1 + np.exp(-h))
    np.testing.assert_allclose(perceptron(jnp.asarray(x)), np.asarray(perceptron.layers[-1]) @ np.append(h, 1.0), rtol=1e-13)
    assert [layer.shape for layer in perceptron.layers] == {0: [(2, 4)], 2: [(5, 4), (5, 6), (2, 6)]}[depth]


def test_the_layers_begin_with_the_stated_variances():
    """Squares of n normal entries have relative standard error sqrt(2 / n)."""
    layers = Perceptron(jax.random.key(2), 199, 100, width=100, depth=2).layers
    for layer, gain in zip(layers, (2.0, 2.0, 1.0), strict=True):
        assert abs(np.mean(np.square(layer)) * layer.shape[1] / gain - 1) <= 5 * np.sqrt(2 / layer.size)


@pytest.mark.parametrize(("sizes", "named"), [((0, 1, 4, 1), "inputs"), ((1, 0, 4, 1), "outputs"), ((1, 1, 0, 1), "width"), ((1, 1, 4, -1), "depth")])
def test_a_perceptron_without_units_is_refused(sizes, named):
    with pytest.raises(ValueError, match=f"`{named}`: got {min(sizes)}; expected a whole number"):
        Perceptron(jax.random.key(0), *sizes)
