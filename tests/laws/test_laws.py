"""Every law obeys the axioms of a law: density, score, moments, samples, marginals, conditionals and pushes agree with one another and with SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import ensembletheory as et
from ensembletheory.laws.law import Law
from tests.helpers import assert_mean, assert_within_errors, spd

RNG = np.random.default_rng(0)
WEIGHTS, MEANS, COVS = np.array([0.2, 0.5, 0.3]), RNG.normal(size=(3, 3)), np.stack([spd(RNG, 3) for _ in range(3)])
LAWS = {
    "gaussian-dense": et.Gaussian(MEANS[0], COVS[0]),
    "gaussian-diagonal": et.Gaussian(MEANS[1], [0.5, 1.0, 2.0]),
    "mixture-dense": et.GaussianMixture(WEIGHTS, MEANS, COVS),
    "mixture-diagonal-zero-weight": et.GaussianMixture([0.4, 0.6, 0.0], MEANS, [[0.5, 1.0, 2.0], [1.0, 0.2, 0.3], [1.0, 1.0, 1.0]]),
}
POINTS = RNG.normal(size=(5, 3))


def reference(law: Law):
    """Weights, means and covariances as plain NumPy."""
    if isinstance(law, et.Gaussian):
        return np.ones(1), np.asarray(law.mean)[None], np.asarray(law.cov)[None]
    return np.asarray(law.weights), np.asarray(law.means), np.asarray(law.covs)


def reference_log_prob(parts, x):
    return np.log(sum(w * scipy.stats.multivariate_normal(m, S).pdf(x) for w, m, S in zip(*parts, strict=True)))


@pytest.fixture(params=LAWS, ids=list(LAWS))
def law(request):
    return LAWS[request.param]


def test_log_prob_is_that_of_scipy(law):
    np.testing.assert_allclose(law.log_prob(POINTS), reference_log_prob(reference(law), POINTS), rtol=1e-12)
    assert jax.eval_shape(law.log_prob, POINTS[0]).shape == ()
    assert jax.eval_shape(law.log_prob, POINTS.reshape(5, 1, 3)).shape == (5, 1)


def test_score_is_the_gradient_of_the_log_density(law):
    np.testing.assert_allclose(law.score(POINTS), jax.jit(jax.vmap(jax.grad(law._log_prob)))(POINTS), rtol=1e-10)
    step = 1e-5
    ahead, behind = (reference_log_prob(reference(law), POINTS[0] + sign * step * np.eye(3)) for sign in (1, -1))
    np.testing.assert_allclose(law.score(POINTS)[0], (ahead - behind) / (2 * step), atol=1e-8)


def test_samples_have_the_moments_and_the_score_identities(law):
    draws = law.sample(jax.random.key(0), 200_000)
    centred = np.asarray(draws) - np.asarray(law.mean)
    assert_mean(draws, law.mean)
    assert_mean(centred[:, :, None] * centred[:, None, :], law.cov)
    scores = np.asarray(law.score(draws[:20_000]))
    assert_mean(scores, np.zeros(3))
    assert_mean(scores[:, :, None] * centred[:20_000, None, :], -np.eye(3))  # Stein


def test_mean_and_covariance_are_the_mixture_formulas(law):
    w, m, S = reference(law)
    np.testing.assert_allclose(law.mean, sum(w[k] * m[k] for k in range(len(w))), atol=1e-14)
    second = sum(w[k] * (S[k] + np.outer(m[k], m[k])) for k in range(len(w)))
    np.testing.assert_allclose(law.cov, second - np.outer(law.mean, law.mean), atol=1e-13)


def test_marginals_in_any_order(law):
    w, m, S = reference(law)
    dims = [2, 0]
    expected = reference_log_prob((w, m[:, dims], S[:, dims][:, :, dims]), POINTS[:, :2])
    np.testing.assert_allclose(law.marginal(dims).log_prob(POINTS[:, :2]), expected, rtol=1e-12)


def test_conditional_is_joint_over_marginal(law):
    given = [2, 0]
    conditional = law.condition(given, POINTS[0, given])
    at = np.asarray([[-1.0], [0.3]])
    joint = np.stack([[POINTS[0, 0], value[0], POINTS[0, 2]] for value in at])
    expected = law.log_prob(joint) - law.marginal(given).log_prob(POINTS[0, given])
    np.testing.assert_allclose(conditional.log_prob(at), expected, rtol=1e-10, atol=1e-11)


def test_push_is_the_law_of_mapped_draws(law):
    A, b = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 1.0]]), np.array([3.0, -1.0])
    w, m, S = reference(law)
    expected = reference_log_prob((w, m @ A.T + b, A @ S @ A.T), POINTS[:, :2])
    np.testing.assert_allclose(law.push(A, b).log_prob(POINTS[:, :2]), expected, rtol=1e-11)


def test_entropy(law):
    estimate = law.entropy(jax.random.key(1), 100_000)
    if isinstance(law, et.Gaussian):
        assert estimate.kind == "closed_form"
        assert float(estimate) == pytest.approx(scipy.stats.multivariate_normal(law.mean, law.cov).entropy(), abs=1e-12)
        return
    rng = np.random.default_rng(1)
    labels = rng.choice(3, 100_000, p=np.asarray(law.weights))
    factors = np.linalg.cholesky(law.covs)
    draws = np.asarray(law.means)[labels] + np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(100_000, 3)))
    surprise = -reference_log_prob(reference(law), draws)
    both = np.hypot(float(estimate.error), surprise.std(ddof=1) / np.sqrt(surprise.size))
    assert_within_errors(float(estimate), both, surprise.mean())


def test_entropy_in_low_dimension_is_quadrature():
    low, full = (LAWS["mixture-dense"].marginal(dims).entropy() for dims in ([0], [0, 2]))
    rng_draws = LAWS["mixture-dense"].sample(jax.random.key(2), 200_000)
    for estimate, dims in ((low, [0]), (full, [0, 2])):
        assert estimate.kind == "quadrature"
        assert_mean(-np.asarray(LAWS["mixture-dense"].marginal(dims).log_prob(np.asarray(rng_draws)[:, dims])), float(estimate))


def test_one_component_is_a_gaussian_and_order_does_not_matter():
    single, gaussian = et.GaussianMixture([1.0], MEANS[:1], COVS[:1]), LAWS["gaussian-dense"]
    np.testing.assert_allclose(single.log_prob(POINTS), gaussian.log_prob(POINTS), rtol=1e-13)
    np.testing.assert_allclose(single.score(POINTS), gaussian.score(POINTS), rtol=1e-13)
    turned = et.GaussianMixture(WEIGHTS[::-1], MEANS[::-1], COVS[::-1])
    np.testing.assert_allclose(turned.log_prob(POINTS), LAWS["mixture-dense"].log_prob(POINTS), rtol=1e-13)


@pytest.mark.parametrize("x", [0.5, 40.0])
def test_the_smallest_weight_rules_where_the_other_component_is_gone(x):
    """At 40 the density is that of the component of weight 1e-300, as the other is below 1e-1390; at 0.5 nothing is seen of it."""
    law = et.GaussianMixture([1e-300, 1.0], [[1.0], [0.0]], [[5.0], [0.25]])
    m, s = (1.0, 5.0) if x == 40.0 else (0.0, 0.25)
    share, score, (slope, curvature) = jax.jit(lambda y: (law.responsibilities(y), law._score(y), jax.jvp(law._hessian, (y,), (jnp.ones(1),))))(jnp.array([x]))
    np.testing.assert_allclose(share, [1.0, 0.0] if x == 40.0 else [0.0, 1.0], atol=1e-290)
    np.testing.assert_allclose((score[0], slope[0, 0], curvature[0, 0]), (-(x - m) / s, -1 / s, 0.0), rtol=1e-13, atol=1e-200)


def test_far_tails_stay_finite_also_with_a_component_of_weight_zero():
    law = et.GaussianMixture([1.0, 0.0], [[0.0], [1e6]], [[1.0], [1.0]])
    assert float(law.log_prob([1e6])) == pytest.approx(-0.5 * (1e12 + np.log(2 * np.pi)))
    np.testing.assert_allclose(law.score([1e6]), [-1e6])
    slope = jax.grad(lambda w: et.GaussianMixture(jnp.stack([1 - w, w]), jnp.zeros((2, 1)), jnp.asarray([[1.0], [4.0]])).log_prob(jnp.ones(1)))(0.0)
    densities = scipy.stats.norm(0, [1, 2]).pdf(1.0)
    assert float(slope) == pytest.approx(densities[1] / densities[0] - 1)


def test_numpy_lists_and_integers_are_accepted():
    assert float(et.Gaussian([0], [[4]]).log_prob([2])) == pytest.approx(scipy.stats.norm(0, 2).logpdf(2))
    assert float(et.Gaussian(np.zeros(1, dtype=np.float32), 1).log_prob(np.float32([0.5]))) == pytest.approx(scipy.stats.norm.logpdf(0.5))


BAD = {
    "asymmetric": (lambda: et.Gaussian([0.0, 0.0], [[1.0, 0.3], [0.1, 1.0]]), "`cov`.*symmetric"),
    "indefinite": (lambda: et.Gaussian([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]]), "`cov`.*smallest eigenvalue -1"),
    "singular": (lambda: et.Gaussian([0.0, 0.0], [[1.0, 1.0], [1.0, 1.0]]), "`cov`.*positive definite"),
    "zero variance": (lambda: et.Gaussian([0.0], 0.0), "`cov`.*positive definite"),
    "covariance of another dimension": (lambda: et.Gaussian([0.0, 0.0], [[1.0]]), r"`cov`.*shape \(1, 1\)"),
    "nan mean": (lambda: et.Gaussian([np.nan], 1.0), "`mean`.*NaN"),
    "infinite covariance": (lambda: et.Gaussian([0.0], np.inf), "`cov`.*infinite"),
    "scalar mean": (lambda: et.Gaussian(0.0, 1.0), r"`mean`.*shape \(\)"),
    "weights off the simplex": (lambda: et.GaussianMixture([0.5, 0.6], [[0.0], [1.0]], [[1.0], [1.0]]), "`weights`.*sum 1.1"),
    "negative weight": (lambda: et.GaussianMixture([1.5, -0.5], [[0.0], [1.0]], [[1.0], [1.0]]), "`weights`.*smallest -0.5"),
    "number of weights": (lambda: et.GaussianMixture([1.0], [[0.0], [1.0]], [[1.0], [1.0]]), r"`weights`.*\(2,\)"),
    "means in one row": (lambda: et.GaussianMixture([1.0], [0.0], [[1.0]]), r"`means`.*\(K, d\)"),
    "one bad component": (lambda: et.GaussianMixture([0.5, 0.5], [[0.0], [1.0]], [[[1.0]], [[-1.0]]]), r"`covs\[1\]`.*eigenvalue -1"),
    "covariances of another shape": (lambda: et.GaussianMixture([0.5, 0.5], [[0.0], [1.0]], [1.0, 1.0]), "`covs`.*shape"),
    "points of another dimension": (lambda: LAWS["mixture-dense"].log_prob([0.0, 1.0]), r"`x`.*shape \(2,\).*\(..., 3\)"),
    "nan point": (lambda: LAWS["mixture-dense"].score([0.0, 1.0, np.nan]), "`x`.*NaN"),
    "repeated coordinate": (lambda: LAWS["mixture-dense"].marginal([0, 0]), "`dims`.*different"),
    "coordinate out of range": (lambda: LAWS["gaussian-dense"].marginal([3]), "`dims`.*0 to 2"),
    "condition on all": (lambda: LAWS["gaussian-dense"].condition([0, 1, 2], [0.0, 0.0, 0.0]), "`dims`.*at least one left"),
    "values of another length": (lambda: LAWS["mixture-dense"].condition([0, 1], [0.0]), "`values`.*shape"),
    "map of another dimension": (lambda: LAWS["gaussian-dense"].push([[1.0, 0.0]], [0.0]), "`A`.*shape"),
    "offset of another length": (lambda: LAWS["gaussian-dense"].push([[1.0, 0.0, 0.0]], [0.0, 1.0]), "`b`.*shape"),
    "monte carlo without a key": (lambda: LAWS["mixture-dense"].entropy(), "`key`.*None.*dimension 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_a_reason(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()


def test_slopes_are_finite_where_a_component_without_weight_dwarfs_the_rest():
    """At exponents just below the largest, where slopes of the component without weight would overflow."""
    means, variances, x = np.array([0.5, -2.4]), np.array([0.1, 0.1]), np.linspace(-26, -24, 401)

    def log_prob(shift, point):
        return et.GaussianMixture([1.0, 0.0], means[:, None] + shift, variances[:, None])._log_prob(point)

    slopes = jax.jit(jax.vmap(jax.grad(log_prob), in_axes=(None, 0)))(0.0, x[:, None])
    np.testing.assert_allclose(slopes, (x - means[0]) / variances[0], rtol=1e-12)
