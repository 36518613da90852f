"""RePaint: its exact law against kernels composed by NumPy, its limits against their formulas, an equation of motion and simulation, and what it refuses."""

import jax
import numpy as np
import pytest
from scipy import integrate

import ensembletheory as et
from ensembletheory.fields import Field
from ensembletheory.imputation import Repaint, repaint_limit
from ensembletheory.laws.gaussian import singular_gaussian
from ensembletheory.processes import LinearInterpolant, VariancePreserving
from ensembletheory.samplers import Ddim, EulerMaruyama, MatchedCovariance
from tests.helpers import assert_mean

VP = VariancePreserving()
COV = np.array([[2.0, 0.8, -0.3], [0.8, 1.0, 0.2], [-0.3, 0.2, 0.6]])
MEAN = np.array([1.0, -1.0, 0.5])
LAW = et.Gaussian(MEAN, COV)
ROW = np.array([np.nan, 0.3, -1.0])
GRID = np.linspace(1.0, 0.0, 7) ** 2
DENOISER = VP.denoiser(LAW)
LINEAR = LinearInterpolant()


def signal(t):
    return np.exp(-(0.1 * t + 19.9 * t**2 / 2) / 2)


def exact_reverse(t, s):
    """Matrix, offset and covariance of X_s given X_t, from the joint law."""
    a, b = signal(t), signal(s)
    P = b**2 * COV + (1 - b**2) * np.eye(3)
    ratio = a / b
    C = ratio**2 * P + (1 - ratio**2) * np.eye(3)
    gain = ratio * P @ np.linalg.inv(C)
    return gain, b * MEAN - gain @ (a * MEAN), P - gain @ (ratio * P)


def ancestral(t, s):
    """The same of the law of X_s given X_t and X_0, with E[X_0 | X_t] in place of X_0."""
    a, b = signal(t), signal(s)
    denoiser = a * COV @ np.linalg.inv(a**2 * COV + (1 - a**2) * np.eye(3))
    fresh, noise_t, noise_s = 1 - (a / b) ** 2, 1 - a**2, 1 - b**2
    gain = b * fresh / noise_t * denoiser + a / b * noise_s / noise_t * np.eye(3)
    return gain, b * fresh / noise_t * (MEAN - a * denoiser @ MEAN), noise_s * fresh / noise_t * np.eye(3)


def composed(grid, r, jump, x, reverse=exact_reverse):
    """Mean and covariance of the missing coordinates of RePaint with a reverse kernel, move by move."""
    seen = ~np.isnan(x)
    value = np.where(seen, x, 0.0)

    def replaced(m, C, t):
        keep = np.diag(1.0 - seen)
        return keep @ m + signal(t) * value, keep @ C @ keep + (1 - signal(t) ** 2) * np.diag(1.0 * seen)

    m, C = replaced(np.zeros(3), (1 - signal(grid[0]) ** 2) * np.eye(3), grid[0])
    for first in range(0, len(grid) - 1, jump):
        for again in range(r):
            if again:
                ratio = signal(grid[first]) / signal(grid[first + jump])
                m, C = ratio * m, ratio**2 * C + (1 - ratio**2) * np.eye(3)
            for i in range(first, first + jump):
                A, b, Q = reverse(grid[i], grid[i + 1])
                m, C = replaced(A @ m + b, A @ C @ A.T + Q, grid[i + 1])
    return m[~seen], C[np.ix_(~seen, ~seen)]


@pytest.mark.parametrize(("r", "jump", "row"), [(1, 1, ROW), (3, 2, ROW), (2, 6, [np.nan, 0.3, np.nan])])
def test_its_law_is_that_of_the_moves_one_by_one(r, jump, row):
    row = np.asarray(row)
    law = Repaint(VP, DENOISER, MatchedCovariance(), GRID, r, jump).law(row)
    mean, cov = composed(GRID, r, jump, row)
    np.testing.assert_allclose(law.mean, mean, rtol=1e-7, atol=1e-9)  # roots of covariances are taken near zero
    np.testing.assert_allclose(law.cov, cov, rtol=1e-7, atol=1e-9)


def test_in_single_precision_it_has_its_law_and_its_limit():
    """Float32 rounds each of the four steps to 1e-7; 1 - a^2 loses two digits more near the data."""
    with jax.enable_x64(False):
        path = VariancePreserving()
        sampler = Repaint(path, path.denoiser(et.Gaussian(MEAN, COV)), Ddim(1.0), np.linspace(1.0, 0.0, 5))
        law, limit = sampler.law(ROW), sampler.limit(ROW)
        assert law.mean.dtype == np.float32
        mean, cov = composed(np.linspace(1.0, 0.0, 5), 1, 1, ROW, ancestral)
        np.testing.assert_allclose(law.mean, mean, rtol=1e-4)
        np.testing.assert_allclose(law.cov, cov, rtol=1e-4)
        often, cov = composed(np.linspace(1.0, 0.0, 5), 200, 1, ROW, ancestral)
        np.testing.assert_allclose(limit.mean, often, rtol=1e-4)
        np.testing.assert_allclose(limit.cov, cov, rtol=1e-4)


def test_without_a_condition_the_exact_step_samples_the_data():
    a = signal(1.0)
    start = et.Gaussian(a * MEAN, a**2 * COV + (1 - a**2) * np.eye(3))
    law = Repaint(VP, DENOISER, MatchedCovariance(), GRID).law([np.nan] * 3, start)
    np.testing.assert_allclose(law.mean, MEAN, atol=1e-7)
    np.testing.assert_allclose(law.cov, COV, atol=1e-7)


def test_resampling_for_ever_leaves_what_the_formula_says_and_not_the_conditional():
    grid = np.linspace(1.0, 0.0, 5)
    limit = Repaint(VP, DENOISER, MatchedCovariance(), grid).limit(ROW)
    h, L = 1 / signal(grid[-2]) ** 2 - 1, np.linalg.inv(COV)
    inner = np.linalg.inv(np.eye(2) + h * L[1:, 1:])
    gain = -np.linalg.solve(L[:1, :1] - h * L[:1, 1:] @ inner @ L[1:, :1], L[:1, 1:] @ inner)
    np.testing.assert_allclose(limit.mean, MEAN[:1] + gain @ (ROW[1:] - MEAN[1:]), rtol=1e-8)
    often, cov = composed(grid, 200, 1, ROW)
    np.testing.assert_allclose(limit.mean, often, rtol=1e-8)
    np.testing.assert_allclose(limit.cov, cov, rtol=1e-8)
    exact = MEAN[0] + COV[0, 1:] @ np.linalg.solve(COV[1:, 1:], ROW[1:] - MEAN[1:])
    assert abs(float(np.asarray(limit.mean)[0]) - exact) > 0.1


@pytest.mark.parametrize("r", [1.0, 3.0])
def test_infinitely_many_steps_solve_the_equation_of_motion(r):
    def slope(log_w, y):
        w = np.exp(log_w)
        L = np.linalg.inv(COV + w * np.eye(3))
        return [w * r * (L[0, 0] * y[0] + L[0, 1:] @ (ROW[1:] - MEAN[1:])), w * (2 * r * L[0, 0] * y[1] - (2 * r - 1))]

    ends = integrate.solve_ivp(slope, (np.log(1e8), np.log(1e-12)), [0.0, 1e8], rtol=1e-10, atol=1e-12, method="LSODA").y[:, -1]
    law = repaint_limit(LAW, ROW, r)
    np.testing.assert_allclose([np.asarray(law.mean)[0] - MEAN[0], np.asarray(law.cov)[0, 0]], ends, rtol=1e-6)  # started at a finite level


def test_infinitely_many_steps_of_two_coordinates_have_closed_forms():
    rho, c = 0.8, 3.0
    pair = et.Gaussian(np.zeros(2), c * np.array([[1.0, rho], [rho, 1.0]]))
    once = repaint_limit(pair, [1.0, np.nan], 1)
    np.testing.assert_allclose(once.mean, (1 - np.sqrt(1 - rho**2)) / rho, rtol=1e-12)
    np.testing.assert_allclose(once.cov, c * (1 - rho**2) * np.arctanh(rho) / rho, rtol=1e-12)
    weak = et.Gaussian(np.zeros(2), [[1.0, 1e-4], [1e-4, 1.0]])
    np.testing.assert_allclose(repaint_limit(weak, [1.0, np.nan], 10).mean, 1e-4 * 10 / 11, rtol=1e-7)
    np.testing.assert_allclose(repaint_limit(pair, [1.0, np.nan], np.inf).cov, [[c * (1 - rho**2)]], rtol=1e-12)
    np.testing.assert_allclose(repaint_limit(pair, [1.0, np.nan], 1e6).mean, rho, rtol=1e-5)


@pytest.mark.verify
def test_many_steps_tend_to_infinitely_many():
    pair = et.Gaussian(np.zeros(2), [[1.0, 0.8], [0.8, 1.0]])
    field = VP.denoiser(pair)
    limit = repaint_limit(pair, [np.nan, 1.0], 1).mean[0]
    coarse, fine = (Repaint(VP, field, MatchedCovariance(), np.linspace(1.0, 0.0, n + 1) ** 2).law([np.nan, 1.0]).mean[0] for n in (256, 512))
    assert abs(fine - limit) < 0.6 * abs(coarse - limit) < 6e-3


TABLE = np.array([ROW, [0.5, np.nan, np.nan], [np.nan] * 3, [1.0, 2.0, 3.0]])
SAMPLER, COPIES = Repaint(VP, DENOISER, Ddim(1.0), GRID, 2, 3), 2000


def test_draws_have_the_exact_law_and_keep_what_is_observed():
    draws = np.asarray(SAMPLER.sample(jax.random.key(0), TABLE, COPIES))
    for row, copies in zip(TABLE[:3], np.moveaxis(draws, 1, 0)[:3], strict=True):
        hole, (mean, cov) = np.isnan(row), composed(GRID, 2, 3, row, ancestral)
        assert_mean(copies[:, hole], mean)
        centred = copies[:, hole] - mean
        assert_mean(centred[:, :, None] * centred[:, None, :], cov)
        np.testing.assert_array_equal(copies[:, ~hole], np.broadcast_to(row[~hole], (COPIES, (~hole).sum())))
    np.testing.assert_array_equal(draws[:, 3], np.broadcast_to(TABLE[3], (COPIES, 3)))


def test_draws_by_row_do_not_depend_on_the_other_rows():
    there, back = (np.asarray(SAMPLER.sample(jax.random.key(0), table, COPIES, by_row=True)) for table in (TABLE, TABLE[::-1]))
    np.testing.assert_array_equal(there, back[:, ::-1])
    assert len(np.unique(there[:, 0, 0])) == COPIES


class _Cubic(Field):
    def __call__(self, t, x):
        return -(x**3)


class _Pieces(Field):
    def __call__(self, t, x):
        return -x

    @property
    def piecewise(self):
        return True


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Repaint(VP, DENOISER, Ddim(), GRID, jump=4), "`jump`: got 4 for 6 steps"),
        (lambda: Repaint(VP, DENOISER, Ddim(), GRID, resamplings=0), "`resamplings`: got 0"),
        (lambda: Repaint(VP, DENOISER, EulerMaruyama(), GRID), "`field`: got a denoiser"),
        (lambda: Repaint(LINEAR, DENOISER, Ddim(), GRID), "another process"),
        (lambda: Repaint(VP, DENOISER, Ddim(), GRID[::-1]), "decreasing times"),
        (lambda: Repaint(LINEAR, LINEAR.denoiser(LAW), MatchedCovariance(), GRID), "`grid`: got a first time of 1, at which a_t = 0"),
        (lambda: Repaint(VP, _Pieces(), Ddim(), GRID).law(ROW), "in pieces only"),
        (lambda: Repaint(VP, DENOISER, Ddim(), GRID).law([1.0, 2.0, 3.0]), "without a missing value"),
        (lambda: Repaint(VP, DENOISER, Ddim(), GRID).law([[np.nan]]), "one row"),
        (lambda: Repaint(VP, DENOISER, Ddim(), GRID).law(ROW, et.standard_normal(2)), "`start`: got dimension 2"),
        (lambda: Repaint(VP, DENOISER, Ddim(), GRID).sample(jax.random.key(0), [[np.inf, 0.0, 1.0]]), "infinite"),
        (lambda: repaint_limit(LAW, [np.nan, np.nan, 1.0], 1), "2 missing values"),
        (lambda: repaint_limit(LAW, ROW, 0.5), "a number >= 1"),
        (lambda: repaint_limit(LAW, ROW[1:], 1), "2 columns"),
        (lambda: repaint_limit(singular_gaussian(MEAN, np.ones((3, 3))), ROW, 1), "singular"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.verify  # compiles a run of its own; samplers' test of the same linearisation stays
def test_what_is_not_affine_has_no_law():
    with pytest.raises(ValueError, match="off its linearisation"):
        Repaint(VP, _Cubic(), Ddim(), GRID).law(ROW)


def test_what_is_not_gaussian_has_no_closed_limit():
    with pytest.raises(TypeError, match="expected a Gaussian"):
        repaint_limit(et.FiniteLaw([MEAN]), ROW, 1)
