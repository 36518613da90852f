r"""Data as laws: rows x_1 ... x_n are the law (1/n) sum_i delta(x_i), and what resampling does to them it does to the weights.

| members see | weights of the n rows |
|---|---|
| the same data | 1/n each |
| a bootstrap sample | counts of n draws with replacement, divided by n |
| a subset of m rows | 1/m for the m rows drawn without replacement, 0 for the others |

So members on different data are laws of one structure, and train as one stack. A law of which new draws can be made, such as a `Gaussian`, is data without end.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.laws import FiniteLaw, Law

__all__ = ["Data", "as_data", "bootstrap_sample", "require_spread", "scale_of", "stratified", "subset_sample"]

Data = Law | Numbers


def as_data(data: Data) -> Law:
    """A law as it is; rows (n, d) as the law that gives each the weight 1/n.

    Raises:
        ValueError: if a value is not finite, there are fewer than two rows, or a column is constant.
    """
    if isinstance(data, Law):
        return data
    rows = as_floats("data", data)
    if rows.ndim != 2 or len(rows) < 2 or 0 in rows.shape:
        refuse("data", f"shape {rows.shape}", "(n, d) with n >= 2 and d >= 1", "One row a point; of one point nothing is learned. In 1-D write x[:, None].")
    constant = np.flatnonzero(np.ptp(np.asarray(rows), axis=0) == 0)
    if constant.size:
        refuse("data", f"constant columns {constant.tolist()}", "columns that vary", "Leave them out: a law without spread along them has no density.")
    return FiniteLaw(rows)


def scale_of(law: Law) -> Float[Array, ""]:
    """The root c of the variance per coordinate, c^2 = tr Cov / d: the unit in which networks see data.

    Raises:
        ValueError: if the law is one of rows whose values can be looked at, and none varies.
    """
    require_spread(law)
    return jnp.sqrt(jnp.trace(law.cov) / law.dim)


def require_spread(law: Law, every: bool = False) -> None:
    """Refuse a law of rows, whose values can be looked at, that do not vary: along no coordinate, or not along `every` one.

    Raises:
        ValueError: naming the constant columns.
    """
    if not isinstance(law, FiniteLaw) or not is_concrete(law.points, law.weights):
        return
    constant = np.ptp(np.asarray(law.points)[np.asarray(law.weights) > 0], axis=0) == 0
    if np.any(constant) if every else np.all(constant):
        got = f"rows whose columns {np.flatnonzero(constant).tolist()} are constant"
        refuse("law", got, "rows that vary", "A model sees data in units of their spread. A sample of few rows may hold one only: take more, or leave constant columns out.")


@eqx.filter_jit
def bootstrap_sample(key: PRNGKeyArray, law: FiniteLaw) -> FiniteLaw:
    """The law of as many rows, drawn with replacement."""
    n = len(law.weights)
    chosen = jax.random.choice(key, n, (n,), p=law.weights)
    return FiniteLaw(law.points, jnp.bincount(chosen, length=n).astype(law.weights.dtype) / n)


def subset_sample(key: PRNGKeyArray, law: FiniteLaw, share: float) -> FiniteLaw:
    """The law of a share of the rows, drawn without replacement from rows of equal weight.

    Raises:
        ValueError: if the share is not in (0, 1] or leaves fewer than two rows, or weights are known to be unequal.
    """
    if is_concrete(law.weights) and np.ptp(law.weights) > 1e-6 / len(law.weights):
        refuse("law", "rows of unequal weights", "equal weights", "A bootstrap draws by weight; or give each row as often as it counts.")
    n = len(law.weights)
    size = round(share * n) if 0 < share <= 1 else 0
    if size < 2:
        refuse("share", f"{share} of {n} rows", "a share in (0, 1] that leaves two rows or more", "A half, 0.5, is usual.")
    return _subset(key, law, size)


@eqx.filter_jit
def _subset(key: PRNGKeyArray, law: FiniteLaw, size: int) -> FiniteLaw:
    n = len(law.weights)
    return FiniteLaw(law.points, jnp.zeros(n, law.weights.dtype).at[jax.random.permutation(key, n)[:size]].set(1 / size))


def stratified(key: PRNGKeyArray, n: int) -> Float[Array, " n"]:
    """`n` numbers of [0, 1), ascending, one uniform in each n-th of it: a mean over them is unbiased for the uniform law, and varies less than over independent draws."""
    return (jnp.arange(float(n)) + jax.random.uniform(key, (n,))) / n
