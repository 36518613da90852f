r"""The leading error of a solver of a flow on the line: where N steps of order p have KL(data || draws) = C N^{-2p} + O(N^{-2p-1}), the constant C.

The velocity is l(t) x about the mean. With times t = T r^k, r falling from 1 to 0 in equal steps, and g = dt/dr = k T r^{k-1}, a step of length h from t multiplies
deviations by 1 - h l for Euler and by 1 - h (l + l^+ (1 - h l)) / 2 for Heun, l^+ at the end of the step. Against exp(-int l), the logarithm of the deviation is off by

    Euler:   N^{-1} e,     e = - 1/2 int_0^T (l' + l^2) g dt,
    Heun:    N^{-2} e,     e = int_0^T (l^3 / 6 - l'' / 12) g^2 dt,

and as KL = 1/4 (relative error of the variance)^2 to leading order, C = e^2. On the line, for data of deviation s,

    linear, Euler:       e = -1/2 (1 + pi (1 + s^2) / (4 s)),
    oscillation, Euler:  e = -pi^2 (1 - s)^2 / (16 s),
    leapfrog on a quarter turn: e = pi^2 / 32, whatever s.

These reach their prior. Where the horizon leaves an error, as on a diffusion, e / N^p is what the steps add to it. **Where the terms of e nearly cancel**, later terms
count as much for moderate N, and the error may pass through zero: a lucky number of steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.errors import refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.integration_cost.methods import Method, Path, QuarterTurn
from ensembletheory.integration_cost.motion import Sized
from ensembletheory.laws import Gaussian
from ensembletheory.quadrature import integrate
from ensembletheory.samplers import Euler, Heun, Leapfrog

__all__ = ["leading_error"]

_NODES = np.linspace(0.0, 1.0, 33)


def leading_error(method: Method, data: Gaussian) -> Estimate:
    """The number e: after N steps of order p the logarithm of the deviation is off by e N^{-p}, and KL is e^2 N^{-2p}, to leading order.

    Raises:
        ValueError: unless the method is Euler or Heun on a Gaussian path, or leapfrog on a quarter turn, and the data are on the line.
    """
    model, scheme = method.model, method.scheme
    if data.dim != 1:
        refuse("data", f"dimension {data.dim}", "dimension 1", "Modes add their divergences: take them one by one.")
    if isinstance(model, QuarterTurn) and isinstance(scheme, Leapfrog) and method.spacing == 1:
        return closed_form(np.pi**2 / 32)
    if not isinstance(model, Path) or not isinstance(scheme, Euler | Heun):
        refuse(
            "method",
            f"{type(scheme).__name__} on {type(model).__name__}",
            "Euler or Heun on a Path, or Leapfrog of equal steps on QuarterTurn",
            "Fit the slope of its divergences.",
        )
    rate = Partial(_rate, isinstance(scheme, Heun), method.spacing, model.process.horizon, model.field(data, "velocity"))
    return integrate(rate, (jnp.asarray(_NODES),))


def _rate(heun: bool, spacing: int, horizon: Float[Array, ""], velocity, share: Float[Array, " 1"]) -> Sized:
    """What is integrated, as a function of r."""

    def slope(t: Float[Array, ""]) -> Float[Array, ""]:
        return (velocity(t, jnp.ones(1)) - velocity(t, jnp.zeros(1)))[0]

    r = share[0]
    t, g = horizon * r**spacing, spacing * horizon * r ** (spacing - 1)
    first = jax.grad(slope)
    if heun:
        terms = jnp.stack([slope(t) ** 3 / 6, -jax.grad(first)(t) / 12]) * g**3
    else:
        terms = jnp.stack([first(t), slope(t) ** 2]) * (-(g**2) / 2)
    return jnp.sum(terms), jnp.sum(jnp.abs(terms))
