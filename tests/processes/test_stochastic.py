"""Couplings and stochastic interpolants: velocities from the joint law, the equations of their flows and SDEs, optimal transport, entropy, minibatches, energies."""

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import ot
import pytest
import scipy.stats

import ensembletheory as et
from ensembletheory.processes import couplings
from tests.helpers import assert_mean, spd

P = et.processes
RNG = np.random.default_rng(0)
DATA, SOURCE = et.Gaussian(RNG.normal(size=2), spd(RNG, 2)), et.Gaussian(RNG.normal(size=2), spd(RNG, 2))
WEIGHTS, MEANS, COVS = np.array([0.3, 0.7]), RNG.normal(size=(2, 4)), np.stack([spd(RNG, 4), spd(RNG, 4)])
COUPLING = et.GaussianMixture(WEIGHTS, MEANS, COVS)
X = np.array([0.4, -0.7])
LINEAR = P.StochasticInterpolant()


def a(t):
    return 1 - t**2


def b(t):
    return t * (2 - t)


def gamma(t):
    return 0.8 * jnp.sqrt(t * (1 - t))


def churn(t):
    return 0.3 + t


NOISY = P.StochasticInterpolant(a, b, gamma)


@eqx.filter_jit
def both_sides(interpolant, coupling, t, x):
    def log_p(t, x):
        return interpolant.marginal(coupling, t)._log_prob(x)

    rate, score = jax.grad(log_p, argnums=(0, 1))(t, x)
    hessian, velocity = jax.jacfwd(interpolant.score(coupling), argnums=1)(t, x), interpolant.velocity(coupling)
    sides = {"score": (interpolant.score(coupling)(t, x), score), "continuity": (rate, -jnp.trace(jax.jacfwd(velocity, argnums=1)(t, x)) - velocity(t, x) @ score)}
    for name, drift, sign in (("forward", interpolant.forward_drift(coupling, churn), 1.0), ("reverse", interpolant.reverse_drift(coupling, churn), -1.0)):
        transported = -jnp.trace(jax.jacfwd(drift, argnums=1)(t, x)) - drift(t, x) @ score
        sides[name] = (rate, transported + sign * churn(t) * (jnp.trace(hessian) + score @ score))
    return sides, velocity(t, x)


def velocity_by_hand(t, x):
    """From the joint law of X_t and its rate as two linear maps of (X_0, X_1, W)."""
    I = np.eye(2)
    noise = 0.8 * np.sqrt(t * (1 - t))
    here = np.hstack([(1 - t**2) * I, t * (2 - t) * I, noise * I])
    rate = np.hstack([-2 * t * I, (2 - 2 * t) * I, 0.8**2 * (1 - 2 * t) / (2 * noise) * I])
    terms, logs = [], []
    for weight, mean, cov in zip(WEIGHTS, MEANS, COVS, strict=True):
        joint = np.block([[cov, np.zeros((4, 2))], [np.zeros((2, 4)), I]])
        centre, seen = here[:, :4] @ mean, here @ joint @ here.T
        terms.append(rate[:, :4] @ mean + rate @ joint @ here.T @ np.linalg.solve(seen, x - centre))
        logs.append(np.log(weight) + scipy.stats.multivariate_normal(centre, seen).logpdf(x))
    return np.exp(logs - np.logaddexp.reduce(logs)) @ terms


@pytest.mark.parametrize("t", [0.3, 0.8])
def test_the_velocity_is_a_conditional_mean_and_flow_and_sdes_keep_the_marginals(t):
    sides, velocity = both_sides(NOISY, COUPLING, jnp.asarray(t), jnp.asarray(X))
    np.testing.assert_allclose(velocity, velocity_by_hand(t, X), rtol=1e-10)
    for name, (got, expected) in sides.items():
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11, err_msg=name)


@eqx.filter_jit
def of_the_path_and_of_the_coupling(law, t, x):
    path, coupling = P.LinearInterpolant(), P.independent(law, et.Gaussian(jnp.zeros(2), 1.0))
    return [(path.velocity(law)(t, x), LINEAR.velocity(coupling)(t, x)), (path.score(law)(t, x), LINEAR.score(coupling)(t, x))]


def test_coupled_independently_with_a_normal_it_is_the_gaussian_path():
    mixture = et.GaussianMixture(WEIGHTS, MEANS[:, :2], COVS[:, :2, :2])
    for one, other in of_the_path_and_of_the_coupling(mixture, jnp.asarray(0.4), jnp.asarray(X)):
        np.testing.assert_allclose(one, other, rtol=1e-11)


def test_products_keep_both_marginals_and_are_uncorrelated():
    first, second = et.GaussianMixture([0.4, 0.6], MEANS[:, :2], COVS[:, :2, :2]), et.FiniteLaw([[0.0, 1.0], [2.0, -1.0], [1.0, 1.0]], [0.5, 0.3, 0.2])
    product = P.independent(first, second)
    np.testing.assert_allclose(product.weights, np.outer([0.4, 0.6], [0.5, 0.3, 0.2]).ravel())
    np.testing.assert_allclose(product.mean, [*first.mean, *second.mean], rtol=1e-13)
    np.testing.assert_allclose(product.cov, np.block([[first.cov, np.zeros((2, 2))], [np.zeros((2, 2)), second.cov]]), atol=1e-13)


velocity_at = eqx.filter_jit(lambda field, t, x: field(t, x))


def test_optimal_transport_of_gaussians_runs_in_straight_lines_of_energy_w2_squared():
    coupling = P.optimal_transport(DATA, SOURCE)
    T, offset = ot.gaussian.bures_wasserstein_mapping(np.asarray(DATA.mean), np.asarray(SOURCE.mean), np.asarray(DATA.cov), np.asarray(SOURCE.cov))
    field, draws = LINEAR.velocity(coupling), RNG.normal(size=(3, 2))
    for x0 in draws:
        x1 = T @ x0 + offset.ravel()
        for t in (0.2, 0.9):  # the velocity is that of the one line through the point: nothing is left to average
            np.testing.assert_allclose(velocity_at(field, jnp.asarray(t), jnp.asarray((1 - t) * x0 + t * x1)), x1 - x0, rtol=1e-9)
    cost = ot.gaussian.bures_wasserstein_distance(np.asarray(DATA.mean), np.asarray(SOURCE.mean), np.asarray(DATA.cov), np.asarray(SOURCE.cov)) ** 2
    assert float(P.coupling_cost(coupling.mean, coupling.cov)) == pytest.approx(cost, rel=1e-10)
    assert np.linalg.matrix_rank(coupling.cov) == 2
    assert float(P.coupling_cost(P.independent(DATA, SOURCE).mean, P.independent(DATA, SOURCE).cov)) > 1.5 * cost


def test_the_weight_of_the_entropy_is_that_of_sinkhorn():
    """On a grid: trapezoid sums of densities this smooth are exact to rounding; Sinkhorn is run to 1e-12."""
    s, r, epsilon, x = 1.3, 0.5, 0.8, np.linspace(-9, 9, 241)
    rows, columns = (scipy.stats.norm(mean, np.sqrt(v)).pdf(x) for mean, v in ((0.0, s), (0.4, r)))
    plan = ot.sinkhorn(rows / rows.sum(), columns / columns.sum(), (x[:, None] - x[None, :]) ** 2, epsilon, stopThr=1e-12, numItermax=10_000)
    coupling = P.schroedinger_bridge(et.Gaussian([0.0], s), et.Gaussian([0.4], r), epsilon)
    np.testing.assert_allclose(coupling.cov, [[s, np.sum(plan * np.outer(x, x - 0.4))], [np.sum(plan * np.outer(x, x - 0.4)), r]], rtol=1e-8)


@pytest.mark.parametrize("epsilon", [1e-3, 0.7, 1e6])
def test_the_bridge_has_its_marginals_and_the_density_of_a_bridge(epsilon):
    """exp(-|x_0 - x_1|^2 / epsilon) times a function of each point: the joint precision's off-diagonal block is -(2 / epsilon) I."""
    coupling = P.schroedinger_bridge(DATA, SOURCE, epsilon)
    joint, S = np.asarray(coupling.cov), np.asarray(DATA.cov)
    np.testing.assert_allclose(joint[:2, :2], S, rtol=1e-12)
    np.testing.assert_allclose(joint[2:, 2:], SOURCE.cov, rtol=1e-12)
    cross = joint[:2, 2:]
    conditional = np.asarray(SOURCE.cov) - cross.T @ np.linalg.solve(S, cross)
    np.testing.assert_allclose(np.linalg.solve(S, cross) * epsilon / 2, conditional, atol=1e-12)  # = epsilon/2 S^{-1} C, without the inverse of a near-singular matrix
    np.testing.assert_allclose(coupling.mean, [*DATA.mean, *SOURCE.mean])


def test_the_bridge_lies_between_optimal_transport_and_independence():
    costs = [float(P.coupling_cost(c.mean, c.cov)) for c in (P.schroedinger_bridge(DATA, SOURCE, e) for e in (1e-7, 0.1, 1.0, 1e8))]
    assert np.all(np.diff(costs) > 0)
    assert costs[0] == pytest.approx(float(et.w2_squared(DATA, SOURCE)), rel=1e-6)
    independent = P.independent(DATA, SOURCE)
    assert costs[-1] == pytest.approx(float(P.coupling_cost(independent.mean, independent.cov)), rel=1e-6)


def test_minibatch_correlations():
    known = {1: 0, 2: 0.318310, 3: 0.477465, 4: 0.573915, 8: 0.749937, 16: 0.859359, 32: 0.923115, 64: 0.958771, 128: 0.978186}
    for batch, value in known.items():
        assert float(P.minibatch_correlation(batch)) == pytest.approx(value, abs=6e-7)
    assert float(P.minibatch_correlation(2)) == pytest.approx(1 / np.pi, abs=1e-14)
    assert float(P.minibatch_correlation(3)) == pytest.approx(3 / (2 * np.pi), abs=1e-14)
    top, second = (mpmath.quad(lambda x, i=i: x * mpmath.npdf(x) * mpmath.ncdf(x) ** (i - 1) * mpmath.ncdf(-x) ** (5 - i), [-9, 0, 9]) for i in (5, 4))
    exact = 2 / mpmath.mpf(5) * ((5 * top) ** 2 + (20 * second) ** 2)
    estimate = P.minibatch_correlation(5)
    assert abs(float(estimate) - float(exact)) <= max(float(estimate.error), 1e-13)
    assert float(estimate.error) < 1e-10


def test_minibatch_moments_are_those_of_sorted_draws():
    """The product of a sorted pair is averaged batch by batch, for batches are what is independent."""
    data, source, batch = et.Gaussian([1.0], 4.0), et.Gaussian([-0.5], 0.3), 4
    mean, cov = P.minibatch_moments(data, source, batch)
    rng = np.random.default_rng(1)
    x0, x1 = (np.sort(m + np.sqrt(v) * rng.normal(size=(50_000, batch)), axis=1) for m, v in ((1.0, 4.0), (-0.5, 0.3)))
    assert_mean(np.mean((x0 - 1.0) * (x1 + 0.5), axis=1), cov[0, 1])
    assert_mean(np.mean((x0 - x1) ** 2, axis=1), P.coupling_cost(mean, cov))
    t = 0.3
    centre, variance = LINEAR.moments(mean, cov, t)
    np.testing.assert_allclose(variance, [[0.7**2 * 4 + 0.3**2 * 0.3 + 2 * 0.7 * 0.3 * np.sqrt(1.2) * float(P.minibatch_correlation(4))]], rtol=1e-12)
    assert_mean(np.mean((0.7 * x0 + 0.3 * x1 - float(centre[0])) ** 2, axis=1), variance[0, 0])


NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(60)
TIMES, TIME_WEIGHTS = (NODES + 1) / 2, NODE_WEIGHTS / 2
LINE = np.linspace(-24, 24, 2401)  # the narrowest density is 15 steps wide, the widest ends 12 standard deviations away


@eqx.filter_jit
def energy(law, times, points):
    """The integral of E|v|^2 over time."""
    path = P.LinearInterpolant()

    def at(t):
        values = jax.vmap(lambda x: path.velocity(law)(t, x)[0] ** 2 * jnp.exp(path.marginal(law, t)._log_prob(x)))(points[:, None])
        return jnp.sum(values) * (points[1] - points[0])

    return jnp.asarray(TIME_WEIGHTS) @ jax.lax.map(at, times)


@pytest.mark.parametrize(("s", "expected"), [(2.0, (1.858407, 3.141593)), (0.5, (0.464602, 0.785398))])
def test_energy_and_least_loss_of_flow_matching_on_a_gaussian(s, expected):
    got = float(energy(et.GaussianMixture([1.0, 0.0], [[0.0], [1.0]], [[s**2], [1.0]]), jnp.asarray(TIMES), jnp.asarray(LINE)))
    assert got == pytest.approx(1 + s**2 - np.pi * s / 2, rel=1e-10)
    assert got == pytest.approx(expected[0], abs=5e-7)
    assert 1 + s**2 - got == pytest.approx(expected[1], abs=5e-7)  # E|X_1 - X_0|^2 less what the field explains


def test_energy_and_least_loss_of_flow_matching_on_a_mixture():
    law = et.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [[0.25], [0.09]])
    got = float(energy(law, jnp.asarray(TIMES), jnp.asarray(LINE)))
    assert got == pytest.approx(1.18790537, abs=1e-8)
    product = P.independent(law, et.standard_normal(1))
    cost = float(P.coupling_cost(product.mean, product.cov))
    assert cost == pytest.approx(3.038, abs=1e-12)
    assert cost - got == pytest.approx(1.85009463, abs=1e-8)
    transported = float(et.w2_squared(law, et.standard_normal(1)))
    assert transported == pytest.approx(0.517684425595, abs=1e-11)
    assert got > 2 * transported  # the map is optimal, the way there is not


def test_minibatches_shorten_the_way_from_independence_to_the_optimal_map():
    data, source = et.Gaussian([0.0], 4.0), et.standard_normal(1)
    costs = [float(P.coupling_cost(*P.minibatch_moments(data, source, batch))) for batch in (1, 2, 4, 16, 64)]
    assert costs[0] == pytest.approx(5.0)
    assert np.all(np.diff(costs) < 0)
    assert costs[-1] == pytest.approx(5 - 4 * 0.9587709954, abs=1e-9)
    assert costs[-1] > 1.0  # (s - 1)^2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: P.independent(DATA, et.standard_normal(3)), ValueError, "`source`.*dimension 3.*dimension 2"),
        (lambda: P.optimal_transport(COUPLING, DATA), TypeError, "`data`, `source`.*GaussianMixture and Gaussian"),
        (lambda: P.optimal_transport(et.laws.singular_gaussian([0.0, 0.0], [1.0, 0.0]), DATA), ValueError, "`data`.*singular"),
        (lambda: P.schroedinger_bridge(DATA, SOURCE, 0.0), ValueError, "`epsilon`.*got 0.*above 0"),
        (lambda: P.minibatch_correlation(0), ValueError, "`batch`.*got 0"),
        (lambda: P.minibatch_moments(DATA, SOURCE, 4), ValueError, "`data`.*dimension 2.*dimension 1"),
        (lambda: couplings.coupling_cost(np.zeros(3), np.eye(3)), ValueError, "`coupling`.*dimension 3.*even"),
        (lambda: LINEAR.marginal(et.standard_normal(3), 0.5), ValueError, "`coupling`.*dimension 3.*even"),
        (lambda: LINEAR.marginal(COUPLING, 1.5), ValueError, "`t`.*1.5"),
        (lambda: LINEAR.forward_drift(COUPLING, -1.0), ValueError, "`epsilon`.*-1"),
        (lambda: NOISY.velocity(COUPLING)(jnp.asarray(0.0), jnp.asarray(X)), ValueError, "`t`.*slope of gamma"),
        (lambda: P.StochasticInterpolant(b, a), ValueError, "`a`.*0 at time 0 and 1 at 1"),
        (lambda: P.StochasticInterpolant(gamma=b), ValueError, "`gamma`.*1 at 1"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        call()
