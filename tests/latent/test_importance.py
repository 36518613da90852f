"""The exact bound against two-dimensional integrals of its definition, simulation, the closed forms at its ends, and its asymptote on both sides of the threshold."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import ensembletheory as et
from ensembletheory.latent import best_diagonal_encoder, iwae_bound, iwae_gap, iwae_rate, iwae_second_moment, iwae_tail_exponent
from tests.helpers import assert_mean, assert_within_errors, spd

RNG = np.random.default_rng(11)
ONE = et.Ppca([[1.2], [-0.7]], [0.3, 0.1], 0.5)
TWO = et.Ppca(RNG.normal(size=(4, 2)), RNG.normal(size=4), 0.6)
POINTS = {1: np.array([0.9, -1.4]), 2: RNG.normal(size=4)}
ENCODERS = {1: et.AffineKernel([[0.4, -0.1]], [0.2], [[0.9]]), 2: et.AffineKernel(RNG.normal(size=(2, 4)) / 3, RNG.normal(size=2) / 2, spd(RNG, 2))}


def correlated(rho):
    """A model whose posterior has correlation -rho, hence k = 1 +- rho at the best diagonal encoder."""
    gram = np.array([[2.0, 2 * rho], [2 * rho, 2.0]]) - 0.1 * np.eye(2)
    vectors = np.linalg.eigh(gram)
    return et.Ppca((vectors[1] * np.sqrt(vectors[0])).T, np.zeros(2), 0.1)


def gap(rho, K):
    return iwae_gap(model := correlated(rho), best_diagonal_encoder(model), np.ones(2), K)


def test_two_samples_of_one_latent_by_a_double_integral_of_the_definition():
    x, encoder = POINTS[1], ENCODERS[1]
    m, sd = float((encoder.A @ x + encoder.b)[0]), 0.9**0.5
    e = np.linspace(-13, 13, 1301)
    z = m + sd * e
    log_w = norm.logpdf(x[:, None], np.array([[0.3], [0.1]]) + np.array([[1.2], [-0.7]]) * z, 0.5**0.5).sum(0) + norm.logpdf(z) - norm.logpdf(z, m, sd)
    density = norm.pdf(e) * (e[1] - e[0])  # the trapezoidal rule is exact to rounding for such integrands
    exact = density @ (np.logaddexp.outer(log_w, log_w) - np.log(2)) @ density
    found = iwae_bound(ONE, encoder, x, 2)
    assert found.kind == "quadrature"
    assert found.error < 1e-11
    assert float(found) == pytest.approx(exact, abs=2e-11)
    assert float(iwae_bound(ONE, encoder, x, 1)) == pytest.approx(density @ log_w, abs=1e-12)


def draws_and_log_weights(model, encoder, x, shape, rng):
    root = np.linalg.cholesky(np.asarray(encoder.C.as_matrix()))
    e = rng.normal(size=(*shape, 2))
    z = np.asarray(encoder.A) @ x + np.asarray(encoder.b) + e @ root.T
    log_joint = norm.logpdf(x, z @ np.asarray(model.loadings).T + np.asarray(model.mean), float(model.noise_variance) ** 0.5).sum(-1) + norm.logpdf(z).sum(-1)
    return log_joint - norm.logpdf(e).sum(-1) + np.log(np.diag(root)).sum()


@pytest.mark.parametrize("K", [1, 3, 8])
def test_two_latents_by_simulation(K):
    x, encoder = POINTS[2], ENCODERS[2]
    exact = float(iwae_bound(TWO, encoder, x, K))
    log_weights = draws_and_log_weights(TWO, encoder, x, (60_000, K), np.random.default_rng(K))
    assert_mean(np.logaddexp.reduce(log_weights, axis=1) - np.log(K), exact)
    if K == 3:
        simulated = iwae_bound(TWO, encoder, x, K, key=jax.random.key(0), samples=20_000)
        assert simulated.kind == "monte_carlo"
        assert_within_errors(simulated.value, simulated.error, exact)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**20))
def test_bounds_rise_with_every_sample_from_the_elbo_towards_the_likelihood(seed):
    rng = np.random.default_rng(seed)
    model = et.Ppca(rng.normal(size=(4, 2)), np.zeros(4), float(rng.uniform(0.4, 2)))
    encoder, x = et.AffineKernel(rng.normal(size=(2, 4)), rng.normal(size=2), spd(rng, 2)), rng.normal(size=4)
    gaps = [iwae_gap(model, encoder, x, K) for K in (1, 2, 3, 10, 100)]
    assert float(gaps[0]) == pytest.approx(float(et.kl(encoder.at(jax.numpy.asarray(x)), model.posterior.at(jax.numpy.asarray(x)))), rel=1e-9)
    assert gaps[0].kind == "closed_form"
    values = np.array([float(g) for g in gaps])
    assert np.all(np.diff(values) < 0)
    assert values[-1] > 0
    assert max(float(g.error) for g in gaps) < 1e-9


def test_the_table_of_the_two_dimensional_case():
    """Numbers of a fixed table: second moment, gap at K = 1, and exact gaps at K = 4, 16, 64."""
    table = {0.1: (1.010415, 0.005025), 0.3: (1.1375, 0.047155), 0.45: (1.829590, 0.113137), 0.49: (3.818641, 0.137284)}
    for rho, (moment, first) in table.items():
        model = correlated(rho)
        encoder = best_diagonal_encoder(model)
        assert float(iwae_second_moment(model, encoder, np.ones(2))) == pytest.approx(moment, abs=5e-7)
        assert float(gap(rho, 1)) == pytest.approx(first, abs=5e-7)
        assert iwae_tail_exponent(model, encoder) == pytest.approx(1 / rho)
        np.testing.assert_allclose(iwae_rate(model, encoder, np.ones(2), [4, 64]), (moment - 1) / np.array([8, 128]), rtol=2e-4)
    assert np.isinf(iwae_second_moment(correlated(0.5), best_diagonal_encoder(correlated(0.5)), np.ones(2)))


@pytest.mark.parametrize(("rho", "K"), [(0.3, 2), (0.45, 16), (0.6, 4), (0.8, 64)])
def test_gaps_of_the_best_encoder_by_the_laplace_transform_on_a_grid(rho, K):
    e = np.linspace(-11, 11, 331)
    density = np.multiply.outer(norm.pdf(e), norm.pdf(e)).ravel() * (e[1] - e[0]) ** 2
    r = np.exp(0.5 * np.log(1 - rho**2) + 0.5 * rho * np.subtract.outer(e**2, e**2)).ravel()
    log_t = np.arange(-np.log(K) - 36, 36.0, 0.4)
    phi = np.array([density @ np.exp(-t * r) for t in np.exp(log_t)])
    slope = np.array([density @ np.expm1(-t * r) for t in np.exp(log_t)])  # phi - 1 without cancellation
    power = np.exp(K * np.where(phi > 0.5, np.log1p(np.maximum(slope, -0.5)), np.log(np.maximum(phi, 1e-300))))
    assert float(gap(rho, K)) == pytest.approx(np.trapezoid(power - np.exp(-K * np.exp(log_t)), log_t), abs=1e-8)


def test_the_rate_changes_at_the_threshold():
    inside = [float(gap(0.3, K)) for K in (10**4, 2 * 10**4)]
    np.testing.assert_allclose(inside, iwae_rate(model := correlated(0.3), best_diagonal_encoder(model), np.ones(2), [1e4, 2e4]), rtol=2e-3)
    for rho in (0.6, 0.8):
        model = correlated(rho)
        counts = np.array([10**4, 10**6, 10**8, 10**10])
        ratios = [float(gap(rho, int(K))) for K in counts] / iwae_rate(model, best_diagonal_encoder(model), np.ones(2), counts)
        # The asymptote is reached like 1 / log K; at 1/K instead the ratio would grow a hundredfold or more a step.
        assert np.all(np.abs(ratios - 1) < 0.15)
    assert abs(ratios[-1] - 1) < abs(ratios[0] - 1)


def test_the_tail_of_the_weights_by_simulation():
    """P(r > u) = l(u) u^{-alpha} with the l of the module, corrected by its own next order: compared as an integral over the heavy direction."""
    rho, u = 0.8, 1e6
    alpha, c = 1 / rho, 0.5 * np.log(1 - rho**2)
    y = np.linspace(-12, 12, 4001)
    exact = np.trapezoid(norm.pdf(y) * 2 * norm.sf(np.sqrt(2 * (np.log(u) - c) / rho + y**2)), y)
    leading = np.exp(alpha * c) / np.sqrt(2 * np.pi * alpha * np.log(u)) * u**-alpha
    assert exact / leading == pytest.approx(1.0, abs=2 / np.log(u))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iwae_gap(TWO, ENCODERS[1], POINTS[2], 2), "`encoder`.*maps x to z"),
        (lambda: iwae_gap(TWO, ENCODERS[2], POINTS[1], 2), "`x`.*shape"),
        (lambda: iwae_bound(TWO, ENCODERS[2], POINTS[2], 0), "`K`: got 0; expected a whole number >= 1"),
        (lambda: iwae_bound(TWO, ENCODERS[2], POINTS[2], 2, samples=10), "`key`: got None; expected a PRNG key"),
        (lambda: iwae_rate(model := correlated(0.5), best_diagonal_encoder(model), np.ones(2), [10]), "`encoder`: got tail exponent 2"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
