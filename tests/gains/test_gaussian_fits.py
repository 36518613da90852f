"""Expected divergences of pooled Gaussian fits: by integrals over chi^2 laws, Bessel functions, Wishart draws of SciPy, and the simulations of the package."""

import jax
import numpy as np
import pytest
from scipy import integrate, special, stats

import ensembletheory as et
from ensembletheory.gains import expected_gain, expected_kl, expected_kl_of_fit
from tests.helpers import assert_mean, assert_within_errors

INF = np.inf
EQUAL = (et.average_covariances, et.match_moments, et.log_pool)


def over_chi2(f, dof):
    """E f(x), split at the mean."""
    pieces = [(0, dof / 8), (dof / 8, dof), (dof, 4 * dof), (4 * dof, np.inf)]
    return sum(integrate.quad(lambda x: stats.chi2.pdf(x, dof) * f(x), a, b, epsabs=1e-13, limit=300)[0] for a, b in pieces)


def gaussian_kl(variance, mean_variance):
    """E KL(N(0, 1) || N(m, variance)), m of variance mean_variance."""
    return ((1 + mean_variance) / variance - 1 + np.log(variance)) / 2


def fits(rng, n, d, K, samples):
    """Means and covariances of fits to n points of N(0, I), from the points themselves."""
    x = rng.normal(size=(samples, K, n, d))
    means = x.mean(axis=2)
    centred = x - means[:, :, None]
    return means, np.einsum("skni,sknj->skij", centred, centred) / n


def kl_draws(mean, cov):
    """KL(N(0, I) || N(mean, cov)) of stacks."""
    precision = np.linalg.inv(cov)
    quadratic = np.einsum("si,sij,sj->s", mean, precision, mean)
    return (np.trace(precision, axis1=1, axis2=2) + quadratic - mean.shape[1] + np.linalg.slogdet(cov)[1]) / 2


@pytest.mark.parametrize("n", [4, 5, 9, 30])
def test_one_fit_on_the_line_by_quadrature(n):
    exact = over_chi2(lambda x: gaussian_kl(x / n, 1 / n), n - 1)
    assert float(expected_kl_of_fit(n)) == pytest.approx(exact, rel=1e-7)
    for rule in (et.linear_pool, *EQUAL):
        assert float(expected_kl(rule, n, K=1)) == pytest.approx(exact, rel=1e-7)


@pytest.mark.parametrize("K", [2, 5])
def test_averages_on_the_line_by_quadrature(K):
    n = 7
    within = over_chi2(lambda x: gaussian_kl(x / (K * n), 1 / (K * n)), K * (n - 1))
    total = over_chi2(lambda x: gaussian_kl(x / (K * n), 1 / (K * n)), K * n - 1)
    assert float(expected_kl(et.average_covariances, n, K=K)) == pytest.approx(within, rel=1e-8)
    assert float(expected_kl(et.match_moments, n, K=K)) == pytest.approx(total, rel=1e-8)
    assert float(expected_kl(et.match_moments, n, K=K)) == pytest.approx(float(expected_kl_of_fit(K * n)), rel=1e-12)


def test_fits_in_three_dimensions_by_wishart_draws_of_scipy():
    n, d, samples = 12, 3, 40_000
    rng = np.random.default_rng(0)
    covs = stats.wishart(n - 1, np.eye(d) / n).rvs(samples, random_state=rng)
    assert_mean(kl_draws(rng.normal(size=(samples, d)) / n**0.5, covs), float(expected_kl_of_fit(n, d)))
    assert expected_kl_of_fit(n, d).kind == "closed_form"


def test_what_is_infinite_is_inf():
    assert float(expected_kl_of_fit(5, 3)) == INF
    assert float(expected_kl_of_fit(6, 3)) < INF
    assert float(expected_kl(et.log_pool, 3, K=4)) == INF
    assert float(expected_kl(et.log_pool, 3, K=4, fits="parametric_bootstrap")) == INF
    assert float(expected_kl(et.linear_pool, 3, K=INF)) < float(expected_kl(et.linear_pool, 3, K=INF, fits="parametric_bootstrap")) < INF
    assert float(expected_kl(et.linear_pool, 2, K=INF, fits="parametric_bootstrap")) == INF


@pytest.mark.parametrize(("n", "K"), [(4, 2), (5, 3), (12, 3), (12, 40)])
def test_log_pools_on_the_line_by_bessel_functions(n, K):
    """E exp(-s / x) for x ~ chi^2 is 2^{1-a} z^a K_a(z) / Gamma(a) with a = (n - 1)/2 and z = sqrt(2 s): a Matern correlation."""
    a = (n - 1) / 2
    constant = 2 ** (1 - a) / special.gamma(a)

    def f(z):
        return constant * z**a * special.kv(a, z)

    M = integrate.quad(lambda z: constant * z ** (a - 1) * special.kv(a - 2, z) * f(z) ** (K - 1), 0, np.inf, epsabs=1e-13, limit=400)[0]
    scale = K / (n - 1)

    def frullani(t):
        return (np.exp(-t) - f(np.sqrt(2 * t / scale)) ** K) / t

    log_sum = np.log(scale) + sum(integrate.quad(frullani, *piece, epsabs=1e-12, limit=400)[0] for piece in [(0, 1e-4), (1e-4, 1), (1, 50), (50, np.inf)])
    exact = (n / (n - 3) - 1 + M - np.log(n / K) - log_sum) / 2
    found = expected_kl(et.log_pool, n, K=K)
    assert found.kind == "quadrature"
    assert float(found) == pytest.approx(exact, abs=1e-8)
    assert float(found.error) < 1e-11


@pytest.mark.parametrize("d", [1, 2])
def test_pools_of_independent_fits_by_points_in_numpy(d):
    n, K, samples = 9, 3, 40_000
    rng = np.random.default_rng(d)
    means, covs = fits(rng, n, d, K, samples)
    precisions = np.linalg.inv(covs)
    cov = np.linalg.inv(precisions.mean(axis=1))
    pools = {
        et.log_pool: kl_draws(np.einsum("sij,skjl,skl->si", cov, precisions, means) / K, cov),
        et.average_covariances: kl_draws(means.mean(axis=1), covs.mean(axis=1)),
    }
    assert_mean(pools[et.average_covariances], float(expected_kl(et.average_covariances, n, d, K)))
    draws, found = pools[et.log_pool], expected_kl(et.log_pool, n, d, K, key=jax.random.key(d))
    assert found.kind == ("quadrature" if d == 1 else "monte_carlo")
    error = draws.std() / samples**0.5
    assert_within_errors(draws.mean(), np.hypot(error, float(found.error)), float(found))


def test_limits_of_many_members():
    for n, d in ((12, 1), (12, 2)):
        a = (n - d - 2) / n
        assert float(expected_kl(et.log_pool, n, d, INF)) == pytest.approx(d * (1 / a - 1 + np.log(a)) / 2, rel=1e-13)
        b = (n - 1) / n
        assert float(expected_kl(et.average_covariances, n, d, INF)) == pytest.approx(d * (1 / b - 1 + np.log(b)) / 2, rel=1e-13)
        assert float(expected_kl(et.match_moments, n, d, INF)) == 0
        for rule in EQUAL[:2]:
            assert float(expected_kl(rule, n, d, 10**7)) == pytest.approx(float(expected_kl(rule, n, d, INF)), abs=2e-7)
    assert float(expected_kl(et.log_pool, 12, K=2000)) == pytest.approx(float(expected_kl(et.log_pool, 12, K=INF)), rel=1e-2)


@pytest.mark.parametrize("n", [3, 5, 12])
def test_the_limit_of_linear_pools_by_nested_quadrature(n):
    def density(y):
        return over_chi2(lambda x: stats.norm.pdf(y, 0, ((x + 1) / n) ** 0.5), n - 1)

    y = np.linspace(0, 8, 41)  # the trapezoidal rule converges geometrically
    values = stats.norm.pdf(y) * (stats.norm.logpdf(y) - np.log([density(at) for at in y]))
    found = expected_kl(et.linear_pool, n, K=INF)
    assert float(found) == pytest.approx(2 * np.trapezoid(values, y), abs=1e-9)
    assert float(found.error) < 1e-11


def test_linear_pools_approach_their_limit_from_above():
    n, key = 8, jax.random.key(0)
    limit = float(expected_kl(et.linear_pool, n, K=INF))
    found = [expected_kl(et.linear_pool, n, K=K, key=key, samples=4_000) for K in (2, 8)]
    assert float(found[0]) - 5 * float(found[0].error) > float(found[1]) > limit
    rng = np.random.default_rng(0)
    means, covs = fits(rng, n, 1, 2, 20_000)
    x = rng.normal(size=(20_000, 1))
    log_pool = np.log(np.mean(stats.norm.pdf(x, means[:, :, 0], covs[:, :, 0, 0] ** 0.5), axis=1))
    draws = stats.norm.logpdf(x[:, 0]) - log_pool
    assert_within_errors(draws.mean(), np.hypot(draws.std() / len(draws) ** 0.5, float(found[0].error)), float(found[0]))


@pytest.mark.parametrize("rule", EQUAL)
def test_parametric_bootstrap_by_points_in_numpy(rule):
    n, K, samples = 12, 2, 60_000
    rng = np.random.default_rng(5)
    (mean, cov), (means, covs) = fits(rng, n, 1, 1, samples), fits(rng, n, 1, K, samples)
    scale = np.sqrt(cov[:, 0])
    means, covs = mean + scale * means, scale[:, None] ** 2 * covs
    if rule is et.log_pool:
        pooled = 1 / (1 / covs).mean(axis=1)
        centre = pooled[:, 0] * (means / covs[:, :, 0]).mean(axis=1)
    else:
        centre, pooled = means.mean(axis=1), covs.mean(axis=1) + (means.var(axis=1)[:, :, None] if rule is et.match_moments else 0)
    assert_mean(kl_draws(centre, pooled), float(expected_kl(rule, n, K=K, fits="parametric_bootstrap")))


def test_parametric_bootstrap_limits():
    n = 10
    assert float(expected_kl(et.match_moments, n, K=INF, fits="parametric_bootstrap")) == pytest.approx(float(expected_kl_of_fit(n)), rel=1e-12)
    a = (n - 3) / n
    exact = over_chi2(lambda x: gaussian_kl(a * x / n, 0) + (1 / n) / (2 * a * x / n), n - 1)
    assert float(expected_kl(et.log_pool, n, K=INF, fits="parametric_bootstrap")) == pytest.approx(exact, rel=1e-8)
    linear = expected_kl(et.linear_pool, n, K=INF, fits="parametric_bootstrap")
    assert float(linear) < float(expected_kl_of_fit(n)) < exact
    simulated = expected_kl(et.linear_pool, n, K=64, fits="parametric_bootstrap", key=jax.random.key(1), samples=4_000)
    assert abs(float(simulated) - float(linear)) < 5 * float(simulated.error) + 0.01


def test_bootstrap_of_the_data_by_points_in_numpy():
    n, K, samples = 12, 2, 20_000
    rng = np.random.default_rng(1)
    data = rng.normal(size=(samples, n))
    rows = rng.integers(0, n, (samples, K, n))
    enough = np.array([min(len(set(one)) for one in sample) >= 6 for sample in rows])
    drawn = np.take_along_axis(data[:, None, :], rows, axis=2)[enough]
    draws = kl_draws(drawn.mean(axis=(1, 2))[:, None], drawn.var(axis=2).mean(axis=1)[:, None, None])
    found = expected_kl(et.average_covariances, n, K=K, fits="bootstrap", key=jax.random.key(0), samples=20_000)
    assert_within_errors(draws.mean(), np.hypot(draws.std() / len(draws) ** 0.5, float(found.error)), float(found))


def test_weights_matter_and_equal_weights_stay_exact():
    key = jax.random.key(0)
    assert expected_kl(et.average_covariances, 12, K=2, weights=[0.5, 0.5]).kind == "closed_form"
    uneven = expected_kl(et.average_covariances, 12, K=2, weights=[0.9, 0.1], key=key)
    assert uneven.kind == "monte_carlo"
    rng = np.random.default_rng(2)
    means, covs = fits(rng, 12, 1, 2, 40_000)
    draws = kl_draws(means[:, 0] * 0.9 + means[:, 1] * 0.1, covs[:, 0] * 0.9 + covs[:, 1] * 0.1)
    assert_within_errors(draws.mean(), np.hypot(draws.std() / 200, float(uneven.error)), float(uneven))


def test_expected_gain_is_average_less_ensemble():
    gain = expected_gain(et.log_pool, 10, K=4)
    assert float(gain.gain) == pytest.approx(float(gain.average) - float(gain.ensemble), rel=1e-12)
    assert float(gain.average) == pytest.approx(float(expected_kl_of_fit(10)), rel=1e-12)
    assert float(gain.gain) > 0


def test_bad_questions_are_refused_with_a_reason():
    key = jax.random.key(0)
    for call, message in [
        (lambda: expected_kl(et.w2_barycenter, 9), "`rule`.*w2_barycenter.*one of linear_pool"),
        (lambda: expected_kl(et.log_pool, 2, 2), "`n`.*more than 2"),
        (lambda: expected_kl(et.log_pool, 9, K=1.5), "`K`.*whole number"),
        (lambda: expected_kl(et.linear_pool, 9, 2, INF), "`K`.*infinitely many"),
        (lambda: expected_kl(et.linear_pool, 9), "`key`.*Monte Carlo"),
        (lambda: expected_kl(et.linear_pool, 3, K=2, key=key), "`n`.*standard error"),
        (lambda: expected_kl(et.log_pool, 6, 2, key=key), "`n`.*more than 6"),
        (lambda: expected_kl(et.log_pool, 9, K=2, weights=[0.5, 0.6], key=key), "`weights`.*sum"),
    ]:
        with pytest.raises(ValueError, match=f"(?s){message}"):
            call()
