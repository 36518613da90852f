r"""Networks that learn the field of what is missing given what is observed, for every mask at once: CSDI's score matching (Tashiro et al. 2021) and its flow-matching twin.

Training makes the questions that imputation asks. Of a row x, observed at o, a share u ~ U(0, 1) is drawn and every observed value hidden with probability u: the hidden ones
are noised, X_t,n = a_t x_n + s_t Z, the others given, and what was missing from the start is absent. With t uniform on [start, horizon], f a conditional field
(`ensembletheory.imputation.conditional_fields`) and sums over the hidden coordinates, the losses are

    score      E (1/d) sum_n | s_t f_n + Z_n |^2             velocity   E (1/d) sum_n | f_n - X'_t,n |^2,  X'_t = a'_t X_0 + s'_t Z.

Where values are missing completely at random, the loss of f is that of the exact conditional field f* plus E (1/d) sum_n w_t |f_n - f*_n|^2, w_t = s_t^2 or 1: a regression on
(x_t,n, x_g, which is which) whose minimiser is f*. (If what is missing depends on observed values, it tells of hidden ones too, and f* is conditional on that.) Rows with
holes ask for the fields of marginals, too.

The network is preconditioned coordinate by coordinate as `ScoreNetwork` and `VelocityNetwork` are: with m_j and c_j the units of a column and v_j = a^2 c_j^2 + s^2 it adds to
the exact field of independent normal columns a coefficient times outputs of order one. It sees given values in their units, noised ones divided by the root of v_j, 0 for what
is absent, which is which, and the sines and cosines of 2, 4 and 8 times arctan(s / (a c)).
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.errors import checked_count, is_concrete, refuse
from ensembletheory.estimate import Estimate, monte_carlo
from ensembletheory.imputation.conditional_fields import ConditionalField
from ensembletheory.laws import Law
from ensembletheory.neural.data import stratified
from ensembletheory.neural.flows.velocity_network import noise_rate
from ensembletheory.neural.imputation.missing_data import observed_units, parted
from ensembletheory.neural.learner import Learner
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.neural.training import Loss
from ensembletheory.neural.units import Units
from ensembletheory.processes import GaussianPath

__all__ = ["ConditionalLearner", "ConditionalMatching", "ConditionalNetwork", "conditional_error", "conditional_loss"]

_MULTIPLES = (2.0, 4.0, 8.0)

Readout = Literal["score", "velocity"]


class ConditionalNetwork(ConditionalField):
    """A multilayer perceptron as a conditional field; trained are the perceptron's parameters only.

    Args:
        key: of the initial parameters.
        process: the path from data to noise.
        units: of the columns.
        readout: "score" or "velocity".
        width: units in a hidden layer.
        depth: number of hidden layers.

    Raises:
        ValueError: if the readout is another, or a size is below 1.
    """

    network: Perceptron
    process: GaussianPath
    units: Units
    readout: str = eqx.field(static=True)

    def __init__(self, key: PRNGKeyArray, process: GaussianPath, units: Units, readout: Readout = "score", width: int = 64, depth: int = 3):
        _require_readout(readout)
        d = units.mean.size
        self.network = Perceptron(key, 3 * d + 2 * len(_MULTIPLES), d, width, depth)
        self.process, self.units, self.readout = process, units, readout

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"], given: Bool[Array, " d"], noised: Bool[Array, " d"]) -> Float[Array, " d"]:
        """The vector at time t and one row, 0 where not noised."""
        process, mean, c = jax.lax.stop_gradient((self.process, self.units.mean, self.units.scale))
        a, s = process.a(t), jnp.sqrt(process.noise_variance(t))
        variance = a**2 * c**2 + s**2
        centred = jnp.where(noised, x - a * mean, 0.0)
        seen = jnp.where(noised, centred / jnp.sqrt(variance), jnp.where(given, (x - mean) / c, 0.0))
        angles = jnp.arctan2(s, a * jnp.sqrt(jnp.mean(c**2))) * jnp.asarray(_MULTIPLES, s.dtype)
        outputs = self.network(jnp.concatenate([seen, given.astype(s.dtype), noised.astype(s.dtype), jnp.sin(angles), jnp.cos(angles)]))
        if self.readout == "score":
            field = -centred / variance + a * c / (s * jnp.sqrt(variance)) * outputs
        else:
            slope, half_rate = process.readout("velocity", t)
            field = slope * mean + (a * slope * c**2 + half_rate) / variance * centred + (a * noise_rate(process, t) - slope * s) * c / jnp.sqrt(variance) * outputs
        return jnp.where(noised, field, 0.0)


class ConditionalMatching(eqx.Module):
    """What a conditional field is asked to match; called with (field, key), the loss of `batch` rows, with stratified times.

    Args:
        process: the path.
        law: of joined rows (`joined_law`), or of whole rows.
        readout: "score" or "velocity".
        batch: rows a call.
        start: the earliest time.
        holes: whether rows are joined with where they are observed.

    Raises:
        ValueError: if the readout is another, or unless 0 <= start < horizon (0 < start for a score, and where noise begins with an infinite slope) and batch >= 1.
    """

    process: GaussianPath
    law: Law
    readout: str = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    start: Float[Array, ""]
    holes: bool = eqx.field(static=True)

    def __init__(self, process: GaussianPath, law: Law, readout: Readout = "score", batch: int = 256, start: float = 1e-3, holes: bool = True):
        _require_readout(readout)
        self.process, self.law, self.readout, self.holes = process, law, readout, holes
        self.batch, self.start = checked_count("batch", batch, 1), jnp.asarray(start, process.horizon.dtype)

    def __check_init__(self):
        if not is_concrete(self.start, self.process.horizon):
            return
        if not 0 <= float(self.start) < float(self.process.horizon):
            refuse("start", f"{float(self.start):.6g}", f"a time in [0, {float(self.process.horizon):.6g})", "The last time is the horizon.")
        if (self.readout == "score" and float(self.start) == 0) or not np.isfinite(noise_rate(self.process, self.start)):
            refuse("start", f"{float(self.start):.6g}", "a later time", "No loss is finite there; 1e-3 is usual.")

    def __call__(self, field: ConditionalField, key: PRNGKeyArray) -> Float[Array, ""]:
        """The mean over a batch whose times fill [start, horizon] evenly; unbiased."""
        key_time, key_rest = jax.random.split(key)
        return jnp.mean(jax.vmap(lambda *draw: _missed(field, self, *draw))(*self._drawn(key_rest, stratified(key_time, self.batch))))

    def _drawn(self, key: PRNGKeyArray, shares: Float[Array, " n"]) -> "_Draws":
        """Times at the given shares of [start, horizon], rows, noise, and which coordinates are given and noised."""
        key_rows, key_share, key_hidden, key_noise = jax.random.split(key, 4)
        rows = self.law.sample(key_rows, shares.size)
        values, observed = jax.vmap(parted)(rows) if self.holes else (rows, jnp.ones(rows.shape, bool))
        hidden = observed & (jax.random.uniform(key_hidden, values.shape) < jax.random.uniform(key_share, (shares.size, 1)))
        t = self.start + (self.process.horizon - self.start) * shares
        return t, values, jax.random.normal(key_noise, values.shape, values.dtype), observed & ~hidden, hidden


_Draws = tuple[Float[Array, " n"], Float[Array, "n d"], Float[Array, "n d"], Bool[Array, "n d"], Bool[Array, "n d"]]


def _noised(objective: ConditionalMatching, t: Float[Array, ""], x0: Float[Array, " d"], z: Float[Array, " d"], noised: Bool[Array, " d"]) -> Float[Array, " d"]:
    return jnp.where(noised, objective.process.a(t) * x0 + jnp.sqrt(objective.process.noise_variance(t)) * z, x0)


def _missed(field: ConditionalField, objective: ConditionalMatching, t, x0, z, given, noised) -> Float[Array, ""]:
    """The loss of one draw."""
    vector = field(t, _noised(objective, t, x0, z, noised), given, noised)
    if objective.readout == "score":
        gaps: Array = jnp.sqrt(objective.process.noise_variance(t)) * vector + z
    else:
        gaps = vector - objective.process.readout("velocity", t)[0] * x0 - noise_rate(objective.process, t) * z
    return jnp.sum(jnp.where(noised, gaps, 0.0) ** 2) / x0.size


def _apart(fields: tuple[ConditionalField, ConditionalField], objective: ConditionalMatching, t, x0, z, given, noised) -> Float[Array, ""]:
    """The weighted squared distance of two fields at one draw."""
    x = _noised(objective, t, x0, z, noised)
    weight = objective.process.noise_variance(t) if objective.readout == "score" else 1.0
    return weight * jnp.sum((fields[0](t, x, given, noised) - fields[1](t, x, given, noised)) ** 2) / x0.size


def conditional_loss(key: PRNGKeyArray, field: ConditionalField, objective: ConditionalMatching, samples: int) -> Estimate:
    """The loss of a field by Monte Carlo; the same key gives the same draws here and in `conditional_error`.

    Raises:
        ValueError: if the field is of another readout than the objective, or there are fewer than two samples.
    """
    _require_alike(objective, field)
    return monte_carlo(_over_draws(key, _missed, field, objective, checked_count("samples", samples, 2)))


def conditional_error(key: PRNGKeyArray, field: ConditionalField, exact: ConditionalField, objective: ConditionalMatching, samples: int) -> Estimate:
    """E (1/d) sum_n w_t |field - exact|^2, by how much the loss of a field exceeds that of the exact one, by Monte Carlo.

    Raises:
        ValueError: as `conditional_loss`.
    """
    _require_alike(objective, field, exact)
    return monte_carlo(_over_draws(key, _apart, (field, exact), objective, checked_count("samples", samples, 2)))


@eqx.filter_jit
def _over_draws(key: PRNGKeyArray, measure, fields, objective: ConditionalMatching, samples: int) -> Float[Array, " n"]:
    key_time, key_rest = jax.random.split(key)
    draws = objective._drawn(key_rest, jax.random.uniform(key_time, (samples,), objective.start.dtype))
    return jax.lax.map(lambda draw: measure(fields, objective, *draw), draws, batch_size=4096)


def _require_readout(readout: str) -> None:
    if readout not in ("score", "velocity"):
        refuse("readout", repr(readout), "'score' or 'velocity'", "Other kinds follow from these two.")


def _require_alike(objective: ConditionalMatching, *fields: ConditionalField) -> None:
    for field in fields:
        if field.readout != objective.readout:
            refuse("field", f"a {field.readout}", f"a {objective.readout}, which the objective asks for", "Give both the same readout.")


class ConditionalLearner(Learner):
    """Conditional networks of one path from data to noise.

    Args:
        process: the path.
        readout: "score" (diffusion) or "velocity" (flow matching).
        width: units in a hidden layer.
        depth: number of hidden layers.
        batch: rows a step.
        start: the earliest time of training.
        holes: whether the law is one of joined rows (`joined_law`); else of whole rows.
    """

    process: GaussianPath
    readout: Readout = eqx.field(static=True, default="score")
    width: int = eqx.field(static=True, default=64)
    depth: int = eqx.field(static=True, default=3)
    batch: int = eqx.field(static=True, default=256)
    start: float = eqx.field(static=True, default=1e-3)
    holes: bool = eqx.field(static=True, default=True)

    def initialise(self, key: PRNGKeyArray, law: Law) -> ConditionalNetwork:
        """A `ConditionalNetwork` in the units of the columns."""
        units = observed_units(law) if self.holes else Units(law, slice(None))  # pyright: ignore[reportArgumentType]
        return ConditionalNetwork(key, self.process, units, self.readout, self.width, self.depth)

    def loss(self, law: Law) -> Loss:
        """Score or flow matching on hidden values."""
        return ConditionalMatching(self.process, law, self.readout, self.batch, self.start, self.holes)
