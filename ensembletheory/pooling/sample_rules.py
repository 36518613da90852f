r"""Rules that act on whole runs of the members' samplers: one member a trajectory, and the mean of the members' samples.

`Routed`: a member is drawn with probability w_k for each trajectory and keeps it. Its law is the linear pool of the members' sampled laws, exactly.

`MeanOfSamples`: x = sum_k w_k x^k of one run a member. What the runs share decides the law (all of it exact for affine steps, from one kernel on R^{Kd}):
 - nothing: independent runs, so that variances shrink: equal members N(m, S) give N(m, S/K). This is averaging pictures.
 - the start: for deterministic schemes the mean of coupled flows, which on the line from monotone maps is the W2 barycenter; a reverse SDE forgets the start, and the law
   is that of independent runs.
 - everything: start and noise of every step (synchronous coupling). For two centred members on the line, short steps and infinite horizon, Cov(x^1, x^2) under the reverse
   SDE is S_1 S_2 log(S_1/S_2) / (S_1 - S_2), the variance of the averaged score's law.

Source of the rules: Razafindralambo et al. (2026) and its code; the laws are derived here.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.fields import Batching, Field
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Law, convolve
from ensembletheory.laws.weights import checked_weights
from ensembletheory.pooling.linear import linear_pool
from ensembletheory.samplers import Sampler, Scheme

__all__ = ["MeanOfSamples", "Routed"]

Shared = Literal["nothing", "start", "everything"]


class Routed(eqx.Module):
    """One member's sampler for each trajectory, drawn with the weights.

    Raises:
        ValueError: if there is no sampler, or the weights are off the simplex.
    """

    samplers: tuple[Sampler, ...]
    weights: Float[Array, " K"]

    def __init__(self, samplers: Sequence[Sampler], weights: Numbers | None = None):
        self.samplers, self.weights = _checked_samplers(samplers), checked_weights(weights, len(samplers))

    def sample(self, key: PRNGKeyArray, n: int, start: Law) -> Float[Array, "n d"]:
        """`n` independent draws; every member runs n trajectories, of which those that are its own are kept.

        Raises:
            ValueError, FloatingPointError: as `Sampler.sample`.
        """
        key_route, *keys = jax.random.split(key, len(self.samplers) + 1)
        draws = jnp.stack([sampler.sample(key, n, start) for key, sampler in zip(keys, self.samplers, strict=True)])
        return _routed(key_route, self.weights, draws)

    def law(self, start: Law) -> Law:
        """The linear pool of the members' sampled laws.

        Raises:
            ValueError, FloatingPointError: as `Sampler.law`.
        """
        return linear_pool([sampler.law(start) for sampler in self.samplers], self.weights)


class MeanOfSamples(eqx.Module):
    """The weighted mean of one sample of each member's sampler.

    Args:
        samplers: one a member; on one grid and with one number of draws a step, if anything is shared.
        weights: on the simplex; default equal.
        shared: "nothing", "start", or "everything", start and noise: see the module.

    Raises:
        ValueError: if there is no sampler, the weights are off the simplex, `shared` is another word, or samplers that share something differ in grid or draws.
    """

    samplers: tuple[Sampler, ...]
    weights: Float[Array, " K"]
    shared: Shared = eqx.field(static=True)

    def __init__(self, samplers: Sequence[Sampler], weights: Numbers | None = None, shared: str = "nothing"):
        if shared not in ("nothing", "start", "everything"):
            refuse("shared", repr(shared), "'nothing', 'start' or 'everything'", "It says what the members' runs have in common.")
        self.samplers, self.weights = _checked_samplers(samplers), checked_weights(weights, len(samplers))
        self.shared = shared
        if shared != "nothing":
            _require_one_grid(self.samplers)

    def sample(self, key: PRNGKeyArray, n: int, start: Law) -> Float[Array, "n d"]:
        """`n` independent draws.

        Raises:
            ValueError, FloatingPointError: as `Sampler.sample`.
        """
        if self.shared == "nothing":
            keys = jax.random.split(key, len(self.samplers))
            return _averaged(self.weights, jnp.stack([sampler.sample(key, n, start) for key, sampler in zip(keys, self.samplers, strict=True)]))
        key_start, key_noise = jax.random.split(key)
        ends = self._together().run(key_noise, _repeated(key_start, n, start, len(self.samplers)))
        return _averaged(self.weights, jnp.moveaxis(ends.reshape(n, len(self.samplers), -1), 1, 0))

    def law(self, start: Law) -> Law:
        """The exact law of the draws, when the members' steps are affine.

        Raises:
            ValueError, FloatingPointError: as `Sampler.law`.
        """
        K, d = len(self.samplers), start.dim
        if self.shared == "nothing":
            scaled = [sampler.law(start).push(weight * np.eye(d), np.zeros(d)) for weight, sampler in zip(self.weights, self.samplers, strict=True)]
            return reduce(convolve, scaled)
        mean, repeat = jnp.kron(self.weights[None, :], jnp.eye(d)), jnp.tile(jnp.eye(d), (K, 1))
        joint = self._together().kernel(K * d)
        return AffineKernel(mean @ joint.A @ repeat, mean @ joint.b, mean @ joint.C.as_matrix() @ mean.T).push(start)

    def _together(self) -> Sampler:
        """The members' runs as one on R^{Kd}."""
        first = self.samplers[0]
        fields = _SideBySide(tuple(sampler.field for sampler in self.samplers))
        return Sampler(first.process, fields, _Together(self.samplers, self.shared == "everything"), first.grid)


class _SideBySide(Field):
    """The fields of the members, each on its own part of R^{Kd}."""

    fields: tuple[Field, ...]

    def __call__(self, t: Float[Array, ""], x: Float[Array, " D"]) -> Float[Array, " D"]:
        return jnp.concatenate([field(t, part) for field, part in zip(self.fields, x.reshape(len(self.fields), -1), strict=True)])


class _Together(Scheme):
    """The steps of several samplers, each with its own process and field, on the parts of R^{Kd}."""

    takes: ClassVar[str] = "score"
    samplers: tuple[Sampler, ...]
    one_noise: bool = eqx.field(static=True)

    @property
    def draws(self) -> int:
        """Those of a member: each row holds all members' parts."""
        return self.samplers[0].scheme.draws

    def step(self, process: Any, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " D"], z: Float[Array, "m D"]) -> Float[Array, " D"]:
        """The members' points at time s < t."""
        K = len(self.samplers)
        noise = z.reshape(z.shape[0], K, x.shape[0] // K)
        parts = [noise[:, 0 if self.one_noise else k, :] for k in range(K)]
        moves = zip(self.samplers, x.reshape(K, -1), parts, strict=True)
        return jnp.concatenate([one.scheme.step(one.process, Batching(one.field), t, s, part, draws) for one, part, draws in moves])


def _checked_samplers(samplers: Sequence[Sampler]) -> tuple[Sampler, ...]:
    if not samplers:
        refuse("samplers", "an empty list", "at least one sampler", "Pass one sampler a member.")
    return tuple(samplers)


def _require_one_grid(samplers: tuple[Sampler, ...]) -> None:
    first = samplers[0]
    for k, sampler in enumerate(samplers):
        if is_concrete(first.grid, sampler.grid) and not np.array_equal(first.grid, sampler.grid):
            refuse(f"samplers[{k}].grid", "times that differ from those of samplers[0]", "one grid", "Runs that share start or noise visit the same times.")
        if sampler.scheme.draws != first.scheme.draws:
            got = f"{sampler.scheme.draws} draws a step, {first.scheme.draws} of samplers[0]"
            refuse(f"samplers[{k}].scheme", got, "one number of draws", "Runs that share noise use one scheme.")


@eqx.filter_jit
def _routed(key: PRNGKeyArray, weights: Float[Array, " K"], draws: Float[Array, "K n d"]) -> Float[Array, "n d"]:
    chosen = jax.random.choice(key, len(weights), (draws.shape[1],), p=weights)
    return draws[chosen, jnp.arange(draws.shape[1])]


@eqx.filter_jit
def _repeated(key: PRNGKeyArray, n: int, start: Law, K: int) -> Float[Array, "n D"]:
    return jnp.tile(start.sample(key, n), (1, K))


@jax.jit
def _averaged(weights: Float[Array, " K"], draws: Float[Array, "K n d"]) -> Float[Array, "n d"]:
    return jnp.tensordot(weights, draws, axes=1)
