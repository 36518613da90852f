"""One-step potentials against inversion by SciPy, quadrature of the convolution, Kolmogorov's distance, and a search for the best encoder by another route."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats

from ensembletheory.hamiltonian import HamiltonianFlow, OneStepPotential, best_gaussian_encoder, gaussian_encoder_gap, one_step_flow, one_step_gaussian
from ensembletheory.laws import Gaussian, GaussianMixture
from tests.helpers import spd

RNG = np.random.default_rng(2)
W, MEANS, VARIANCES = np.array([0.3, 0.7]), np.array([-1.0, 2.0]), np.array([0.25, 0.5])
STEP, MASS = 0.9, 2.0
C = STEP / MASS
POTENTIAL = OneStepPotential(GaussianMixture(W, MEANS[:, None], VARIANCES[:, None]), STEP, MASS)
ATOMS = OneStepPotential(GaussianMixture(W, MEANS[:, None], [[C**2], [C**2]]), STEP, MASS)
POINTS = np.linspace(-3.1, 3.1, 7)


@pytest.fixture(scope="module")
def looked_at():
    """V, its derivative by autodiff, its slope and its curvature at the points."""

    @jax.jit
    def look(potential):
        at = lambda q: potential(q[None])  # noqa: E731
        return jax.vmap(lambda q: (at(q), jax.grad(at)(q), potential.slope(q), jax.grad(jax.grad(at))(q)))(jnp.asarray(POINTS))

    return {potential: [np.asarray(x) for x in look(value)] for potential, value in (("smooth", POTENTIAL), ("atoms", ATOMS))}


def level(x):
    """The q with T(q) = x, from the smaller tail."""
    sides = [special.ndtr(side * (x[:, None] - MEANS) / np.sqrt(VARIANCES - C**2)) @ W for side in (1, -1)]
    return np.where(sides[0] < sides[1], special.ndtri(sides[0]), -special.ndtri(sides[1]))


def transport(q):
    """F_mu^{-1}(F_N(q)) by root finding."""
    return optimize.brentq(lambda x: level(np.array([x]))[0] - q, -20, 20, xtol=1e-14)


def atom(q):
    return MEANS[int(q > special.ndtri(W[0]))]


def integral_of_transport(q):
    """Of T from 0 to q, as the integral of x dq over x."""
    x = np.linspace(transport(0.0), transport(q), 200_001)
    return np.trapezoid(x, level(x))


def integral_of_atoms(q):
    cut = special.ndtri(W[0])
    return MEANS[1] * q if q > cut else MEANS[1] * cut + MEANS[0] * (q - cut)


@pytest.mark.parametrize(("name", "map", "integral"), [("smooth", transport, integral_of_transport), ("atoms", atom, integral_of_atoms)])
def test_potential_and_slope(looked_at, name, map, integral):
    values, derivatives, slopes, _ = looked_at[name]
    factor = 2 * MASS / STEP**2
    exact = [factor * (q - map(q)) for q in POINTS]
    np.testing.assert_allclose(slopes, exact, rtol=1e-10)
    np.testing.assert_allclose(derivatives, exact, rtol=1e-10)
    np.testing.assert_allclose(values, [factor * (q**2 / 2 - integral(q)) for q in POINTS], rtol=1e-7, atol=1e-10)


def test_curvature(looked_at):
    e = 1e-5
    for q, curvature in zip(POINTS, looked_at["smooth"][3], strict=True):
        assert curvature == pytest.approx(2 * MASS / STEP**2 * (1 - (transport(q + e) - transport(q - e)) / (2 * e)), rel=1e-6)


def test_the_derivative_in_the_target():
    """By the envelope theorem, though the transport is found by bisection."""

    def value(w):
        return OneStepPotential(GaussianMixture(jnp.stack([w, 1 - w]), MEANS[:, None], VARIANCES[:, None]), STEP, MASS)(jnp.array([0.8]))

    (low, _, high), (_, slope, _) = jax.jit(jax.vmap(jax.value_and_grad(value)))(0.3 + 1e-5 * jnp.arange(-1.0, 2.0))
    assert slope == pytest.approx(float(high - low) / 2e-5, rel=1e-6)


BIMODAL = GaussianMixture([0.5, 0.5], [[-2.0], [2.0]], [[0.25], [0.25]])


def drawn(n, chunk=20_000):
    """Stratified q_0 with random p_0, and where one step takes them."""
    start = np.stack([stats.norm.ppf((RNG.permutation(n) + 0.5) / n), RNG.normal(size=n)], axis=1)
    flow = one_step_flow(BIMODAL, 0.4)
    return start, np.concatenate([np.asarray(flow.generate(part)) for part in start.reshape(-1, chunk, 2)])


def distance(q):
    return stats.kstest(q, lambda x: (stats.norm.cdf(x, -2, 0.5) + stats.norm.cdf(x, 2, 0.5)) / 2).statistic


def test_draws_of_the_one_step_mixture():
    """H5: Kolmogorov's distance falls below 1 / sqrt(n); and the momenta are affine in where the positions began."""
    start, ends = drawn(20_000)
    assert distance(ends[:, 0]) < 1 / np.sqrt(20_000)
    x = np.linspace(-5, 5, 200_001)
    mixed = (stats.norm.cdf((x + 2) / 0.3) + stats.norm.cdf((x - 2) / 0.3)) / 2
    moved = np.interp(stats.norm.cdf(ends[:, 0]), mixed, x)  # T(q_1), by interpolation
    seen = abs(ends[:, 0]) < 3
    np.testing.assert_allclose(ends[seen, 1], (moved[seen] - start[seen, 0]) / 0.4, atol=1e-4)


@pytest.mark.verify
def test_many_draws_of_the_one_step_mixture():
    assert distance(drawn(400_000)[1][:, 0]) < 1 / np.sqrt(400_000)


def test_one_step_to_any_gaussian():
    """H5: exactly, with one step, in four dimensions."""
    S, mean = spd(RNG, 4, 0.3, 4.0), RNG.normal(size=4)
    hamiltonian = one_step_gaussian(Gaussian(mean, S), 0.8, 1.6)
    h, K = 0.8, np.asarray(hamiltonian.stiffness)
    A, B = np.eye(4) - h**2 / (2 * 1.6) * K, h / 1.6 * np.eye(4)
    np.testing.assert_allclose(A @ A.T + B @ B.T, S, atol=1e-12)
    law = HamiltonianFlow(hamiltonian, Gaussian(np.r_[mean, np.zeros(4)], 1.0), 1).law()
    np.testing.assert_allclose(law.cov, S, atol=1e-12)
    np.testing.assert_allclose(law.mean, mean, atol=1e-12)


def gap_by_hand(c, points):
    """Of modes at -2 and 2 with variances 1/4: momenta on a fine grid, encoders by Nelder and Mead from either mode; the law is even."""
    grid = np.linspace(-6, 6, 2000)  # which leaves out 0, where T jumps
    mu = np.sqrt(0.25 - c**2)
    x = np.linspace(-2 - 9 * mu, 2 + 9 * mu, 40_001)
    moved = np.interp(stats.norm.cdf(grid), (stats.norm.cdf((x + 2) / mu) + stats.norm.cdf((x - 2) / mu)) / 2, x)
    q = np.linspace(0, 5, points)
    rho = stats.norm.pdf(q, -2, 0.5) + stats.norm.pdf(q, 2, 0.5)

    def least(point):
        log_posterior = -(grid**2) / 2 - (point - moved) ** 2 / (2 * c**2)
        log_posterior -= np.log(np.trapezoid(np.exp(log_posterior), grid))

        def divergence(encoder):
            log_own = -((grid - encoder[0]) ** 2) * np.exp(-2 * encoder[1]) / 2 - encoder[1] - np.log(2 * np.pi) / 2
            return np.trapezoid(np.exp(log_own) * (log_own - log_posterior), grid)

        return min(optimize.minimize(divergence, [a, -0.5], method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-7}).fun for a in (-0.9, 0.9))

    return np.trapezoid(rho * np.array([least(point) for point in q]), q)


def test_the_gap_of_gaussian_encoders():
    found = gaussian_encoder_gap(OneStepPotential(BIMODAL, 0.4))
    assert found.value == pytest.approx(0.37075454, abs=1e-7)
    assert found.error < 1e-6
    assert found.value == pytest.approx(gap_by_hand(0.4, 61), rel=2e-3)


def test_the_best_gaussian_encoder():
    """At q_1 = 1.7 the momentum began within one mode, q_0 > 0: a search over N(a, b^2) for p_1 by another minimiser finds the same."""
    found = best_gaussian_encoder(OneStepPotential(BIMODAL, 0.4), 1.7)
    start = np.linspace(-6, 6, 2000)
    x = np.linspace(-5, 5, 200_001)
    mixed = (special.ndtr((x + 2) / 0.3) + special.ndtr((x - 2) / 0.3)) / 2
    moved, here = np.interp(special.ndtr(start), mixed, x), np.interp(1.7, x, special.ndtri(np.clip(mixed, 1e-300, 1 - 1e-16)))
    momenta = (np.interp(special.ndtr(1.7), mixed, x) - start) / 0.4
    log_posterior = -(start**2) / 2 - (1.7 - moved) ** 2 / (2 * 0.4**2)

    def divergence(encoder):
        log_own = -((momenta - encoder[0]) ** 2) * np.exp(-2 * encoder[1]) / 2 - encoder[1]
        return np.trapezoid(np.exp(log_own) * (log_own - log_posterior), start)

    best = optimize.minimize(divergence, [(np.interp(special.ndtr(1.7), mixed, x) - here) / 0.4, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).x
    assert found.mean[0] == pytest.approx(best[0], abs=1e-4)
    assert np.sqrt(found.cov[0, 0]) == pytest.approx(np.exp(best[1]), rel=1e-4)


def test_no_gap_for_a_gaussian():
    """Here two components that are the same."""
    assert abs(gaussian_encoder_gap(OneStepPotential(GaussianMixture([0.4, 0.6], [[1.0], [1.0]], [[0.5], [0.5]]), 0.3)).value) < 1e-10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: one_step_gaussian(Gaussian([0.0, 0.0], np.diag([4.0, 0.25])), 1.2, 2.0), "`step`: got 1.2, c = step / mass = 0.6; expected c at most 0.5"),
        (lambda: OneStepPotential(GaussianMixture(W, MEANS[:, None], VARIANCES[:, None]), 0.6), "`step`: got c = step / mass = 0.6; expected c below 0.5"),
        (lambda: OneStepPotential(GaussianMixture(W, MEANS[:, None], VARIANCES[:, None]), 0.5), "or equal to all of them"),
        (lambda: OneStepPotential(Gaussian([0.0, 0.0], 1.0), 0.5), "`target`: got dimension 2"),
        (lambda: OneStepPotential(Gaussian([0.0], 1.0), 0.5, -1.0), "`mass`: got -1"),
        (lambda: gaussian_encoder_gap(POTENTIAL, 20), "`points`: got 20"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
