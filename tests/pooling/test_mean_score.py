"""The law of averaged scores against SciPy's ODE solver on the moment equations in time, known numbers, and the samplers that run it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import ensembletheory as et
from tests.helpers import spd

VP = et.processes.VariancePreserving()
UNIT = et.processes.VariancePreserving(1.0, 1.0, 1.0)
APART = [et.Gaussian([-1.0, 2.0], np.diag([0.25, 4.0])), et.Gaussian([2.0, 0.5], [[3.0, 0.2], [0.2, 0.1]])]
TABLE = [et.Gaussian([-1.0], 0.25), et.Gaussian([2.0], 4.0)]


def members(seed, d, diagonal):
    rng = np.random.default_rng(seed)
    return [et.Gaussian(rng.normal(size=d), rng.uniform(0.2, 3.0, d) if diagonal else spd(rng, d)) for _ in range(3)], rng.dirichlet(np.ones(3))


def integrated(gaussians, weights, eta, process, horizon):
    """Mean and covariance of dx = (b/2) [x + (1 + eta^2) s_bar] + eta sqrt(b) dW, run in time from N(0, I) at the horizon."""
    d = gaussians[0].dim

    def beta(t):
        return float(process.beta_min + (process.beta_max - process.beta_min) * t / process.horizon)

    def slope(tau, y):
        t = horizon - tau
        mean, cov, u = y[:d], y[d:].reshape(d, d), float(process.a(jnp.asarray(t))) ** 2
        inverses = [np.linalg.inv((1 - u) * np.eye(d) + u * np.asarray(g.cov)) for g in gaussians]
        A = sum(w * v for w, v in zip(weights, inverses, strict=True))
        B = sum(w * v @ np.asarray(g.mean) for w, v, g in zip(weights, inverses, gaussians, strict=True))
        M = beta(t) / 2 * (np.eye(d) - (1 + eta**2) * A)
        return np.concatenate([M @ mean + beta(t) / 2 * (1 + eta**2) * np.sqrt(u) * B, (M @ cov + cov @ M.T + eta**2 * beta(t) * np.eye(d)).ravel()])

    y = scipy.integrate.solve_ivp(slope, (0, horizon), np.concatenate([np.zeros(d), np.eye(d).ravel()]), rtol=1e-9, atol=1e-11).y[:, -1]
    return y[:d], y[d:].reshape(d, d)


@pytest.mark.parametrize(("d", "diagonal"), [(1, True), (2, True), (2, False)])
@pytest.mark.parametrize("eta", [0.0, 1.0, 1.7])
def test_moments_are_those_of_the_differential_equation_at_finite_horizon(d, diagonal, eta):
    gaussians, weights = members(d, d, diagonal)
    law = et.mean_score_law(gaussians, UNIT, churn=eta, weights=weights)
    mean, cov = integrated(gaussians, weights, eta, UNIT, 1.0)
    np.testing.assert_allclose(law.mean, mean, atol=1e-7)
    np.testing.assert_allclose(law.cov, cov, atol=1e-7)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0, 2.0])
def test_collocation_agrees_with_the_closed_form_where_covariances_commute(eta):
    rng = np.random.default_rng(1)
    flat = [et.Gaussian(rng.normal(size=2), rng.uniform(0.05, 5.0, 2)) for _ in range(2)]
    rotation = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    turned = [g.push(rotation, np.zeros(2)) for g in flat]
    closed, collocated = (et.mean_score_law(group, VP, churn=eta, weights=[0.3, 0.7], horizon=jnp.inf) for group in (flat, turned))
    np.testing.assert_allclose(rotation @ np.asarray(closed.mean), collocated.mean, atol=1e-12)
    np.testing.assert_allclose(rotation @ np.asarray(closed.cov) @ rotation.T, collocated.cov, atol=1e-12)


@pytest.mark.parametrize(("eta", "variance"), [(4, 0.493873), (2, 0.563200), (1, 0.739357), (0.5, 0.904690), (0, 1.0), (np.inf, 0.470588)])
def test_table_of_churned_variances(eta, variance):
    assert float(et.mean_score_law(TABLE, VP, churn=eta, horizon=jnp.inf).cov[0, 0]) == pytest.approx(variance, abs=6e-7)


def test_churned_laws_tend_to_the_log_pool_at_order_two_in_the_churn():
    gaussians, weights = members(2, 2, diagonal=False)  # which do not commute
    pool = et.log_pool(gaussians, weights)
    laws = [et.mean_score_law(gaussians, VP, churn=eta, weights=weights, horizon=jnp.inf) for eta in (6.0, 12.0)]
    errors = [np.max(np.abs(np.asarray(law.cov) - pool.cov)) + np.max(np.abs(np.asarray(law.mean) - pool.mean)) for law in laws]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)
    assert errors[1] < 0.005


def test_other_numbers_of_the_theory():
    three = [et.Gaussian([0.0], s) for s in (0.25, 1.0, 4.0)]
    assert float(et.mean_score_law(three, VP, horizon=jnp.inf).cov[0, 0]) == pytest.approx(0.816076, abs=5e-7)
    assert float(et.mean_score_law(TABLE, VP, "ode", weights=[0.2, 0.8], horizon=jnp.inf).cov[0, 0]) == pytest.approx(2.297397, abs=5e-7)
    assert float(et.mean_score_law(TABLE, VP, weights=[0.2, 0.8], horizon=jnp.inf).cov[0, 0]) == pytest.approx(1.901347, abs=5e-7)
    assert float(et.mean_score_law(TABLE, VP, horizon=jnp.inf).mean[0]) == pytest.approx(-0.4, abs=1e-13)
    assert float(et.mean_score_law(TABLE, VP, churn=np.inf).mean[0]) == pytest.approx(-0.823529, abs=5e-7)
    # the mean of the probability flow: -0.140651 is its value at the horizon of Song's schedule to 1e-5; the limit is -0.137366
    assert float(et.mean_score_law(TABLE, VP, "ode").mean[0]) == pytest.approx(-0.140651, abs=1e-5)
    limit = scipy.integrate.quad(lambda r: 0.5 * (-1 / (1 - 0.75 * r**2) + 2 / (1 + 3 * r**2)) / ((1 - 0.75 * r**2) * (1 + 3 * r**2)) ** 0.25, 0, 1, epsabs=1e-13)[0]
    assert limit == pytest.approx(-0.137366, abs=5e-7)
    assert float(et.mean_score_law(TABLE, VP, "ode", horizon=jnp.inf).mean[0]) == pytest.approx(limit, abs=1e-12)


def test_finite_horizon_loses_even_a_perfect_member():
    perfect = [et.Gaussian([1.0], 0.5)] * 2
    losses = [float(et.kl(perfect[0], et.mean_score_law(perfect, UNIT, reverse))) for reverse in ("sde", "ode")]
    np.testing.assert_allclose(losses, [0.0489526040, 0.1936033878], atol=5e-11)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_velocity_average_is_the_probability_flow_in_the_limit(d):
    gaussians, weights = members(d, d, diagonal=False)
    velocity = et.mean_velocity_law(gaussians, et.processes.LinearInterpolant(), weights)
    flow = et.mean_score_law(gaussians, VP, "ode", weights=weights, horizon=jnp.inf)
    np.testing.assert_allclose(velocity.mean, flow.mean, atol=1e-12)
    np.testing.assert_allclose(velocity.cov, flow.cov, atol=1e-12)
    determinants = np.prod([np.linalg.det(g.cov) ** w for g, w in zip(gaussians, weights, strict=True)])
    assert np.linalg.det(flow.cov) == pytest.approx(determinants, rel=1e-10)


@pytest.mark.parametrize("reverse", ["sde", "ode"])
def test_equal_covariances_separate_nothing(reverse):
    rng = np.random.default_rng(0)
    S, means = spd(rng, 2), rng.normal(size=(3, 2))
    law = et.mean_score_law([et.Gaussian(m, S) for m in means], VP, reverse, horizon=jnp.inf)
    np.testing.assert_allclose(law.mean, means.mean(0), atol=1e-11)
    np.testing.assert_allclose(law.cov, S, atol=1e-11)


def test_samplers_converge_to_the_law_at_their_order():
    gaussians, weights = members(4, 2, diagonal=False)
    process = UNIT
    score = et.MeanField([process.score(g) for g in gaussians], weights)
    velocity = et.MeanField([process.velocity(g) for g in gaussians], weights)
    cases = [(et.samplers.EulerMaruyama(), score, "sde", 1), (et.samplers.Heun(), velocity, "ode", 2)]
    for scheme, field, reverse, order in cases:
        exact = et.mean_score_law(gaussians, process, reverse, weights=weights)
        steps = [32, 128]
        grids = np.stack([et.samplers.padded(et.samplers.uniform_grid(process, n), 129) for n in steps])
        run = jax.jit(jax.vmap(lambda grid, field=field, scheme=scheme: et.samplers.Sampler(process, field, scheme, grid).kernel(2)))(grids)
        A, C = np.asarray(run.A), np.asarray(run.C.matrix)
        covs = A @ np.swapaxes(A, 1, 2) + C  # begun at N(0, I)
        errors = np.max(np.abs(covs - np.asarray(exact.cov)), axis=(1, 2)) + np.max(np.abs(np.asarray(run.b) - np.asarray(exact.mean)), axis=1)
        slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
        assert slope == pytest.approx(-order, abs=0.1)


def test_sharp_members_keep_their_digits():
    sharp = [et.Gaussian([0.0], 1e-8), et.Gaussian([0.0], 1e6)]
    a, b = 1e-8, 1e6
    assert float(et.mean_score_law(sharp, VP, horizon=jnp.inf).cov[0, 0]) == pytest.approx(a * b * np.log(b / a) / (b - a), rel=1e-11)
    assert float(et.mean_score_law(sharp, VP, "ode", horizon=jnp.inf).cov[0, 0]) == pytest.approx(np.sqrt(a * b), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: et.mean_score_law([], VP), "`members`.*empty"),
        (lambda: et.mean_score_law(TABLE, VP, "pde"), "`reverse`.*'sde' or 'ode'"),
        (lambda: et.mean_score_law(TABLE, VP, churn=-1.0), "`churn`.*>= 0"),
        (lambda: et.mean_score_law(TABLE, VP, horizon=-1.0), "`horizon`.*positive"),
        (lambda: et.mean_score_law(TABLE, VP, horizon=2.0), "`horizon`.*from 0"),
        (lambda: et.mean_score_law(TABLE, VP, weights=[1.0, 1.0]), "`weights`.*sum 2"),
        (lambda: et.mean_score_law(APART, VP, churn=20.0), "two resolutions that differ"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()


def test_members_must_be_gaussian():
    with pytest.raises(TypeError, match=r"`members\[0\]`.*GaussianMixture"):
        et.mean_score_law([et.linear_pool(TABLE)], VP)
