r"""Masks that share a few Gaussian factors: y_i = 1{m_i + f_i . z + e_i > 0}, z ~ N(0, I_r), with independent noise e_i of a symmetric law.

Given z the pixels are independent, P(y_i = 1 | z) = F_i(m_i + f_i . z), F_i the distribution function of the noise, so that the likelihood of a mask is an integral over r
dimensions however many pixels there are:

    P(y) = E_z prod_i F_i(s_i (m_i + f_i . z)),   s_i = 2 y_i - 1.

The noise here has a log-concave density, so log F is concave (Prekopa 1973), and so is the integrand, of curvature at least 1: it has one mode, which damped Newton steps
find. For r = 1 the integral is taken by quadrature with panels between the points at which, on either side of the mode, the logarithm of the integrand has fallen by given
amounts or reached given slopes, found by bisection: as it is concave, it has no features elsewhere, however steep the pixels are. For r = 2 panels lie around the mode and
around the prior, with their own widths, which see no pixel whose steepness (the standard deviations of its own noise that a unit of the factors is worth) exceeds 5: from
there on the error is infinite, and `log_prob` refuses. For r > 2 the integral is taken by importance sampling from
Student's t law with 5 degrees of freedom, centred at the mode with the inverse of the curvature there, whose tails are heavier than the integrand's. GED^2 against other
laws, for r <= 2, by the trapezoid rule over z.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray
from scipy.special import gammaln

from ensembletheory.errors import Numbers, as_floats, checked_count, is_concrete, refuse
from ensembletheory.estimate import Estimate, log_mean
from ensembletheory.laws.law import marks
from ensembletheory.quadrature import integrate
from ensembletheory.segmentation.mask_law import MaskDistribution, checked_masks
from ensembletheory.segmentation.products import Products, as_products

__all__ = ["FactorMasks", "checked_maps", "tolerance"]

_NEWTON_STEPS = 40
_HALVINGS = 2.0 ** -np.arange(12)  # of a Newton step; and none
_NODES = {1: 129, 2: 49}  # of the trapezoid rule on each axis of the factors, by rank
_SPAN = 8.5  # standard deviations of the factors
_FREEDOM = 5.0  # degrees of freedom of the proposal
_FINE, _ROUNDINGS = 1e-6, 32  # error of log P, which the rule overestimates, from which on panels are refined; or so many roundings of its terms
_FALLS, _SLOPES = np.array([0.1, 1.0, 4.0, 12.0, 38.0]), 4.0 ** np.arange(11)  # of the logarithm of the integrand, between which panels lie
_BISECTIONS = 45
_STEEPEST = 5.0  # pixel that panels in the plane resolve


class FactorMasks(MaskDistribution):
    """A law of masks with Gaussian factors: `ProbitMasks`, `LowRankLogits`."""

    mean: eqx.AbstractVar[Float[Array, "H W"]]
    factor: eqx.AbstractVar[Float[Array, "H W r"]]

    @abstractmethod
    def _log_cdf(self, x: Float[Array, "H W"]) -> Float[Array, "H W"]:
        """The logarithm of F_i(x_i) of every pixel."""

    @abstractmethod
    def _steepness(self) -> Float[Array, "H W"]:
        """Of every pixel, at least how many standard deviations of its own noise a unit of the factors is worth."""

    @abstractmethod
    def _noise(self, key: PRNGKeyArray, n: int) -> Float[Array, "n H W"]:
        """`n` draws of e."""

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (H, W) of a mask."""
        return self.mean.shape[0], self.mean.shape[1]

    @property
    def rank(self) -> int:
        """The number of factors."""
        return self.factor.shape[-1]

    def sample(self, key: PRNGKeyArray, n: int) -> Bool[Array, "n H W"]:
        """`n` independent masks."""
        return _drawn(self, key, checked_count("n", n, 1))

    def log_prob(self, masks: Numbers) -> Float[Array, "..."]:
        """Log-probability of masks (..., H, W), as (...), for rank <= 2. Panels are refined, mask by mask, where the rule tells an error above 1e-6 and rounding.

        Raises:
            ValueError: if they are not masks of this law's shape, the rank exceeds 2, or it is 2 and a pixel too steep.
        """
        if self.rank > 2:
            refuse("masks", f"a law of rank {self.rank}", "rank <= 2, where quadrature answers", "Use log_likelihood(mask, key=..., samples=...), which tells its error.")
        checked = checked_masks("masks", masks, self.shape)
        values, errors = _by_panels(self, checked.reshape(-1, *self.shape))
        if is_concrete(values):
            values = _with_refined(self, checked.reshape(-1, *self.shape), np.array(values), np.asarray(errors))
        return values.reshape(checked.shape[:-2])

    def log_likelihood(self, mask: Numbers, key: PRNGKeyArray | None = None, samples: int = 10_000) -> Estimate:
        """Log-probability of one mask: by quadrature for rank <= 2 unless a key is given, else by importance sampling.

        Args:
            mask: (H, W).
            key: asks for importance sampling; needed for rank > 2.
            samples: number of its draws.

        Raises:
            ValueError: if it is no mask of this law's shape, or the rank exceeds 2 and no key is given.
        """
        checked = checked_masks("mask", mask, self.shape)
        if checked.ndim != 2:
            refuse("mask", f"shape {checked.shape}", f"{self.shape}", "Give one mask; log_prob takes many.")
        if key is not None:
            return _by_importance(self, checked, key, checked_count("samples", samples, 2))
        if self.rank > 2:
            refuse("key", "None", f"a PRNG key, since with {self.rank} factors only Monte Carlo can answer", "Pass key=jax.random.key(0), and samples=n if you like.")
        return _integrated(self, checked)


def checked_maps(mean: Numbers, factor: Numbers) -> tuple[Float[Array, "H W"], Float[Array, "H W r"]]:
    """A map (H, W) and a map of factors (H, W, r).

    Raises:
        ValueError: if the shapes do not agree or a value is not finite.
    """
    centre, loads = as_floats("mean", mean), as_floats("factor", factor)
    if centre.ndim != 2 or centre.size == 0:
        refuse("mean", f"shape {centre.shape}", "(H, W) with H, W >= 1", "n pixels without places are (1, n).")
    if loads.ndim != 3 or loads.shape[:2] != centre.shape or loads.shape[2] == 0:
        refuse("factor", f"shape {loads.shape}", f"{(*centre.shape, 'r')} with r >= 1", "The last axis is the factor.")
    return centre, loads


@eqx.filter_jit
def _drawn(law: FactorMasks, key: PRNGKeyArray, n: int) -> Bool[Array, "n H W"]:
    of_factors, of_noise = jax.random.split(key)
    z = jax.random.normal(of_factors, (n, law.rank), law.mean.dtype)
    return law.mean[None] + jnp.einsum("hwr,nr->nhw", law.factor, z) + law._noise(of_noise, n) > 0


def _logits(law: FactorMasks, z: Float[Array, " r"]) -> Float[Array, "H W"]:
    return law.mean + law.factor @ z


def _log_joint(z: Float[Array, " r"], law: FactorMasks, mask: Bool[Array, "H W"]) -> Float[Array, ""]:
    """The log-probability of the mask given z, less |z|^2 / 2."""
    return jnp.sum(_log_given(z, law, mask)) - jnp.sum(z**2) / 2


def _log_given(z: Float[Array, " r"], law: FactorMasks, mask: Bool[Array, "H W"]) -> Float[Array, "H W"]:
    logits = _logits(law, z)
    return law._log_cdf(jnp.where(mask, logits, -logits))


def _mode(law: FactorMasks, mask: Bool[Array, "H W"]) -> tuple[Float[Array, " r"], Float[Array, "r r"]]:
    """Where the joint density of factors and mask is largest, and minus its Hessian there."""
    lengths = jnp.asarray(np.append(_HALVINGS, 0.0), law.mean.dtype)

    def curvature(z):
        return -jax.hessian(_log_joint)(z, law, mask)

    def step(z, _):
        ahead = jnp.linalg.solve(curvature(z), jax.grad(_log_joint)(z, law, mask))
        tried = z[None, :] + jnp.outer(lengths, jnp.nan_to_num(ahead, posinf=0.0, neginf=0.0))
        values = jax.vmap(lambda point: _log_joint(point, law, mask))(tried)
        return tried[jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))], None

    mode = jax.lax.scan(step, jnp.zeros(law.rank, law.mean.dtype), length=_NEWTON_STEPS)[0]
    return jax.lax.stop_gradient((mode, curvature(mode)))


def _relative_density(law: FactorMasks, mask: Bool[Array, "H W"], top: Float[Array, ""], z: Float[Array, " r"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The integrand over its largest value, and its scale, in which every pixel's logarithm counts."""
    logs = _log_given(z, law, mask)
    value = jnp.exp(jnp.sum(logs) - jnp.sum(z**2) / 2 - top)
    return value, value * (1 + jnp.sum(jnp.abs(logs)) + jnp.sum(z**2) / 2)


@eqx.filter_jit
def _prepared(law: FactorMasks, mask: Bool[Array, "H W"]) -> tuple[Float[Array, ""], tuple[Float[Array, " _"], ...]]:
    """The logarithm of the largest value of the integrand, and where panels break."""
    mode, curvature = _mode(law, mask)
    if law.rank == 1:
        return _log_joint(mode, law, mask), (_breaks_of_line(law, mask, mode),)
    widths = jnp.sqrt(jnp.diagonal(jnp.linalg.inv(curvature)))
    breaks = marks(jnp.stack([mode, jnp.zeros_like(mode)]), jnp.stack([widths, jnp.ones_like(widths)]))
    return _log_joint(mode, law, mask), breaks


def _breaks_of_line(law: FactorMasks, mask: Bool[Array, "H W"], mode: Float[Array, " 1"]) -> Float[Array, " _"]:
    """The mode, and the ends of panels on both sides of it: by bisection, between the mode and where they lie at the furthest, as the curvature is at least 1."""
    falls, slopes = np.append(_FALLS, np.full(_SLOPES.size, np.inf)), np.append(np.full(_FALLS.size, np.inf), _SLOPES)
    falls, slopes, sides = np.tile(falls, 2), np.tile(slopes, 2), np.repeat([-1.0, 1.0], falls.size)
    top, sides = _log_joint(mode, law, mask), jnp.asarray(sides, mode.dtype)

    def halved(ends, _):
        middle = (ends[0] + ends[1]) / 2
        values, ahead = jax.vmap(lambda u: jax.value_and_grad(_log_joint)(mode + u, law, mask))(sides * middle)
        beyond = (top - values >= jnp.asarray(falls, mode.dtype)) | (-sides * ahead[:, 0] >= jnp.asarray(slopes, mode.dtype))
        return (jnp.where(beyond, ends[0], middle), jnp.where(beyond, middle, ends[1])), None

    furthest = jnp.asarray(np.sqrt(2 * np.minimum(falls, _FALLS.max())), mode.dtype)
    inner, outer = jax.lax.scan(halved, (jnp.zeros_like(furthest), furthest), length=_BISECTIONS)[0]
    return jax.lax.stop_gradient(jnp.sort(jnp.append(mode + sides * (inner + outer) / 2, mode)))


def tolerance(dtype: Any, log_prob: Float[ArrayLike, "*n"]) -> Float[Array, "*n"]:
    """The error of a log-probability that is left as it is."""
    return jnp.maximum(_FINE, _ROUNDINGS * float(jnp.finfo(dtype).eps) * (1 + jnp.abs(log_prob)))


def _integrated(law: FactorMasks, mask: Bool[Array, "H W"]) -> Estimate:
    top, breaks = _prepared(law, mask)
    integral = integrate(Partial(_relative_density, law, mask, top), breaks, _FINE)
    error = integral.error / integral.value
    unseen = law.rank == 2 and jnp.max(law._steepness()) > _STEEPEST
    return Estimate(top - law.rank * np.log(2 * np.pi) / 2 + jnp.log(integral.value), jnp.where(unseen, jnp.inf, error), "quadrature")


@eqx.filter_jit
def _by_panels(law: FactorMasks, masks: Bool[Array, "n H W"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    estimates = jax.lax.map(lambda mask: _integrated(law, mask), masks)
    return estimates.value, estimates.error


def _with_refined(law: FactorMasks, masks: Bool[Array, "n H W"], values: np.ndarray, errors: np.ndarray) -> Float[Array, " n"]:
    if np.any(np.isinf(errors)):
        expected = f"at most {_STEEPEST:.0f}, which panels in the plane of two factors resolve"
        refuse("masks", f"a law with a pixel of steepness {float(jnp.max(law._steepness())):.3g}", expected, "Use log_likelihood(mask, key=..., samples=...).")
    for i in np.flatnonzero(errors > tolerance(values.dtype, values)):
        values[i] = _integrated(law, masks[i]).value
    return jnp.asarray(values)


@eqx.filter_jit
def _by_importance(law: FactorMasks, mask: Bool[Array, "H W"], key: PRNGKeyArray, samples: int) -> Estimate:
    mode, curvature = _mode(law, mask)
    upper = jnp.linalg.cholesky(curvature).T
    of_normal, of_scale = jax.random.split(key)
    normal = jax.random.normal(of_normal, (samples, law.rank), law.mean.dtype)
    shape = 2 * jax.random.gamma(of_scale, jnp.asarray(_FREEDOM / 2, normal.dtype), (samples, 1), normal.dtype)
    t = normal * jnp.sqrt(_FREEDOM / shape)
    points = mode[None, :] + jax.scipy.linalg.solve_triangular(upper, t.T).T
    log_target = jax.lax.map(lambda z: _log_joint(z, law, mask), points) - law.rank * np.log(2 * np.pi) / 2
    return log_mean(log_target - _log_student(t) - jnp.sum(jnp.log(jnp.diagonal(upper))))


def _log_student(t: Float[Array, "n r"]) -> Float[Array, " n"]:
    """The log-density of the standard multivariate t law."""
    r, constant = t.shape[1], gammaln((_FREEDOM + t.shape[1]) / 2) - gammaln(_FREEDOM / 2)
    return constant - r * np.log(_FREEDOM * np.pi) / 2 - (_FREEDOM + r) / 2 * jnp.log1p(jnp.sum(t**2, axis=1) / _FREEDOM)


@as_products.register
def _of_factors(law: FactorMasks) -> Products:
    if law.rank > 2:
        refuse("law", f"{law.rank} factors", "at most 2, over which a rule can sum", "Take the law of samples instead: MaskLaw(law.sample(key, n)).")
    return _on_nodes(law)


@eqx.filter_jit
def _on_nodes(law: FactorMasks) -> Products:
    nodes, weights, coarse = _trapezoid(law.rank)
    probabilities = jax.vmap(lambda z: jnp.exp(law._log_cdf(_logits(law, z))).ravel())(jnp.asarray(nodes, law.mean.dtype))
    step = 2 * _SPAN / (_NODES[law.rank] - 1)
    doubt = jnp.sum(step / np.sqrt(2 * np.pi) * jnp.exp(-2 * (np.pi / step) ** 2 / (1 + law._steepness() ** 2)))
    return Products(probabilities, jnp.asarray(weights, law.mean.dtype), jnp.asarray(coarse, law.mean.dtype), doubt, False)


def _trapezoid(rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes (m, r), weights under N(0, I), and those of the rule of every other node on each axis."""
    axis = np.linspace(-_SPAN, _SPAN, _NODES[rank])
    density = np.exp(-(axis**2) / 2)
    fine, coarse = density / density.sum(), np.where(np.arange(axis.size) % 2 == 0, density, 0) / density[::2].sum()
    nodes = np.stack(np.meshgrid(*[axis] * rank, indexing="ij"), axis=-1).reshape(-1, rank)
    return nodes, *(np.prod(np.stack(np.meshgrid(*[rule] * rank, indexing="ij")), axis=0).ravel() for rule in (fine, coarse))
