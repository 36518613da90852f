"""Structures of flows: defects by hand where they are not there, none where they are, and requirements that name them."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.linalg import expm

from ensembletheory import structures
from ensembletheory.laws import Gaussian
from ensembletheory.processes import LinearSde, QuadraticHamiltonian
from ensembletheory.structures import unit_symplectic

RNG = np.random.default_rng(3)
H = 0.3
EULER = np.array([[1.0, H], [-H, 1.0]])  # of an oscillator
KICK, DRIFT = np.array([[1.0, 0.0], [-H, 1.0]]), np.array([[1.0, H], [0.0, 1.0]])
POINTS = RNG.normal(size=(4, 2))


def kicked(scale, z):
    """A kick of V(q) = scale cos q, then a drift: symplectic, not linear, not reversible."""
    p = z[1] + scale * jnp.sin(z[0])
    return jnp.stack([z[0] + p, p])


def stretched(scale, z):
    return jnp.stack([scale * z[0] + z[1] ** 2, z[1]])


def test_symplectic_and_volume():
    exact = expm(0.7 * unit_symplectic(2) @ np.diag([1.0, 2.0, 0.5, 3.0]))
    for structured in (exact, KICK @ DRIFT):
        assert structures.symplectic_defect(structured) < 1e-15
        assert structures.volume_defect(structured) < 1e-14
    assert structures.symplectic_defect(EULER) == pytest.approx(H**2 / (3 + 2 * H**2), rel=1e-12)  # D^T J D = (1 + h^2) J
    assert structures.volume_defect(EULER) == pytest.approx(np.log(1 + H**2), rel=1e-12)
    assert structures.volume_defect(np.diag([1.2, 1 / 1.2, 1.0, 1.0])) < 1e-15  # keeps volume, not areas
    assert structures.symplectic_defect(np.diag([1.2, 1 / 1.2, 1.0, 1.0])) > 0.01


def test_maps_that_are_not_linear():
    assert structures.symplectic_defect(Partial(kicked, jnp.asarray(2.0)), POINTS) < 1e-15
    assert structures.volume_defect(Partial(stretched, jnp.asarray(1.5)), POINTS) == pytest.approx(np.log(1.5), rel=1e-12)


def test_reversibility_under_the_flip_of_momenta():
    half = np.array([[1.0, 0.0], [-H / 2, 1.0]])
    assert structures.reversibility_defect(half @ DRIFT @ half) < 1e-15
    R = np.diag([1.0, -1.0])
    off = R @ DRIFT @ KICK @ R @ DRIFT @ KICK - np.eye(2)
    assert structures.reversibility_defect(DRIFT @ KICK) == pytest.approx(np.max(abs(off)) / 2, rel=1e-12)


SPREAD = np.array([[2.0, 0.5], [0.5, 1.0]])
TARGET = Gaussian(np.zeros(2), SPREAD)


def skew(amount):
    """dX = -(I + J) S^{-1} X dt + sqrt(2) dW, which keeps N(0, S) whatever J."""
    J = amount * unit_symplectic(1)
    return LinearSde(-(np.eye(2) + J) @ np.linalg.inv(SPREAD), np.sqrt(2) * np.eye(2))


def test_stationary_and_non_reversible():
    assert structures.stationarity_defect(skew(0.7), TARGET, POINTS) < 1e-14
    assert structures.current_size(skew(0.0), TARGET, POINTS) < 1e-14
    np.testing.assert_allclose(structures.current(skew(0.7), TARGET, 0.0, POINTS), -0.7 * POINTS @ np.linalg.inv(SPREAD) @ unit_symplectic(1).T, atol=1e-14)
    structures.require_nonreversible(skew(0.7), TARGET, POINTS)
    with pytest.raises(ValueError, match="`process`: got a current of .*; expected a process in which something flows"):
        structures.require_nonreversible(skew(0.0), TARGET, POINTS)
    with pytest.raises(ValueError, match="`law`: got one that is off div c"):
        structures.require_stationary(skew(0.7), Gaussian(np.zeros(2), 1.5 * SPREAD), POINTS)


def test_hamiltonian_flows_keep_their_energy_laws():
    oscillator = QuadraticHamiltonian(2.0, 3.0)
    gibbs = Gaussian(np.zeros(2), np.diag([1 / 3, 2.0]))
    structures.require_nonreversible(oscillator, gibbs, POINTS)


def test_requirements_name_the_defect():
    with pytest.raises(ValueError, match="`N`: got one that is off D.T J D = J by 0.0283; expected a symplectic map"):
        structures.require_symplectic(EULER, argument="N")
    with pytest.raises(ValueError, match="off log .det D. = 0 by 0.0862"):
        structures.require_volume_preserving(EULER)
    with pytest.raises(ValueError, match="off R Phi R Phi = identity"):
        structures.require_reversible(DRIFT @ KICK)
    structures.require_symplectic(KICK @ DRIFT)
    with pytest.raises(ValueError, match="`points`: got None"):
        structures.symplectic_defect(Partial(kicked, 1.0))
    with pytest.raises(ValueError, match=r"`map`: got shape \(2, 3\)"):
        structures.volume_defect(np.zeros((2, 3)))
