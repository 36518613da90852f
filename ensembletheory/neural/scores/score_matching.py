r"""Score matching along a path X_t = a_t X_0 + s_t Z, in units of the noise.

With t uniform on [start, horizon], X_0 from a law and p_t the law of X_t, a field s has

    explicit loss   ESM(s) = E w_t s_t^2 |s(t, X_t) - grad log p_t(X_t)|^2          (Hyvarinen 2005: a weighted Fisher divergence)
    denoising loss  DSM(s) = E w_t |s_t s(t, X_t) + Z|^2                            (Vincent 2011: no density needed; the loss of training)
    floor                    = E w_t |s_t grad log p_t(X_t) + Z|^2 = DSM(grad log p_t).

| weighting | w_t | what it is |
|---|---|---|
| "noise" | 1 | the target Z has variance one at every time: lambda of Song et al. (2021), the simple loss of Ho et al. (2020) |
| "likelihood" | g_t^2 / s_t^2 | (horizon - start) / 2 ESM + KL(p_T || pi) bounds the divergence of p_start from what the reverse SDE makes (Song, Durkan et al. 2021) |
| "edm" | see below | log(sigma / c) ~ N(log 2 - 1.2, 1.2^2), sigma = s/a, with |D - X_0|^2 weighted by (sigma^2 + c^2) / (sigma c)^2 (Karras et al. 2022, c = 0.5) |

With c^2 the variance of the data per coordinate and phi the normal density of log(sigma / c), which moves at the rate g^2 / (2 s^2), the last is, within [start, horizon],
w_t = (horizon - start) phi(log(sigma_t / c)) g_t^2 / (2 s_t^2) (1 + sigma_t^2 / c^2). Times are drawn nearly in proportion to w_t and weighted by what is left, so that no few
terms rule a batch; the mean is that over uniform times whatever the law of the draws.

Since -s_t grad log p_t(X_t) = E[Z | X_t],

    DSM(s) = ESM(s) + floor  for every field s,      floor = E_t w_t [ d - s_t^2 J(p_t) ],      J(p) = E_p |grad log p|^2,

and the floor at one time, without its weight, is also (a_t / s_t)^2 times the mean squared error of the best denoiser E[X_0 | X_t] (Tweedie): a signal-to-noise ratio times
an mmse.
"""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import checked_count, is_concrete, refuse
from ensembletheory.estimate import Estimate, monte_carlo
from ensembletheory.fields import Field, MeanField, require_field, require_origin
from ensembletheory.laws import Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.neural.data import scale_of, stratified
from ensembletheory.neural.stacks import member_values
from ensembletheory.processes import GaussianPath

__all__ = ["ScoreMatching", "denoising_loss", "floor", "floor_at", "member_errors", "score_error"]

_BATCHES = 4096  # draws evaluated at once
_CELLS = 128  # of equal probability in the law of times
_WEIGHTINGS = ("noise", "likelihood", "edm")

Weighting = Literal["noise", "likelihood", "edm"]


class ScoreMatching(eqx.Module):
    """What a field is asked to match; called with (field, key), the denoising loss of `batch` draws, with stratified times.

    Args:
        process: the path.
        law: the law of X_0.
        batch: draws a call.
        start: the earliest time.
        weighting: of the times, see the module.

    Raises:
        ValueError: unless 0 < start < horizon and batch >= 1; if the weighting is unknown, or not finite on this path.
    """

    process: GaussianPath
    law: Law
    batch: int = eqx.field(static=True)
    start: Float[Array, ""]
    weighting: str = eqx.field(static=True)
    times: Float[Array, " cells_and_one"]

    def __init__(self, process: GaussianPath, law: Law, batch: int = 256, start: float = 1e-3, weighting: str = "noise"):
        if weighting not in _WEIGHTINGS:
            refuse("weighting", repr(weighting), "'noise', 'likelihood' or 'edm'", "See ensembletheory.neural.scores.score_matching.")
        self.process, self.law, self.batch, self.start, self.weighting = process, law, checked_count("batch", batch, 1), jnp.asarray(start, process.horizon.dtype), weighting
        self.times = _cells(process, law, self.start, weighting)

    def __check_init__(self):
        if is_concrete(self.start, self.process.horizon) and not 0 < float(self.start) < float(self.process.horizon):
            refuse("start", f"{float(self.start):.6g}", f"a time in (0, {float(self.process.horizon):.6g})", "At time 0 there is no noise to match.")
        if is_concrete(self.times) and not np.all(np.isfinite(self.times)):
            got = f"{self.weighting!r} on {type(self.process).__name__}, where it is not finite"
            refuse("weighting", got, "'noise', or a path that keeps something of its data at the horizon", "VariancePreserving does.")

    def weight(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """w_t."""
        return _weight(self.process, self.law, self.start, self.weighting, t)

    def __call__(self, field: Field, key: PRNGKeyArray) -> Float[Array, ""]:
        """The mean of w_t |s_t field(t, X_t) + Z|^2 over a batch whose times fill their law evenly; unbiased."""
        key_time, key_rest = jax.random.split(key)
        return jnp.mean(jax.vmap(lambda *draw: _denoising(field, self, *draw))(*self._noised(key_rest, stratified(key_time, self.batch))))

    def _drawn(self, key: PRNGKeyArray, samples: int) -> "_Draws":
        """Independent draws."""
        key_time, key_rest = jax.random.split(key)
        return self._noised(key_rest, jax.random.uniform(key_time, (samples,)))

    def _noised(self, key: PRNGKeyArray, shares: Float[Array, " n"]) -> "_Draws":
        """The weights of draws over the density of their times, times at the given shares of their law, X_t and Z."""
        key_data, key_noise = jax.random.split(key)
        cell = jnp.minimum((shares * _CELLS).astype(int), _CELLS - 1)
        length = self.times[cell + 1] - self.times[cell]
        t = self.times[cell] + (shares * _CELLS - cell.astype(shares.dtype)) * length
        weight = jax.vmap(self.weight)(t) * length * _CELLS / (self.process.horizon - self.start)
        x0 = self.law.sample(key_data, shares.size)
        z = jax.random.normal(key_noise, x0.shape, x0.dtype)
        return weight, t, jax.vmap(self.process.a)(t)[:, None] * x0 + jnp.sqrt(jax.vmap(self.process.noise_variance)(t))[:, None] * z, z


_Draws = tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, "n d"], Float[Array, "n d"]]


def _weight(process: GaussianPath, law: Law, start: Float[Array, ""], weighting: str, t: Float[Array, ""]) -> Float[Array, ""]:
    if weighting == "noise":
        return jnp.ones_like(t)
    rate = process.diffusion(t) / process.noise_variance(t)
    if weighting == "likelihood":
        return rate
    level = process.noise_level(t) / scale_of(law)
    density = jax.scipy.stats.norm.pdf(jnp.log(level), np.log(2.0) - 1.2, 1.2)
    return (process.horizon - start) * density * rate / 2 * (1 + level**2)


@eqx.filter_jit
def _cells(process: GaussianPath, law: Law, start: Float[Array, ""], weighting: str) -> Float[Array, " cells_and_one"]:
    """Times that part [start, horizon] into cells of nearly equal shares of the weight."""
    t = start * (process.horizon / start) ** jnp.linspace(0.0, 1.0, 2 * _CELLS + 1)
    weights = jax.vmap(lambda time: _weight(process, law, start, weighting, time))(t)
    shares = jnp.concatenate([jnp.zeros(1), jnp.cumsum((weights[1:] + weights[:-1]) * jnp.diff(t))])
    inner = jnp.interp(jnp.linspace(0.0, 1.0, _CELLS + 1)[1:-1], shares / shares[-1], t)
    return jnp.concatenate([start[None], inner, process.horizon[None]])


def _denoising(field: Field, objective: ScoreMatching, weight: Float[Array, ""], t: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, " d"]) -> Float[Array, ""]:
    return weight * jnp.sum((jnp.sqrt(objective.process.noise_variance(t)) * field(t, x) + z) ** 2)


def _explicit(field: Field, objective: ScoreMatching, weight: Float[Array, ""], t: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, " d"]) -> Float[Array, ""]:
    exact = objective.process.score(objective.law)(t, x)
    return weight * objective.process.noise_variance(t) * jnp.sum((field(t, x) - exact) ** 2)


def denoising_loss(key: PRNGKeyArray, field: Field, objective: ScoreMatching, samples: int) -> Estimate:
    """DSM(field) by Monte Carlo; the same key gives the same draws here and in `score_error`.

    Raises:
        ValueError: if the field is known to be no score, or of another process or dimension; if there are fewer than two samples.
    """
    _require_score("field", field, objective)
    return monte_carlo(_errors(key, field, objective, samples, _denoising))


def score_error(key: PRNGKeyArray, field: Field, objective: ScoreMatching, samples: int) -> Estimate:
    """ESM(field), the distance from the exact score, by Monte Carlo.

    Raises:
        ValueError: as `denoising_loss`.
    """
    _require_score("field", field, objective)
    return monte_carlo(_errors(key, field, objective, samples, _explicit))


@eqx.filter_jit
def _errors(key: PRNGKeyArray, field: Field, objective: ScoreMatching, samples: int, error) -> Float[Array, " n"]:
    return jax.lax.map(lambda draw: error(field, objective, *draw), objective._drawn(key, samples), batch_size=_BATCHES)


def _require_score(argument: str, field: Field, objective: ScoreMatching) -> None:
    require_field(argument, field, "score", objective.law.dim)
    require_origin(argument, field, objective.process)


def member_errors(key: PRNGKeyArray, fields: Any, objective: ScoreMatching, samples: int) -> Float[Array, "n K d"]:
    """The errors e_k = w_t^(1/2) s_t (field_k - exact score) of a stack of K fields, at each of the draws of `score_error`.

    With G_kl the mean of <e_k, e_l>, ESM(sum_k w_k field_k) = w^T G w. Over all subsets of K' of the members, equally weighted, ESM has mean A + B / K' exactly, where A is
    the mean of G off the diagonal and A + B its mean on the diagonal.

    Raises:
        ValueError: if the fields are no stack, or as `denoising_loss`.
    """
    _require_score("fields", MeanField(fields), objective)
    return _member_errors(key, fields, objective, samples)


@eqx.filter_jit
def _member_errors(key: PRNGKeyArray, fields: Any, objective: ScoreMatching, samples: int) -> Float[Array, "n K d"]:
    def errors(weight, t, x):
        exact = objective.process.score(objective.law)(t, x)
        return jnp.sqrt(weight * objective.process.noise_variance(t)) * (member_values(fields, t, x) - exact[None, :])

    return jax.lax.map(lambda draw: errors(*draw), objective._drawn(key, samples)[:3], batch_size=_BATCHES)


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
    weights = jax.vmap(objective.weight)(t) * (high - low) / 2 * t / (objective.process.horizon - objective.start) * jnp.concatenate([weights for _, weights in rules])
    fine, coarse = (weights * at.value)[:64].sum(), (weights * at.value)[64:].sum()
    return Estimate(fine, (weights * at.error)[:64].sum() + jnp.abs(fine - coarse), "quadrature")
