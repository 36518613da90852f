r"""What is seen of a law: a vector of numbers whose Euclidean distance measures how far two laws are apart.

| what `law(parameters)` returns | observed through                                                              |
|--------------------------------|-------------------------------------------------------------------------------|
| an array                       | its entries                                                                   |
| `Gaussian`, `Ppca`             | mean and covariance, which determine it                                       |
| any other `Law`                | its density at probes drawn from the laws at the given parameters             |

The density at more probes than twice the number of parameters separates laws of an analytic family, for almost all probes. A function that JAX can trace is compiled
and differentiated by JAX; any other is called as it stands, with finite differences.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import refuse
from ensembletheory.latent import Ppca
from ensembletheory.laws import Gaussian, Law

__all__ = ["Observer"]

_PROBES = 64
_RELATIVE_STEP = 6e-6  # of central differences: the cube root of the unit of rounding


class Observer:
    """Laws as vectors: `vector(a)` of flat parameters a, and `jacobian(a)`.

    Args:
        law: parameters -> law or array.
        examples: parameters, all of one structure, which fix how parameters are flattened and where densities are probed.

    Raises:
        ValueError: if the law at the examples is not finite, or the examples differ in structure.
        TypeError: if `law` returns something that cannot be observed.
    """

    def __init__(self, law: Callable[[Any], Any], examples: Sequence[Any]):
        leaves, self._structure = jax.tree.flatten(examples[0])
        self._shapes = [np.shape(leaf) for leaf in leaves]
        flat = [self.pack(example) for example in examples]
        traceable, kind = _traced(law, examples[0])
        self._law, self._probes = law, _probes(eqx.filter_jit(law) if traceable else law, examples) if _by_density(kind) else None
        self._vector = jax.jit(self._observables) if traceable else self._observables
        self._derivative = jax.jit(jax.jacfwd(self._observables)) if traceable else None
        seen = np.stack([self.vector(a) for a in flat])
        if not np.all(np.isfinite(seen)):
            refuse("law", "NaN or infinite observables at a drawn parameter", "finite ones", "Let `draw` give valid parameters, or mend `law`.")
        self.scale = float(max(np.max(np.linalg.norm(seen, axis=1)), 1e-300))

    def pack(self, parameters: Any) -> np.ndarray:
        """All entries in one vector.

        Raises:
            ValueError: if the parameters have another structure than the examples.
        """
        leaves, structure = jax.tree.flatten(parameters)
        if structure != self._structure or [np.shape(leaf) for leaf in leaves] != self._shapes:
            refuse("parameters", f"{structure} of shapes {[np.shape(leaf) for leaf in leaves]}", f"{self._structure} of shapes {self._shapes}", "Draw one kind of parameters.")
        return np.concatenate([np.asarray(leaf, dtype=float).ravel() for leaf in leaves])

    def unpack(self, flat: Any) -> Any:
        """The parameters with these entries."""
        sizes = [int(np.prod(shape)) for shape in self._shapes]
        ends = np.cumsum(sizes)
        return jax.tree.unflatten(self._structure, [flat[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, self._shapes, strict=True)])

    def vector(self, flat: np.ndarray) -> np.ndarray:
        """The observables."""
        return np.asarray(self._vector(flat), dtype=float)

    def jacobian(self, flat: np.ndarray) -> np.ndarray:
        """Their derivative by the parameters."""
        if self._derivative is not None:
            return np.asarray(self._derivative(flat), dtype=float)
        steps = _RELATIVE_STEP * np.maximum(abs(flat), 1.0)
        columns = [(self.vector(flat + step * e) - self.vector(flat - step * e)) / (2 * step) for step, e in zip(steps, np.eye(flat.size), strict=True)]
        return np.stack(columns, axis=1)

    def distance(self, a: np.ndarray, b: np.ndarray) -> float:
        """How far the laws are apart."""
        return float(np.linalg.norm(self.vector(a) - self.vector(b)))

    def _observables(self, flat: Any) -> Float[Array, " n"]:
        seen = self._law(self.unpack(flat))
        seen = seen.law if isinstance(seen, Ppca) else seen
        if isinstance(seen, Gaussian):
            return jnp.concatenate([seen.mean, seen.cov.ravel()])
        if isinstance(seen, Law):
            return jnp.exp(jax.vmap(seen._log_prob)(jnp.asarray(self._probes)))
        return jnp.ravel(jnp.asarray(seen))


def _by_density(kind: Any) -> bool:
    return isinstance(kind, Law) and not isinstance(kind, Gaussian)


def _probes(law: Callable[[Any], Any], examples: Sequence[Any]) -> np.ndarray:
    """Points at which densities are compared."""
    each = -(-_PROBES // len(examples))
    return np.concatenate([np.asarray(law(example).sample(jax.random.key(k), each)) for k, example in enumerate(examples)])


def _traced(law: Callable[[Any], Any], example: Any) -> tuple[bool, Any]:
    """Whether JAX can trace the law, and what it returns; one that fails on numbers as well raises its own error."""
    try:
        return True, jax.eval_shape(law, example)
    except Exception:
        return False, law(example)
