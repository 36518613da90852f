"""The telegraph process as noise: densities, velocities and ratios by hand, and the two ways back to the data, the flow and the reversed jumps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ensembletheory.laws import FiniteLaw, Gaussian, GaussianMixture
from ensembletheory.processes import Telegraph
from ensembletheory.processes.pdmp import ReverseFlips
from ensembletheory.samplers import Heun, JumpSampler, Sampler, padded
from tests.helpers import assert_mean
from tests.laws.kac_by_hand import parts, smoothed, smoothed_on

C, A = 3.0, 9.0
PROCESS = Telegraph(C, A, 1.0)
PLANE = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [[0.04, 0.02], [0.09, 0.25]])
LINE = GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [[0.16], [0.09]])
POINTS = FiniteLaw([[-1.0, 0.0], [1.0, 0.5]], [0.25, 0.75])
T, X = 0.5, np.array([0.3, 0.2])


def test_density_velocity_and_ratios_by_hand():
    w, m, s = np.array([0.3, 0.7]), np.asarray(PLANE.means), np.sqrt([[0.04, 0.02], [0.09, 0.25]])
    f = np.array([[[float(value) for value in smoothed(C, A, T, X[j] - m[k, j], s[k, j])] for j in range(2)] for k in range(2)])
    density = np.sum(w * f.sum(axis=2).prod(axis=1))
    law = PROCESS.marginal(PLANE, T)
    assert float(law.log_prob(X)) == pytest.approx(np.log(density), rel=1e-12)
    u = [C * np.sum(w * (f[:, j, 0] - f[:, j, 1]) * f[:, 1 - j].sum(axis=1)) / density for j in range(2)]
    np.testing.assert_allclose(at(PROCESS.velocity(PLANE), T, X), u, rtol=1e-11)
    joint = {(i, j): np.sum(w * f[:, 0, i] * f[:, 1, j]) for i in range(2) for j in range(2)}
    signs = np.array([1.0, -1.0])
    assert float(law.log_joint(X, signs)) == pytest.approx(np.log(joint[0, 1]), rel=1e-12)
    np.testing.assert_allclose(at(PROCESS.turned_ratios(PLANE), T, X, signs), [joint[1, 1] / joint[0, 1], joint[0, 0] / joint[0, 1]], rtol=1e-11)


@eqx.filter_jit
def at(function, *arguments):
    return function(*map(jnp.asarray, arguments))


def test_moments_marginals_and_conditionals():
    law = PROCESS.marginal(PLANE, T)
    np.testing.assert_allclose(law.cov, np.asarray(PLANE.cov) + np.eye(2) * (C**2 / A) * (T - (1 - np.exp(-2 * A * T)) / (2 * A)), rtol=1e-12)
    np.testing.assert_allclose(law.mean, PLANE.mean, rtol=1e-12)
    first, given = law.marginal([0]), law.condition([0], X[:1])
    assert float(first.log_prob(X[:1])) + float(given.log_prob(X[1:])) == pytest.approx(float(law.log_prob(X)), rel=1e-12)
    x, v = map(np.asarray, PROCESS.simulate(jax.random.key(0), 4000, PLANE, T))
    assert_mean(x, law.mean)
    assert_mean((x - np.asarray(law.mean)) ** 2, np.diag(law.cov))
    assert_mean(x[:, 0] * v[:, 0] * C, (C**2 / (2 * A)) * (1 - np.exp(-2 * A * T)))  # half the derivative of the variance


def cdf(law, t, x):
    """P(X_t <= x) by 400 nodes on the cone and the atoms."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    y = np.concatenate([C * t * nodes, [-C * t, C * t]])
    masses = np.concatenate([C * t * weights * sum(parts(C, A, t, C * t * nodes)), np.full(2, np.exp(-A * t) / 2)])
    components = zip(np.asarray(law.weights), np.asarray(law.means)[:, 0], np.sqrt(np.asarray(law.covs)[:, 0, 0]), strict=True)
    return sum(w * stats.norm(m, s).cdf(x[:, None] - y[None, :]) @ masses for w, m, s in components)


def test_the_flow_keeps_quantiles():
    """On the line the flow back to the data carries quantiles to quantiles: Heun's method, whose error falls by 4 when its steps are halved."""
    begin = np.array([-2.0, -1.0, 0.0, 0.3, 0.8, 1.2, 2.5])[:, None]
    errors = []
    for steps in (30, 60):
        sampler = Sampler(PROCESS, PROCESS.velocity(LINE), Heun(), padded(np.linspace(1, 0, steps + 1) ** 2, 61))
        ends = np.asarray(sampler.run(jax.random.key(0), jnp.asarray(begin)))[:, 0]
        errors.append(np.max(np.abs(cdf(LINE, 1e-12, ends) - cdf(LINE, 1.0, begin[:, 0]))))
    assert errors[1] < 4e-4
    assert 3 < errors[0] / errors[1] < 6


def test_the_reversed_jumps_return_the_data():
    """From exact draws at the horizon to the data, by 25 steps: masses of both modes, and moments, within standard errors."""
    x, v = PROCESS.simulate(jax.random.key(1), 500, LINE)
    sampler = JumpSampler(ReverseFlips(PROCESS, PROCESS.turned_ratios(LINE)), np.linspace(1, 0, 26) ** 2, "DJD")
    assert sampler.evaluations == 25
    ends = np.asarray(sampler.run(jax.random.key(2), x, v)[0])[:, 0]
    assert_mean(ends > 0, cdf(LINE, 1e-12, np.zeros(1))[0] * -1 + 1)
    for power in (1, 2, 4):
        truth = sum(w * stats.norm(m, s).moment(power) for w, m, s in ((0.3, -1.0, 0.4), (0.7, 1.0, 0.3)))
        assert_mean(ends**power, truth)


def test_points_and_their_light_cones():
    """On the cone of a point everybody moves outwards at full speed and has never turned; beyond all cones the nearest speaks; between, p_-/p_+ by hand."""
    velocity, ratios = PROCESS.velocity(POINTS), PROCESS.turned_ratios(POINTS)
    end = np.array([1.0 + C * T, 0.5 - C * T])
    np.testing.assert_allclose(at(velocity, T, end), [C, -C], rtol=1e-14)
    np.testing.assert_array_equal(at(ratios, T, end, np.array([1.0, -1.0])), [0, 0])
    assert at(ratios, T, end, np.array([-1.0, -1.0]))[0] == np.inf
    np.testing.assert_allclose(at(velocity, T, end + np.array([1.0, -1.0])), [C, -C], rtol=1e-14)
    weights = np.array([0.25, 0.75])
    f = np.array([[parts(C, A, T, X[j] - p[j]) for j in range(2)] for p in np.asarray(POINTS.points)])
    expected = [C * weights @ ((f[:, j, 0] - f[:, j, 1]) * f[:, 1 - j].sum(axis=1)) / (weights @ f.sum(axis=2).prod(axis=1)) for j in range(2)]
    np.testing.assert_allclose(at(velocity, T, X), expected, rtol=1e-12)
    joint = np.einsum("k,ki,kj->ij", weights, f[:, 0], f[:, 1])
    np.testing.assert_allclose(at(ratios, T, X, np.array([1.0, -1.0])), [joint[1, 1] / joint[0, 1], joint[0, 0] / joint[0, 1]], rtol=1e-12)


def test_by_hand_agrees_with_itself():
    """The two helpers of these tests are two routes as well."""
    np.testing.assert_allclose(smoothed_on(C, A, T, [0.3], 0.4)[:, 0], [float(value) for value in smoothed(C, A, T, 0.3, 0.4)], rtol=1e-10)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Telegraph(-1.0, 9.0), "`speed`: got -1"),
        (lambda: Telegraph(1.0, 0.0), "`rate`: got 0"),
        (lambda: Telegraph(1.0, 1.0, -1.0), "`horizon`: got -1"),
        (lambda: PROCESS.marginal(PLANE, 1.5), "`t`: got 1.5"),
        (lambda: PROCESS.velocity(Gaussian([0.0, 0.0], [[1.0, 0.3], [0.3, 1.0]])), "`data`: got a covariance with off-diagonal 0.3; expected diagonal covariances"),
        (lambda: PROCESS.marginal(PLANE, T).condition([0, 1], X), "`dims`"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_laws_without_closed_forms_are_refused():
    with pytest.raises(TypeError, match="`data`: got KacLaw"):
        PROCESS.marginal(PROCESS.noise(T), T)
    for ask in (lambda law: law.log_prob(X), lambda law: law.log_joint(X, X), lambda law: law.entropy(), lambda law: law.push(np.eye(2), X)):
        with pytest.raises(TypeError, match="KacMixture"):
            ask(PROCESS.marginal(POINTS, T))


def test_reversed_jumps_from_points_on_the_line_end_at_them():
    """What has drifted beyond every light cone turns back at once: a path that does not is lost for good."""
    points = FiniteLaw(np.array([[0.0], [1.0]]), [0.4, 0.6])
    key_start, key_run = jax.random.split(jax.random.key(5))
    process = Telegraph(3.0, 9.0, 1.0)
    x, v = process.marginal(points, 1.0).sample_with_velocity(key_start, 2000)
    sampler = JumpSampler(ReverseFlips(process, process.turned_ratios(points)), np.append(np.linspace(1, 0.05, 120) ** 2, 1e-3), "DJD")
    ends, _ = sampler.run(key_run, x, v)
    away = np.min(np.max(np.abs(np.asarray(ends)[:, None, :] - np.asarray(points.points)[None]), axis=2), axis=1)
    assert np.max(away) < 0.1
    assert_mean(np.asarray(ends)[:, 0] > 0.5, 0.6)
