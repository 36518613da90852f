r"""SuperDiff: superposition of scores whose coefficients follow from the members' log-densities along the path.

Noising dX = f X dt + g dW. A member's density, with its score s_k = grad log q_k, obeys in reverse time tau = T - t

    d log q_k / dtau = f d + f x . s_k - (g^2/2) ( div s_k + |s_k|^2 ),

so along any path of noise eta g dW, whatever its drift, Ito's formula gives

    d log q_k = [ f d + f x . s_k - (g^2/2) |s_k|^2 - (1 - eta^2) (g^2/2) div s_k ] dtau + s_k . dx:

for the reverse SDE (eta = 1) the divergence cancels, and the log-densities of all members, exact or neural, are carried along at the cost of their scores. Here

    dx = [ -f x + (1 + eta^2)/2 g^2 s_kappa ] dtau + eta g dW,     s_kappa = sum_k kappa_k s_k,     sum_k kappa_k = 1,
    d log q_k = [ f d - (g^2/2) ( |s_k|^2 + (1 - eta^2) div s_k ) + (1 + eta^2)/2 g^2 s_k . s_kappa ] dtau + eta g s_k . dW.

**Or**: kappa_k proportional to w_k q_k^temperature (a softmax of temperature * log q_k + bias has the weights exp(bias), normalised). At temperature 1 with exact
log-densities s_kappa is the score of the noised linear pool, noising being linear: the rule is the linear pool. Temperature 0 is the averaged score.

**And** (two members): kappa_1 = 1 - kappa_2 such that log q_1 and log q_2 change alike. In a step of length h with the draw z this is linear; with D = s_1 - s_2,

    (1 + eta^2) kappa_1 |D|^2 = |s_1|^2 - |s_2|^2 + (1 - eta^2) (div s_1 - div s_2) - 2 eta D . z / (g sqrt(h)) - (1 + eta^2) D . s_2:
    eta = 0:  kappa_1 = [ div s_1 - div s_2 + <s_1, D> ] / |D|^2;        eta = 1:  kappa_1 = 1/2 - D . z / (g sqrt(h) |D|^2).

The last says what the rule does: the path of the averaged score (s_1 + s_2) / 2, with the noise along D projected out. It holds log q_1 - log q_2 where it began, near 0
for a long horizon, and so ends near the surface of equal densities; it samples neither the product nor the log pool. Where s_1 = s_2 every kappa serves, and 1/2 is taken.

For eta > 0 this kappa is not adapted: it depends on the draw of its own step, and the noise that is left has the covariance eta^2 g^2 (I - n n^T), n = D / |D|. Ito's formula
for this noise has one term more, so that carried log-densities are off by

    -(eta^2 g^2 / 2) n . (grad s_k) n dtau;

their difference is held exactly, but that of the true ones only where both members have the same curvature along D. `And(curvature=True)` adds this term, which costs one
product with the Jacobian of each score, and holds the true difference (derived here).

Carried log-densities are off by O(sqrt(h)) in mean square for eta > 0 (the chance part of Ito's second-order term, which averages out) and O(h) for the flow.
Source: Skreta et al. (2025), "The superposition of diffusion models using the Ito density estimator", ICLR, arXiv 2412.17762; the formulas are derived here.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.fields import Batching, Field, checked_fields, require_vectors
from ensembletheory.laws import Law
from ensembletheory.laws.weights import checked_weights, relative_terms
from ensembletheory.processes import GaussianPath
from ensembletheory.samplers import EulerMaruyama, Sampler

__all__ = ["And", "Moment", "Or", "SuperDiff", "Superposed", "Superposition"]


class Moment(NamedTuple):
    """What is known of a step before it is made."""

    process: GaussianPath
    fields: tuple[Field, ...]
    t: Float[Array, ""]
    x: Float[Array, " d"]
    scores: Float[Array, "K d"]
    log_densities: Float[Array, " K"]  # as carried along
    idle: Float[Array, " K"]  # what the log-densities gain in this step if s_kappa = 0
    gain: Float[Array, ""]  # the step adds gain * s_kappa to the point and gain * s_k . s_kappa to log q_k
    variance: Float[Array, ""]  # of the noise of the step


class Superposition(eqx.Module):
    """How the coefficients are chosen; see `Or` and `And`."""

    @abstractmethod
    def amended(self, now: Moment) -> Moment:
        """The step as it will be made, if the rule knows more of what the log-densities gain."""

    @abstractmethod
    def coefficients(self, now: Moment) -> Float[Array, " K"]:
        """The coefficients kappa of an amended step."""

    @abstractmethod
    def check(self, members: int, dim: int) -> None:
        """Refuse a number of members that the rule does not serve (and laws of another dimension, where it knows laws)."""


class Or(Superposition):
    """kappa_k proportional to w_k q_k^temperature.

    Args:
        temperature: of the softmax; 1 is the linear pool, 0 the average.
        weights: on the simplex; default equal.
        laws: the members' laws where they are known, whose exact noised log-densities then take the place of those carried along.

    Raises:
        ValueError: if the weights are off the simplex, or the temperature is not one finite number.
    """

    temperature: Float[Array, ""]
    weights: Float[Array, " K"] | None
    laws: tuple[Law, ...] | None

    def __init__(self, temperature: Numbers = 1.0, weights: Numbers | None = None, laws: Sequence[Law] | None = None):
        self.temperature = as_floats("temperature", temperature)
        if self.temperature.ndim:
            refuse("temperature", f"shape {self.temperature.shape}", "one number", "All members share it; weights may differ.")
        self.weights = None if weights is None else checked_weights(weights, as_floats("weights", weights).size)
        self.laws = None if laws is None else tuple(laws)

    def amended(self, now: Moment) -> Moment:
        """The step as it is."""
        return now

    def coefficients(self, now: Moment) -> Float[Array, " K"]:
        """The softmax."""
        logs = now.log_densities if self.laws is None else jnp.stack([now.process.marginal(law, now.t)._log_prob(now.x) for law in self.laws])
        return relative_terms(checked_weights(self.weights, logs.size), self.temperature * logs)

    def check(self, members: int, dim: int) -> None:
        """One weight and one law a member."""
        checked_weights(self.weights, members)
        _check_laws("laws", self.laws, members, dim)


class And(Superposition):
    """kappa for which the log-densities of two members change alike.

    Args:
        curvature: whether the change of the log-densities accounts for the noise which this very rule takes out; False takes the increments as they are carried.
    """

    curvature: bool = eqx.field(static=True, default=False)

    def amended(self, now: Moment) -> Moment:
        """The step with the term of the curvatures along the difference of the scores, if they are asked for."""
        if not self.curvature:
            return now
        apart, square, free = _difference(now)
        along = jnp.where(free, 0.0, apart / jnp.sqrt(jnp.where(free, 1.0, square)))
        curvatures = jnp.stack([along @ jax.jvp(Partial(field, now.t), (now.x,), (along,))[1] for field in now.fields])
        return now._replace(idle=now.idle - now.variance / 2 * curvatures)

    def coefficients(self, now: Moment) -> Float[Array, " K"]:
        """The solution of one linear equation; halves where the scores agree to rounding, or the step has no length."""
        apart, square, free = _difference(now)
        change = now.idle[0] - now.idle[1] + now.gain * (apart @ now.scores[1])
        kappa = jnp.where(free, 0.5, -change / jnp.where(free, 1.0, now.gain * square))
        return jnp.stack([kappa, 1 - kappa])

    def check(self, members: int, dim: int) -> None:
        """Two members."""
        if members != 2:
            refuse("fields", f"{members} scores", "two, whose log-densities And moves alike", "Use Or for any number.")


def _difference(now: Moment) -> tuple[Float[Array, " d"], Float[Array, ""], Bool[Array, ""]]:
    """The difference of two scores, its square, and whether the square is only rounding or the step has no length."""
    apart = now.scores[0] - now.scores[1]
    square = apart @ apart
    return apart, square, (square <= jnp.finfo(apart.dtype).eps ** 2 * jnp.sum(now.scores**2)) | (now.gain == 0)


class Superposed(NamedTuple):
    """Points, and the members' log-densities at them as they were carried along, in nats."""

    points: Float[Array, "n d"]
    log_densities: Float[Array, "n K"]


class SuperDiff(eqx.Module):
    """The sampler of superposed scores along a grid of times, by Euler-Maruyama.

    Args:
        process: the path from data to noise.
        fields: the members' scores, exact or trained.
        rule: `Or` or `And`.
        grid: as for a `Sampler`.
        churn: the noise level eta >= 0: 1 is the reverse SDE, 0 the probability flow; other levels than 1 need the divergences of the scores.

    Raises:
        ValueError: if there is no field, one is not a score or was made for another process, the grid is not one of the process, or the rule does not serve the members.
    """

    process: GaussianPath
    fields: tuple[Field, ...]
    rule: Superposition
    grid: Float[Array, " n"]
    churn: float | Float[Array, ""]

    def __init__(self, process: GaussianPath, fields: Sequence[Field], rule: Superposition, grid: Numbers, churn: float | Float[Array, ""] = 1.0):
        self.process, self.fields, self.rule, self.grid, self.churn = process, tuple(checked_fields(fields)), rule, as_floats("grid", grid), churn

    def __check_init__(self):
        if not isinstance(self.process, GaussianPath):
            refuse("process", type(self.process).__name__, "a Gaussian path, whose f and g are numbers", "FeynmanKac serves matrices too.")
        for field in self.fields:
            Sampler(self.process, field, EulerMaruyama(self.churn), self.grid)

    def sample(self, key: PRNGKeyArray, n: int, start: Law, at_start: Sequence[Law] | None = None) -> Superposed:
        """`n` independent draws with the members' log-densities, begun from `start` at the first time of the grid.

        Args:
            key: for the draws; those of a `Sampler` with the same key are the same.
            n: how many.
            start: the law of the first points.
            at_start: the members' laws at that time, where their log-densities begin; default `start` for each, right in the limit of a long horizon.

        Raises:
            ValueError: if a field's vectors or a law are not of the dimension of `start`, or the rule does not serve the members.
            FloatingPointError: naming the step, if a draw leaves the finite numbers.
        """
        self.rule.check(len(self.fields), start.dim)
        for k, field in enumerate(self.fields):
            require_vectors(f"fields[{k}]", field, start.dim)
        laws = (start,) * len(self.fields) if at_start is None else tuple(at_start)
        _check_laws("at_start", laws, len(self.fields), start.dim)
        superposed, diverged = _superposed(self, key, n, start, laws)
        if is_concrete(diverged) and diverged >= 0:
            t, s = float(self.grid[diverged]), float(self.grid[diverged + 1])
            raise FloatingPointError(f"SuperDiff left the finite numbers at step {int(diverged)}, from time {t:.6g} to {s:.6g}. Use shorter steps, or end the grid later.")
        return superposed

    def _step(self, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], logs: Float[Array, " K"], z: Float[Array, " d"]):
        """The point and the log-densities at time s that follow those at time t."""
        h, f, g2, e = t - s, self.process.signal_rate(t), self.process.diffusion(t), self.churn**2
        scores = jnp.stack([Batching(field)(t, x) for field in self.fields])
        noise, gain = self.churn * jnp.sqrt(h * g2) * z, (1 + e) / 2 * h * g2
        idle = h * (f * x.size - g2 / 2 * (jnp.sum(scores**2, axis=1) + (1 - e) * self._divergences(t, x))) + scores @ noise
        now = self.rule.amended(Moment(self.process, self.fields, t, x, scores, logs, idle, gain, e * h * g2))
        drive = gain * self.rule.coefficients(now) @ scores
        return x - h * f * x + drive + noise, logs + now.idle + scores @ drive

    def _divergences(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " K"]:
        """Of the scores, where the noise level needs them."""
        if is_concrete(self.churn) and self.churn == 1:
            return jnp.zeros(len(self.fields), x.dtype)
        return jnp.stack([jnp.trace(jax.jacfwd(field, argnums=1)(t, x)) for field in self.fields])


@eqx.filter_jit
def _superposed(sampler: SuperDiff, key: PRNGKeyArray, n: int, start: Law, laws: tuple[Law, ...]) -> tuple[Superposed, Int[Array, ""]]:
    key_start, key_noise = jax.random.split(key)
    first = start.sample(key_start, n)

    def step(carry, inputs):
        (x, logs, diverged), (t, s, i) = carry, inputs
        z = jax.random.normal(jax.random.fold_in(key_noise, i), (n, x.shape[1]), x.dtype)
        x, logs = jax.vmap(sampler._step, (None, None, 0, 0, 0))(t, s, x, logs, z)
        finite = jnp.all(jnp.isfinite(x)) & jnp.all(jnp.isfinite(logs))
        return (x, logs, jnp.where((diverged < 0) & ~finite, i, diverged)), None

    begun = jnp.stack([jax.vmap(law._log_prob)(first) for law in laws], axis=1)
    steps = (sampler.grid[:-1], sampler.grid[1:], jnp.arange(sampler.grid.size - 1))
    (x, logs, diverged), _ = jax.lax.scan(step, (first, begun, jnp.asarray(-1)), steps)
    return Superposed(x, logs), diverged


def _check_laws(argument: str, laws: tuple[Law, ...] | None, members: int, dim: int) -> None:
    dims = [] if laws is None else [law.dim for law in laws]
    if laws is not None and dims != [dim] * members:
        refuse(argument, f"laws of dimensions {dims}", f"{members} of dimension {dim}", "One law a member, on the space of the points.")
