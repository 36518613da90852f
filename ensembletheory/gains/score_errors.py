r"""Ensembles of inexact scores on a Gaussian target: score-matching loss, KL and Frechet distance, exactly, and where they part.

Setting, in each coordinate: target N(m, S), noised by X_t = a X_0 + s Z to N(a m, v), v = a^2 S + s^2. Member k's score is (1 + c_k) grad log p_t, of constant relative
error c_k; the averaged score then has the error c = mean_k c_k. The clock dlambda = (g^2/v) dt, from 0 at the horizon T to Lambda at the data, is known, since
g^2 = a^2 (sigma^2)' with the noise level sigma = s/a:

    Lambda = log[ (S + sigma_T^2) / (S + sigma_0^2) ].

Generation from p_T with churn eta, e = eta^2, keeps the law at N(a m, R v) with dR/dlambda = e - (e + (1 + e) c) R, R = 1 at the horizon, so that

    R = exp(-c Lambda)  (probability flow),     R = 1 - 2c [1 - e^{-(1 + 2c) Lambda}] / (1 + 2c)  (reverse SDE; 1/(1 + 2c) as Lambda -> infinity),
    loss = 1/2 int g^2 E|c grad log p_t|^2 dt = Lambda c^2 / 2,     KL(p || sampled) = 1/2 (1/R - 1 + log R),     Frechet^2 = S (sqrt(R) - 1)^2.

Coordinates add. (An error that varies along the clock enters the flow as R = exp(-int c dlambda): if it averages to zero, KL and Frechet distance do not see it; the loss
does.)

Members: c_1, c_2, ... exchangeable normal of mean b (the bias), variance spread^2 and correlation rho; c ~ N(b, q_K), q_K = spread^2 (rho + (1 - rho)/K). Then

    E loss      = Lambda/2 (b^2 + q_K), of the form A + B/K,
    E KL        = 1/2 ( exp(b Lambda + q_K Lambda^2/2) - 1 - b Lambda )                                        (flow),
    E Frechet^2 = S ( exp(-b Lambda + q_K Lambda^2/2) - 2 exp(-b Lambda/2 + q_K Lambda^2/8) + 1 )              (flow);

for the SDE the expectations of KL and Frechet^2 are taken by Gauss-Hermite quadrature.

**Where they part.** Exchangeable errors of any law have E h(mean of K) falling in K where h is convex, and rising where it is concave. Loss and KL are convex in c (for e > 0:
as Lambda -> infinity), so that they always fall. Frechet^2 is convex in c exactly where the sampled standard deviation exceeds a share of the target's:

    sqrt(R) >= 1/2, that is c <= 2 log(2) / Lambda                   (flow),
    sqrt(R) >= 3/4, that is c <= 7/9 e/(1+e), 7/18 for the SDE       (every churn eta > 0, as Lambda -> infinity).

So from members whose scores are all too steep by more than this, each further member improves the likelihood and worsens the Frechet distance. Proof: for the flow
d^2/dc^2 (exp(-c Lambda/2) - 1)^2 = Lambda^2 (R - sqrt(R)/2), and that of KL is Lambda^2/(2R); for e > 0, R = 1/y with y = 1 + c (1 + e)/e,
d^2/dy^2 (y^{-1/2} - 1)^2 = 2 y^{-3} - 3/2 y^{-5/2}, and KL = 1/2 (y - 1 - log y). For normal errors dE h / dq = E h''/2, so for the flow E Frechet^2 falls with K as long as

    b < 2 log(2) / Lambda + 3/4 Lambda q_K,     that is  K < K* = (1 - rho) / (r - rho),   r = 4 (b - 2 log(2)/Lambda) / (3 Lambda spread^2),

and rises from K* on (`parting_size`). Derived here; monotonicity in K for convex losses: Mattei & Garreau (2025); the setting, with networks: Razafindralambo et al. (2026).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.covariance import AxisAligned
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian, Law
from ensembletheory.processes import GaussianPath

__all__ = ["Quality", "ScoreErrors", "clock", "ensemble_quality", "law_of_wrong_score", "parting_bias", "parting_size"]

_NODES = 64
_STEEPEST_SDE = 7 / 18


class Quality(eqx.Module):
    """How good a generator is: score-matching loss in nats, KL from the target to the law that it samples, and the squared Frechet distance between them."""

    loss: Estimate
    kl: Estimate
    frechet_squared: Estimate


class ScoreErrors(eqx.Module):
    """The normal law of exchangeable members' relative score errors, one for all coordinates or one a coordinate.

    Args:
        bias: their mean b; positive where scores are too steep.
        spread: their standard deviation.
        correlation: of any two members, in [0, 1].

    Raises:
        ValueError: if a spread is negative, a correlation is out of range, or shapes do not agree.
    """

    bias: Float[Array, "..."]
    spread: Float[Array, "..."]
    correlation: Float[Array, "..."]

    def __init__(self, bias: Numbers, spread: Numbers, correlation: Numbers = 0.0):
        self.bias, self.spread, self.correlation = as_floats("bias", bias), as_floats("spread", spread), as_floats("correlation", correlation)

    def __check_init__(self):
        shapes = {array.shape for array in (self.bias, self.spread, self.correlation)} - {()}
        if len(shapes) > 1 or any(len(shape) > 1 for shape in shapes):
            refuse("bias, spread, correlation", f"shapes {sorted(shapes)}", "numbers, or one number a coordinate", "Pass scalars for the same law in all coordinates.")
        if is_concrete(self.spread) and not np.all(np.asarray(self.spread) >= 0):
            refuse("spread", f"{float(np.min(self.spread)):.6g}", "a standard deviation >= 0", "Pass standard deviations.")
        if is_concrete(self.correlation) and not np.all((np.asarray(self.correlation) >= 0) & (np.asarray(self.correlation) <= 1)):
            refuse("correlation", f"{np.asarray(self.correlation)}", "within [0, 1]", "Infinitely many exchangeable members cannot be correlated negatively.")

    def variance(self, K: Numbers) -> Float[Array, "..."]:
        """The variance q_K of the mean error of K members (real numbers >= 1, or inf), of the shape of K and then that of the spread."""
        return _at_sizes(_mean_variance, jnp.asarray(K, dtype=self.spread.dtype), self)


def clock(target: Law, process: GaussianPath) -> Float[Array, " d"]:
    """Lambda of each coordinate: the integral of g^2 E|grad log p_t|^2 over time, by which the loss of a relative error c is Lambda c^2 / 2.

    Raises:
        ValueError: if the target's covariance is not diagonal, or the noise level at the horizon is infinite.
        TypeError: if the target is not Gaussian.
    """
    ticks = _clock(_variances(target), process)
    if is_concrete(ticks) and not np.all(np.isfinite(np.asarray(ticks))):
        refuse("process", "an infinite noise level at the horizon", "a finite one", "The loss of a relative error is infinite there: take a diffusion with a finite horizon.")
    return ticks


def law_of_wrong_score(target: Law, process: GaussianPath, error: Numbers, reverse: str = "ode") -> Gaussian:
    """The law sampled, from the noised target, by the score (1 + error) grad log p_t: N(m, R S).

    Args:
        target: Gaussian of diagonal covariance.
        process: the noising process.
        error: one number, or one a coordinate.
        reverse: "ode" or "sde".

    Raises:
        ValueError: as `clock`; also if `reverse` is neither, or the error is of another dimension than the target.
        TypeError: as `clock`.
    """
    c = as_floats("error", error)
    _require_error("error", c, target.dim)
    return Gaussian(target.mean, _scaled(_variances(target), c, clock(target, process), _is_sde(reverse)))


def ensemble_quality(target: Law, process: GaussianPath, errors: ScoreErrors, K: Numbers = 1.0, reverse: str = "ode") -> Quality:
    """Expected loss, KL and squared Frechet distance of the averaged score of K members, generating from the noised target.

    Args:
        target: Gaussian of diagonal covariance.
        process: the noising process.
        errors: the law of the members' relative errors.
        K: numbers of members, of any shape, which the answers take.
        reverse: "ode" (closed forms) or "sde" (KL and Frechet distance by quadrature).

    Raises:
        ValueError: as `clock`; also if a K is below 1, `reverse` is neither, or the errors are of another dimension than the target.
        TypeError: as `clock`.
    """
    sizes = jnp.asarray(K, dtype=jnp.result_type(float))
    if is_concrete(sizes) and not np.all(np.asarray(sizes) >= 1):
        refuse("K", f"{float(np.min(sizes)):.6g}", "numbers of members >= 1", "K = 1 is a single model.")
    _require_error("errors", errors.bias, target.dim)
    _require_error("errors", errors.spread, target.dim)
    _require_error("errors", errors.correlation, target.dim)
    expected = _expected_by_quadrature if _is_sde(reverse) else _expected_in_closed_form
    return _at_sizes(expected, sizes, errors, _variances(target), clock(target, process))


def parting_bias(target: Law, process: GaussianPath, reverse: str = "ode") -> Float[Array, " d"]:
    """The relative error of each coordinate above which averaging lowers loss and KL but raises the Frechet distance (for the SDE as Lambda -> infinity).

    Raises:
        ValueError, TypeError: as `law_of_wrong_score`.
    """
    ticks = clock(target, process)
    return jnp.full(ticks.shape, _STEEPEST_SDE, ticks.dtype) if _is_sde(reverse) else 2 * np.log(2) / ticks


def parting_size(target: Law, process: GaussianPath, errors: ScoreErrors) -> Float[Array, " d"]:
    """K* of each coordinate: the number of members (a real one) up to which the flow's expected Frechet distance falls; beyond it rises, while loss and KL keep falling.

    At most 1: it rises from the first member on. Infinite: it falls for ever.

    Raises:
        ValueError, TypeError: as `ensemble_quality`.
    """
    _require_error("errors", errors.bias, target.dim)
    return _parting_size(clock(target, process), errors)


def _variances(target: Law) -> Float[Array, " d"]:
    if not isinstance(target, Gaussian):
        raise TypeError(f"`target`: got {type(target).__name__}; expected Gaussian, for which everything is exact. See flow_quality for other laws on the line.")
    if not isinstance(target.covariance, AxisAligned) and target.dim > 1:
        refuse("target", "a full covariance", "a diagonal one", "Rotate to the eigenvectors of the covariance: the score rotates with them.")
    return target.covariance.diagonal()


def _require_error(argument: str, c: Float[Array, "..."], dim: int) -> None:
    if c.shape not in ((), (dim,)):
        refuse(argument, f"shape {c.shape}", f"one number, or {dim}", "One relative error a coordinate of the target.")


def _is_sde(reverse: str) -> bool:
    if reverse not in ("ode", "sde"):
        refuse("reverse", repr(reverse), "'ode' or 'sde'", "The probability flow, or the reverse SDE.")
    return reverse == "sde"


@eqx.filter_jit
def _clock(S: Float[Array, " d"], process: GaussianPath) -> Float[Array, " d"]:
    begin, end = process.noise_level(jnp.zeros_like(process.horizon)), process.noise_level(process.horizon)
    return jnp.log((S + end**2) / (S + begin**2))


@eqx.filter_jit
def _at_sizes(function: Callable[..., Any], K: Float[Array, "..."], *arguments: Any) -> Any:
    """function(K, *arguments) for every K, whose shape comes first."""
    each = jax.vmap(lambda size: function(size, *arguments))(K.ravel())
    return jax.tree.map(lambda leaf: leaf.reshape(K.shape + leaf.shape[1:]), each)


def _mean_variance(K: Float[Array, ""], errors: ScoreErrors) -> Float[Array, "..."]:
    return errors.spread**2 * (errors.correlation + (1 - errors.correlation) / K)


@eqx.filter_jit
def _parting_size(ticks: Float[Array, " d"], errors: ScoreErrors) -> Float[Array, " d"]:
    """(1 - rho) / (r - rho), with numerator and denominator times spread^2."""
    shared, own = errors.correlation * errors.spread**2, (1 - errors.correlation) * errors.spread**2
    excess = 4 * (errors.bias - 2 * np.log(2) / ticks) / (3 * ticks) - shared
    return jnp.where(excess > 0, own / jnp.maximum(excess, jnp.finfo(excess.dtype).tiny), jnp.inf)


@eqx.filter_jit
def _scaled(S: Float[Array, " d"], c: Float[Array, "..."], ticks: Float[Array, " d"], stochastic: bool) -> Float[Array, " d"]:
    """R S."""
    return S * (_sde_ratio(c, ticks) if stochastic else jnp.exp(-c * ticks))


def _sde_ratio(c: Float[Array, "..."], ticks: Float[Array, "..."]) -> Float[Array, "..."]:
    y = 1 + 2 * c
    return 1 - 2 * c * jnp.where(y == 0, ticks, -jnp.expm1(-y * ticks) / jnp.where(y == 0, 1.0, y))


def _expected_in_closed_form(K: Float[Array, ""], errors: ScoreErrors, S: Float[Array, " d"], ticks: Float[Array, " d"]) -> Quality:
    b, q = errors.bias, _mean_variance(K, errors)
    kl = (jnp.expm1(b * ticks + q * ticks**2 / 2) - b * ticks) / 2
    frechet = S * (jnp.expm1(-b * ticks + q * ticks**2 / 2) - 2 * jnp.expm1(-b * ticks / 2 + q * ticks**2 / 8))
    return Quality(closed_form(jnp.sum(ticks / 2 * (b**2 + q))), closed_form(jnp.sum(kl)), closed_form(jnp.sum(frechet)))


def _expected_by_quadrature(K: Float[Array, ""], errors: ScoreErrors, S: Float[Array, " d"], ticks: Float[Array, " d"]) -> Quality:
    b, q = (jnp.broadcast_to(moment, ticks.shape) for moment in (errors.bias, _mean_variance(K, errors)))

    def expected(nodes: int) -> tuple[Float[Array, ""], Float[Array, ""]]:
        z, shares = _normal_rule(nodes)
        R = _sde_ratio(b[:, None] + jnp.sqrt(q)[:, None] * z[None, :], ticks[:, None])
        return jnp.sum(((1 / R - 1 + jnp.log(R)) / 2) @ shares), S @ ((jnp.sqrt(R) - 1) ** 2 @ shares)

    fine, coarse = expected(_NODES), expected(_NODES // 2)
    kl, frechet = (Estimate(value, jnp.abs(value - other), "quadrature") for value, other in zip(fine, coarse, strict=True))
    return Quality(closed_form(jnp.sum(ticks / 2 * (b**2 + q))), kl, frechet)


def _normal_rule(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    z, mass = np.polynomial.hermite_e.hermegauss(nodes)
    return z, mass / mass.sum()
