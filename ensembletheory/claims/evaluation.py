"""Margins of many instances at once: compiled and batched where the margin can be traced, one by one where it cannot.

A batch holds as many instances as keep its largest array below `LARGEST_ARRAY` bytes: a thousand of a closed form, a few of a quadrature in two dimensions.
Random numbers are SplitMix64 (Steele, Lea & Flood 2014) of a counter, so that any draw is a function of the seed and its number, inside compiled programs as well.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import jaxprs_in_params
from jaxtyping import Array, Float, UInt

from ensembletheory.claims.claim import Claim, uncertainty
from ensembletheory.claims.domain import LEAST

__all__ = ["Evaluator", "stacked"]

LARGEST_ARRAY = 2**23
FEWEST, MOST = 32, 1024  # instances in one compiled call

Stack = Mapping[str, np.ndarray]  # instances with a common leading axis


class Evaluator:
    """Evaluates a claim's margin on stacks of instances, and counts the evaluations.

    Attributes:
        compiled: whether the margin can be traced.
        block: instances in one compiled call.

    Raises:
        ClaimError: if the margin fails at a first instance, before anything is compiled.
    """

    def __init__(self, claim: Claim):
        self.claim = claim
        self.evaluations = 0
        self.block = FEWEST
        self._drawn = jax.jit(lambda numbers, seed: jax.vmap(lambda number: self.draw(seed, number))(numbers))
        self._points = jax.jit(jax.vmap(claim.domain.instance))
        self._margins = jax.jit(jax.vmap(claim.traced))
        self.compiled = self._can_be_traced()

    def _can_be_traced(self) -> bool:
        shape = jax.ShapeDtypeStruct((self.claim.domain.size,), jnp.result_type(float))
        try:
            program = jax.make_jaxpr(lambda u: self.claim.traced(self.claim.domain.instance(u)))(shape)
        except Exception:  # either it is wrong, and fails on numbers too, or it uses NumPy, SciPy or Python branches
            self._one_by_one(self.instances(self.draws(1, 0)))
            return False
        self.block = max(FEWEST, min(MOST, LARGEST_ARRAY // max(_sizes(program.jaxpr))))
        return True

    def draw(self, seed: UInt[Array, ""], number: UInt[Array, ""]) -> Float[Array, " size"]:
        """Coordinates of the random instance with this number."""
        size = self.claim.domain.size + 1
        return self.claim.domain.spread(_uniform(seed, number * size + jnp.arange(size, dtype=jnp.uint64)))

    def draws(self, n: int, seed: int) -> np.ndarray:
        """Coordinates (n, size) of the first n random instances."""
        return _in_blocks(lambda numbers: self._drawn(numbers, np.uint64(seed)), np.arange(n, dtype=np.uint64), self.block)

    def instances(self, u: np.ndarray) -> dict[str, np.ndarray]:
        """The instances with coordinates `u` (n, size)."""
        return _in_blocks(self._points, u, self.block)

    def __call__(self, instances: Stack) -> tuple[np.ndarray, np.ndarray]:
        """Values and uncertainties (n,) of the margins of n instances.

        Raises:
            ClaimError: where a margin is NaN, or fails.
        """
        values, errors = _in_blocks(self._margins, dict(instances), self.block) if self.compiled else self._one_by_one(instances)
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


def _uniform(seed: UInt[Array, ""], counters: UInt[Array, " n"]) -> Float[Array, " n"]:
    """Numbers in [LEAST, 1)."""
    bits = _mixed(_mixed(seed) + (counters + 1) * np.uint64(0x9E3779B97F4A7C15))
    return jnp.maximum((bits >> np.uint64(11)).astype(float) * 2.0**-53, LEAST)


def _mixed(x: UInt[Array, "..."]) -> UInt[Array, "..."]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _sizes(jaxpr: Any) -> Iterator[int]:
    """Bytes of the arrays that a program makes."""
    yield 1
    for equation in jaxpr.eqns:
        yield from (value.aval.size * value.aval.dtype.itemsize for value in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from _sizes(inner)


def _in_blocks(function: Callable[[Any], Any], stack: Any, block: int) -> Any:
    """`function` of a pytree of arrays with a common leading axis, called on blocks of one size, so that it is compiled once; the last one is padded."""
    n = len(jax.tree.leaves(stack)[0])
    blocks = [jax.tree.map(lambda leaf: np.resize(leaf[i : i + block], (block, *leaf.shape[1:])), stack) for i in range(0, n, block)]  # noqa: B023
    results = [jax.tree.map(np.asarray, function(block)) for block in blocks]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *results)
