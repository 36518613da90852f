"""Pools by their definitions: mixtures of densities, normalised geometric means by quadrature, minimisers of the objectives that define them; the numbers of the theory."""

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ensembletheory as et
from ensembletheory.pooling.members import checked_laws
from tests.helpers import spd

HALF_TWO = [et.Gaussian([0.0], 0.5), et.Gaussian([0.0], 2.0)]


def members(seed, d, K=3):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(K))
    return [et.Gaussian(rng.normal(size=d), spd(rng, d)) for _ in range(K)], weights


def test_linear_pool_is_the_mixture_of_densities_whatever_its_members_are():
    gaussians, _ = members(0, 2)
    model = et.Ppca([[1.0], [0.5]], [0.3, -0.2], 0.4)
    mixture = et.GaussianMixture([0.2, 0.8], np.zeros((2, 2)), np.ones((2, 2)))
    pool = et.linear_pool([gaussians[0], mixture, model], [0.5, 0.3, 0.2])
    x = np.random.default_rng(1).normal(size=(4, 2))
    density = 0.5 * np.exp(gaussians[0].log_prob(x)) + 0.3 * np.exp(mixture.log_prob(x)) + 0.2 * np.exp(model.log_prob(x))
    np.testing.assert_allclose(np.exp(pool.log_prob(x)), density, rtol=1e-12)


def test_log_pool_is_the_normalised_geometric_mean():
    gaussians, weights = members(1, 2)
    pool = et.log_pool(gaussians, weights)

    def product(a, b):
        return np.exp(sum(w * g.log_prob([a, b]) for w, g in zip(weights, gaussians, strict=True)))

    grid = np.linspace(-9, 9, 181)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1)
    values = np.exp(sum(w * np.asarray(g.log_prob(points)) for w, g in zip(weights, gaussians, strict=True)))
    Z = values.sum() * (grid[1] - grid[0]) ** 2  # the trapezoid rule converges geometrically here
    assert float(et.log_normaliser(gaussians, weights)) == pytest.approx(np.log(Z), rel=1e-10)
    assert float(pool.log_prob([0.3, -0.1])) == pytest.approx(np.log(product(0.3, -0.1) / Z), rel=1e-10)


@given(st.integers(0, 2**32 - 1))
def test_log_pool_minimises_the_mean_reverse_kl(seed):
    gaussians, weights = members(seed, 2)
    pool, other = et.log_pool(gaussians, weights), members(seed + 1, 2)[0][0]

    def objective(law):
        return sum(w * float(et.kl(law, g)) for w, g in zip(weights, gaussians, strict=True))

    assert objective(pool) == pytest.approx(-float(et.log_normaliser(gaussians, weights)), rel=1e-10)
    assert objective(other) == pytest.approx(objective(pool) + float(et.kl(other, pool)), rel=1e-9)  # Pythagoras


@pytest.mark.parametrize("d", [1, 2, 3])
def test_barycenter_is_that_of_pot_and_solves_its_equation(d):
    gaussians, weights = members(d, d)
    barycenter = et.w2_barycenter(gaussians, weights)
    means, covs = np.stack([g.mean for g in gaussians]), np.stack([g.cov for g in gaussians])
    mean, cov = ot.gaussian.bures_wasserstein_barycenter(means, covs, weights, num_iter=5000, eps=1e-13)
    np.testing.assert_allclose(barycenter.mean, np.ravel(mean), atol=1e-12)
    np.testing.assert_allclose(barycenter.cov, cov, atol=1e-7)  # the reference stops on an absolute change of 1e-13 of a slower iteration
    spread = sum(w * float(et.w2_squared(g, barycenter)) for w, g in zip(weights, gaussians, strict=True))
    for seed in range(5):
        H = spd(np.random.default_rng(seed), d, 0.5, 2.0) * 1e-3
        nearby = et.Gaussian(barycenter.mean, np.asarray(barycenter.cov) + H)
        assert sum(w * float(et.w2_squared(g, nearby)) for w, g in zip(weights, gaussians, strict=True)) > spread


def test_diagonal_members_take_the_closed_form_of_the_barycenter():
    rng = np.random.default_rng(0)
    variances, weights = rng.uniform(0.1, 4.0, (3, 2)), np.array([0.2, 0.3, 0.5])
    flat = et.w2_barycenter([et.Gaussian([0.0, 0.0], v) for v in variances], weights)
    full = et.w2_barycenter([et.Gaussian([0.0, 0.0], np.diag(v)) for v in variances], weights)
    np.testing.assert_allclose(flat.cov, full.cov, atol=1e-12)
    np.testing.assert_allclose(np.diag(flat.cov), (weights @ np.sqrt(variances)) ** 2)


def test_numbers_of_the_chain_for_variances_one_half_and_two():
    p, vp = et.Gaussian([0.0], 1.0), et.processes.VariancePreserving()
    sde, ode = et.mean_score_law(HALF_TWO, vp, "sde", horizon=jnp.inf), et.mean_score_law(HALF_TWO, vp, "ode", horizon=jnp.inf)
    laws = [et.log_pool(HALF_TWO), sde, ode, et.w2_barycenter(HALF_TWO)]
    np.testing.assert_allclose([float(law.cov[0, 0]) for law in laws], [0.8, 4 / 3 * np.log(2), 1.0, 9 / 8], rtol=1e-14)
    np.testing.assert_allclose([float(et.kl(p, law)) for law in laws[:3]], [0.01342822434289512, 0.001595216268419578, 0.0], atol=2e-17)
    assert float(et.gain(p, HALF_TWO).average) == pytest.approx(0.125, abs=1e-16)


def test_numbers_of_two_uncentred_members():
    """Forward and reverse identities for (-1, 1/4), (2, 4) and p = N(0.3, 1.2)."""
    q, p = [et.Gaussian([-1.0], 0.25), et.Gaussian([2.0], 4.0)], et.Gaussian([0.3], 1.2)
    log = et.gain(p, q, et.log_pool)
    assert float(log.ensemble) == pytest.approx(1.6481665557, abs=5e-11)
    assert float(log.average) == pytest.approx(2.5544642216, abs=5e-11)
    assert float(log.gain) == pytest.approx(0.9062976659, abs=5e-11)
    linear = et.gain(p, q)
    assert float(linear.ensemble) == pytest.approx(0.5405857202, abs=5e-11)
    assert float(linear.gain) == pytest.approx(2.0138785014, abs=5e-11)
    pool = et.linear_pool(q)
    reverse = 0.5 * sum(float(et.kl(g, p)) for g in q) - float(et.kl(pool, p))
    shannon = 0.5 * sum(float(et.kl(et.linear_pool([g]), pool)) for g in q)
    assert reverse == pytest.approx(0.4655356203, abs=5e-11)
    assert shannon == pytest.approx(0.4655356203, abs=5e-11)
    equal = [et.Gaussian([-1.0], 0.5), et.Gaussian([2.0], 0.5)]
    assert float(et.log_normaliser(equal)) == pytest.approx(-2.25, abs=1e-14)


@pytest.mark.parametrize("rule", [et.linear_pool, et.log_pool, et.w2_barycenter])
def test_one_member_is_its_own_pool_and_equal_members_are_too(rule):
    (g, *_), _ = members(2, 2)
    for group in ([g], [g, g, g]):
        pool = rule(group)
        np.testing.assert_allclose(pool.mean, g.mean, atol=1e-12)
        np.testing.assert_allclose(pool.cov, g.cov, atol=1e-12)


@pytest.mark.parametrize("rule", [et.linear_pool, et.log_pool, et.w2_barycenter])
def test_bad_members_and_weights_are_refused(rule):
    g = et.standard_normal(2)
    for call, message in [
        (lambda: rule([]), "`members`.*empty"),
        (lambda: rule([g, et.standard_normal(1)]), r"`members`.*dimensions \[1, 2\]"),
        (lambda: rule([g, g], [0.5, 0.6]), "`weights`.*sum 1.1"),
        (lambda: rule([g, g], [1.0]), r"`weights`.*shape \(1,\)"),
    ]:
        with pytest.raises(ValueError, match=f"(?s){message}"):
            call()


def test_one_law_is_not_a_list_of_members():
    with pytest.raises(ValueError, match="`members`.*one law.*a list"):
        checked_laws(et.standard_normal(2), None)


def test_members_without_a_closed_form_are_refused_by_name():
    with pytest.raises(TypeError, match=r"`members\[1\]`.*GaussianMixture.*Gaussian"):
        et.w2_barycenter([HALF_TWO[0], et.linear_pool(HALF_TWO)])


def test_a_barycenter_that_has_not_converged_is_refused_not_returned(monkeypatch):
    monkeypatch.setattr("ensembletheory.pooling.barycenter._MOST_ITERATIONS", 1)
    turned = [[[1.0, 0.9], [0.9, 1.0]], [[1.0, -0.9], [-0.9, 1.0]], [[0.1, 0.0], [0.0, 3.0]], [[3.0, 0.5], [0.5, 0.1]]]  # no other test compiles four members
    with pytest.raises(ValueError, match="fixed-point residual"):
        et.w2_barycenter([et.Gaussian([0.0, 0.0], cov) for cov in turned])


def test_a_barycenter_of_two_nearly_singular_members_is_the_middle_of_their_geodesic():
    """S_0 moved half way along the optimal map T to S_1, for 2 x 2 matrices with root(A) = (A + sqrt(det A) I) / sqrt(tr A + 2 sqrt(det A))."""
    e = 1e-6
    S0, S1 = np.diag([e, 1.0]), np.array([[1.0, 1 - e], [1 - e, 1.0]])
    half = np.diag([e**0.5, 1.0])
    inner, det = half @ S1 @ half, e**0.5 * np.sqrt(2 * e - e**2)
    root = (inner + det * np.eye(2)) / np.sqrt(np.trace(inner) + 2 * det)
    halfway = (np.eye(2) + np.linalg.inv(half) @ root @ np.linalg.inv(half)) / 2
    barycenter = et.w2_barycenter([et.Gaussian([0.0, 0.0], S0), et.Gaussian([0.0, 0.0], S1)])
    np.testing.assert_allclose(barycenter.cov, halfway @ S0 @ halfway, atol=1e-9)  # roundings of eps / e


def test_the_derivative_of_a_barycenter_is_that_of_its_equation():
    covs = np.stack([[[1.0, 0.5], [0.5, 1.0]], [[1.0, -0.6], [-0.6, 2.0]]])
    H = np.array([[0.3, -0.2], [-0.2, 0.5]])

    def entry(h):
        return et.w2_barycenter([et.Gaussian(jnp.zeros(2), covs[0] + h * H), et.Gaussian(jnp.zeros(2), jnp.asarray(covs[1]))], [0.3, 0.7]).cov[0, 1]

    h = 1e-5
    numerical = (float(entry(jnp.asarray(h))) - float(entry(jnp.asarray(-h)))) / (2 * h)
    np.testing.assert_allclose(float(jax.grad(entry)(0.0)), numerical, rtol=1e-8)


def test_pools_differentiate_and_batch():
    def variance(s):
        return et.log_pool([et.Gaussian(jnp.zeros(1), s), et.Gaussian(jnp.zeros(1), 2.0)]).cov[0, 0]

    s = jnp.asarray([0.5, 1.0])
    np.testing.assert_allclose(jax.vmap(variance)(s), 2 / (1 / s + 0.5))
    np.testing.assert_allclose(jax.vmap(jax.grad(variance))(s), 2 / (1 / s + 0.5) ** 2 / s**2)
