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
        self._law, self._probes = law, _probes([law(example) for example in examples])
        flat = [self.pack(example) for example in examples]
        self._compiled = _traceable(self._observables, flat[0])
        self._vector = jax.jit(self._observables) if self._compiled else self._observables
        self._derivative = jax.jit(jax.jacfwd(self._observables)) if self._compiled else None
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


def _probes(laws: Sequence[Any]) -> np.ndarray | None:
    """Points at which densities are compared, None where no density is needed."""
    if not isinstance(laws[0], Law) or isinstance(laws[0], Gaussian):
        return None
    each = -(-_PROBES // len(laws))
    return np.concatenate([np.asarray(law.sample(jax.random.key(k), each)) for k, law in enumerate(laws)])


def _traceable(function: Callable[[Any], Any], flat: np.ndarray) -> bool:
    """Whether JAX can trace the function; one that fails on numbers as well raises its own error."""
    try:
        jax.eval_shape(function, flat)
    except Exception:
        function(flat)
        return False
    return True
