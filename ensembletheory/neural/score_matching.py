r"""Score matching along a path X_t = a_t X_0 + s_t Z, in units of the noise.

With t uniform on [start, horizon], X_0 from a law and p_t the law of X_t, a field s has

    explicit loss   ESM(s) = E s_t^2 |s(t, X_t) - grad log p_t(X_t)|^2              (Hyvarinen 2005: a weighted Fisher divergence)
    denoising loss  DSM(s) = E |s_t s(t, X_t) + Z|^2                                (Vincent 2011: no density needed; the loss of training)
    floor                    = E |s_t grad log p_t(X_t) + Z|^2 = DSM(grad log p_t).

The weight s_t^2 is the one under which the target Z has variance one at every time. Since -s_t grad log p_t(X_t) = E[Z | X_t],

    DSM(s) = ESM(s) + floor  for every field s,      floor = E_t [ d - s_t^2 J(p_t) ],      J(p) = E_p |grad log p|^2,

and the floor at one time is also (a_t / s_t)^2 times the mean squared error of the best denoiser E[X_0 | X_t] (Tweedie), a signal-to-noise ratio times an mmse.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import is_concrete, refuse
from ensembletheory.estimate import Estimate, monte_carlo
from ensembletheory.fields import Field
from ensembletheory.laws import Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.neural.stacks import member_values
from ensembletheory.processes import GaussianPath

__all__ = ["ScoreMatching", "denoising_loss", "floor", "floor_at", "member_errors", "score_error"]

_BATCHES = 4096  # draws evaluated at once


class ScoreMatching(eqx.Module):
    """What a field is asked to match; called with (field, key), the denoising loss of `batch` draws, with stratified times.

    Args:
        process: the path.
        law: the law of X_0.
        batch: draws a call.
        start: the earliest time.

    Raises:
        ValueError: unless 0 < start < horizon.
    """

    process: GaussianPath
    law: Law
    batch: int = eqx.field(static=True)
    start: Float[Array, ""]

    def __init__(self, process: GaussianPath, law: Law, batch: int = 256, start: float = 1e-3):
        self.process, self.law, self.batch, self.start = process, law, batch, jnp.asarray(start, process.horizon.dtype)

    def __check_init__(self):
        if is_concrete(self.start, self.process.horizon) and not 0 < float(self.start) < float(self.process.horizon):
            refuse("start", f"{float(self.start):.6g}", f"a time in (0, {float(self.process.horizon):.6g})", "At time 0 there is no noise to match.")

    def __call__(self, field: Field, key: PRNGKeyArray) -> Float[Array, ""]:
        """The mean of |s_t field(t, X_t) + Z|^2 over a batch whose times fill [start, horizon] evenly; unbiased."""
        key_time, key_rest = jax.random.split(key)
        shares = (jnp.arange(float(self.batch)) + jax.random.uniform(key_time, (self.batch,))) / self.batch
        t, x, z = self._noised(key_rest, shares)
        return jnp.mean(jax.vmap(lambda *draw: _denoising(field, self, *draw))(t, x, z))

    def _drawn(self, key: PRNGKeyArray, samples: int) -> tuple[Float[Array, " n"], Float[Array, "n d"], Float[Array, "n d"]]:
        """Independent draws of t, X_t and Z."""
        key_time, key_rest = jax.random.split(key)
        return self._noised(key_rest, jax.random.uniform(key_time, (samples,)))

    def _noised(self, key: PRNGKeyArray, shares: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, "n d"], Float[Array, "n d"]]:
        """Times at the given shares of [start, horizon], X_t and Z."""
        key_data, key_noise = jax.random.split(key)
        t = self.start + (self.process.horizon - self.start) * shares
        x0 = self.law.sample(key_data, shares.size)
        z = jax.random.normal(key_noise, x0.shape, x0.dtype)
        return t, jax.vmap(self.process.a)(t)[:, None] * x0 + jnp.sqrt(jax.vmap(self.process.noise_variance)(t))[:, None] * z, z


def _denoising(field: Field, objective: ScoreMatching, t: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, " d"]) -> Float[Array, ""]:
    return jnp.sum((jnp.sqrt(objective.process.noise_variance(t)) * field(t, x) + z) ** 2)


def _explicit(field: Field, objective: ScoreMatching, t: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, " d"]) -> Float[Array, ""]:
    exact = objective.process.score(objective.law)(t, x)
    return objective.process.noise_variance(t) * jnp.sum((field(t, x) - exact) ** 2)


def denoising_loss(key: PRNGKeyArray, field: Field, objective: ScoreMatching, samples: int) -> Estimate:
    """DSM(field) by Monte Carlo; the same key gives the same draws here and in `score_error`."""
    return monte_carlo(_errors(key, field, objective, samples, _denoising))


def score_error(key: PRNGKeyArray, field: Field, objective: ScoreMatching, samples: int) -> Estimate:
    """ESM(field), the distance from the exact score, by Monte Carlo."""
    return monte_carlo(_errors(key, field, objective, samples, _explicit))


@eqx.filter_jit
def _errors(key: PRNGKeyArray, field: Field, objective: ScoreMatching, samples: int, error) -> Float[Array, " n"]:
    return jax.lax.map(lambda draw: error(field, objective, *draw), objective._drawn(key, samples), batch_size=_BATCHES)


@eqx.filter_jit
def member_errors(key: PRNGKeyArray, fields: Any, objective: ScoreMatching, samples: int) -> Float[Array, "n K d"]:
    """The errors e_k = s_t (field_k - exact score) of a stack of K fields, at each of the draws of `score_error`.

    With G_kl the mean of <e_k, e_l>, ESM(sum_k w_k field_k) = w^T G w. Over all subsets of K' of the members, equally weighted, ESM has mean A + B / K' exactly, where A is
    the mean of G off the diagonal and A + B its mean on the diagonal.
    """

    def errors(t, x):
        exact = objective.process.score(objective.law)(t, x)
        return jnp.sqrt(objective.process.noise_variance(t)) * (member_values(fields, t, x) - exact[None, :])

    t, x, _ = objective._drawn(key, samples)
    return jax.lax.map(lambda draw: errors(*draw), (t, x), batch_size=_BATCHES)


def floor_at(process: GaussianPath, law: Law, t: Float[Array, ""]) -> Estimate:
    """The floor at one time, d - s_t^2 J(p_t): the part of |Z|^2 that X_t does not tell, by quadrature in one and two dimensions."""
    marginal = process.marginal(law, t)
    information = expectation(marginal, Partial(_score_squared, marginal), ())
    return law.dim - process.noise_variance(t) * information


def _score_squared(law: Law, x: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    squared = jnp.sum(law._score(x) ** 2)
    return squared, squared


@eqx.filter_jit
def floor(objective: ScoreMatching) -> Estimate:
    """The denoising loss of the exact score, below which no field gets, by quadrature (in one and two dimensions).

    Gauss-Legendre in log t with 64 nodes; the error adds the difference to 32 nodes and the errors in x.
    """
    low, high = jnp.log(objective.start), jnp.log(objective.process.horizon)
    rules = [np.polynomial.legendre.leggauss(n) for n in (64, 32)]
    t = jnp.exp((low + high) / 2 + (high - low) / 2 * jnp.concatenate([nodes for nodes, _ in rules]))
    at = jax.lax.map(lambda time: floor_at(objective.process, objective.law, time), t)
    weights = (high - low) / 2 * t / (objective.process.horizon - objective.start) * jnp.concatenate([weights for _, weights in rules])
    fine, coarse = (weights * at.value)[:64].sum(), (weights * at.value)[64:].sum()
    return Estimate(fine, (weights * at.error)[:64].sum() + jnp.abs(fine - coarse), "quadrature")
