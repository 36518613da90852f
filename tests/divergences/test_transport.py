"""Wasserstein distances of every kind against SciPy: integrals of distribution functions, cells of atoms, linear programmes and assignments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.optimize
import scipy.stats
from jax.tree_util import Partial

import ensembletheory as et
from tests.divergences.laws import cdf, law, line, pair, parts, pdf
from tests.divergences.test_bounded_and_chi_squared import P_ATOMS, Q_ATOMS
from tests.helpers import spd


@pytest.mark.parametrize("column", ["GG", "GM", "MM"])
def test_w1_on_the_line_is_the_area_between_distribution_functions(column):
    p, q = pair(column, 1)
    x = line(p, q)
    assert float(et.w1(p, q)) == pytest.approx(np.trapezoid(np.abs(cdf(p, x) - cdf(q, x)), x), rel=1e-7)


def test_w1_of_gaussians_by_shift_or_scale_alone():
    p = et.Gaussian([1.0], 4.0)
    assert float(et.w1(p, et.Gaussian([-0.5], 4.0))) == pytest.approx(1.5, rel=1e-15)
    assert float(et.w1(p, et.Gaussian([1.0], 1.0))) == pytest.approx(np.sqrt(2 / np.pi), rel=1e-15)
    assert float(et.w1(p, p)) == 0


def by_cells(finite, other, power):
    """Quantiles of the other law by root finding, integrals over cells by SciPy."""
    order = np.argsort(np.asarray(finite.points)[:, 0], kind="stable")
    atoms, sums = np.asarray(finite.points)[order, 0], np.cumsum(np.asarray(finite.weights)[order])
    cuts = [scipy.optimize.brentq(lambda x, u=u: cdf(other, x) - u, -30, 30, xtol=1e-14) for u in sums[:-1]]
    ends = [min(m - 12 * s for _, m, s in parts(other)), *cuts, max(m + 12 * s for _, m, s in parts(other))]
    cells = [(a, low, high) for a, low, high in zip(atoms, ends[:-1], ends[1:], strict=True) if high > low]
    pieces = [(a, *np.clip([low, np.clip(a, low, high), high], low, high)) for a, low, high in cells]
    halves = [(a, *half) for a, low, mid, high in pieces for half in ((low, mid), (mid, high))]
    return sum(scipy.integrate.quad(lambda x, a=a: abs(x - a) ** power * pdf(other, x), u, v, epsabs=1e-13, limit=200)[0] for a, u, v in halves)


@pytest.mark.parametrize("letter", ["G", "M"])
def test_finite_support_against_a_density_on_the_line(letter):
    other = law(letter, 1, 1)
    for finite in (P_ATOMS, Q_ATOMS):
        assert float(et.w1(finite, other)) == pytest.approx(by_cells(finite, other, 1), rel=1e-9)
        assert float(et.w2_squared(other, finite)) == pytest.approx(by_cells(finite, other, 2), rel=1e-9)


def plain_plan_cost(a, b, costs):
    n, m = costs.shape
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    return scipy.optimize.linprog(costs.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a, b]), options={"primal_feasibility_tolerance": 1e-10}).fun


@pytest.mark.parametrize("d", [1, 2])
def test_two_laws_of_finite_support(d):
    p, q = (P_ATOMS, Q_ATOMS) if d == 1 else (et.FiniteLaw([[0.0, 1.0], [2.0, 0.5], [1.0, 1.0]], [0.5, 0.2, 0.3]), et.FiniteLaw([[1.0, 0.0], [0.3, 2.0]], [0.6, 0.4]))
    gaps = np.linalg.norm(np.asarray(p.points)[:, None] - np.asarray(q.points)[None], axis=-1)
    a, b = np.asarray(p.weights), np.asarray(q.weights)
    assert float(et.w1(p, q)) == pytest.approx(plain_plan_cost(a, b, gaps), rel=1e-9)
    assert float(et.w2_squared(p, q)) == pytest.approx(plain_plan_cost(a, b, gaps**2), rel=1e-9)
    assert float(et.mw2(p, q)) == pytest.approx(float(et.w2(p, q)), rel=1e-12)


def plain_mw2_squared(p, q):
    def bures(S, R):
        root = scipy.linalg.sqrtm(S)
        return np.trace(S + R - 2 * scipy.linalg.sqrtm(root @ R @ root).real)

    (means, covs), (others, other_covs) = ((np.asarray(law.means), np.asarray(law.covs)) for law in (p, q))
    costs = [[np.sum((m - n) ** 2) + bures(S, R) for n, R in zip(others, other_covs, strict=True)] for m, S in zip(means, covs, strict=True)]
    return plain_plan_cost(np.asarray(p.weights), np.asarray(q.weights), np.array(costs))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_mw2_is_a_linear_programme_over_gaussian_distances(d):
    p, q = pair("MM", d)
    assert float(et.mw2(p, q)) ** 2 == pytest.approx(plain_mw2_squared(p, q), rel=1e-8)
    assert float(et.mw2(p, p)) == pytest.approx(0, abs=1e-7)
    if d == 1:
        assert float(et.w2(p, q)) <= float(et.mw2(p, q))


def test_mw2_under_jit_and_its_derivative_at_the_optimal_plan():
    p, q = pair("MM", 2)

    def shifted(t):
        return et.mw2(et.GaussianMixture(p.weights, p.means + t, p.covs), q).value ** 2

    step = 1e-5
    plain = [plain_mw2_squared(et.GaussianMixture(p.weights, np.asarray(p.means) + t, p.covs), q) for t in (step, -step)]
    value, slope = jax.jit(jax.value_and_grad(shifted))(0.0)
    assert float(value) == pytest.approx(float(et.mw2(p, q)) ** 2, rel=1e-12)
    assert float(slope) == pytest.approx((plain[0] - plain[1]) / (2 * step), rel=1e-5)


def test_enclosures_hold_the_truth_and_close_on_translations():
    """Products with one law on the second axis: W2 is that of the first axis. A translation moves everything as far."""
    first, second = pair("MM", 1)
    lifted = [et.GaussianMixture(m.weights, np.c_[m.means, np.zeros(2)], np.c_[np.asarray(m.covs)[:, 0], np.full(2, 0.7)]) for m in (first, second)]
    for divergence in (et.w1, et.w2, et.w2_squared):
        estimate, truth = divergence(*lifted), float(divergence(first, second))
        assert abs(float(estimate) - truth) <= float(estimate.error)
        assert float(estimate.error) < float(estimate)
    moved = lifted[0].push(np.eye(2), [0.3, 0.4])
    for divergence, truth in ((et.w1, 0.5), (et.w2, 0.5), (et.w2_squared, 0.25)):
        estimate = divergence(lifted[0], moved)
        assert float(estimate) == pytest.approx(truth, abs=float(estimate.error) + 1e-12)
        assert float(estimate.error) < 1e-7
    grid, gaussian = pair("RG", 2)
    estimate = et.w2(grid, gaussian)
    assert float(estimate) - float(estimate.error) == pytest.approx(float(et.frechet_distance(grid, gaussian)), rel=1e-9)


def _unnormalised(mean, variance, x):
    return 3.0 - (x[0] - mean) ** 2 / (2 * variance)


def test_a_gaussian_known_on_a_grid_is_that_gaussian():
    p, q = et.Gaussian([0.4], 0.7), et.Gaussian([-0.3], 1.9)
    grid = et.GridLaw(Partial(_unnormalised, jnp.asarray(0.4), jnp.asarray(0.7)), [[0.4]], [[0.7**0.5]])
    for name in ("kl", "w1", "hellinger_squared", "l2_squared", "frechet_distance"):
        divergence = getattr(et, name)
        assert float(divergence(grid, q)) == pytest.approx(float(divergence(p, q)), rel=1e-9), name
    assert float(et.w2(q, grid)) == pytest.approx(float(et.w2(p, q)), rel=1e-9)
    for divergence in (et.w1, et.w2):
        assert float(divergence(grid, P_ATOMS)) == pytest.approx(float(divergence(p, P_ATOMS)), rel=1e-9)


def test_empirical_w2_is_an_assignment_problem():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 2)), rng.normal(size=(40, 2)) + 1
    costs = np.sum((x[:, None] - y[None]) ** 2, axis=-1)
    rows, columns = scipy.optimize.linear_sum_assignment(costs)
    assert float(et.empirical_w2(x, y)) ** 2 == pytest.approx(costs[rows, columns].mean(), rel=1e-12)
    weights = rng.dirichlet(np.ones(40))
    assert float(et.empirical_w2(x, y[:7], weights_x=weights)) ** 2 == pytest.approx(plain_plan_cost(weights, np.full(7, 1 / 7), costs[:, :7]), rel=1e-8)
    with pytest.raises(ValueError, match="`y`.*dimension 3.*dimension 2"):
        et.empirical_w2(x, np.zeros((4, 3)))


def test_frechet_distance_of_samples_and_of_singular_moments():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 3)) @ spd(rng, 3), rng.normal(size=(2, 3))
    S, R = np.cov(x.T), np.cov(y.T)
    cross = np.sum(np.sqrt(np.maximum(np.linalg.eigvals(S @ R).real, 0)))
    plain = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(S + R) - 2 * cross
    assert float(et.frechet_distance(x, y)) ** 2 == pytest.approx(plain, rel=1e-6)
    point = et.FiniteLaw([[1.0, 2.0]])
    assert float(et.frechet_distance(point, et.standard_normal(2))) ** 2 == pytest.approx(5 + 2, rel=1e-12)
    p, q = pair("GG", 2)
    assert float(et.frechet_distance(p, q)) == pytest.approx(float(et.w2(p, q)), rel=1e-9)
