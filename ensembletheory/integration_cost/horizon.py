r"""What a finite horizon costs: the divergence at the horizon of the noised data from the prior, from which generation begins.

For a flow, which takes both laws to the data without loss, this is also the divergence of the data from what the flow generates. For the variance-preserving diffusion with
B = int beta and data N(0, s^2) it is

    KL = 1/2 (v - 1 - log v),     v = 1 + (s^2 - 1) e^{-B},     so that B ~ 1/2 log((s^2 - 1)^2 / (4 KL)) is needed,

and it never vanishes unless s = 1. Interpolants with a_1 = 0 and Hamiltonian flows that fit reach the prior exactly, at any horizon, since time can be scaled in them. The
divergence from a stationary prior never grows in time (data processing), so that the horizon needed is found by bisection.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.bisection import bisected
from ensembletheory.divergences import kl
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.integration_cost.methods import Model
from ensembletheory.laws import Gaussian

__all__ = ["horizon_needed", "initialisation_error"]

_HALVINGS = 60


def initialisation_error(model: Model, data: Gaussian) -> Estimate:
    """KL(law at the horizon || prior), momenta included."""
    return kl(model.marginal(data, model.clock(data).horizon), model.prior(data))


def horizon_needed(model: Model, data: Gaussian, tolerances: Numbers) -> Float[Array, " n"]:
    """The times from which on KL(law at that time || prior) is at most each tolerance, for a process whose prior is stationary; infinite beyond its horizon.

    Raises:
        ValueError: if a tolerance is not positive.
    """
    wanted = jnp.atleast_1d(as_floats("tolerances", tolerances))
    if is_concrete(wanted) and not np.all(np.asarray(wanted) > 0):
        refuse("tolerances", f"{np.asarray(wanted).tolist()}", "positive divergences", "No finite time of a diffusion reaches 0.")
    return _horizons(model, data, wanted)


@eqx.filter_jit
def _horizons(model: Model, data: Gaussian, tolerances: Float[Array, " n"]) -> Float[Array, " n"]:
    horizon, prior = model.clock(data).horizon, model.prior(data)

    def above(times: Float[Array, " n"]) -> Array:
        return jax.vmap(lambda t: kl(model.marginal(data, t), prior).value)(times) > tolerances

    end = jnp.full_like(tolerances, horizon)
    return jnp.asarray(jnp.where(above(end), jnp.inf, bisected(above, jnp.zeros_like(tolerances), end, _HALVINGS)[1]))
