"""Margins of many instances at once: compiled and batched where the margin can be traced, one by one where it cannot."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ensembletheory.claims.claim import Claim, uncertainty
from ensembletheory.claims.domain import LEAST

__all__ = ["BLOCK", "Evaluator", "stacked"]

BLOCK = 32  # instances per compiled call: a margin by 2-D quadrature holds about 1 GB of nodes at once

Stack = Mapping[str, np.ndarray]  # instances with a common leading axis


class Evaluator:
    """Evaluates a claim's margin on stacks of instances, and counts the evaluations.

    Raises:
        ClaimError: if the margin fails at a first instance, before anything is compiled.
    """

    def __init__(self, claim: Claim):
        self.claim = claim
        self.evaluations = 0
        self._spread = jax.jit(jax.vmap(claim.domain.spread))
        self._points = jax.jit(jax.vmap(claim.domain.instance))
        self._margins = jax.jit(jax.vmap(claim.traced))
        self.compiled = self._can_be_traced()

    def _can_be_traced(self) -> bool:
        shapes = jax.eval_shape(self._points, jax.ShapeDtypeStruct((BLOCK, self.claim.domain.size), jnp.result_type(float)))
        try:
            jax.eval_shape(self._margins, shapes)
        except Exception:  # either it is wrong, and fails on numbers too, or it uses NumPy, SciPy or Python branches
            self._one_by_one(self.instances(self.draws(1, 0)))
            return False
        return True

    def draws(self, n: int, seed: int) -> np.ndarray:
        """Coordinates (n, size) of random instances."""
        uniform = np.random.default_rng(seed).uniform(LEAST, 1, (n, self.claim.domain.size + 1))  # compiling threefry takes longer than all the rest
        return _in_blocks(self._spread, uniform)

    def instances(self, u: np.ndarray) -> dict[str, np.ndarray]:
        """The instances with coordinates `u` (n, size)."""
        return _in_blocks(self._points, u)

    def __call__(self, instances: Stack) -> tuple[np.ndarray, np.ndarray]:
        """Values and uncertainties (n,) of the margins of n instances.

        Raises:
            ClaimError: where a margin is NaN, or fails.
        """
        values, errors = _in_blocks(self._margins, dict(instances)) if self.compiled else self._one_by_one(instances)
        self.evaluations += len(values)
        for i in np.flatnonzero(np.isnan(values + errors))[:1]:
            raise self.claim.mistake("returned NaN", {name: value[i, ...] for name, value in instances.items()})
        return values, errors

    def _one_by_one(self, instances: Stack) -> tuple[np.ndarray, np.ndarray]:
        n = len(next(iter(instances.values())))
        estimates = [self.claim.evaluate({name: jnp.asarray(value[i, ...]) for name, value in instances.items()}) for i in range(n)]
        return np.array([float(e.value) for e in estimates]), np.array([float(uncertainty(e)) for e in estimates])


def stacked(instances: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """A list of instances as one stack."""
    return {name: np.stack([np.asarray(instance[name]) for instance in instances]) for name in instances[0]}


def _in_blocks(function: Callable[[Any], Any], stack: Any) -> Any:
    """`function` of a pytree of arrays with a common leading axis, called on blocks of one size, so that it is compiled once; the last one is padded."""
    n = len(jax.tree.leaves(stack)[0])
    blocks = [jax.tree.map(lambda leaf: np.resize(leaf[i : i + BLOCK], (BLOCK, *leaf.shape[1:])), stack) for i in range(0, n, BLOCK)]  # noqa: B023
    results = [jax.tree.map(np.asarray, function(block)) for block in blocks]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *results)
