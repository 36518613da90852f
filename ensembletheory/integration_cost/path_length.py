r"""The mean length of the paths of a flow on the line, int E|q'| dt over its horizon: what does not change when time, or H, is scaled.

For data N(0, s^2) and the prior N(0, 1), in units of E|Z| = (2 / pi)^{1/2}:

| flow | length |
|---|---|
| transport; variance preserving to an endless horizon; oscillation | abs(s - 1), the least of all |
| linear, independent | 1 + s - 2 s / (1 + s^2)^{1/2} |
| Hamiltonian, quarter turn | int_0^{pi/2} (sin^2 + s^2 cos^2)^{1/2}, a quarter of the perimeter of the ellipse of half axes 1 and s |
| Hamiltonian without potential, s > 1 | (s^2 - 1)^{1/2} |
| a stochastic differential equation | infinite |

The deviation of X_t of a flow on the line moves by the flow alone, so that its length is the total variation of the deviation; momenta make Hamiltonian paths longer.
"""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf
from jaxtyping import Array, Float

from ensembletheory.errors import refuse
from ensembletheory.estimate import Estimate
from ensembletheory.integration_cost.methods import Model
from ensembletheory.integration_cost.motion import Sized, over_time
from ensembletheory.laws import Gaussian

__all__ = ["path_length"]


def path_length(model: Model, data: Gaussian) -> Estimate:
    """The integral of E|q'| between the data and the horizon, with the exact laws in between.

    Raises:
        ValueError: if the data are not on the line.
    """
    if data.dim != 1:
        refuse("data", f"dimension {data.dim}", "dimension 1, where the mean speed has a closed form", "Take the modes one by one.")
    return over_time(_mean_speed, model, data)


def _mean_speed(V: Float[Array, "n n"], c: Float[Array, " n"], law: Gaussian) -> Sized:
    """E|q'|, q' the first coordinate of V z + c."""
    mean, variance = V[0] @ law.mean + c[0], V[0] @ law.cov @ V[0]
    deviation = jnp.sqrt(jnp.where(variance > 0, variance, 1.0))
    folded = np.sqrt(2 / np.pi) * deviation * jnp.exp(-(mean**2) / (2 * deviation**2)) + mean * erf(mean / (np.sqrt(2) * deviation))
    speed = jnp.asarray(jnp.where(variance > 0, folded, jnp.abs(mean)))
    return speed, (jnp.linalg.norm(V[0]) + 1) * jnp.sqrt(jnp.trace(law.cov)) + jnp.abs(mean)
