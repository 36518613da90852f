r"""Lipschitz time, int |Dv_t| dt over the horizon, with |.| the operator norm: how much a flow may part two points, and what bounds on the error of solvers grow with.

It does not change when time is scaled, but it depends on the metric of the space, and in phase space on how momenta are measured. For data N(0, s^2) and the prior N(0, 1):

| flow | int abs(Dv) dt |
|---|---|
| transport; oscillation; variance preserving to an endless horizon: any flow with a monotone deviation | abs(log s) |
| linear, independent | 1/2 log((1 + s^2)^2 / s^2) |
| Hamiltonian, quarter turn, momenta in the units that make it a rotation | pi / 2 |
| Hamiltonian, quarter turn, momenta in the units of the prior | pi/2 max(s, 1/s) |

so that the quarter turn is shorter than transport iff |log s| > pi / 2, in the first units. **In the units of the prior no linear flow is shorter than |log s|**, with
momenta or without, Hamiltonian or not: as the prior is N(0, I), s is the norm of the first row of the flow's matrix N, which lies between 1 / |N^{-1}| and |N|, and both
norms are at most e^{int |Dv|}. In other units of momentum the time may be as short as one likes: without potential, for s > 1, it is (s^2 - 1)^{1/2} times that unit.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.integration_cost.methods import Model
from ensembletheory.integration_cost.motion import Sized, over_time
from ensembletheory.laws import Gaussian

__all__ = ["lipschitz_time"]


def lipschitz_time(model: Model, data: Gaussian, units: Numbers | None = None) -> Estimate:
    """The integral of |A Dv_t A^{-1}| between the data and the horizon.

    Args:
        model: what moves the data, along its probability flow.
        data: their law.
        units: A, in whose coordinates A z distances are measured; those of the prior if left out.

    Raises:
        ValueError: if the matrix is not of the dimension of the model's space.
    """
    dim = model.prior(data).dim
    A = jnp.eye(dim) if units is None else as_floats("units", units)
    if A.shape != (dim, dim):
        refuse("units", f"shape {A.shape}", f"({dim}, {dim})", "Of phase space, positions come first.")
    return over_time(jax.tree_util.Partial(_norm, A), model, data)


def _norm(A: Float[Array, "n n"], V: Float[Array, "n n"], c: Float[Array, " n"], law: Gaussian) -> Sized:
    M = A @ jnp.linalg.solve(A.T, V.T).T
    U, _, Q = jnp.linalg.svd(jax.lax.stop_gradient(M))  # singular vectors are constant to first order in a singular value
    norm = U[:, 0] @ M @ Q[0]
    return norm, norm + 1
