"""Every rule by a route of its own: NumPy's formulas, SciPy's integration of the moments, recursions over all choices; draws against laws by standard errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import ensembletheory as et
from ensembletheory.pooling import (
    Alternating,
    DominantField,
    MeanOfSamples,
    MedianField,
    PosteriorWeighted,
    RelativeNoise,
    Routed,
    ScaledNoise,
    ShiftedGeometricField,
    WeightedSum,
)
from ensembletheory.samplers import Euler, EulerMaruyama, Sampler, padded, quadratic_grid
from tests.helpers import assert_mean, spd

VP = et.processes.VariancePreserving()
UNIT = et.processes.VariancePreserving(1.0, 1.0)
PAIR = [et.Gaussian([0.0], 0.25), et.Gaussian([0.0], 4.0)]
SCORES = [VP.score(member) for member in PAIR]
VELOCITIES = [VP.velocity(member) for member in PAIR]
START = et.standard_normal(1)
NODES = 401
SHORT = quadratic_grid(VP, 100, 1e-5)


def grid(steps):
    return padded(quadratic_grid(VP, steps, 1e-5), NODES)


def in_the_limit(law_on):
    """The variance at infinitely many steps by Richardson's extrapolation, for a scheme of order 1, with its error: what one more extrapolation would change, and more."""
    coarse, middle, fine = (float(law_on(grid(steps)).cov[0, 0]) for steps in (100, 200, 400))
    return 2 * fine - middle, 2 * abs((2 * fine - middle) - (2 * middle - coarse))


@pytest.mark.parametrize("K", [2, 3, 5])
def test_summed_scores_of_equal_members_miss_the_product_of_experts(K):
    law = et.score_sum_law([START] * K, VP, np.ones(K), horizon=np.inf)
    assert float(law.cov[0, 0]) == pytest.approx(1 / (2 * K - 1), rel=1e-13)
    product = et.score_sum_law([START] * K, VP, np.ones(K), churn=np.inf)
    assert float(product.cov[0, 0]) == pytest.approx(1 / K, rel=1e-14)


def test_the_flow_of_two_summed_scores_collapses_with_the_horizon():
    assert float(et.score_sum_law([START] * 2, VP, [1.0, 1.0], "ode").cov[0, 0]) == pytest.approx(4.3186e-5, abs=5e-10)


@pytest.mark.parametrize(("scale", "flow", "sde", "target"), [(1.5, 2**-0.5, 0.75, 0.8), (2.0, 0.5, 7 / 12, 2 / 3), (3.0, 0.25, 0.3875, 0.5)])
def test_guidance_samples_no_power_of_the_ratio(scale, flow, sde, target):
    """Bradley & Nakkiran's example: S_c = 1, S_u = 2; the target is q_c^g q_u^{1-g}."""
    members, c = [START, et.Gaussian([0.0], 2.0)], [scale, 1 - scale]
    variances = [et.score_sum_law(members, VP, c, horizon=np.inf, churn=eta).cov[0, 0] for eta in (0.0, 1.0, np.inf)]
    np.testing.assert_allclose(variances, [flow, sde, target], rtol=1e-12)


def integrated(gaussians, c, e, u_T):
    """Moments by SciPy: dm/du and dC/du of the linear dynamics in u, from N(0, I) at u_T."""
    d, covs, means = gaussians[0].dim, [np.asarray(g.cov) for g in gaussians], [np.asarray(g.mean) for g in gaussians]

    def rates(u, y):
        m, C = y[:d], y[d:].reshape(d, d)
        inverses = [np.linalg.inv((1 - u) * np.eye(d) + u * S) for S in covs]
        pull = sum(a * inverse for a, inverse in zip(c, inverses, strict=True))
        source = sum(a * inverse @ mean for a, inverse, mean in zip(c, inverses, means, strict=True))
        M = (np.eye(d) - (1 + e) * pull) / (2 * u)
        return np.concatenate([M @ m + (1 + e) / (2 * np.sqrt(u)) * source, (M @ C + C @ M.T + e / u * np.eye(d)).ravel()])

    y = scipy.integrate.solve_ivp(rates, (u_T, 1), np.concatenate([np.zeros(d), np.eye(d).ravel()]), rtol=1e-11, atol=1e-13, method="DOP853").y[:, -1]
    return y[:d], y[d:].reshape(d, d)


@pytest.mark.parametrize("commuting", [False, True])
@pytest.mark.parametrize(("c", "eta"), [([1.0, 1.0], 1.0), ([1.5, -0.5], 0.7), ([0.3, 0.4], 0.0), ([0.2, 0.1], 1.0), ([0.7, 0.3], 1.0)])
def test_any_coefficients_and_covariances(c, eta, commuting):
    rng = np.random.default_rng(5)
    covs = [spd(rng, 2), spd(rng, 2)]
    if commuting:
        Q = np.linalg.eigh(covs[0])[1]
        covs[1] = Q @ np.diag([2.0, 0.3]) @ Q.T
    gaussians = [et.Gaussian(rng.normal(size=2), cov) for cov in covs]
    law = et.score_sum_law(gaussians, UNIT, c, churn=eta)
    mean, cov = integrated(gaussians, c, eta**2, np.exp(-1.0))
    np.testing.assert_allclose(law.mean, mean, atol=1e-10)
    np.testing.assert_allclose(law.cov, cov, atol=1e-10)


def test_infinite_horizon_of_full_covariances_is_the_limit_of_long_ones():
    rng = np.random.default_rng(6)
    gaussians = [et.Gaussian(rng.normal(size=2), spd(rng, 2)) for _ in range(2)]
    for c, eta in (([1.0, 0.5], 1.0), ([1.4, -0.4], 0.0)):
        law = et.score_sum_law(gaussians, UNIT, c, churn=eta, horizon=np.inf)
        mean, cov = integrated(gaussians, c, eta**2, 1e-8)  # what is left of the start and the source is of order u_T^{1/2}, in the flow, and less else
        np.testing.assert_allclose(law.mean, mean, atol=1e-3)
        np.testing.assert_allclose(law.cov, cov, atol=1e-6)


def test_fields_at_a_point_are_numpy_formulas():
    three = [VP.score(et.Gaussian(m, S)) for m, S in (([0.0, 1.0], [0.25, 1.0]), ([1.0, -1.0], [4.0, 0.5]), ([-2.0, 0.5], [1.0, 2.0]))]
    t, points = jnp.asarray(0.2), jnp.asarray([[0.3, -0.7], [2.0, 1.5]])
    rules = [
        WeightedSum(three, [1.0, 2.0, -0.5]),
        MedianField(three),
        MedianField(three[:2]),
        DominantField(three),
        ShiftedGeometricField(three, 30.0),
        RelativeNoise(three[0], [1.0, 2.0], 0.3),
    ]
    found = jax.jit(lambda t, points: [(rule.batch(t, points), jax.vmap(rule, (None, 0))(t, points)) for rule in rules])(t, points)
    v = np.stack(jax.jit(lambda t, points: [score.batch(t, points) for score in three])(t, points))
    dominant = np.take_along_axis(v, np.argmax(np.abs(v), 0)[None], 0)[0]
    disturbed = v[0] + 0.3 * np.linalg.norm(v[0], axis=1)[:, None] * np.array([1.0, 2.0]) / np.sqrt(5)
    expected = [v[0] + 2 * v[1] - 0.5 * v[2], np.median(v, 0), v[:2].mean(0), dominant, np.exp(np.log(v + 30).mean(0)) - 30, disturbed]
    for (batch, one), truth in zip(found, expected, strict=True):
        np.testing.assert_allclose(batch, truth, rtol=1e-12)
        np.testing.assert_allclose(one, truth, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(found[5][0] - v[0], axis=1) / np.linalg.norm(v[0], axis=1), 0.3, rtol=1e-12)
    assert np.all(found[4][0] <= v.mean(0)), "AM-GM"


def test_posterior_weights_give_the_score_of_the_linear_pool():
    members, weights = [et.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [[0.25], [0.5]]), et.Gaussian([0.5], 2.0)], [0.4, 0.6]
    x, t = np.linspace(-3, 3, 5)[:, None], 0.2
    field = PosteriorWeighted(VP, members, weights)
    found = jax.jit(lambda t, x: field.batch(t, x))(jnp.asarray(t), jnp.asarray(x))
    u = np.exp(-(0.1 * t + 19.9 * t**2 / 2))
    w, m, S = np.array([0.12, 0.28, 0.6]), np.array([-2.0, 1.0, 0.5]), np.array([0.25, 0.5, 2.0])
    v = 1 + u * (S - 1)
    terms = w / np.sqrt(v) * np.exp(-((x - np.sqrt(u) * m) ** 2) / (2 * v))
    np.testing.assert_allclose(found[:, 0], np.sum(terms * (np.sqrt(u) * m - x) / v, 1) / np.sum(terms, 1), rtol=1e-11)


@pytest.mark.parametrize(
    ("shared", "stochastic", "variance"),
    [("nothing", True, 1.0625), ("start", True, 1.0625), ("start", False, 1.5625), ("everything", True, 1.432178)],
)
def test_means_of_samples_share_nothing_the_start_or_everything(shared, stochastic, variance):
    fields, scheme = (SCORES, EulerMaruyama()) if stochastic else (VELOCITIES, Euler())

    def law_on(times):
        return MeanOfSamples([Sampler(VP, field, scheme, times) for field in fields], shared=shared).law(START)

    found, error = in_the_limit(law_on)
    assert error < 2e-3
    assert found == pytest.approx(variance, abs=error + 2e-4)  # the horizon: u_T^{1/2} is 0.0066, and the start is kept to u_T, at most 4 u_T here


def test_one_member_a_trajectory_is_the_linear_pool():
    samplers = [Sampler(VP, score, EulerMaruyama(), SHORT) for score in SCORES]
    law = Routed(samplers, [0.3, 0.7]).law(START)
    assert isinstance(law, et.GaussianMixture)
    np.testing.assert_allclose(law.covs[:, 0, 0], [sampler.law(START).cov[0, 0] for sampler in samplers], rtol=1e-14)
    draws = np.asarray(Routed(samplers, [0.3, 0.7]).sample(jax.random.key(1), 20_000, START))
    assert_mean(draws**2, law.cov[0])
    assert_mean(np.abs(draws), np.sqrt(2 / np.pi) * np.asarray([0.3, 0.7]) @ np.sqrt(law.covs[:, 0, 0]))


def test_draws_of_means_follow_their_laws():
    for key, shared in enumerate(("nothing", "everything")):
        rule = MeanOfSamples([Sampler(VP, score, EulerMaruyama(), SHORT) for score in SCORES], [0.3, 0.7], shared)
        draws = np.asarray(rule.sample(jax.random.key(key), 20_000, START))
        variance = np.asarray(rule.law(START).cov[0])
        assert_mean(draws**2, variance)
        assert_mean(draws**4, 3 * variance**2)


def test_averaged_noise_halves_the_variance_of_two_members():
    found, error = in_the_limit(lambda times: Sampler(VP, et.MeanField(SCORES), ScaledNoise(EulerMaruyama(), 2**-0.5), times).law(START))
    assert found == pytest.approx(np.log(16) / 3.75 / 2, abs=error + 2e-4)


@pytest.mark.parametrize(("eta", "variance"), [(0.5, 0.904690), (2.0, 0.563200)])
def test_churned_steps_tend_to_the_churned_law(eta, variance):
    found, error = in_the_limit(lambda times: Sampler(VP, et.MeanField(SCORES), EulerMaruyama(eta), times).law(START))
    assert found == pytest.approx(variance, abs=error + 2e-4)


def alternating_variance(times, weights):
    """E x^2 under Euler-Maruyama whose step uses the score of member k with probability w_k: a recursion in NumPy."""
    value = 1.0
    for t, s in itertools.pairwise(times):
        h, b = t - s, 0.1 + 19.9 * t
        v = 1 + np.exp(-(0.1 * t + 19.9 * t**2 / 2)) * (np.array([0.25, 4.0]) - 1)
        value = weights @ (1 + h * b / 2 - h * b / v) ** 2 * value + h * b
    return value


def test_alternating_members_are_their_mean_in_the_limit_of_short_steps():
    weights = np.array([0.3, 0.7])
    mean = et.MeanField(SCORES, weights)
    draws = np.asarray(Sampler(VP, mean, Alternating(EulerMaruyama()), SHORT).sample(jax.random.key(4), 20_000, START))
    assert_mean(draws**2, [alternating_variance(np.asarray(SHORT), weights)])
    fine = [np.asarray(quadratic_grid(VP, n, 1e-5)) for n in (200, 400)]
    of_the_mean = [float(Sampler(VP, mean, EulerMaruyama(), padded(times, NODES)).law(START).cov[0, 0]) for times in fine]
    gaps = [alternating_variance(times, weights) - variance for times, variance in zip(fine, of_the_mean, strict=True)]
    assert gaps[0] > gaps[1] > 0
    assert gaps[0] / gaps[1] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("scheme", ["sde", "ode"])
def test_the_dominant_score_is_that_of_the_narrowest_member(scheme):
    """Centred members on the line: minus x over the smallest variance; 0.2505 and 0.2514 are recalled Monte-Carlo values."""
    field = DominantField(SCORES)
    sampler = Sampler(VP, field, EulerMaruyama(), SHORT) if scheme == "sde" else Sampler(VP, et.processes.convert(VP, field, "velocity"), Euler(), SHORT)
    narrow = Sampler(VP, SCORES[0] if scheme == "sde" else VELOCITIES[0], sampler.scheme, SHORT).law(START)
    draws = np.asarray(sampler.sample(jax.random.key(5), 20_000, START))
    assert_mean(draws**2, narrow.cov[0])


def test_a_shifted_geometric_mean_moves_symmetric_data():
    """The flow on the line is monotone and takes quantiles to quantiles: those of symmetric data lie opposite each other, and under the odd mean they do."""
    field = ShiftedGeometricField(SCORES, 30.0)
    lower, upper = np.asarray(et.samplers.flow_map(VP, et.processes.convert(VP, field, "velocity"), [[-1.0], [1.0]]))[:, 0]
    even = np.asarray(jax.jit(lambda x: field.batch(jnp.asarray(0.1), x))(jnp.asarray([[-1.5], [1.5]])))
    assert lower + upper < -0.01
    assert even.sum() < -0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: et.score_sum_law(PAIR, VP, [1.0, 1.0], "ode", horizon=np.inf), "`horizon`.*collapses"),
        (lambda: et.score_sum_law(PAIR, VP, [0.3, 0.3], "ode", horizon=np.inf), "`horizon`.*without end"),
        (lambda: et.score_sum_law(PAIR, VP, [0.2, 0.2], horizon=np.inf), "`coefficients`.*above 0.5"),
        (lambda: et.score_sum_law(PAIR, VP, [3.0, -2.0, 1.0]), r"`coefficients`.*\(3,\)"),
        (lambda: et.score_sum_law(PAIR, VP, [-1.0, 2.0], churn=np.inf), "`coefficients`.*positive definite"),
        (lambda: et.mean_score_law([PAIR[0], et.standard_normal(2)], VP), "`members`.*dimensions"),
        (lambda: et.MeanField([VP.score(PAIR[0]), UNIT.score(PAIR[1])]), "`fields`.*one process"),
        (lambda: et.MeanField([VP.score(PAIR[0]), VP.velocity(PAIR[1])]), "`fields`.*one kind"),
        (lambda: MedianField([]), "`fields`.*empty"),
        (lambda: ShiftedGeometricField(SCORES, 0.0), "`offset`.*positive"),
        (lambda: RelativeNoise(SCORES[0], [0.0], 0.1), "`direction`.*other than 0"),
        (lambda: RelativeNoise(SCORES[0], [1.0], -0.1), "`size`.*>= 0"),
        (lambda: Routed([]), "`samplers`.*empty"),
        (lambda: Routed([Sampler(VP, SCORES[0], EulerMaruyama(), grid(100))], [0.5]), "`weights`.*sum 0.5"),
        (lambda: MeanOfSamples([Sampler(VP, SCORES[0], EulerMaruyama(), grid(n)) for n in (100, 200)], shared="start"), r"`samplers\[1\].grid`.*one grid"),
        (lambda: MeanOfSamples([Sampler(VP, SCORES[0], EulerMaruyama(), grid(100))], shared="noise"), "`shared`.*'everything'"),
        (lambda: EulerMaruyama(-1.0), "`churn`.*>= 0"),
        (lambda: ScaledNoise(EulerMaruyama(), -1.0), "`factor`.*>= 0"),
        (lambda: Sampler(VP, et.MeanField(SCORES), Alternating(EulerMaruyama()), grid(100)).law(START), "`scheme`.*Alternating"),
        (lambda: Sampler(VP, SCORES[0], Alternating(EulerMaruyama()), SHORT).sample(jax.random.key(0), 2, START), "`field`.*MeanField"),
        (lambda: Sampler(VP, MedianField(SCORES), EulerMaruyama(), grid(100)).law(START), "`field`.*MedianField"),
        (lambda: Sampler(VP, DominantField(SCORES), EulerMaruyama(), grid(100)).law(START), "`field`.*DominantField"),
        (lambda: Sampler(VP, RelativeNoise(SCORES[0], [1.0], 0.1), EulerMaruyama(), grid(100)).law(START), "`field`.*RelativeNoise"),
        (lambda: Sampler(VP, ShiftedGeometricField(SCORES, 60.0), EulerMaruyama(), grid(100)).law(START), "`field`.*off its linearisation"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()


def test_infinite_churn_inside_a_compiled_program_is_the_product_of_powers():
    members, c = [START, et.Gaussian([0.0], 2.0)], [2.0, -1.0]
    inside = jax.jit(lambda: et.score_sum_law(members, VP, c, churn=np.inf).cov[0, 0])()
    assert float(inside) == pytest.approx(2 / 3, rel=1e-14)
