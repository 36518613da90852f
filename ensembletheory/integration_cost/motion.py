"""Integrals over time along the exact flow of a model of Gaussian data, whose velocity is affine."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.estimate import Estimate
from ensembletheory.fields import Field
from ensembletheory.integration_cost.methods import Model
from ensembletheory.laws import Gaussian
from ensembletheory.quadrature import integrate

__all__ = ["Rate", "Sized", "over_time"]

Sized = tuple[Float[Array, ""], Float[Array, ""]]  # a value, and the size of the terms from which it is formed
Rate = Callable[[Float[Array, "n n"], Float[Array, " n"], Gaussian], Sized]  # of V and c, where the velocity is V z + c, and of the law at that time

_SHARES = np.union1d(0.5 ** np.arange(10, 5, -1), np.linspace(0.0, 1.0, 33))  # of time, closer towards the data; narrow, for rates with kinks


def over_time(rate: Rate, model: Model, data: Gaussian) -> Estimate:
    """The integral of a rate from the data to the horizon."""
    velocity, times = _prepared(model, data)
    return integrate(Partial(_at, rate, velocity, model, data), (times,))


@eqx.filter_jit
def _prepared(model: Model, data: Gaussian) -> tuple[Field, Float[Array, " n"]]:
    return model.field(data, "velocity"), model.clock(data).horizon * jnp.asarray(_SHARES)


def _at(rate: Rate, velocity: Field, model: Model, data: Gaussian, time: Float[Array, " 1"]) -> Sized:
    law = model.marginal(data, time[0])
    zero = jnp.zeros(law.dim)
    return rate(jax.jacfwd(lambda z: velocity(time[0], z))(zero), velocity(time[0], zero), law)
