"""Flow matching on the line, where the exact velocity, its floor and the map of every flow are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, stats

from ensembletheory.laws import Gaussian, GaussianMixture
from ensembletheory.neural import (
    FlowMatching,
    FlowMatchingLearner,
    IndependentPairs,
    Recipe,
    TransportedPairs,
    fit_ensemble,
    matching_floor,
    matching_loss,
    member,
    sampled_gain,
    stack,
    velocity_error,
)
from ensembletheory.processes import LinearInterpolant, OptimalTransportPath, VariancePreserving
from tests.helpers import Z

SAMPLES = 8192
PATH = LinearInterpolant()
KEY = jax.random.key(3)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(24)


@pytest.fixture(scope="module")
def objective(target):
    return FlowMatching(PATH, target, batch=128)


def fitted(target, coupling):
    learner = FlowMatchingLearner(PATH, coupling, width=24, depth=2, batch=128)
    return fit_ensemble(jax.random.key(1), learner, target, 3, Recipe(steps=300, learning_rate=1e-2, chunk=300, ema_decay=0.98))


@pytest.mark.verify
def test_the_floor_of_gaussians_on_the_linear_path_is_pi_sigma_over_2_a_coordinate():
    floor = matching_floor(FlowMatching(PATH, Gaussian([1.0, -2.0], [4.0, 0.25]), start=0.0))
    assert abs(floor.value - np.pi / 2 * (2 + 0.5)) <= floor.error + 1e-13
    assert floor.error < 1e-6


def test_the_floor_on_a_diffusion_is_that_of_its_closed_form():
    """For N(m, S) on the line Var(X' | X_t) = W^2 S / (a^2 S + s^2) with W = a s' - a' s = b a / (2 s) for VP; integrated in t by SciPy."""
    S, start = 0.3, 1e-3

    def at(t):
        b, I = 0.1 + 19.9 * t, 0.1 * t + 9.95 * t**2
        a2, s2 = np.exp(-I), -np.expm1(-I)
        return b**2 * a2 / (4 * s2) * S / (a2 * S + s2)

    truth, error = integrate.quad(at, start, 1.0, epsabs=1e-12, epsrel=1e-12, limit=200)
    floor, bound = numbers(matching_floor(FlowMatching(VariancePreserving(), Gaussian([2.0], S), start=start)))
    assert abs(floor - truth / (1 - start)) <= bound + error + 1e-12
    assert bound < 1e-6


def numbers(estimate):
    return float(estimate.value), float(estimate.error)


def by_hand(target, samples=50_000):
    """E|X' - v*|^2 on the linear path in NumPy: v* = E[X_1 - X_0 | X_t] by Gaussian conditioning in each component."""
    rng = np.random.default_rng(0)
    w, m, v = (np.asarray(part).ravel() for part in (target.weights, target.means, target.covs))
    k = rng.choice(len(w), samples, p=w)
    x0, x1, t = rng.normal(m[k], np.sqrt(v[k])), rng.normal(size=samples), rng.uniform(1e-3, 1, samples)
    x = (1 - t) * x0 + t * x1
    c = (1 - t)[:, None] ** 2 * v + t[:, None] ** 2
    density = w * stats.norm.pdf(x[:, None], (1 - t)[:, None] * m, np.sqrt(c))
    mean = -m + (t[:, None] - (1 - t)[:, None] * v) / c * (x[:, None] - (1 - t)[:, None] * m)
    return (x1 - x0 - np.sum(density * mean, 1) / np.sum(density, 1)) ** 2


def test_the_exact_velocity_has_no_error_and_its_loss_is_the_floor(target, objective):
    exact = PATH.velocity(target)
    assert float(velocity_error(KEY, exact, objective, SAMPLES)) == 0
    (loss, error), (lowest, bound), numpy = numbers(matching_loss(KEY, exact, objective, SAMPLES)), numbers(matching_floor(objective)), by_hand(target)
    assert abs(loss - lowest) <= Z * error + bound
    assert abs(numpy.mean() - lowest) <= Z * numpy.std() / np.sqrt(numpy.size) + bound
    assert error < 0.05 * lowest


def test_losses_differ_by_the_floor(target, objective):
    """Of two fields far apart, which are exact for other mixtures."""
    shift = [PATH.velocity(GaussianMixture(target.weights, np.asarray(target.means) + by, np.asarray(target.covs)[:, 0])) for by in (0.2, 2.0)]
    off = [numbers(velocity_error(KEY, field, objective, SAMPLES)) for field in shift]
    for (far, first), (loss, second) in zip(off, [numbers(matching_loss(KEY, field, objective, SAMPLES)) for field in shift], strict=True):
        assert abs(loss - far - float(matching_floor(objective))) <= Z * (first + second)
    assert off[1][0] > 10 * off[0][0]


def test_errors_of_velocities_are_errors_of_scores(target, objective):
    """In NumPy for one component: v - v* = -(g^2 / 2)(score - score*), with g^2 / 2 = t / (1 - t) on the linear path."""
    t, x, (m, n), (S, R) = 0.4, 0.3, (0.5, 2.0), (1.5, 0.5)
    velocities = [-m + (t - (1 - t) * S) / c * (x - (1 - t) * m) for m, S in ((m, S), (n, R)) for c in [(1 - t) ** 2 * S + t**2]]
    scores = [-(x - (1 - t) * m) / ((1 - t) ** 2 * S + t**2) for m, S in ((m, S), (n, R))]
    assert velocities[0] - velocities[1] == pytest.approx(-t / (1 - t) * (scores[0] - scores[1]), rel=1e-12)


def quantiles(target):
    """The quantile map at the nodes, by bisection of SciPy's distribution functions."""
    w, m, v = (np.asarray(part).ravel() for part in (target.weights, target.means, target.covs))
    return np.array([optimize.brentq(lambda x, u=u: w @ stats.norm.cdf(x, m, np.sqrt(v)) - u, -8, 8, xtol=1e-13) for u in stats.norm.cdf(NODES[4:-4])])


@eqx.filter_jit
def flowed(fields, x):
    """The maps of a stack of velocities, by 50 steps of the midpoint rule from noise to data."""

    def of(field):
        def step(x, t):
            halfway = x - 0.01 * jax.vmap(lambda y: field(t, y))(x)
            return x - 0.02 * jax.vmap(lambda y: field(t - 0.01, y))(halfway), None

        return jax.lax.scan(step, x, 1 - 0.02 * jnp.arange(50.0))[0]

    return eqx.filter_vmap(of)(fields)


@pytest.mark.parametrize("coupling", [IndependentPairs(), pytest.param(TransportedPairs(64), marks=pytest.mark.verify)])
def test_networks_of_either_pairing_approach_the_quantile_map(target, coupling):
    """Whatever the pairs, a flow on the line keeps quantiles. W_2, the root of the mean squared distance of the maps, is half that of the best Gaussian."""
    trained = fitted(target, coupling)
    z, weights, exact = NODES[4:-4], WEIGHTS[4:-4] / WEIGHTS[4:-4].sum(), quantiles(target)
    maps = np.asarray(flowed(trained.average, z[:, None]))[:, :, 0]
    off = np.sqrt((maps - exact) ** 2 @ weights)
    gaussian = np.sqrt((float(target.mean[0]) + float(target.cov[0, 0]) ** 0.5 * z - exact) ** 2 @ weights)
    assert np.all(np.diff(maps, axis=1) > 0)
    assert np.all(off < gaussian), (off, gaussian)
    assert np.sqrt(np.mean(off**2)) < gaussian / 2, (off, gaussian)
    np.testing.assert_array_equal(np.asarray(trained.model.mean), [np.asarray(target.mean)] * 3)  # trained is the perceptron only
    np.testing.assert_array_equal(trained.model.process.horizon, np.ones(3))
    lowest, tail = float(matching_floor(FlowMatching(PATH, target)).value), np.asarray(trained.losses)[:, -100:]
    if isinstance(coupling, TransportedPairs):
        assert np.all(tail.mean(1) < lowest / 4)
    else:
        assert np.all(tail.mean(1) >= lowest - Z * tail.std(1) / 10)


def test_of_other_pairs_no_velocity_is_known(target, objective):
    transported, exact = FlowMatching(PATH, target, TransportedPairs(), batch=128), PATH.velocity(target)
    for refused in (lambda: velocity_error(KEY, exact, transported, 1024), lambda: matching_floor(transported)):
        with pytest.raises(ValueError, match="`objective`: got pairs by TransportedPairs"):
            refused()
    with pytest.raises(ValueError, match="`samples`: got 128, less than two batches of 128"):
        matching_loss(KEY, exact, objective, 128)


def test_fields_of_another_kind_process_or_dimension_are_refused(target, objective):
    plane = Gaussian([0.0, 0.0], 1.0)
    for measure in (matching_loss, velocity_error):
        for field, message in (
            (PATH.score(target), "`field`: got a score; expected a velocity"),
            (VariancePreserving().velocity(target), "`field`: got a field of another process"),
            (PATH.velocity(plane), "(?s)`field`: .*; expected vectors of shape"),
        ):
            with pytest.raises(ValueError, match=message):
                measure(KEY, field, objective, SAMPLES)


@pytest.mark.verify
@pytest.mark.parametrize("process", [OptimalTransportPath(0.01), VariancePreserving()])
def test_networks_learn_the_velocities_of_other_paths(target, process):
    """All three members bring the error of the network that says zero, whose velocity is that of the matched Gaussian, below a quarter."""
    learner, objective = FlowMatchingLearner(process, width=32, depth=3, batch=256), FlowMatching(process, target)
    trained = fit_ensemble(KEY, learner, target, 3, Recipe(steps=800, learning_rate=5e-3, chunk=400, ema_decay=0.99)).average
    gaussian = velocity_error(KEY, process.velocity(Gaussian(target.mean, target.cov)), objective, SAMPLES).value
    assert all(velocity_error(KEY, member(trained, k), objective, SAMPLES).value < gaussian / 4 for k in range(3))


@pytest.mark.verify
def test_velocities_gain_as_the_scores_they_are_converted_from(target):
    """Of exact fields: the flow is the same, and so is every number; on a path where a score says all at the horizon too."""
    laws, path = [GaussianMixture(target.weights, target.means + shift, target.covs) for shift in (-0.4, 0.4)], VariancePreserving()
    grid = np.linspace(1.0, 0.0, 21)
    scores, velocities = (stack([field(law) for law in laws]) for field in (path.score, path.velocity))
    first, second = (sampled_gain(KEY, target, fields, path, grid, 256) for fields in (scores, velocities))
    for name in ("average", "best", "ensemble", "gain"):
        np.testing.assert_allclose(getattr(first, name).value, getattr(second, name).value, rtol=1e-9)
    assert first.gain.value > 0
