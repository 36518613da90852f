"""Momenta in other units: the same law of positions and the same bounds for any weights, but not if the prior stays."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ensembletheory as et
from ensembletheory.neural import FixedKineticLearner, NeuralHamiltonianFlow, NhfLearner, rescaled_momenta
from ensembletheory.processes import SeparableHamiltonian
from ensembletheory.processes.hamiltonian import QuadraticEnergy

MEAN, COV = np.array([0.1, -0.3, 0.2, 0.4]), np.diag([1.0, 1.5, 0.8, 1.2]) + 0.2
X, NOISE = np.random.default_rng(0).normal(size=(2, 5, 2))
LEARNERS = (NhfLearner(width=5, depth=1), FixedKineticLearner(width=5, depth=1))


def with_weights(seed, size):
    """Flows of both families, all of whose weights are numbers of this size."""
    rng = np.random.default_rng(seed)
    shapes = [eqx.filter_eval_shape(learner.initialise, jax.random.key(0), et.Gaussian([0.3, -0.2], [[1.0, 0.8], [0.8, 1.0]])) for learner in LEARNERS]
    parts = [([(h.potential, h.kinetic) for h in shape.hamiltonians], shape.encoder) for shape in shapes]
    return jax.tree.map(lambda leaf: jnp.asarray(size * rng.normal(size=leaf.shape)), parts)


@eqx.filter_jit
def both(parts, s):
    """For each family: log-weights of the flow, of the flow in other units, and of that with the prior left as it was; and the prior in other units."""
    found = []
    for energies, encoder in parts:
        hamiltonians = [SeparableHamiltonian(V, K, 0.7) for V, K in energies]
        flow = NeuralHamiltonianFlow(hamiltonians, encoder, et.Gaussian(MEAN, COV), 3, jnp.asarray([0.2, -0.1]), jnp.asarray(1.3))
        other = rescaled_momenta(flow, s)
        kept = NeuralHamiltonianFlow(other.hamiltonians, other.encoder, flow.prior, 3, flow.centre, flow.scale)
        weights = eqx.filter_vmap(lambda each: jax.vmap(each.log_weight)(X, NOISE))(jax.tree.map(lambda *leaves: jnp.stack(leaves), flow, other, kept))
        found.append((weights, other.prior.mean, other.prior.cov))
    return found


@settings(max_examples=8)
@given(seed=st.integers(0, 2**31), size=st.floats(0.2, 1.0), s=st.floats(0.3, 3.0))
def test_weights_and_so_laws_and_bounds_are_the_same_for_any_networks(seed, size, s):
    """Each weight is p(x, p) / f(p | x) at a momentum that is the same in both units."""
    for weights, mean, cov in both(with_weights(seed, size), jnp.asarray(s)):
        np.testing.assert_allclose(weights[1], weights[0], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(mean, MEAN / [1, 1, s, s], rtol=1e-14)
        np.testing.assert_allclose(cov, COV / np.outer([1, 1, s, s], [1, 1, s, s]), rtol=1e-14)


def test_a_prior_that_stays_fixes_the_gauge():
    for weights, _, _ in both(with_weights(0, 0.7), jnp.asarray(2.0)):
        assert np.max(np.abs(weights[2] - weights[0])) > 0.05


def test_mistakes_are_refused():
    (energies, encoder), _ = with_weights(0, 0.7)
    flow = NeuralHamiltonianFlow([SeparableHamiltonian(V, K) for V, K in energies], encoder, et.Gaussian(MEAN, COV), 1, jnp.asarray(np.zeros(2)), jnp.asarray(np.ones(())))
    bowl = QuadraticEnergy(jnp.asarray(np.eye(2)), jnp.asarray(np.zeros(2)))
    pair = et.laws.FiniteLaw(np.eye(4)[:2])
    for changed, factor, message in (
        (flow, 0.0, "`factor`"),
        (eqx.tree_at(lambda f: f.prior, flow, pair), 2.0, "`flow`: got a prior that is a FiniteLaw"),
        (eqx.tree_at(lambda f: f.hamiltonians[0].kinetic, flow, bowl), 2.0, "`flow`: got an energy that is a QuadraticEnergy"),
    ):
        with pytest.raises(ValueError, match=message):
            rescaled_momenta(changed, factor)
