r"""Loss, KL and Frechet distance of a score on the line, for any target with an exact score: the law of the probability flow by exact change of variables.

    loss = 1/2 int g_t^2 E_{p_t} |score - grad log p_t|^2 dt,     KL(p || sampled),     Frechet^2 = (difference of means)^2 + (difference of standard deviations)^2,

with the sampled law begun at p_T, so that the score is the only error, and its density from `samplers.flow_log_prob`. Integrals over x are by the trapezoidal rule on the
given points, which converges geometrically for smooth scores (where a score has kinks the density may jump: first order); those over time by 16-point Gauss-Legendre on panels
that halve towards the data. Errors are distances from the rules with every second node, plus, for the sampled law, what its mass on the points lacks of 1.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.fields import Field
from ensembletheory.gains.score_errors import Quality
from ensembletheory.laws import Law
from ensembletheory.processes import GaussianPath, convert
from ensembletheory.quadrature import gauss_legendre
from ensembletheory.samplers import flow_log_prob

__all__ = ["flow_quality"]

_HALVINGS = 12
_MASS = 1e-2  # what may be missing of the sampled law


def flow_quality(target: Law, process: GaussianPath, score: Field, points: Numbers, tolerance: float | None = None) -> Quality:
    """Loss of a score, and KL and squared Frechet distance of the law that its probability flow samples from the noised target.

    Args:
        target: a law on the line whose score is exact.
        process: the noising process.
        score: exact, disturbed, averaged or trained.
        points: evenly spaced, an odd number of them, which hold the mass of the target, of the noised targets and of the sampled law.
        tolerance: of the flow, as in `flow_log_prob`.

    Raises:
        ValueError: if the target is not on the line, the points are not evenly spaced or odd in number, or they miss one per cent of the sampled law.
        RuntimeError: as `flow_log_prob`.
    """
    x = as_floats("points", points)
    _check(target, x)
    log_q = flow_log_prob(process, convert(process, score, "velocity", "score"), x[:, None], process.marginal(target, process.horizon), tolerance=tolerance)
    quality, missing = _quality(target, process, score, x, log_q)
    if is_concrete(missing) and not missing < _MASS:
        refuse("points", f"points on which the sampled law has mass 1 +- {float(missing):.3g}", "mass 1", "Space them more closely, or over a longer interval.")
    return quality


def _check(target: Law, x: Float[Array, " n"]) -> None:
    if target.dim != 1:
        refuse("target", f"dimension {target.dim}", "a law on the line", "In more dimensions sample, and see ensemble_quality for Gaussians.")
    if x.ndim != 1 or x.size < 5 or x.size % 2 == 0:
        refuse("points", f"shape {x.shape}", "an odd number of points, in a row", "Take numpy.linspace(low, high, 401).")
    if is_concrete(x) and np.ptp(np.diff(np.asarray(x))) > 1e-6 * np.min(np.diff(np.asarray(x))):
        refuse("points", "points of unequal distances", "evenly spaced ones, increasing", "Take numpy.linspace(low, high, 401).")


@eqx.filter_jit
def _quality(target: Law, process: GaussianPath, score: Field, x: Float[Array, " n"], log_q: Float[Array, " n"]) -> tuple[Quality, Float[Array, ""]]:
    log_p = jax.vmap(target._log_prob)(x[:, None])
    kl = _trapezoid(jnp.exp(log_p) * (log_p - log_q), x)
    mass, first, second = (_trapezoid(jnp.exp(log_q) * x**power, x) for power in range(3))
    distances = [_frechet(target, mass[i], first[i], second[i]) for i in range(2)]
    missing = jnp.abs(mass[0] - 1)
    frechet = Estimate(distances[0], jnp.abs(distances[0] - distances[1]) + missing, "quadrature")
    return Quality(_loss(target, process, score, x), _with_error(kl), frechet), missing


def _trapezoid(values: Float[Array, " n"], x: Float[Array, " n"]) -> Float[Array, " 2"]:
    """The integral of values that vanish at both ends, and that by every second one."""
    return (x[1] - x[0]) * jnp.stack([jnp.sum(values), 2 * jnp.sum(values[::2])])


def _with_error(integrals: Float[Array, " 2"]) -> Estimate:
    return Estimate(integrals[0], jnp.abs(integrals[0] - integrals[1]), "quadrature")


def _frechet(target: Law, mass: Float[Array, ""], first: Float[Array, ""], second: Float[Array, ""]) -> Float[Array, ""]:
    mean = first / mass
    return (mean - target.mean[0]) ** 2 + (jnp.sqrt(second / mass - mean**2) - jnp.sqrt(target.cov[0, 0])) ** 2


def _loss(target: Law, process: GaussianPath, score: Field, x: Float[Array, " n"]) -> Estimate:
    exact = process.score(target)

    def rate(t: Float[Array, ""]) -> Float[Array, " 2"]:
        errors = score.batch(t, x[:, None]) - exact.batch(t, x[:, None])
        density = jnp.exp(jax.vmap(process.marginal(target, t)._log_prob)(x[:, None]))
        return process.diffusion(t) / 2 * _trapezoid(density * errors[:, 0] ** 2, x)

    times, fine, coarse = _time_rules()
    rates = jax.lax.map(rate, process.horizon * times)
    value, by_half_the_points = process.horizon * fine @ rates
    return Estimate(value, jnp.abs(value - by_half_the_points) + jnp.abs(value - process.horizon * coarse @ rates[:, 0]), "quadrature")


def _time_rules() -> tuple[Float[Array, " m"], Float[Array, " m"], Float[Array, " m"]]:
    """Nodes on [0, 1], and the weights there of the rules with 16 and with 8 nodes a panel."""
    ends = np.append(0.0, 0.5 ** np.arange(_HALVINGS, -1, -1.0))
    (fine, fine_weights), (coarse, coarse_weights) = gauss_legendre(16, 1), gauss_legendre(8, 1)
    times = ends[:-1, None] + np.diff(ends)[:, None] * np.append(fine, coarse)[None, :]
    rules = [np.append(fine_weights, 0 * coarse_weights), np.append(0 * fine_weights, coarse_weights)]
    by_16, by_8 = (jnp.asarray((np.diff(ends)[:, None] * rule[None, :]).ravel()) for rule in rules)
    return jnp.asarray(times.ravel()), by_16, by_8
