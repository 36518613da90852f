"""Hamiltonian processes against matrix exponentials, differences and the refusals they owe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from ensembletheory.laws import GaussianMixture
from ensembletheory.processes import QuadraticHamiltonian, SeparableHamiltonian
from tests.helpers import spd

RNG = np.random.default_rng(0)
M, MEAN, C = spd(RNG, 3), np.array([1.0, -2.0, 0.5]), RNG.normal(size=(3, 3))
K = spd(RNG, 3) - 0.8 * np.eye(3)  # of both signs
Z = RNG.normal(size=6)
PLAIN = QuadraticHamiltonian(M, K, MEAN, horizon=2.0)
COUPLED = QuadraticHamiltonian(M, K, MEAN, coupling=C)


def generator(coupling):
    return np.block([[coupling, np.linalg.inv(M)], [-K, -coupling.T]])


def test_stiffness_of_both_signs():
    squares = np.linalg.eigvals(np.linalg.solve(M, K)).real
    assert squares.min() < -0.1 < 0.1 < squares.max()
    np.testing.assert_allclose(PLAIN.squared_frequencies(), np.sort(squares), rtol=1e-12)


@pytest.mark.parametrize(("hamiltonian", "coupling"), [(PLAIN, 0 * C), (COUPLED, C)])
@pytest.mark.parametrize("h", [0.3, -1.7, 30.0])
def test_the_flow_is_the_matrix_exponential(hamiltonian, coupling, h):
    exact = expm(h * generator(coupling))
    np.testing.assert_allclose(hamiltonian.flow(h), exact, atol=1e-12 * np.max(abs(exact)))


@pytest.mark.parametrize(("hamiltonian", "coupling"), [(PLAIN, 0 * C), (COUPLED, C)])
def test_energy_and_its_slopes(hamiltonian, coupling):
    x, p = Z[:3] - MEAN, Z[3:]
    energy, gradient = jax.jit(jax.value_and_grad(lambda z: hamiltonian.energy(z)))(Z)
    assert energy == pytest.approx(p @ np.linalg.solve(M, p) / 2 + x @ K @ x / 2 + p @ coupling @ x, rel=1e-13)
    moved = generator(coupling) @ np.r_[x, p]
    np.testing.assert_allclose(gradient, np.r_[-moved[3:], moved[:3]], rtol=1e-12)
    now = jnp.zeros(())
    fields = jax.jit(lambda z: (hamiltonian.gradient()(now, z), hamiltonian.velocity()(now, z), hamiltonian.drift(now, z)))(Z)
    np.testing.assert_allclose(fields[0], gradient, rtol=1e-12)
    for field in fields[1:]:
        np.testing.assert_allclose(field, -moved, rtol=1e-12)  # data at time 0: H runs backward


def test_kernels_follow_h_backward_and_carry_laws():
    E = expm(-1.3 * generator(0 * C))
    kernel = PLAIN.kernel(0.2, 1.5)
    np.testing.assert_allclose(kernel.A, E, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(kernel.b, np.r_[MEAN, np.zeros(3)] - E @ np.r_[MEAN, np.zeros(3)], atol=1e-12)
    assert not np.any(kernel.C.as_matrix())
    means, covs = RNG.normal(size=(2, 6)), np.stack([spd(RNG, 6) for _ in range(2)])
    moved = PLAIN.marginal(GaussianMixture([0.3, 0.7], means, covs), 1.3)
    centre = np.r_[MEAN, np.zeros(3)]
    for k in range(2):
        np.testing.assert_allclose(moved.means[k], centre + E @ (means[k] - centre), rtol=1e-10)
        np.testing.assert_allclose(moved.covs[k], E @ covs[k] @ E.T, rtol=1e-9, atol=1e-10)


def test_derivatives_where_frequencies_meet():
    """One oscillator in the plane, its mass and stiffness multiples of the identity: eigenvectors have no derivative there, the flow has."""
    weights, direction = RNG.normal(size=(4, 4)), np.array([[1.0, 2.0], [2.0, -3.0]])

    def value(e):
        return jnp.sum(weights * QuadraticHamiltonian(1.5, 2.0 * jnp.eye(2) + e * direction).flow(0.9))

    def by_hand(e):
        return np.sum(weights * expm(0.9 * np.block([[np.zeros((2, 2)), np.eye(2) / 1.5], [-2 * np.eye(2) - e * direction, np.zeros((2, 2))]])))

    slope, bend = jax.jit(lambda e: (jax.grad(value)(e), jax.grad(jax.grad(value))(e)))(0.0)
    assert slope == pytest.approx((by_hand(1e-5) - by_hand(-1e-5)) / 2e-5, rel=1e-8)
    assert bend == pytest.approx((by_hand(1e-3) - 2 * by_hand(0) + by_hand(-1e-3)) / 1e-6, rel=1e-4)


def looked_at(hamiltonian):
    """Energy and gradient at Z."""
    return jax.jit(lambda z: (hamiltonian.energy(z), hamiltonian.gradient()(jnp.zeros(()), z)))(Z)


def test_separable_hamiltonians():
    fixed = SeparableHamiltonian.fixed_kinetic(lambda q: jnp.sum(q**4), np.diag(M), horizon=0.5)
    free = SeparableHamiltonian(lambda q: jnp.sum(q**4), lambda p: jnp.sum(jnp.cosh(p)), horizon=0.5)
    p = Z[3:]
    for hamiltonian, energy, slope in ((fixed, np.sum(p**2 / np.diag(M)) / 2, p / np.diag(M)), (free, np.sum(np.cosh(p)), np.sinh(p))):
        assert hamiltonian.separable
        found = looked_at(hamiltonian)
        assert found[0] == pytest.approx(np.sum(Z[:3] ** 4) + energy, rel=1e-13)
        np.testing.assert_allclose(found[1], np.r_[4 * Z[:3] ** 3, slope], rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(mass=[[1.0, 2.0], [2.0, 1.0]], stiffness=1.0), "`mass`: got a matrix with eigenvalue -1; expected a symmetric positive definite mass"),
        (dict(mass=[[1.0, 0.5], [0.0, 1.0]], stiffness=1.0), "`mass`: got a matrix that differs from its transpose by 0.5; expected a symmetric matrix. .* not symplectic"),
        (dict(mass=[1.0, 0.0], stiffness=1.0), "`mass`: got a matrix with eigenvalue 0"),
        (dict(mass=-2.0, stiffness=1.0), "`mass`: got a matrix with eigenvalue -2"),
        (dict(mass=1.0, stiffness=[[1.0, 0.5], [0.0, 1.0]]), "`stiffness`: got a matrix that differs from its transpose"),
        (dict(mass=[1.0, 1.0], stiffness=[1.0, 1.0, 1.0]), "`mass, stiffness`: got dimensions"),
        (dict(mass=[1.0, 1.0], stiffness=1.0, coupling=[[1.0]]), "`coupling`: got shape"),
        (dict(mass=1.0, stiffness=1.0, horizon=0.0), "`horizon`"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        QuadraticHamiltonian(**arguments)


def test_refusals_elsewhere():
    with pytest.raises(ValueError, match="`mass`: got a matrix with eigenvalue -1"):
        SeparableHamiltonian.fixed_kinetic(lambda q: jnp.sum(q), [1.0, -1.0])
    with pytest.raises(ValueError, match="dimension 6, that of phase space"):
        PLAIN.marginal(GaussianMixture([1.0], [[0.0]], [[[1.0]]]), 0.5)
    with pytest.raises(ValueError, match="`z`: got 3 coordinates"):
        PLAIN.energy(jnp.asarray(np.zeros(3)))
