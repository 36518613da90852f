"""The averaged flow through points: SciPy's solver on single paths, quantiles of mixtures, a PDE for the reverse SDE, and Feynman-Kac by Monte Carlo."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import solve_banded
from scipy.special import logsumexp
from scipy.stats import norm

import ensembletheory as et
from ensembletheory.pooling import averaged_flow, diversity_rate
from tests.helpers import Z

WEIGHTS = np.array([0.4, 0.6])
SHARES, MEANS, VARIANCES = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[-1.5, 1.0], [-1.0, 2.0]]), np.array([[0.3, 1.0], [0.5, 0.25]])
LINEAR, UNIT = et.processes.LinearInterpolant(), et.processes.VariancePreserving(1.0, 1.0, 1.0)


def mixtures(shares=SHARES, means=MEANS, variances=VARIANCES):
    return [et.GaussianMixture(w, m[:, None], v[:, None]) for w, m, v in zip(shares, means, variances, strict=True)]


def log_and_score(x, u, shares=SHARES, means=MEANS, variances=VARIANCES):
    """Of each noised member, (K, n)."""
    m, v = np.sqrt(u) * means[:, :, None], 1 + u * (variances[:, :, None] - 1)
    joint = np.log(shares)[:, :, None] - (x[None, None] - m) ** 2 / (2 * v) - np.log(2 * np.pi * v) / 2
    log = logsumexp(joint, axis=1)
    return log, np.sum(np.exp(joint - log[:, None]) * (m - x[None, None]) / v, axis=1)


def diversity(x, u, weights=WEIGHTS, **law):
    _, s = log_and_score(x, u, **law)
    return weights @ (s - weights @ s) ** 2


def scipy_flow(x, horizon):
    """End, integral of the divergence and of the diversity, with b = 1; the divergence by differences of the score, central and of fourth order."""
    h = 1e-3

    def slope(t, y):
        u, at = np.exp(-t), y[0] + h * np.array([-2, -1, 0, 1, 2])
        s = WEIGHTS @ log_and_score(at, u)[1]
        ds = (s[0] - 8 * s[1] + 8 * s[3] - s[4]) / (12 * h)
        return [-0.5 * (y[0] + s[2]), -0.5 * (1 + ds), 0.5 * diversity(y[:1], u)[0]]

    return solve_ivp(slope, (0, horizon), [x, 0.0, 0.0], method="LSODA", rtol=1e-9, atol=1e-11).y[:, -1]


def test_identity_and_second_route_at_a_finite_horizon():
    """log p_0 = sum_k w_k log q_k + D + e_T, term by term, for X_T that is not N(0, 1)."""
    x = np.array([[-1.4], [0.2], [3.0]])
    followed = averaged_flow(UNIT, mixtures(), x, WEIGHTS)
    routes = np.array([scipy_flow(float(y[0]), 1.0) for y in x])
    assert np.max(followed.log_prob.error) < 1e-8
    np.testing.assert_allclose(followed.ends[:, 0], routes[:, 0], atol=1e-7)
    np.testing.assert_allclose(followed.log_prob.value, norm.logpdf(routes[:, 0]) + routes[:, 1], atol=1e-7)
    np.testing.assert_allclose(followed.diversity.value, routes[:, 2], atol=1e-7)
    np.testing.assert_allclose(followed.log_geometric_mean, WEIGHTS @ log_and_score(x[:, 0], 1.0)[0], atol=1e-12)
    np.testing.assert_allclose(followed.mismatch, norm.logpdf(routes[:, 0]) - WEIGHTS @ log_and_score(routes[:, 0], np.exp(-1.0))[0], atol=1e-6)
    total = followed.log_geometric_mean + followed.diversity.value + followed.mismatch
    np.testing.assert_allclose(followed.log_prob.value, total, atol=1e-8)
    np.testing.assert_allclose(followed.rates[:, 0], diversity(x[:, 0], 1.0) / 2, rtol=1e-12)


def test_without_a_limit_for_an_interpolant():
    x = np.array([[-1.4], [0.2], [3.0]])
    followed = averaged_flow(LINEAR, mixtures(), x, WEIGHTS)
    np.testing.assert_allclose(followed.mismatch, 0.0, atol=1e-12)
    routes = np.array([scipy_flow(float(y[0]), 50.0) for y in x])
    np.testing.assert_allclose(followed.log_prob.value, norm.logpdf(routes[:, 0]) + routes[:, 1], atol=1e-6)
    np.testing.assert_allclose(followed.diversity.value, routes[:, 2], atol=1e-6)


def test_the_reported_error_covers_and_falls_with_the_steps():
    coarse, fine = (averaged_flow(LINEAR, mixtures(), [[-1.4], [0.2], [3.0]], WEIGHTS, steps) for steps in (32, 256))
    off = np.abs(np.asarray(coarse.log_prob.value - fine.log_prob.value))
    assert np.all(off <= np.asarray(coarse.log_prob.error + fine.log_prob.error))
    assert np.all(fine.log_prob.error < coarse.log_prob.error / 1000)  # of fourth order, by 8^4


def test_rates_are_half_of_b_times_the_variance_of_scores():
    x = np.linspace(-3, 3, 7)
    vp = et.processes.VariancePreserving(0.5, 3.0)
    found = diversity_rate(vp, mixtures(), 0.4, x[:, None], WEIGHTS)
    np.testing.assert_allclose(found, (0.5 + 2.5 * 0.4) / 2 * diversity(x, np.exp(-(0.5 * 0.4 + 2.5 * 0.08))), rtol=1e-10)


@pytest.mark.parametrize(("left", "limit", "early"), [((0.9, 0.5), 0.72330, 0.72327), ((0.8, 0.6), 0.70494, 0.70492), ((0.99, 0.5), 0.81304, 0.81302), ((0.9, 0.1), 0.5, 0.5)])
def test_left_masses_by_the_flow(left, limit, early):
    """Two modes at -2 and 2 of variance .09, members that differ in the weight of the left one: the path through 0 separates the quantiles. `early` begins at u_T = 1e-8."""
    shares, means, variances = np.array([[w, 1 - w] for w in left]), np.array([[-2.0, 2.0]] * 2), np.full((2, 2), 0.09)
    members, b = mixtures(shares, means, variances), np.log(1e8)
    slow_at_first = et.processes.VariancePreserving(0.05, 2 * b - 0.05)
    for process, horizon, expected in ((LINEAR, 60.0, limit), (slow_at_first, b, early)):
        end = float(averaged_flow(process, members, [[0.0], [0.5], [-0.5]], np.full(2, 0.5)).ends[0, 0])

        def slope(t, y):
            return -0.5 * (y + np.mean(log_and_score(y, np.exp(-t), shares, means, variances)[1], axis=0))

        assert norm.cdf(end) == pytest.approx(expected, abs=5e-6)
        assert norm.cdf(solve_ivp(slope, (0, horizon), [0.0], method="LSODA", rtol=1e-10, atol=1e-12).y[0, -1]) == pytest.approx(norm.cdf(end), abs=2e-6)


HORIZON = 4.0


def density_of_the_sde(points, cells=800, steps=800):
    """Of the reverse SDE of averaged scores with b = 1 from N(0, 1): Crank-Nicolson on dp/dtau = -(A p)' + p''/2, A = x/2 + s, conservative, with steps that shrink."""
    edges = np.linspace(-9, 9, cells + 1)
    x, h = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    p = norm.pdf(x)
    times = HORIZON * np.linspace(1, 0, steps + 1) ** 2  # from the horizon to 0, shortest steps last

    def bands(t):
        A = edges[1:-1] / 2 + WEIGHTS @ log_and_score(edges[1:-1], np.exp(-t))[1]
        up, down = A / (2 * h) - 1 / (2 * h**2), A / (2 * h) + 1 / (2 * h**2)  # flux = up p_{i+1} + down p_i, divided by h
        L = np.zeros((3, cells))
        L[0, 1:], L[2, :-1] = -up, down
        L[1, :-1] -= down
        L[1, 1:] += up
        return L

    for t, s in pairwise(times):
        L, k = bands((t + s) / 2), t - s
        right = p + k / 2 * (L[1] * p + np.append(L[0, 1:] * p[1:], 0) + np.append(0, L[2, :-1] * p[:-1]))
        left = -k / 2 * L
        left[1] += 1
        p = solve_banded((1, 1), left, right)
    return np.interp(points, x, p)


def feynman_kac(x, rng, paths=10_000, steps=80):
    """Draws of prod_k q_k(x)^{w_k} exp(e_T(Y_T) + 1/2 int V(Y_t, t) dt), Y the forward noising of x, which is drawn exactly; the integral by the trapezoid rule."""
    times = HORIZON * np.linspace(0, 1, steps + 1) ** 2
    y, total, last = np.full(paths, x), np.zeros(paths), diversity(np.full(1, x), 1.0)
    for t, s in pairwise(times):
        y = np.exp(-(s - t) / 2) * y + np.sqrt(-np.expm1(-(s - t))) * rng.normal(size=paths)
        now = diversity(y, np.exp(-s))
        total, last = total + (s - t) / 4 * (last + now), now
    mismatch = norm.logpdf(y) - WEIGHTS @ log_and_score(y, np.exp(-HORIZON))[0]
    return np.exp(WEIGHTS @ log_and_score(np.full(1, x), 1.0)[0][:, 0] + mismatch + total)


def test_feynman_kac_gives_the_density_of_the_reverse_sde():
    """The same density by Monte Carlo over the forward noising and by a PDE; it is above the geometric mean, as the flow's is."""
    x, rng = np.array([-1.4, 0.2, 1.8]), np.random.default_rng(0)
    solved = density_of_the_sde(x)
    for point, value in zip(x, solved, strict=True):
        draws = feynman_kac(point, rng)
        error = draws.std(ddof=1) / np.sqrt(len(draws))
        assert abs(draws.mean() - value) <= Z * error + 1e-3 * value  # for both discretisations: the PDE is right to 2e-4, by finer grids
        assert error < 0.02 * value
    assert np.all(solved > np.exp(WEIGHTS @ log_and_score(x, 1.0)[0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: averaged_flow(LINEAR, mixtures(), [[0.0]], steps=7), "`steps`.*even"),
        (lambda: averaged_flow(LINEAR, [], [[0.0]]), "`members`.*empty"),
        (lambda: averaged_flow(LINEAR, mixtures(), [[0.0, 1.0]]), "`x`"),
        (lambda: averaged_flow(LINEAR, mixtures(), [[0.0]], [0.5, 0.6]), "`weights`"),
        (lambda: diversity_rate(LINEAR, mixtures(), 1.5, [[0.0]]), "`t`.*from 0"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()


def test_shapes_follow_the_points():
    followed = averaged_flow(LINEAR, mixtures(), jnp.zeros((3, 1)), WEIGHTS)
    assert followed.log_prob.value.shape == (3,)
    assert followed.rates.shape == (3, 256)
