"""Flows against quantile maps, closed densities and SciPy's integrator; Hutchinson's estimate against its exact variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from scipy import integrate, optimize, stats

import ensembletheory as et
from ensembletheory.samplers import Rk4, Sampler, flow_log_prob, flow_map, hutchinson_log_prob, hutchinson_variance, uniform_grid
from tests.helpers import assert_mean, spd

VP, LINEAR = et.processes.VariancePreserving(), et.processes.LinearInterpolant()
WEIGHTS, MEANS, DEVIATIONS = np.array([0.3, 0.7]), np.array([-2.0, 1.0]), np.array([0.5, 0.3])
MIXTURE = et.GaussianMixture(WEIGHTS, MEANS[:, None], (DEVIATIONS**2)[:, None, None])
TIGHT = 1e-13  # of a step; the flows here multiply errors by less than a thousand
PLACES = np.array([-2.0, 0.0, 0.9, -1.2, 1.7])
RNG = np.random.default_rng(4)


def cdf(x, a, noise):
    return WEIGHTS @ stats.norm.cdf(x, a * MEANS, np.sqrt(a**2 * DEVIATIONS**2 + noise))


def log_density(x, a, noise):
    return np.log(WEIGHTS @ stats.norm.pdf(x, a * MEANS, np.sqrt(a**2 * DEVIATIONS**2 + noise)))


def quantile_map(x, a, noise):
    """F_0^{-1}(F_T(x)), of data and of a X_0 + sqrt(noise) Z."""
    return optimize.brentq(lambda y: cdf(y, 1.0, 0.0) - cdf(x, a, noise), -6, 6, xtol=1e-14)


U = np.exp(-10.05)  # of VP at its horizon


def test_the_probability_flow_is_the_quantile_map_and_goes_back():
    published = [(-1.5, -2.3820202881), (-0.5, 0.3216289405), (0.0, 0.8298846431), (0.5, 1.0444511491), (1.5, 1.3921701649)]
    noise = np.array(published)[:, :1]
    data = np.asarray(flow_map(VP, VP.velocity(MIXTURE), noise, tolerance=TIGHT))
    np.testing.assert_allclose(data[:, 0], np.array(published)[:, 1], atol=2e-10)
    np.testing.assert_allclose(data[:, 0], [quantile_map(x, np.sqrt(U), 1 - U) for x in noise[:, 0]], atol=1e-10)
    np.testing.assert_allclose(flow_map(VP, VP.velocity(MIXTURE), data, begin=0.0, end=1.0, tolerance=TIGHT), noise, atol=1e-9)


def test_the_flow_of_flow_matching_is_the_quantile_map_too():
    published = {-1.5: -2.3815687970, 0.0: 0.8302153563, 1.0: 1.2249770772}
    noise = np.array([*published, 0.3, -0.7])
    data = np.asarray(flow_map(LINEAR, LINEAR.velocity(MIXTURE), noise[:, None], tolerance=TIGHT))[:, 0]
    np.testing.assert_allclose(data[:3], list(published.values()), atol=2e-10)
    np.testing.assert_allclose(data, [quantile_map(x, 0.0, 1.0) for x in noise], atol=1e-10)


def test_likelihoods_under_the_law_at_the_horizon_and_under_the_standard_normal():
    velocity, exact = VP.velocity(MIXTURE), [log_density(x, 1.0, 0.0) for x in PLACES]
    true_start = flow_log_prob(VP, velocity, PLACES[:, None], start=VP.marginal(MIXTURE, 1.0), tolerance=TIGHT)
    np.testing.assert_allclose(true_start[:3], [-1.4297641570, -5.6051281310, -0.1271962149], atol=1e-10)
    np.testing.assert_allclose(true_start, exact, atol=1e-10)
    from_normal = flow_log_prob(VP, velocity, PLACES[:, None], tolerance=TIGHT)
    np.testing.assert_allclose(from_normal[:3], [-1.4290846620, -5.6047679884, -0.1272716649], atol=1e-10)
    difference = integrate.quad(lambda x: np.exp(log_density(x, np.sqrt(U), 1 - U)) * (log_density(x, np.sqrt(U), 1 - U) - stats.norm.logpdf(x)), -9, 9, epsabs=1e-14)[0]
    assert difference == pytest.approx(2.1642150e-7, abs=1e-13)
    assert float(et.kl(VP.marginal(MIXTURE, 1.0), et.standard_normal(1))) == pytest.approx(difference, abs=1e-13)


def test_a_loose_tolerance_is_kept_and_a_fine_grid_agrees():
    velocity = VP.velocity(MIXTURE)
    loose = np.asarray(flow_log_prob(VP, velocity, PLACES[:, None], tolerance=1e-4))
    fine = np.asarray(Sampler(VP, velocity, Rk4(), uniform_grid(VP, 400)).log_prob(PLACES[:, None]))
    assert 1e-9 < np.max(np.abs(loose - fine)) < 1e-2
    tight = np.asarray(flow_log_prob(VP, velocity, PLACES[:, None], tolerance=TIGHT))
    np.testing.assert_allclose(fine, tight, atol=1e-6)


@pytest.mark.parametrize("d", [2, 6])
def test_flow_matching_to_a_gaussian_has_its_density(d):
    data, x = et.Gaussian(RNG.normal(size=d), spd(RNG, d)), RNG.normal(size=(5, d))
    np.testing.assert_allclose(flow_log_prob(LINEAR, LINEAR.velocity(data), x, tolerance=TIGHT), stats.multivariate_normal(data.mean, data.cov).logpdf(x), atol=1e-10)


def test_a_law_without_density_has_one_at_a_later_time():
    atoms = et.FiniteLaw([[-1.0], [2.0]], [0.4, 0.6])
    with pytest.raises(ValueError, match="without noise at time 0"):
        flow_log_prob(VP, VP.velocity(atoms), [[0.0]])
    x, time = np.linspace(-2, 2, 5)[:, None], 0.2
    u = np.exp(-(0.1 * time + 19.9 * time**2 / 2))
    expected = np.log(stats.norm.pdf(x, np.sqrt(u) * np.array([-1.0, 2.0]), np.sqrt(1 - u)) @ [0.4, 0.6])
    start = VP.marginal(atoms, 1.0)
    np.testing.assert_allclose(flow_log_prob(VP, VP.velocity(atoms), x, start=start, time=time, tolerance=TIGHT), expected, atol=1e-9)


class _Swirl(et.Field):
    """V = B tanh(x) / (1 - t / pole): neither linear nor the gradient of anything."""

    B: Float[Array, "d d"]
    pole: Float[Array, ""]

    def __call__(self, t, x):
        return self.B @ jnp.tanh(x) / (1 - t / self.pole)


B = np.array([[0.5, -1.3, 0.4], [1.1, -0.3, 0.8], [-0.2, 0.3, 0.9]])
SWIRL = _Swirl(jnp.asarray(B), jnp.asarray(2.0))
X = np.array([0.4, -0.9, 1.2])


def integrated():
    """The end of the path through X and the integral of the Jacobian along it, by SciPy."""

    def rates(t, state):
        y = np.tanh(state[:3])
        return np.concatenate([B @ y, (B * (1 - y**2)).ravel()]) / (1 - t / 2)

    end = integrate.solve_ivp(rates, (0.0, 1.0), np.concatenate([X, np.zeros(9)]), method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    return end[:3], end[3:].reshape(3, 3)


def variance_by_enumeration(M):
    """Over all sign vectors."""
    signs = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1)
    return np.var(np.sum(signs * (M @ signs), axis=0))


@pytest.mark.parametrize("law", ["rademacher", "gaussian"])
def test_hutchinson_has_the_right_mean_error_and_variance_along_a_flow(law):
    """2000 pairs of probes: means of the estimate, of its squared deviation and of its squared error, each within its standard errors."""
    end, M = integrated()
    truth, variance = stats.norm.logpdf(end).sum() + np.trace(M), float(hutchinson_variance(M, law))
    assert abs(np.sum((M - M.T) ** 2)) > 0.5  # the estimate must not mistake M for its symmetric part
    estimate = hutchinson_log_prob(jax.random.key(7), LINEAR, SWIRL, np.tile(X, (2000, 1)), probes=2, law=law)
    value, error = np.asarray(estimate.value), np.asarray(estimate.error)
    assert estimate.kind == "monte_carlo"
    assert_mean(value, truth)
    assert_mean((value - truth) ** 2, variance / 2)
    assert_mean(error**2, variance / 2)


def test_the_variance_of_hutchinson_is_that_of_all_signs_and_of_chi_squares():
    M = integrated()[1]
    np.testing.assert_allclose(hutchinson_variance(M), variance_by_enumeration(M), rtol=1e-12)
    eigenvalues = np.linalg.eigvalsh((M + M.T) / 2)  # eps^T M eps is a sum of independent chi squares times these, each of variance 2
    np.testing.assert_allclose(hutchinson_variance(M, "gaussian"), 2 * np.sum(eigenvalues**2), rtol=1e-12)
    assert float(hutchinson_variance(M - M.T, "gaussian")) == float(hutchinson_variance(np.diag([1.0, 2.0]))) == 0


def test_the_exact_divergence_of_a_field_that_is_no_gradient():
    end, M = integrated()
    np.testing.assert_allclose(flow_log_prob(LINEAR, SWIRL, X, tolerance=TIGHT), stats.norm.logpdf(end).sum() + np.trace(M), atol=1e-10)


def test_a_solver_that_gives_up_says_where():
    with pytest.raises(RuntimeError, match=r"from time 0 to 1 had reached time 0\.5"):
        flow_log_prob(LINEAR, _Swirl(jnp.asarray(B), jnp.asarray(0.5)), X)


class _Longer(et.Field):
    def __call__(self, t, x):
        return jnp.append(x, t)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: flow_map(VP, VP.score(MIXTURE), [[0.0]]), "`velocity`: got a score.*convert"),
        (lambda: flow_map(VP, _Longer(), [[0.0]]), r"`velocity`.*shape \(2,\).*shape \(1,\)"),
        (lambda: flow_map(VP, VP.velocity(MIXTURE), [[0.0, 1.0]]), "`velocity`.*fails"),
        (lambda: flow_map(VP, VP.velocity(MIXTURE), [[0.0]], begin=1.5), "`begin`: got 1.5"),
        (lambda: flow_map(VP, VP.velocity(MIXTURE), [[0.0]], end=-0.1), "`end`: got -0.1"),
        (lambda: flow_log_prob(VP, VP.velocity(MIXTURE), [[0.0]], time=2.0), "`time`: got 2"),
        (lambda: flow_log_prob(VP, VP.velocity(MIXTURE), [[0.0]], start=et.standard_normal(2)), "`start`: got dimension 2"),
        (lambda: flow_log_prob(VP, VP.velocity(MIXTURE), [[np.nan]]), "`x`.*NaN"),
        (lambda: hutchinson_log_prob(jax.random.key(0), VP, VP.velocity(MIXTURE), [[0.0]], probes=1), "`probes`: got 1"),
        (lambda: hutchinson_log_prob(jax.random.key(0), VP, VP.velocity(MIXTURE), [[0.0]], law="uniform"), "`law`: got 'uniform'"),
        (lambda: hutchinson_variance([[1.0, 2.0]]), r"`jacobian`: got shape \(1, 2\)"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()
