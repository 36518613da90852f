r"""Flow matching for telegraph noise: the velocity E[v | X_t] of the flow, learned by regression on that given the data, E[v | X_0, X_t] = w(t, tau_t).

With u uniform on [0, 1] and t = horizon u^2, a field has, in units of the speed c,

    loss   KM(field) = E |field(t, X_t) - w(t, tau_t)|^2 / c^2,    w(t, y) = y / (t + (r/c) I_0(br) / I_1(br)) within the light cone, +-c on it   (`laws.KacLaw`),
    error  E |field(t, X_t) - E[v | X_t]|^2 / c^2 = KM(field) - KM(E[v | X_t]),    since E[w | X_t] = E[v | X_t].

The regression on w and that on v itself have the same minimiser; w varies less. Source: Duong et al. (2025).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import checked_count
from ensembletheory.estimate import Estimate, monte_carlo
from ensembletheory.fields import Field
from ensembletheory.laws import KacLaw, Law
from ensembletheory.neural.data import require_spread, stratified
from ensembletheory.neural.jumps.kac_velocity import KacVelocityNetwork
from ensembletheory.neural.learner import Learner
from ensembletheory.neural.training import Loss
from ensembletheory.processes import Telegraph

__all__ = ["KacLearner", "KacMatching", "kac_error", "kac_loss"]

_BATCHES = 4096  # draws evaluated at once


class KacMatching(eqx.Module):
    """What a field is asked to match; called with (field, key), the loss of `batch` draws, with stratified times.

    Args:
        process: the telegraph process.
        law: the law of X_0.
        batch: draws a call.

    Raises:
        ValueError: if there are none.
    """

    process: Telegraph
    law: Law
    batch: int = eqx.field(static=True, default=256)

    def __check_init__(self):
        checked_count("batch", self.batch, 1)

    def __call__(self, field: Field, key: PRNGKeyArray) -> Float[Array, ""]:
        """The mean of |field(t, X_t) - w(t, tau_t)|^2 / c^2 over a batch whose u fill [0, 1] evenly; unbiased."""
        key_time, key_rest = jax.random.split(key)
        return jnp.mean(jax.vmap(lambda t, x, w: _squared(field(t, x), w, self.process))(*self._noised(key_rest, stratified(key_time, self.batch))))

    def _drawn(self, key: PRNGKeyArray, samples: int) -> tuple[Float[Array, " n"], Float[Array, "n d"], Float[Array, "n d"]]:
        """Independent draws of t, X_t and w(t, tau_t)."""
        key_time, key_rest = jax.random.split(key)
        return self._noised(key_rest, jax.random.uniform(key_time, (samples,)))

    def _noised(self, key: PRNGKeyArray, u: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, "n d"], Float[Array, "n d"]]:
        key_data, key_noise = jax.random.split(key)
        t, x = self.process.horizon * u**2, self.law.sample(key_data, u.size)
        moved, signs = self.process.displacements(key_noise, t, self.law.dim)
        return t, x + moved, jax.vmap(self._given)(t, moved, signs)

    def _given(self, t: Float[Array, ""], moved: Float[Array, " d"], signs: Float[Array, " d"]) -> Float[Array, " d"]:
        """The mean velocity of one that came so far; on the light cone it has never turned."""
        noise = KacLaw(self.process.speed, self.process.rate, t)
        return jnp.where(jnp.abs(moved) >= noise.reach, noise.speed * signs, noise.velocity(moved))


class KacLearner(Learner):
    """Velocity networks of one telegraph process, which learn by regression on the velocity given the data.

    Args:
        process: the telegraph process.
        width: units in a hidden layer.
        depth: number of hidden layers.
        batch: draws a step.

    Raises:
        ValueError: if a number is out of its range.
    """

    process: Telegraph
    width: int = eqx.field(static=True, default=64)
    depth: int = eqx.field(static=True, default=3)
    batch: int = eqx.field(static=True, default=256)

    def __check_init__(self):
        for name, least in {"width": 1, "depth": 0, "batch": 1}.items():
            checked_count(name, getattr(self, name), least)

    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A `KacVelocityNetwork`, its mean and scale those of the law."""
        return KacVelocityNetwork(key, self.process, law, self.width, self.depth)

    def loss(self, law: Law) -> Loss:
        """The regression.

        Raises:
            ValueError: if the law has no spread.
        """
        require_spread(law)
        return KacMatching(self.process, law, self.batch)


def kac_loss(key: PRNGKeyArray, field: Field, objective: KacMatching, samples: int) -> Estimate:
    """KM(field) by Monte Carlo; the same key gives the same draws here and in `kac_error`.

    Raises:
        ValueError: if there are fewer than two samples.
    """
    return monte_carlo(_values(key, field, None, objective, checked_count("samples", samples, 2)))


def kac_error(key: PRNGKeyArray, field: Field, objective: KacMatching, samples: int) -> Estimate:
    """The squared distance of a field from the exact velocity, in units of the speed, by Monte Carlo.

    Raises:
        TypeError, ValueError: if the law has no exact velocity (see `Telegraph.velocity`), or there are fewer than two samples.
    """
    return monte_carlo(_values(key, field, objective.process.velocity(objective.law), objective, checked_count("samples", samples, 2)))


@eqx.filter_jit
def _values(key: PRNGKeyArray, field: Field, exact: Field | None, objective: KacMatching, samples: int) -> Float[Array, " n"]:
    def value(t, x, w):
        return _squared(field(t, x), w if exact is None else exact(t, x), objective.process)

    return jax.lax.map(lambda draw: value(*draw), objective._drawn(key, samples), batch_size=_BATCHES)


def _squared(field: Float[Array, " d"], target: Float[Array, " d"], process: Telegraph) -> Float[Array, ""]:
    return jnp.sum((field - target) ** 2) / process.speed**2
