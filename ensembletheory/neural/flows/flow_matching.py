r"""Flow matching along a path X_t = a_t X_0 + s_t X_1, X_1 ~ N(0, I) (Lipman et al. 2023, Albergo & Vanden-Eijnden 2023), with pairs made by a `Pairing`.

With t uniform on [start, horizon] and the velocity v*(t, x) = E[X'_t | X_t = x], X'_t = a'_t X_0 + s'_t X_1, a field v has

    matching loss   CFM(v) = E |v(t, X_t) - X'_t|^2        (the loss of training)
    explicit loss    FM(v) = E |v(t, X_t) - v*(t, X_t)|^2
    floor                  = E |v*(t, X_t) - X'_t|^2 = E tr Cov(X'_t | X_t) = CFM(v*),

    CFM(v) = FM(v) + floor  for every field v.

For independent pairs the explicit loss is a weighted Fisher divergence, v - v* = -(g_t^2 / 2)(score - score*), and the floor at one time is
a'^2 E|X_0|^2 + s'^2 d - E|v*|^2: on the linear path E|X_1 - X_0|^2 less the energy of the flow, and pi sigma / 2 a coordinate for data N(0, sigma^2 I). Pairs by
optimal transport have a lower floor, 0 in the limit of large batches, and another v*.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import checked_count, is_concrete, refuse
from ensembletheory.estimate import Estimate, monte_carlo
from ensembletheory.fields import Field, require_field, require_origin
from ensembletheory.laws import Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.neural.flows.pairings import IndependentPairs, Pairing
from ensembletheory.neural.flows.velocity_network import noise_rate
from ensembletheory.processes import GaussianPath

__all__ = ["FlowMatching", "matching_floor", "matching_floor_at", "matching_loss", "velocity_error"]

_NODES = (64, 32)


class FlowMatching(eqx.Module):
    """What a field is asked to match; called with (field, key), the matching loss of `batch` pairs, with stratified times.

    Args:
        process: the path.
        law: the law of X_0.
        coupling: which draws of X_1 go with which of X_0; `IndependentPairs` if left out.
        batch: pairs a call.
        start: the earliest time; 0 will do where noise begins with a finite slope.

    Raises:
        ValueError: unless 0 <= start < horizon and batch >= 1, or if noise begins at `start` with an infinite slope.
    """

    process: GaussianPath
    law: Law
    coupling: Pairing
    batch: int = eqx.field(static=True)
    start: Float[Array, ""]

    def __init__(self, process: GaussianPath, law: Law, coupling: Pairing | None = None, batch: int = 256, start: float = 1e-3):
        self.process, self.law, self.coupling = process, law, IndependentPairs() if coupling is None else coupling
        self.batch, self.start = checked_count("batch", batch, 1), jnp.asarray(start, process.horizon.dtype)

    def __check_init__(self):
        if not is_concrete(self.start, self.process.horizon):
            return
        if not 0 <= float(self.start) < float(self.process.horizon):
            refuse("start", f"{float(self.start):.6g}", f"a time in [0, {float(self.process.horizon):.6g})", "The last time is the horizon.")
        if not np.isfinite(noise_rate(self.process, self.start)):
            refuse("start", f"{float(self.start):.6g}", "a later time", "Noise begins there with an infinite slope, and no loss is finite; 1e-3 is usual.")

    def __call__(self, field: Field, key: PRNGKeyArray) -> Float[Array, ""]:
        """The mean of |field(t, X_t) - X'_t|^2 over a batch of pairs whose times fill [start, horizon] evenly; unbiased."""
        key_time, key_order, key_rest = jax.random.split(key, 3)
        strata = jax.random.permutation(key_order, self.batch).astype(self.start.dtype)  # a pairing may tell points by their rows
        t, x, moved = self._paired(key_rest, (strata + jax.random.uniform(key_time, (self.batch,), self.start.dtype)) / self.batch)
        return jnp.mean(jax.vmap(lambda *draw: _matching(field, self, *draw))(t, x, moved))

    def _drawn(self, key: PRNGKeyArray, batches: int) -> tuple[Float[Array, "m n"], Float[Array, "m n d"], Float[Array, "m n d"]]:
        """Draws of t, X_t and X'_t, in independent batches."""
        key_time, key_rest = jax.random.split(key)
        shares = jax.random.uniform(key_time, (batches, self.batch), self.start.dtype)
        return jax.lax.map(lambda part: self._paired(*part), (jax.random.split(key_rest, batches), shares))

    def _paired(self, key: PRNGKeyArray, shares: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, "n d"], Float[Array, "n d"]]:
        """Times at the given shares of [start, horizon], X_t and X'_t."""
        key_data, key_source = jax.random.split(key)
        t = self.start + (self.process.horizon - self.start) * shares
        x0 = self.law.sample(key_data, shares.size)
        x1 = self.coupling(x0, jax.random.normal(key_source, x0.shape, x0.dtype))

        def along(t, x0, x1):
            slope, _ = self.process.readout("velocity", t)
            return self.process.a(t) * x0 + jnp.sqrt(self.process.noise_variance(t)) * x1, slope * x0 + noise_rate(self.process, t) * x1

        return t, *jax.vmap(along)(t, x0, x1)


def _matching(field: Field, objective: FlowMatching, t: Float[Array, ""], x: Float[Array, " d"], moved: Float[Array, " d"]) -> Float[Array, ""]:
    return jnp.sum((field(t, x) - moved) ** 2)


def _explicit(field: Field, objective: FlowMatching, t: Float[Array, ""], x: Float[Array, " d"], moved: Float[Array, " d"]) -> Float[Array, ""]:
    return jnp.sum((field(t, x) - objective.process.velocity(objective.law)(t, x)) ** 2)


def matching_loss(key: PRNGKeyArray, field: Field, objective: FlowMatching, samples: int) -> Estimate:
    """CFM(field) by Monte Carlo over independent batches, the last one full; the same key gives the same draws here and in `velocity_error`.

    Raises:
        ValueError: if the field is known to be no velocity, or of another process or dimension; if the samples fill less than two batches.
    """
    _require_velocity(field, objective)
    return monte_carlo(_errors(key, field, objective, _batches(samples, objective), _matching))


def velocity_error(key: PRNGKeyArray, field: Field, objective: FlowMatching, samples: int) -> Estimate:
    """FM(field), the distance from the exact velocity of independent pairs, by Monte Carlo.

    Raises:
        ValueError: if pairs are not independent, or as `matching_loss`.
    """
    _require_independent(objective)
    _require_velocity(field, objective)
    return monte_carlo(_errors(key, field, objective, _batches(samples, objective), _explicit))


def _require_velocity(field: Field, objective: FlowMatching) -> None:
    require_field("field", field, "velocity", objective.law.dim)
    require_origin("field", field, objective.process)


def _batches(samples: int, objective: FlowMatching) -> int:
    batches = -(-samples // objective.batch)
    if batches < 2:
        refuse("samples", f"{samples}, less than two batches of {objective.batch}", f"more than {objective.batch}", "The pairs of one batch may depend on each other.")
    return batches


@eqx.filter_jit
def _errors(key: PRNGKeyArray, field: Field, objective: FlowMatching, batches: int, error: Callable) -> Float[Array, " m"]:
    """The mean error of each batch."""
    return jax.lax.map(lambda draws: jnp.mean(jax.vmap(lambda *draw: error(field, objective, *draw))(*draws)), objective._drawn(key, batches))


def matching_floor_at(process: GaussianPath, law: Law, t: Float[Array, ""]) -> Estimate:
    """The floor at one time for independent pairs, what X_t does not tell of X'_t, by quadrature in one and two dimensions."""
    slope, _ = process.readout("velocity", t)
    energy = expectation(process.marginal(law, t), Partial(_speed_squared, process.velocity(law), t), ())
    return slope**2 * (jnp.trace(law.cov) + jnp.sum(law.mean**2)) + noise_rate(process, t) ** 2 * law.dim - energy


def _speed_squared(velocity: Field, t: Float[Array, ""], x: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    squared = jnp.sum(velocity(t, x) ** 2)
    return squared, squared


def matching_floor(objective: FlowMatching) -> Estimate:
    """The matching loss of the exact velocity, below which no field gets, by quadrature (in one and two dimensions).

    Gauss-Legendre in the root of t - start with 64 nodes; the error adds the difference to 32 nodes and the errors in x.

    Raises:
        ValueError: if pairs are not independent.
    """
    _require_independent(objective)
    return _floor(objective)


@eqx.filter_jit
def _floor(objective: FlowMatching) -> Estimate:
    rules = [np.polynomial.legendre.leggauss(n) for n in _NODES]
    roots, weights = (jnp.concatenate([rule[i] for rule in rules]) for i in (0, 1))
    roots = (1 + roots) / 2
    t = objective.start + (objective.process.horizon - objective.start) * roots**2
    at = jax.lax.map(lambda time: matching_floor_at(objective.process, objective.law, time), t)
    values, errors = weights * roots * at.value, weights * roots * at.error
    fine, coarse = jnp.sum(values[: _NODES[0]]), jnp.sum(values[_NODES[0] :])
    return Estimate(fine, jnp.sum(errors[: _NODES[0]]) + jnp.abs(fine - coarse), "quadrature")


def _require_independent(objective: FlowMatching) -> None:
    if not isinstance(objective.coupling, IndependentPairs):
        refuse("objective", f"pairs by {type(objective.coupling).__name__}", "independent pairs, whose velocity is known", "Of other pairs only the matching loss is at hand.")
