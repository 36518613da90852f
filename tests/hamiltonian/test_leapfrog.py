"""Leapfrog laws, shadows, reach and deficits against matrix powers, eigenvalues, grids and the numbers derived for them."""

import jax
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize
from scipy.linalg import block_diag, expm

from ensembletheory.hamiltonian import (
    HamiltonianFlow,
    chebyshev,
    conserved_energy,
    continuous_encoder,
    discretised_divergence,
    effective_frequency,
    elbo_deficit,
    invariants,
    joint_covariance,
    largest_step,
    leapfrog_law,
    leapfrog_matrix,
    leapfrog_variance,
    least_deviation,
    normal_modes,
    quarter_turn,
    reaching_stiffnesses,
    shadow_hamiltonian,
    symplectic_law,
    trained_deficit,
)
from ensembletheory.hamiltonian.deficit import LEADING_CONSTANT
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Gaussian, standard_normal
from ensembletheory.processes import QuadraticHamiltonian
from ensembletheory.structures import unit_symplectic
from tests.helpers import spd

RNG = np.random.default_rng(11)
STIFF, MASS, MEAN = spd(RNG, 3) - 0.8 * np.eye(3), spd(RNG, 3), np.array([1.0, -2.0, 0.5])
HAMILTONIAN = QuadraticHamiltonian(MASS, STIFF, MEAN, horizon=2.0)


def step_of(k, m, h):
    """One leapfrog step on a mode, in extended precision."""
    k, m, h = (np.longdouble(x) for x in (k, m, h))
    return np.array([[1 - h**2 * k / (2 * m), h / m], [-h * k * (1 - h**2 * k / (4 * m)), 1 - h**2 * k / (2 * m)]])


def power(A, n):
    result = np.eye(2, dtype=A.dtype)
    for _ in range(n):
        result = A @ result
    return result


MODES = 8


def modes(low, high):
    return hnp.arrays(float, MODES, elements=st.floats(low, high, allow_subnormal=False))


@settings(max_examples=25)
@given(modes(-20, 60), modes(0.2, 5), modes(0.05, 1.5), modes(0.2, 5), modes(0.2, 5), hnp.arrays(int, MODES, elements=st.integers(1, 60)))
def test_variance_is_that_of_the_matrix_power(k, m, h, s_q, s_p, L):
    """H1, for every sign of k and on both sides of the stability limit."""
    found = np.asarray(leapfrog_variance(m, k, h, L, s_q, s_p))
    for i in range(MODES):
        A, B = power(step_of(k[i], m[i], h[i]), L[i])[0]
        assert found[i] == pytest.approx(float(s_q[i] * A**2 + s_p[i] * B**2), rel=1e-10)


@pytest.mark.parametrize(("y", "L"), [(1e-12, 1000), (1e-6, 999), (-1e-9, 1000), (0.0, 77), (0.3, 1000), (1.0, 13), (1.7, 20)])
def test_chebyshev_polynomials_keep_the_digits_of_small_angles(y, L):
    T, U = chebyshev(np.full(MODES, y), np.full(MODES, L))
    with mpmath.workdps(40):
        x = 1 - 2 * mpmath.mpf(y)
        exact = mpmath.chebyt(L, x), mpmath.chebyu(L - 1, x)
    assert abs(T[0] - float(exact[0])) <= 1e-12 * max(abs(float(exact[0])), 1)
    assert U[0] == pytest.approx(float(exact[1]), rel=1e-12)


def test_derivatives_where_there_is_no_force():
    """At k = 0 the angle has no derivative, the variance has."""
    slope = jax.jit(jax.grad(lambda k: leapfrog_variance(1.3, k, 0.4, 5)))(0.0)
    high, low = (float(power(step_of(k, 1.3, 0.4), 5)[0] @ power(step_of(k, 1.3, 0.4), 5)[0]) for k in (1e-6, -1e-6))
    assert slope == pytest.approx((high - low) / 2e-6, rel=1e-6)


def kicks_and_drifts(h):
    kick, drift = np.eye(6), np.eye(6)
    kick[3:, :3], drift[:3, 3:] = -h / 2 * STIFF, h * np.linalg.inv(MASS)
    return kick @ drift @ kick


def test_normal_modes_make_the_matrix_of_the_steps():
    found = normal_modes(HAMILTONIAN)
    X, squares = np.asarray(found.shapes), np.asarray(found.squared_frequencies)
    np.testing.assert_allclose(X.T @ MASS @ X, np.eye(3), atol=1e-13)
    np.testing.assert_allclose(X.T @ STIFF @ X, np.diag(squares), atol=1e-13)
    exact = np.linalg.matrix_power(kicks_and_drifts(0.25), 8)
    np.testing.assert_allclose(leapfrog_matrix(HAMILTONIAN, 0.25, 8), exact, atol=1e-12)
    law = leapfrog_law(HAMILTONIAN, 8)
    np.testing.assert_allclose(law.cov, (exact @ exact.T)[:3, :3], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(law.mean, MEAN - exact[:3, :3] @ MEAN, rtol=1e-11)


def test_the_shadow_is_followed_exactly():
    shadow = shadow_hamiltonian(HAMILTONIAN, 0.25)
    generator = np.block([[np.zeros((3, 3)), np.linalg.inv(shadow.mass)], [-np.asarray(shadow.stiffness), np.zeros((3, 3))]])
    np.testing.assert_allclose(expm(2.0 * generator), np.linalg.matrix_power(kicks_and_drifts(0.25), 8), atol=1e-11)


def test_the_conserved_energy():
    energy, z = conserved_energy(HAMILTONIAN, 0.25), RNG.normal(size=6)
    A = block_diag(np.asarray(energy.stiffness), np.linalg.inv(MASS))
    once = kicks_and_drifts(0.25) @ z
    assert once @ A @ once == pytest.approx(z @ A @ z, rel=1e-12)
    np.testing.assert_allclose(energy.stiffness, STIFF - 0.25**2 / 4 * STIFF @ np.linalg.solve(MASS, STIFF), atol=1e-14)


def test_frequency_and_limit():
    eigenvalues = np.linalg.eigvals(step_of(9.0, 1.0, 0.6).astype(float))
    assert effective_frequency(3.0, 0.6) == pytest.approx(np.max(np.angle(eigenvalues)) / 0.6, rel=1e-12)
    limit = float(largest_step(HAMILTONIAN))
    assert limit == pytest.approx(2 / np.sqrt(np.max(np.linalg.eigvals(np.linalg.solve(MASS, STIFF)).real)), rel=1e-12)
    grows = lambda h: np.max(abs(np.linalg.eigvals(step_of((2 / limit) ** 2, 1.0, h).astype(float)))) - 1  # noqa: E731
    assert grows(0.999 * limit) < 1e-12
    assert grows(1.001 * limit) > 0.05
    assert np.isinf(largest_step(QuadraticHamiltonian(np.ones(3), -1.0)))
    with pytest.raises(ValueError, match="`step`: got .*; expected less than the stability limit, 2 / frequency"):
        effective_frequency(3.0, 0.7)
    with pytest.raises(ValueError, match=f"`step`: got .*; expected less than the stability limit {limit:.6g}"):
        shadow_hamiltonian(HAMILTONIAN, limit)
    with pytest.raises(ValueError, match="`mass`: got -1"):
        leapfrog_variance(-1.0, 1.0, 0.5, 3)
    with pytest.raises(ValueError, match="coupled"):
        normal_modes(QuadraticHamiltonian(np.ones(2), 1.0, coupling=np.eye(2)))


LEAST = {(0.3, 1): 0.3, (0.3, 2): 0.41461, (0.3, 3): 0.3, (0.3, 4): 0.32451, (0.3, 5): 0.3, (0.3, 8): 0.30587, (1.5, 1): 1.5, (1.5, 2): 1.0, (1.5, 5): 1.0}


@pytest.mark.parametrize(("c", "L"), LEAST)
def test_the_least_deviation(c, L):
    found = least_deviation(c, L)
    assert found == pytest.approx(LEAST[c, L], abs=1e-5)
    x = np.cos(np.linspace(0, np.pi, 20_001)[1:-1])
    theta = np.arccos(x)
    on_a_grid = np.sqrt(np.min(np.cos(L * theta) ** 2 + (c * np.sin(L * theta) / np.sin(theta)) ** 2))
    assert found <= on_a_grid + 1e-12
    assert found == pytest.approx(on_a_grid, abs=1e-6)
    if L == 2 and c < 1:
        assert found == pytest.approx(c * np.sqrt(2 - c**2), rel=1e-12)
    if L % 2 == 0 and c < 0.5:
        assert c < found < c / np.cos(np.pi / (2 * L))


def test_stiffnesses_that_reach_a_deviation():
    m, h, sigma = 2.0, 0.5, 1.3
    np.testing.assert_allclose(reaching_stiffnesses(sigma, m, h, 1), [2 * m / h**2 * (1 - s * np.sqrt(sigma**2 - (h / m) ** 2)) for s in (1, -1)], rtol=1e-12)
    several = reaching_stiffnesses(0.9, 1.0, 0.7, 5)
    assert len(several) == 6
    for k in several:
        A, B = power(step_of(k, 1.0, 0.7), 5)[0]
        assert np.sqrt(float(A**2 + B**2)) == pytest.approx(0.9, rel=1e-7)
    assert len(reaching_stiffnesses(0.29, 1.0, 0.3, 7)) == 0
    with pytest.raises(ValueError, match="`c`: got -0.3"):
        least_deviation(-0.3, 2)
    with pytest.raises(ValueError, match="`steps`: got 0"):
        least_deviation(0.3, 0)


def test_invariants():
    """H2: the symplectic eigenvalues are the moduli of the eigenvalues of J P; the flow keeps them, one step of Euler does not."""
    P, N = spd(RNG, 6), np.linalg.matrix_power(kicks_and_drifts(0.25), 8)
    by_hand = np.sort(abs(np.linalg.eigvals(unit_symplectic(3) @ P)))[::2]
    before = invariants(Gaussian(np.zeros(6), P))
    np.testing.assert_allclose(before, by_hand, rtol=1e-11)
    np.testing.assert_allclose(invariants(symplectic_law(N, Gaussian(np.zeros(6), P))), before, rtol=1e-10)
    np.testing.assert_allclose(invariants(symplectic_law(N)), np.ones(3), rtol=1e-10)
    with pytest.raises(ValueError, match="`N`: got one that is off D.T J D = J"):
        symplectic_law(np.eye(6) + 0.1 * unit_symplectic(3))


def test_every_joint_covariance_of_unit_invariants():
    W = np.array([[1.0, 0.3, 0.0], [0.3, -2.0, 0.5], [0.0, 0.5, 0.2]])
    P = np.asarray(joint_covariance(MASS, W))
    np.testing.assert_allclose(P[:3, :3], MASS, rtol=1e-13)
    np.testing.assert_allclose(P[3:, :3] @ np.linalg.inv(MASS), W, atol=1e-12)
    np.testing.assert_allclose(abs(np.linalg.eigvals(unit_symplectic(3) @ P)), 1, rtol=1e-10)


def test_the_quarter_turn_reaches_any_gaussian():
    turn = quarter_turn(Gaussian(MEAN, MASS), horizon=0.7)
    generator = np.block([[np.zeros((3, 3)), np.linalg.inv(turn.mass)], [-np.asarray(turn.stiffness), np.zeros((3, 3))]])
    flow = expm(0.7 * generator)
    np.testing.assert_allclose(flow[:3, :3], 0, atol=1e-13)
    np.testing.assert_allclose(flow[:3, 3:] @ flow[:3, 3:].T, MASS, rtol=1e-12, atol=1e-13)


KLS = {1: 0.160784, 2: 0.00661489, 4: 3.81343e-4, 8: 2.33742e-5, 16: 1.45384e-6, 32: 9.0756e-8}
DEFICITS = {1: (0.530871, 0.155869, 0.375002), 2: (0.0161560, 0.00652293, 0.00963307), 4: (8.91600e-4, 3.79878e-4, 5.11722e-4), 8: (5.41255e-5, 2.33512e-5, 3.07744e-5)}


def test_divergence_of_the_discretised_quarter_turn():
    """H4: the table, and the law of the fourth power with its constant."""
    counts = np.array([*KLS, 1024, 512])
    found = np.asarray(discretised_divergence(np.ones(8), counts).value)
    np.testing.assert_allclose(found[:6], list(KLS.values()), rtol=1e-5)
    assert found[6] * 1024.0**4 == pytest.approx(np.pi**4 / 1024, rel=1e-6)
    assert LEADING_CONSTANT == pytest.approx(0.09513, abs=5e-6)
    for L in KLS:
        A, B = (float(x) for x in power(step_of(1.0, 1.0, np.pi / (2 * L)), L)[0])
        assert discretised_divergence(np.ones(8), np.full(8, L)).value[0] == pytest.approx((1 / (A**2 + B**2) - 1 + np.log(A**2 + B**2)) / 2, rel=1e-8)
    with pytest.raises(ValueError, match="`deviation`: got 0"):
        discretised_divergence(0.0, 3)


def gap_by_hand(w, s, sigma, N):
    """Of the encoder N(w q, s) on a mode."""
    (A, B), (C, D) = N
    model = A**2 + B**2
    W = (A * C + B * D) / model
    return (s * model - 1 - np.log(s * model) + (w - W) ** 2 * sigma**2 * model) / 2


@pytest.mark.parametrize("L", DEFICITS)
def test_deficits_of_the_discretised_quarter_turn(L):
    """With sigma = 2, unit mass and the encoder N(0, 1/4) of the continuous flow."""
    data, turn = Gaussian([0.0], [[4.0]]), QuadraticHamiltonian(1.0, 0.25, horizon=np.pi)
    found = elbo_deficit(data, HamiltonianFlow(turn, standard_normal(2), L), continuous_encoder(data))
    total, divergence, gap = DEFICITS[L]
    assert found.total.value == pytest.approx(total, rel=5e-6)
    assert found.divergence.value == pytest.approx(divergence, rel=5e-6)
    assert found.gap.value == pytest.approx(gap, rel=5e-6)
    assert found.gap.value == pytest.approx(gap_by_hand(0.0, 0.25, 2.0, power(step_of(0.25, 1.0, np.pi / L), L).astype(float)), rel=1e-9)


def test_deficit_in_three_dimensions_is_the_mean_of_the_bound():
    """By draws of the data, at which the bound is Gaussian algebra, with means and covariances that do not commute."""
    flow = HamiltonianFlow(HAMILTONIAN, standard_normal(6), 8)
    data, encoder = Gaussian(RNG.normal(size=3), spd(RNG, 3)), AffineKernel(0.3 * RNG.normal(size=(3, 3)), RNG.normal(size=3), spd(RNG, 3))
    found = elbo_deficit(data, flow, encoder)
    N = np.linalg.matrix_power(kicks_and_drifts(0.25), 8)
    centre, F = np.r_[MEAN, np.zeros(3)], np.asarray(encoder.C.as_matrix())
    back = np.linalg.inv(N)
    q = np.asarray(data.mean) + np.sqrt(3) * np.concatenate([np.linalg.cholesky(data.cov).T, -np.linalg.cholesky(data.cov).T])  # a rule exact to degree 3
    p = q @ np.asarray(encoder.A).T + np.asarray(encoder.b)
    start = centre + (np.concatenate([q, p], axis=1) - centre) @ back.T
    log_prior = -(6 * np.log(2 * np.pi) + np.sum(start**2, axis=1) + np.trace(back[:, 3:] @ F @ back[:, 3:].T)) / 2
    bound = np.mean(log_prior) + (3 * np.log(2 * np.pi * np.e) + np.linalg.slogdet(F)[1]) / 2
    entropy = (3 * np.log(2 * np.pi * np.e) + np.linalg.slogdet(data.cov)[1]) / 2
    assert found.total.value == pytest.approx(-entropy - bound, rel=1e-10)
    assert elbo_deficit(data, flow, flow.posterior()).gap.value == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="`data, encoder`"):
        elbo_deficit(standard_normal(2), flow, encoder)


@pytest.mark.parametrize(("sigma", "L"), [(0.2, 3), (0.35, 2), (0.31, 4), (0.5, 4), (2.0, 1)])
def test_the_trained_deficit_is_the_least_over_stiffnesses(sigma, L):
    c, h = 0.3, 0.3

    def divergence(k):
        A, B = power(step_of(k, 1.0, h), L)[0].astype(float)
        r = sigma**2 / (A**2 + B**2)
        return (r - 1 - np.log(r)) / 2

    ks = np.linspace(-60, 60, 1201)
    start = ks[np.argmin([divergence(k) for k in ks])]
    least = optimize.minimize_scalar(divergence, bounds=(start - 0.2, start + 0.2), method="bounded", options={"xatol": 1e-12}).fun
    assert trained_deficit(sigma, c, L).value == pytest.approx(least, abs=1e-9)
