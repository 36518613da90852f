"""Bounds on samplers: their tables to the digits, by the package and by NumPy and SciPy; full covariances, mixtures, starts and ends; what is refused."""

import re
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import integrate, optimize

import ensembletheory as et
from ensembletheory.fields import Field, MeanField
from ensembletheory.pooling import score_sum_law
from ensembletheory.pooling.field_rules import WeightedSum
from ensembletheory.samplers import Euler, ExponentialIntegrator, Sampler, padded, uniform_grid
from ensembletheory.samplers.bounds import Perturbed, albergo_bound, benton_bound, girsanov_bound, song_bound

VP, LINEAR, TRIGONOMETRIC = et.processes.VariancePreserving(), et.processes.LinearInterpolant(), et.processes.TrigonometricInterpolant()
STANDARD = et.laws.standard_normal(1)


def decay(t, low=0.1, high=20.0):
    """u = a^2 of the VP diffusion."""
    return np.exp(-(low * t + (high - low) * t**2 / 2))


def beta(t, low=0.1, high=20.0):
    return low + (high - low) * t


def gaussian_kl(m, S, n, R):
    m, S, n, R = np.atleast_1d(m), np.atleast_2d(S), np.atleast_1d(n), np.atleast_2d(R)
    return 0.5 * (np.trace(np.linalg.solve(R, S)) - len(m) + np.log(np.linalg.det(R) / np.linalg.det(S)) + (m - n) @ np.linalg.solve(R, m - n))


def line(variance, mean=0.0):
    return et.Gaussian([mean], [variance])


def summed(members, coefficients):
    """sum_k c_k s_k, always of two members, so that one program serves all tables."""
    return WeightedSum([VP.score(member) for member in members], coefficients)


def quadrature(f, *ends):
    return sum(integrate.quad(f, a, b, epsabs=1e-14, epsrel=1e-13, limit=400)[0] for a, b in pairwise(ends))


# Song, Durkan, Murray & Ermon: scores (1 + c) s* of N(0, a). Columns: a, c, variance and KL of the SDE, the path's part of the bound, variance and KL of the flow.
SONG = [
    (4.0, 0.1, 3.33335367, 0.0088386114, 0.043319176, 1.68165982, 0.256045),
    (4.0, -0.1, 4.99902254, 0.011552232, 0.043319176, 9.51194456, 0.143389),
    (0.25, 0.1, 0.20833338, 0.0088391997, 0.05718131, 0.07966793, 0.497216),
    (0.25, -0.1, 0.31249336, 0.011569649, 0.05718131, 0.78455722, 0.231155),
]


def reversed_variance(a, c, churn):
    """The variance of the reverse dynamics with the score (1 + c) s*, by SciPy."""

    def rate(tau, v):
        t = 1 - tau
        return beta(t) * (v - (1 + churn) * (1 + c) * v / (1 + decay(t) * (a - 1)) + churn)

    return integrate.solve_ivp(rate, (0, 1), [1.0], rtol=1e-12, atol=1e-14, method="DOP853").y[0, -1]


@pytest.mark.parametrize(("a", "c", "of_sde", "kl_sde", "path", "of_flow", "kl_flow"), SONG)
def test_song_bound_holds_for_the_sde_and_not_for_the_flow(a, c, of_sde, kl_sde, path, of_flow, kl_flow):
    p, start = line(a), gaussian_kl(0, 1 + decay(1) * (a - 1), 0, 1)
    bound = song_bound(VP, p, summed([p, p], [1 + c, 0.0]))
    by_hand = c**2 / 2 * np.log((1 / decay(1) + a - 1) / a)
    assert float(bound) - start == pytest.approx(path, rel=1e-7)
    assert abs(float(bound) - by_hand - start) <= float(bound.error) + 1e-15
    assert float(bound.error) < 1e-12
    for reverse, churn, variance, divergence in (("sde", 1.0, of_sde, kl_sde), ("ode", 0.0, of_flow, kl_flow)):
        law = score_sum_law([p, p], VP, [1 + c, 0.0], reverse)
        assert float(law.cov[0, 0]) == pytest.approx(variance, abs=6e-9)
        assert float(law.cov[0, 0]) == pytest.approx(reversed_variance(a, c, churn), rel=1e-9)
        assert float(et.kl(p, law)) == pytest.approx(divergence, abs=6e-7 if reverse == "ode" else 6e-10)
    assert kl_sde < float(bound) < kl_flow


def test_closed_forms_of_the_perturbed_variances():
    """Of the flow (a / v_T) ((e^I + a - 1) / a)^{-c}, of the SDE about a / (1 + 2c)."""
    for a, c, of_sde, _, _, of_flow, _ in SONG:
        assert of_flow == pytest.approx(a / (1 + decay(1) * (a - 1)) * ((1 / decay(1) + a - 1) / a) ** -c, abs=6e-9)
        assert of_sde == pytest.approx(a / (1 + 2 * c), rel=5e-4)


def test_song_bound_is_attained_by_the_score_of_a_diffusion():
    bound, start = song_bound(VP, line(4.0), summed([line(1.0), line(4.0)], [1.0, 0.0])), gaussian_kl(0, 1 + 3 * decay(1), 0, 1)
    assert start == pytest.approx(4.1959e-9, rel=2e-5)
    assert float(bound) - start == pytest.approx(0.8068528152441, abs=2e-13)
    assert float(bound) == pytest.approx(0.8068528194400548, abs=5e-15)
    assert gaussian_kl(0, 4, 0, 1) == pytest.approx(0.8068528194400548, abs=1e-15)


EXPERTS = [(-1.0, 0.25), (2.0, 4.0)]
TARGET = (0.3, 1.2)


def bound_by_hand(weights):
    """Of N(.3, 1.2) and averaged scores of the experts, by SciPy."""

    def rate(t):
        u = decay(t)
        mean, variance = np.sqrt(u) * TARGET[0], 1 + u * (TARGET[1] - 1)
        noised = [(np.sqrt(u) * m, 1 + u * (S - 1)) for m, S in EXPERTS]
        slope = 1 / variance - sum(w / S for w, (_, S) in zip(weights, noised, strict=True))
        level = sum(w * m / S for w, (m, S) in zip(weights, noised, strict=True)) - mean / variance
        return beta(t) / 2 * ((slope * mean + level) ** 2 + slope**2 * variance)

    u = decay(1.0)
    return quadrature(rate, 0.0, 0.1, 1.0) + gaussian_kl(np.sqrt(u) * TARGET[0], 1 + u * (TARGET[1] - 1), 0, 1)


def test_bound_of_an_ensemble_is_below_the_average_and_above_the_best():
    p, members = line(TARGET[1], TARGET[0]), [line(S, m) for m, S in EXPERTS]
    weights = ([0.5, 0.5], [1.0, 0.0], [0.0, 1.0])
    bounds = [song_bound(VP, p, summed(members, w)) for w in weights]
    for bound, w, printed in zip(bounds, weights, (0.65218, 4.49566, 0.61318), strict=True):
        assert float(bound) == pytest.approx(printed, abs=6e-6)
        assert float(bound) == pytest.approx(bound_by_hand(w), rel=1e-11)
    assert float(bounds[2]) < float(bounds[0]) < float(bounds[1] + bounds[2]) / 2
    laws = {reverse: et.mean_score_law(members, VP, reverse, horizon=jnp.inf) for reverse in ("sde", "ode")} | {"log": et.log_pool(members), "linear": et.linear_pool(members)}
    for name, printed in {"sde": 0.40074, "ode": 0.10448, "log": 1.64817, "linear": 0.54059}.items():
        assert float(et.kl(p, laws[name])) == pytest.approx(printed, abs=6e-6)
    assert float(et.kl(p, et.mean_score_law(members, VP, "sde"))) == pytest.approx(0.4007574, abs=6e-8)
    kls = [float(et.kl(p, member)) for member in members]
    assert (kls[0], kls[1], np.mean(kls)) == pytest.approx((4.49569, 0.61324, 2.55446), abs=6e-6)


def test_true_divergences_of_the_ensemble_by_hand():
    (m, S), (n, R) = EXPERTS
    precision = (1 / S + 1 / R) / 2
    assert gaussian_kl(*TARGET, (m / S + n / R) / 2 / precision, 1 / precision) == pytest.approx(1.64817, abs=6e-6)
    x = np.linspace(-30, 30, 60_001)

    def density(mean, variance):
        return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    p, pool = density(*TARGET), (density(m, S) + density(n, R)) / 2
    assert np.trapezoid(p * (np.log(np.maximum(p, 1e-300)) - np.log(pool)), x) == pytest.approx(0.54059, abs=6e-6)
    for churn, printed in ((1.0, 0.4007574), (0.0, 0.1059355)):  # at the horizon 1; at infinity 0.40074 and 0.10448

        def rate(tau, moments, churn=churn):
            t = 1 - tau
            u = decay(t)
            A = sum(0.5 / (1 + u * (variance - 1)) for _, variance in EXPERTS)
            c = sum(0.5 * np.sqrt(u) * mean / (1 + u * (variance - 1)) for mean, variance in EXPERTS)
            half = beta(t) / 2
            return [half * (moments[0] + (1 + churn) * (c - A * moments[0])), 2 * half * (moments[1] * (1 - (1 + churn) * A) + churn)]

        mean, variance = integrate.solve_ivp(rate, (0, 1), [0.0, 1.0], rtol=1e-11, atol=1e-13).y[:, -1]
        assert gaussian_kl(*TARGET, mean, variance) == pytest.approx(printed, abs=6e-8)


# The exponential integrator on dX = -X dt + sqrt(2) dW from T, the exact score of N(0, a) frozen over N equal steps: bound and KL.
GIRSANOV = [
    (0.25, 2.0, 20, 0.377488, 0.0385785),
    (0.25, 2.0, 200, 0.0414045, 4.01675e-4),
    (0.25, 4.0, 400, 0.0614255, 4.01353e-4),
    (4.0, 2.0, 20, 0.09844, 9.2066e-5),
    (4.0, 2.0, 200, 0.0105674, 6.77e-7),
]


def frozen_run(a, horizon, steps, nodes=401):
    process = et.processes.OrnsteinUhlenbeck(1.0, horizon=horizon)
    return Sampler(process, process.score(line(a)), ExponentialIntegrator(), padded(uniform_grid(process, steps), nodes))


@pytest.mark.parametrize(("a", "horizon", "steps", "bound", "divergence"), GIRSANOV)
def test_girsanov_bound_of_a_frozen_score(a, horizon, steps, bound, divergence):
    p, sampler = line(a), frozen_run(a, horizon, steps)
    found, exact = girsanov_bound(sampler, p), float(et.kl(p, sampler.law(STANDARD)))
    grid, variance = np.linspace(horizon, 0, steps + 1), lambda t: 1 + np.exp(-2 * t) * (a - 1)
    path, generated = 0.0, 1.0
    for t, s in pairwise(grid):
        e = np.exp(t - s)
        path += quadrature(lambda r, t=t: 1 / variance(t) - 2 * np.exp(r - t) / variance(t) + 1 / variance(r), s, t)
        generated = (e - 2 * (e - 1) / variance(t)) ** 2 * generated + e**2 - 1
    assert float(found) == pytest.approx(bound, rel=5e-6)
    assert exact == pytest.approx(divergence, rel=1e-3 if divergence == 6.77e-7 else 3e-6)
    assert abs(float(found) - path - gaussian_kl(0, variance(horizon), 0, 1)) <= float(found.error) + 1e-11
    assert exact == pytest.approx(gaussian_kl(0, a, 0, generated), rel=1e-7)


def test_the_bound_falls_as_the_step_and_the_divergence_as_its_square():
    ratios = [(GIRSANOV[i][3] / GIRSANOV[i + 1][3], GIRSANOV[i][4] / GIRSANOV[i + 1][4]) for i in (0, 3)]
    for bound, divergence in ratios:
        assert 8 < bound < 11
        assert 90 < divergence < 140


KAPPA = 0.2


def geometric_times(horizon, kappa, end):
    """Times with steps kappa min(1, t_{k+1}), down to `end` or just below it."""
    times = [horizon]
    while times[-1] > end:
        times.append(max(times[-1] - kappa, times[-1] / (1 + kappa)))
    return np.asarray(times)


@pytest.mark.verify
def test_both_are_sums_over_the_coordinates_of_product_data():
    """So that, for equal coordinates, KL <= C (kappa^2 d N + kappa d T + d e^{-2T}) holds with one C in every dimension."""
    process = et.processes.OrnsteinUhlenbeck(1.0, horizon=3.0)
    grid = geometric_times(3.0, KAPPA, 0.01)

    def both(law):
        sampler = Sampler(process, process.score(law), ExponentialIntegrator(), padded(grid, 401))
        stopped = process.marginal(law, grid[-1])
        return float(girsanov_bound(sampler, law)), float(et.kl(stopped, sampler.law(et.laws.standard_normal(law.dim))))

    narrow, wide = np.array(both(line(0.25))), np.array(both(line(4.0)))
    np.testing.assert_allclose(both(et.Gaussian(np.zeros(16), np.repeat([0.25, 4.0], [10, 6]))), 10 * narrow + 6 * wide, rtol=1e-9)
    scale = KAPPA**2 * len(grid) + KAPPA * 3 + np.exp(-6)
    assert 1e-3 < narrow[1] / scale < narrow[0] / scale < 0.5


# Flow matching on the straight path, w = v + d x in the direction of generation, data N(0, s^2): W2 and the bounds of Benton and of Albergo, and int L.
FLOWS = [
    (2.0, 0.1, 0.21034184, 0.34325548, 0.821049, 0.977892),
    (2.0, 0.01, 0.02010033, 0.03246961, 0.075038, 0.922307),
    (0.5, 0.1, 0.05258546, 0.15222015, 0.336109, 0.857892),
    (3.0, 0.1, 0.31551275, 0.65986139, 1.761328, 1.284873),
]


@pytest.mark.parametrize(("s", "d", "distance", "benton", "albergo", "stretch"), FLOWS)
def test_bounds_of_flow_matching(s, d, distance, benton, albergo, stretch):
    p = line(s**2)
    w = Perturbed(LINEAR.velocity(p), -d)  # time runs from data to noise
    found, coarse = benton_bound(LINEAR, p, w), albergo_bound(LINEAR, p, w)

    def slope(t):
        return (t * s**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * s**2) + d

    turn = optimize.brentq(slope, 0, 1 / (1 + s**2), xtol=1e-15)
    whole = quadrature(lambda t: abs(slope(t)), 0.0, turn, 1.0)
    error = d * np.sqrt((1 + s**2) / 3)
    assert whole == pytest.approx(stretch, abs=6e-7)
    assert float(found) == pytest.approx(benton, abs=6e-9)
    assert float(coarse) == pytest.approx(albergo, abs=6e-7)
    assert float(found) == pytest.approx(error * np.exp(whole), rel=1e-9)
    assert float(coarse) == pytest.approx(error * np.exp(0.5 + np.max(abs(slope(np.linspace(0, 1, 1_000_001))))), rel=1e-10)
    end = integrate.solve_ivp(lambda t, x: slope(t) * x, (0, 1), [1.0], rtol=1e-12, atol=1e-14).y[0, -1]
    assert (end - s, s * np.expm1(d)) == pytest.approx((distance, distance), abs=6e-9)
    assert distance < float(found) < float(coarse)


M = np.array([0.5, -1.0])
S = np.array([[2.0, 0.6], [0.6, 0.5]])
OTHERS = [(np.array([1.0, 0.0]), np.array([[1.0, -0.4], [-0.4, 0.7]])), (np.array([-0.5, 0.5]), np.array([[0.3, 0.1], [0.1, 3.0]]))]
W = np.array([0.3, 0.7])
SLOW = et.processes.VariancePreserving(0.5, 3.0)
PLANE = et.Gaussian(M, S)
IN_PLANE = [et.Gaussian(m, C) for m, C in OTHERS]


def averaged_in_plane(u):
    """Matrix and vector of the averaged score of the two members where a^2 = u."""
    noised = [(np.sqrt(u) * m, u * C + (1 - u) * np.eye(2)) for m, C in OTHERS]
    return -sum(w * np.linalg.inv(C) for w, (_, C) in zip(W, noised, strict=True)), sum(w * np.linalg.solve(C, m) for w, (m, C) in zip(W, noised, strict=True))


def in_plane(u):
    return np.sqrt(u) * M, u * S + (1 - u) * np.eye(2)


def power(A, b, mean, cov):
    """E |A X + b|^2."""
    return np.trace(A @ cov @ A.T) + np.sum((A @ mean + b) ** 2)


def averaged_field():
    return MeanField([SLOW.score(member) for member in IN_PLANE], W)


def slow(t):
    return decay(t, 0.5, 3.0)


@pytest.mark.verify
def test_song_bound_of_a_process_with_matrices_is_attained():
    """G G^T is no multiple of the identity, and the model's score is that of another law noised alike."""
    process = et.processes.LinearSde([[-1.0, 0.5], [0.0, -0.5]], [[1.0, 0.0], [0.5, 0.7]], horizon=1.0)
    model = IN_PLANE[0]
    bound = song_bound(process, PLANE, process.score(model), start=process.marginal(model, 1.0))
    assert float(bound) == pytest.approx(gaussian_kl(M, S, *OTHERS[0]), rel=1e-10)


def test_girsanov_bound_from_the_joint_law():
    """The second route knows nothing of conditional expectations: it integrates over the joint Gaussian of X_t and X_{t_k}, on an uneven grid that stops early."""
    grid, start = np.array([0.9, 0.6, 0.5, 0.1]), et.Gaussian([0.2, -0.1], [[1.5, 0.2], [0.2, 0.8]])
    sampler = Sampler(SLOW, averaged_field(), ExponentialIntegrator(), grid)

    def rate(t, begun):
        (mean, cov), (first_mean, first_cov) = in_plane(slow(t)), in_plane(slow(begun))
        A, b = averaged_in_plane(slow(begun))
        cross = np.sqrt(slow(begun) / slow(t)) * cov
        joint = np.block([[first_cov, cross], [cross.T, cov]])
        return beta(t, 0.5, 3.0) / 2 * power(np.hstack([A, np.linalg.inv(cov)]), b - np.linalg.solve(cov, mean), np.concatenate([first_mean, mean]), joint)

    path = sum(quadrature(lambda t, begun=begun: rate(t, begun), end, begun) for begun, end in pairwise(grid))
    by_hand = path + gaussian_kl(*in_plane(slow(0.9)), np.asarray(start.mean), np.asarray(start.cov))
    found = girsanov_bound(sampler, PLANE, start)
    assert float(found) == pytest.approx(by_hand, rel=1e-11)
    assert float(et.kl(SLOW.marginal(PLANE, 0.1), sampler.law(start))) < float(found)


@pytest.mark.verify
def test_a_bound_on_w2_takes_the_spectral_norm_and_the_start():
    shear = jnp.asarray([0.3, -0.2])
    data, start = et.Gaussian(M, S), et.Gaussian([0.3, 0.0], [1.2, 0.9])
    w = Perturbed(TRIGONOMETRIC.velocity(data), shear, jnp.asarray([0.1, 0.2]))

    def matrix(t):
        a, s = np.cos(np.pi * t / 2), np.sin(np.pi * t / 2)
        return np.pi / 2 * a * s * (np.eye(2) - S) @ np.linalg.inv(a**2 * S + s**2 * np.eye(2)) + np.diag(shear)

    def moved(t):
        a, s = np.cos(np.pi * t / 2), np.sin(np.pi * t / 2)
        return power(np.diag(shear), np.array([0.1, 0.2]), a * M, a**2 * S + s**2 * np.eye(2))

    begun = 0.3**2 + (np.sqrt(1.2) - 1) ** 2 + (np.sqrt(0.9) - 1) ** 2
    added, stretch = quadrature(moved, 0.0, 1.0), quadrature(lambda t: np.linalg.norm(matrix(t), 2), 0.0, 0.25, 0.5, 0.75, 1.0)
    found = benton_bound(TRIGONOMETRIC, data, w, start, rtol=1e-2)
    assert abs(float(found) - np.exp(stretch) * (np.sqrt(begun) + np.sqrt(added))) <= float(found.error) < 1e-3 * float(found)  # singular values cross


MODES = et.GaussianMixture([0.3, 0.7], [[-1.5], [1.0]], [[0.3], [0.5]])
OTHER_MODES = et.GaussianMixture([0.6, 0.4], [[-1.0], [0.8]], [[0.5], [0.4]])


def test_song_bound_of_mixtures_is_attained_by_the_score_of_another_law():
    bound = song_bound(SLOW, MODES, SLOW.score(OTHER_MODES), start=SLOW.marginal(OTHER_MODES, SLOW.horizon), rtol=1e-2)
    exact = et.kl(MODES, OTHER_MODES)
    assert abs(float(bound - exact)) <= float(bound.error + exact.error)
    assert float(bound.error) < 1e-6 * float(bound)


class MaybeKinked(Field):
    """A field of which nobody may assume that it is affine."""

    field: Field

    @property
    def piecewise(self):
        return True

    def __call__(self, t, x):
        return self.field(t, x)


class Bent(Field):
    """A score that is not affine."""

    def __call__(self, t, x):
        return -x - jnp.sin(x)


@pytest.mark.verify
def test_girsanov_bound_where_expectations_are_integrals():
    p, q, grid = line(0.5, 1.0), (-0.5, 2.0), np.array([1.0, 0.5, 0.2, 0.0])
    found = girsanov_bound(Sampler(SLOW, MaybeKinked(SLOW.score(line(q[1], q[0]))), ExponentialIntegrator(), grid), p, rtol=1e-2)

    def rate(t, begun):
        (_, variance), (first_mean, first_variance) = ((np.sqrt(u), 1 - u / 2) for u in (slow(t), slow(begun)))
        slope, level = -1 / (1 + slow(begun)), np.sqrt(slow(begun)) * q[0] / (1 + slow(begun))
        cross = np.sqrt(slow(begun) / slow(t)) * variance
        moments = slope**2 * first_variance + 2 * slope / variance * cross + 1 / variance
        return beta(t, 0.5, 3.0) / 2 * (moments + (slope * first_mean + level) ** 2)

    path = sum(quadrature(lambda t, begun=begun: rate(t, begun), end, begun) for begun, end in pairwise(grid))
    assert float(found) == pytest.approx(path + gaussian_kl(np.sqrt(slow(1)), 1 - slow(1) / 2, 0, 1), rel=1e-9)


@pytest.mark.verify
def test_song_bound_of_a_score_that_is_not_affine():
    def rate(t):
        mean, variance = np.sqrt(slow(t)), 1 - slow(t) / 2
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        x = mean + np.sqrt(variance) * nodes
        return beta(t, 0.5, 3.0) / 2 * weights @ ((x - mean) / variance - x - np.sin(x)) ** 2 / weights.sum()

    found = song_bound(SLOW, line(0.5, 1.0), Bent(), end=0.5, rtol=1e-2)
    assert float(found) == pytest.approx(quadrature(rate, 0.5, 1.0) + gaussian_kl(np.sqrt(slow(1)), 1 - slow(1) / 2, 0, 1), rel=1e-9)


def test_under_jit_a_field_that_is_not_affine_leaves_the_bound_unknown():
    bound = jax.jit(lambda p: song_bound(SLOW, p, Bent()))(line(0.5, 1.0))
    assert np.isinf(bound.error)


class InSpace(Field):
    def __call__(self, t, x):
        return -jnp.tanh(x)


CUBE = et.Gaussian(np.zeros(3), np.ones(3))
REFUSED = {
    "kind": (lambda: song_bound(VP, line(1.0), VP.velocity(line(1.0))), "`score`: got a velocity; expected a score"),
    "dimension": (lambda: song_bound(VP, line(1.0), VP.score(PLANE)), "`score`"),
    "horizon": (lambda: song_bound(LINEAR, line(1.0), LINEAR.score(line(1.0))), "`process`: got LinearInterpolant, which keeps nothing"),
    "end": (lambda: song_bound(VP, line(1.0), VP.score(line(1.0)), end=jnp.inf), "`s`: got inf"),
    "density": (lambda: song_bound(VP, et.FiniteLaw([[0.0]], [1.0]), Bent()), "without noise"),
    "bent": (lambda: song_bound(VP, CUBE, InSpace()), "`law`: got Gaussian in dimension 3 and a field that is off"),
    "mixture": (lambda: song_bound(VP, et.GaussianMixture([1.0], [np.zeros(3)], [np.ones(3)]), Bent()), "GaussianMixture in dimension 3 and a field that is off"),
    "scheme": (lambda: girsanov_bound(Sampler(VP, VP.velocity(line(1.0)), Euler(), [1.0, 0.5]), line(1.0)), "`sampler`: got Euler on VariancePreserving"),
    "lipschitz": (lambda: benton_bound(LINEAR, line(1.0), InSpace()), "Pass lipschitz=jax.tree_util.Partial"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_bounded_is_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def _two(t):
    return jnp.full_like(t, 2.0)


@pytest.mark.verify
def test_a_lipschitz_constant_may_be_given():
    """For velocities that are not affine: here of a mixture, displaced by 1/2."""
    w = Perturbed(TRIGONOMETRIC.velocity(MODES), 0.0, 0.5)
    assert float(benton_bound(TRIGONOMETRIC, MODES, w, lipschitz=Partial(_two), rtol=1e-2)) == pytest.approx(0.5 * np.exp(2), rel=1e-9)
