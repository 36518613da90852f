"""The self-masked Gaussian against sums on a grid in NumPy: likelihood, moments, draws, what ignoring the mechanism costs, and the fit."""

import jax
import numpy as np
import pytest
from scipy import stats

import ensembletheory as et
from ensembletheory.imputation import SelfMasked, SelfMaskedGaussian, fit_self_masked, hidden_error, ignoring_limit, least_error
from tests.helpers import assert_mean

MEAN, COV = np.array([0.4, -0.3]), np.array([[1.5, 0.9], [0.9, 1.2]])
LAW = stats.multivariate_normal(MEAN, COV)
NAN = np.nan
ROWS = np.array([[0.7, -0.5], [NAN, 1.1], [-0.2, NAN], [NAN, NAN]])
STEP = 0.05
LINE = np.arange(-12, 12, STEP) + STEP / 2  # no point on the threshold
GRID = np.stack(np.meshgrid(LINE, LINE, indexing="ij"), axis=-1)
DENSITY = LAW.pdf(GRID)
SLOPES = {"soft": 1.7, "falling": -0.8, "hard": np.inf, "hard below": -np.inf}


def model(slope, threshold=0.2):
    return SelfMaskedGaussian(et.Gaussian(MEAN, COV), SelfMasked([slope], [threshold], (0,)))


def hides(x, slope, threshold=0.2):
    """The probability that x hides itself."""
    return (np.sign(slope) * (x - threshold) > 0).astype(float) if np.isinf(slope) else stats.norm.cdf(slope * (x - threshold))


def summed(row, slope):
    """Of one row: likelihood, mean and variances, by sums over what is missing."""
    axes = [LINE if np.isnan(value) else np.array([value]) for value in row]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    weights = LAW.pdf(points).reshape(points.shape[:2]) * (hides(points[..., 0], slope) if np.isnan(row[0]) else 1 - hides(points[..., 0], slope))
    mass = weights.sum()
    mean = np.einsum("ij,ijk->k", weights, points) / mass if mass else None
    return mass * STEP ** np.isnan(row).sum(), mean, np.einsum("ij,ijk->k", weights, (points - mean) ** 2) / mass if mass else None


@pytest.mark.parametrize("name", SLOPES)
def test_likelihood_and_moments_are_those_of_the_joint_law(name):
    found = model(SLOPES[name])
    tolerance = 1e-3 if "hard" in name else 1e-9  # the midpoint rule errs by the square of its step at a jump
    asked = (np.asarray(ask(ROWS)) for ask in (found.log_prob, found.conditional_mean, found.conditional_variance))
    for row, log_prob, mean, variance in zip(ROWS, *asked, strict=True):
        mass, expected, spread = summed(row, SLOPES[name])
        np.testing.assert_allclose(log_prob, np.log(mass) if mass else -np.inf, rtol=tolerance, atol=tolerance)
        if mass:
            np.testing.assert_allclose(mean, expected, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(variance, spread, rtol=tolerance, atol=tolerance)


def test_an_infinite_slope_is_the_limit():
    limit = np.asarray(model(np.inf).conditional_mean(ROWS))
    distances = [np.abs(np.asarray(model(slope).conditional_mean(ROWS)) - limit).max() for slope in (10.0, 100.0, 1000.0)]
    np.testing.assert_allclose(distances[0] / distances[1], 100, rtol=0.1)  # the error falls like 1 / slope^2
    assert distances[2] < 1e-6


def test_a_slope_of_zero_hides_half_at_random():
    ignored, plain = model(0.0), ROWS.copy()
    plain[1, 0] = MEAN[0] + COV[0, 1] / COV[1, 1] * (ROWS[1, 1] - MEAN[1])
    plain[2, 1] = MEAN[1] + COV[0, 1] / COV[0, 0] * (ROWS[2, 0] - MEAN[0])
    plain[3] = MEAN
    np.testing.assert_allclose(ignored.conditional_mean(ROWS), plain, rtol=1e-12)
    logs = [LAW.logpdf(ROWS[0]), *(stats.norm.logpdf(ROWS[i, j], MEAN[j], COV[j, j] ** 0.5) for i, j in ((1, 1), (2, 0))), 0.0]
    np.testing.assert_allclose(ignored.log_prob(ROWS), np.array(logs) - np.log(2), rtol=1e-12)


@pytest.mark.parametrize("name", ["soft", "hard below"])
def test_draws_and_the_law_of_one_row_have_its_moments(name):
    found = model(SLOPES[name])
    draws = np.asarray(found.conditional_draws(jax.random.key(0), ROWS, 4000))
    for i in (1, 3):
        u = np.isnan(ROWS[i])
        mean, variance = np.asarray(found.conditional_mean(ROWS))[i][u], np.asarray(found.conditional_variance(ROWS))[i][u]
        assert_mean(draws[:, i][:, u], mean)
        assert_mean((draws[:, i][:, u] - mean) ** 2, variance)
        law = found.conditional_law(ROWS[i])
        np.testing.assert_allclose(law.mean, mean, rtol=1e-10)
        np.testing.assert_allclose(np.diag(law.cov), variance, rtol=1e-10)
    np.testing.assert_array_equal(draws[:, 0], np.tile(ROWS[0], (4000, 1)))
    if name == "hard below":
        assert draws[:, [1, 3], 0].max() < 0.2
    plain = found.conditional_law(ROWS[2])
    assert isinstance(plain, et.Gaussian)


def moments(slope, seen):
    """Mass, mean and covariance of complete rows given that the first value is seen or hides."""
    weights = DENSITY * (1 - hides(GRID[..., 0], slope) if seen else hides(GRID[..., 0], slope)) * STEP**2
    mass = weights.sum()
    mean = np.einsum("ij,ijk->k", weights, GRID) / mass
    return mass, mean, np.einsum("ij,ijk,ijl->kl", weights, GRID - mean, GRID - mean) / mass


@pytest.fixture(scope="module", params=["soft", "falling"])
def costs(request):
    slope = SLOPES[request.param]
    return slope, model(slope), ignoring_limit(model(slope))


def test_who_ignores_the_mechanism_fits_the_rows_that_show_the_value(costs):
    slope, found, limit = costs
    mass, mean, cov = moments(slope, seen=True)
    np.testing.assert_allclose(np.exp(found.of_rows(True).log_mass()), mass, rtol=1e-9)
    beta = cov[0, 1] / cov[1, 1]
    expected_mean = mean[0] + beta * (MEAN[1] - mean[1])
    np.testing.assert_allclose(limit.mean, [expected_mean, MEAN[1]], rtol=1e-9)
    np.testing.assert_allclose(limit.cov, [[cov[0, 0] - beta * cov[0, 1] + beta**2 * COV[1, 1], beta * COV[1, 1]], [beta * COV[1, 1], COV[1, 1]]], rtol=1e-9)
    assert np.sign(expected_mean - MEAN[0]) == -np.sign(slope)  # large values hide: what is left is too small


def test_the_limit_maximises_the_expected_likelihood_of_what_is_observed(costs):
    slope, _, limit = costs
    mass, mean, cov = moments(slope, seen=True)
    hidden = moments(slope, seen=False)

    def expected(law_mean, law_cov):
        """P(seen) E[log N(x) | seen] + P(hidden) E[log N(x_1) | hidden], the mechanism ignored."""
        gap = mean - law_mean
        complete = -0.5 * (np.linalg.slogdet(law_cov)[1] + np.trace(np.linalg.solve(law_cov, cov + np.outer(gap, gap))))
        alone = -0.5 * (np.log(law_cov[1, 1]) + (hidden[2][1, 1] + (hidden[1][1] - law_mean[1]) ** 2) / law_cov[1, 1])
        return mass * complete + (1 - mass) * alone

    best = expected(np.asarray(limit.mean), np.asarray(limit.cov))
    rng = np.random.default_rng(0)
    for size in (0.3, 0.05):
        for _ in range(2):
            root = np.eye(2) + size * rng.normal(size=(2, 2))
            assert expected(np.asarray(limit.mean) + size * rng.normal(size=2), root @ np.asarray(limit.cov) @ root.T) < best


def test_errors_on_hidden_values(costs):
    slope, found, limit = costs
    limit_mean, limit_cov = np.asarray(limit.mean), np.asarray(limit.cov)
    weights = DENSITY * hides(GRID[..., 0], slope)
    weights /= weights.sum()

    def error(imputed):
        return np.sum(weights * (GRID[..., 0] - imputed) ** 2)

    beta = limit_cov[0, 1] / limit_cov[1, 1]
    ignoring = hidden_error(found, limit)
    np.testing.assert_allclose(ignoring.value, error(limit_mean[0] + beta * (GRID[..., 1] - limit_mean[1])), rtol=1e-8)
    best = weights.sum(axis=0)
    centre = (weights * GRID[..., 0]).sum(axis=0) / np.where(best > 0, best, 1.0)
    least = least_error(found)
    np.testing.assert_allclose(least.value, error(centre[None, :]), rtol=1e-8)
    assert float(least) + float(least.error) < float(ignoring)
    assert ignoring.kind == "closed_form"


def test_in_one_dimension_the_limit_is_what_is_seen():
    found = SelfMaskedGaussian(et.Gaussian([0.3], [[1.7]]), SelfMasked(np.inf, 0.5))
    seen = stats.truncnorm(-np.inf, (0.5 - 0.3) / 1.7**0.5, loc=0.3, scale=1.7**0.5)
    hidden = stats.truncnorm((0.5 - 0.3) / 1.7**0.5, np.inf, loc=0.3, scale=1.7**0.5)
    np.testing.assert_allclose(ignoring_limit(found).mean, seen.mean(), rtol=1e-10)
    np.testing.assert_allclose(ignoring_limit(found).cov, seen.var(), rtol=1e-10)
    np.testing.assert_allclose(least_error(found).value, hidden.var(), rtol=1e-10)
    np.testing.assert_allclose(hidden_error(found, ignoring_limit(found)).value, hidden.var() + (hidden.mean() - seen.mean()) ** 2, rtol=1e-10)


def log_likelihood(X, mean, cov, slope, threshold):
    """Of rows whose first value may hide, by conditioning the first value on the second."""
    beta, left = cov[0, 1] / cov[1, 1], cov[0, 0] - cov[0, 1] ** 2 / cov[1, 1]
    predicted, hidden = mean[0] + beta * (X[:, 1] - mean[1]), np.isnan(X[:, 0])
    second = stats.norm(mean[1], cov[1, 1] ** 0.5).logpdf(X[:, 1])
    shown = stats.norm.logpdf(X[:, 0], predicted, left**0.5) + stats.norm.logsf(slope * (X[:, 0] - threshold))
    return np.mean(second + np.where(hidden, stats.norm.logcdf(slope * (predicted - threshold) / np.sqrt(1 + slope**2 * left)), shown))


def test_the_fit_is_a_maximum_of_the_likelihood():
    X = np.asarray(model(1.7).sample(jax.random.key(1), 300))
    fit = fit_self_masked(X, (0,))
    found = (np.asarray(fit.law.mean), np.asarray(fit.law.cov), np.asarray(fit.mechanism.slope)[0], np.asarray(fit.mechanism.threshold)[0])
    best = log_likelihood(X, *found)
    np.testing.assert_allclose(np.asarray(fit.log_prob(X[:4])).mean(), log_likelihood(X[:4], *found), rtol=1e-9)
    assert best > log_likelihood(X, MEAN, COV, 1.7, 0.2)
    rng = np.random.default_rng(2)
    for size in (1e-3, 0.1):  # near the maximum the likelihood falls by the square of the step
        for _ in range(10):
            root = np.eye(2) + size * rng.normal(size=(2, 2))
            moved = (found[0] + size * rng.normal(size=2), root @ found[1] @ root.T, found[2] + size * rng.normal(), found[3] + size * rng.normal())
            assert log_likelihood(X, *moved) < best + 1e-9


@pytest.mark.verify
def test_law_and_mechanism_are_found_from_many_rows():
    X = np.asarray(model(1.7).sample(jax.random.key(2), 40_000))
    fit = fit_self_masked(X, (0,))
    ignored = np.asarray(ignoring_limit(model(1.7)).mean)[0]
    assert abs(float(fit.law.mean[0]) - MEAN[0]) < 0.1 * abs(ignored - MEAN[0])
    np.testing.assert_allclose([fit.mechanism.slope[0], fit.mechanism.threshold[0]], [1.7, 0.2], atol=0.2)
    known = fit_self_masked(X, (0,), mechanism=model(1.7).mechanism)
    np.testing.assert_allclose(known.law.mean, MEAN, atol=0.03)
    em = et.fit_mixture(jax.random.key(0), X[:20_000], 1, ridge=0.0, starts=1)
    np.testing.assert_allclose(em.means[0], ignoring_limit(model(1.7)).mean, atol=0.03)  # EM goes where ignoring goes


@pytest.mark.verify
@pytest.mark.parametrize("slope", [1.7, -0.8])
def test_the_likelihood_can_be_differentiated_in_law_and_mechanism(slope):
    def total(mean, slope, threshold):
        return SelfMaskedGaussian(et.Gaussian(mean, COV), SelfMasked(slope, threshold, (0,))).log_prob(ROWS).sum()

    point = (jax.numpy.asarray(MEAN), jax.numpy.asarray(slope), jax.numpy.asarray(0.2))
    slopes = jax.jit(jax.grad(total, (0, 1, 2)))(*point)
    for argument, found in enumerate(slopes):
        for index in np.ndindex(found.shape):
            step = [np.zeros(np.shape(part)) for part in point]
            step[argument][index] = 1e-5
            higher, lower = (total(*[part + sign * one for part, one in zip(point, step, strict=True)]) for sign in (1, -1))
            np.testing.assert_allclose(found[index], (higher - lower) / 2e-5, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SelfMaskedGaussian(et.Gaussian(MEAN, COV), SelfMasked(1.0, link="logistic")), "`mechanism`: got link 'logistic'"),
        (lambda: SelfMaskedGaussian(et.Gaussian(MEAN, COV), SelfMasked(1.0, columns=(2,))), "`mechanism`: got 2 columns"),
        (lambda: SelfMaskedGaussian(et.Gaussian(MEAN, COV), SelfMasked(1.0)).log_prob(ROWS), r"`X`: got 1 rows that hide several values \(index 3\)"),
        (lambda: ignoring_limit(SelfMaskedGaussian(et.Gaussian(MEAN, COV), SelfMasked(1.0))), r"`mechanism`: got columns \[0, 1\]"),
        (lambda: hidden_error(model(1.0), et.Gaussian(MEAN[:1], COV[:1, :1])), "`law`: got dimension 1"),
        (lambda: model(1.0).conditional_law(ROWS[0]), "wholly observed"),
        (lambda: fit_self_masked(ROWS, (2,)), "`columns`"),
        (lambda: fit_self_masked(ROWS, (0, 0)), r"`columns`: got \[0, 0\]"),
        (lambda: fit_self_masked([[-1], [1], [2], [-2], [0], [NAN], [NAN]], (0,)), "no mechanism is visible"),
        (lambda: fit_self_masked(ROWS[[0, 2]], (0,)), "`columns`: got one that hides no value"),
        (lambda: fit_self_masked(ROWS[[1, 3]], (0,)), "`X`: got a column wholly missing"),
        (lambda: fit_self_masked(ROWS, (0,), mechanism=SelfMasked(1.0, columns=(1,))), r"`mechanism`: got columns \[1\]"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
