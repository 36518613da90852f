r"""Data noised by telegraph processes: the law of X_0 + tau, tau with independent `KacLaw` coordinates, X_0 a mixture whose components have independent coordinates.

With f_{k,j,+-}(x_j) the density of coordinate j of component k and its present velocity +-c (the component's own, smoothed by the telegraph process), the joint law of place
and velocity is p(x, v) = sum_k w_k prod_j f_{k,j,v_j}(x_j), and so, with the responsibilities r_k(x) of the components,

    density        p(x) = sum_k w_k prod_j (f_{k,j,+} + f_{k,j,-}),
    mean velocity  E[v_j | x] = c sum_k r_k(x) (f_{k,j,+} - f_{k,j,-}) / (f_{k,j,+} + f_{k,j,-}),     |E[v_j | x]| <= c,
    ratios         p(x, R_j v) / p(x, v),   R_j v the velocities with the sign of v_j turned.

**Points.** Data of finite support have no density at any time: part of the mass stays on the light cones of the points. A place on as many cones as possible outweighs any
density, so only the terms with the most coordinates on cones count there. Beyond all cones, where nobody can be, the nearest cones speak.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.covariance import AxisAligned
from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.laws.expectation import expectation, surprise
from ensembletheory.laws.finite import FiniteLaw
from ensembletheory.laws.gaussian import Gaussian, is_singular
from ensembletheory.laws.kac import KacLaw, drawn
from ensembletheory.laws.law import Law, checked_dims, checked_point
from ensembletheory.laws.mixture import GaussianMixture, weighted_components
from ensembletheory.laws.weights import log_weighted_sum, relative_terms

__all__ = ["KacMixture", "along_axes", "ratios_of_parts"]

_BEYOND = -1e3  # rank of a coordinate beyond its light cone: below any number of coordinates on cones; twice that, with the velocity that leads there backwards


class KacMixture(Law):
    """The law of X_0 + tau; see `ensembletheory.processes.Telegraph`.

    Args:
        data: the law of X_0: a Gaussian or a mixture with diagonal covariances, or a law of finite support.
        noise: the law of each coordinate of tau.

    Raises:
        TypeError: if `data` is of another kind.
        ValueError: if a covariance of `data` is not diagonal, or is singular.
    """

    weights: Float[Array, " K"]
    means: Float[Array, "K d"]
    deviations: Float[Array, "K d"]  # 0 for points
    noise: KacLaw
    points: bool = eqx.field(static=True)

    def __init__(self, data: Law, noise: KacLaw):
        self.noise, self.points = noise, isinstance(data, FiniteLaw)
        if isinstance(data, FiniteLaw):
            self.weights, self.means, self.deviations = data.weights, data.points, jnp.zeros_like(data.points)
        elif isinstance(data, Gaussian | GaussianMixture):
            self.weights, self.means, self.deviations = along_axes(data)
        else:
            raise TypeError(f"`data`: got {type(data).__name__}; expected Gaussian, GaussianMixture or FiniteLaw, whose noised laws are exact. Train a network instead.")

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.means.shape[-1]

    @property
    def mean(self) -> Float[Array, " d"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The mean, that of the data."""
        return _moments(self)[0]

    @property
    def cov(self) -> Float[Array, "d d"]:
        """The covariance of the data plus the variance of the noise."""
        return _moments(self)[1]

    def log_joint(self, x: Numbers, v: Numbers) -> Float[Array, "..."]:
        """Log p(x, v) at x (..., d), for the signs v (..., d) of the velocities: a density in x, a probability in v.

        Raises:
            ValueError: if the last axes are not d.
            TypeError: for points as data, which have no density.
        """
        self._require_density("joint density")
        return _log_joint(self, checked_point("x", x, self.dim), checked_point("v", v, self.dim))

    def mean_velocity(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """E[v | x] at one point."""
        logs, ranks = self._parts(x)
        top = jnp.max(ranks, axis=2, keepdims=True)
        plus, minus = jnp.moveaxis(jnp.where(ranks == top, logs, -jnp.inf), 2, 0)
        relative = self._relative(jnp.sum(jnp.logaddexp(plus, minus), axis=1), jnp.sum(top[:, :, 0], axis=1))
        return self.noise.speed * relative @ jnp.tanh((plus - minus) / 2)

    def turned_ratios(self, x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """p(x, R_j v) / p(x, v) for every coordinate j at one point: 0 or infinite where one of them has the mass of a light cone and the other a density."""
        return ratios_of_parts(self.weights, *self._parts(x), v)

    def _log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        self._require_density("density")
        logs, _ = self._parts(x)
        return log_weighted_sum(self.weights, jnp.sum(jnp.logaddexp(logs[:, :, 0], logs[:, :, 1]), axis=1))

    def _score(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return jax.grad(self._log_prob)(x)

    def _parts(self, x: Float[Array, " d"]) -> tuple[Float[Array, "K d 2"], Float[Array, "K d 2"]]:
        """Logarithms of f_{k,j,+-} and how many of them are masses of a light cone (`_BEYOND` outside of it)."""
        offsets = x[None, :] - self.means
        if self.points:
            scale = self.noise.reach + jnp.abs(x)[None, :] + jnp.abs(self.means)
            return jax.vmap(jax.vmap(self._at_point))(offsets, scale)
        logs = jax.vmap(jax.vmap(self.noise.smoothed_log_parts))(offsets, self.deviations)
        return logs, jnp.zeros_like(logs)

    def _at_point(self, y: Float[Array, ""], scale: Float[Array, ""]) -> tuple[Float[Array, " 2"], Float[Array, " 2"]]:
        """The same for data at one point, y away from it; rounding is counted in units of `scale`."""
        reach, rounding = self.noise.reach, scale * jnp.finfo(y.dtype).eps ** 0.6
        sides = jnp.stack([y, -y])
        on, beyond = jnp.abs(sides - reach) <= rounding, jnp.abs(y) > reach + rounding
        between = self.noise.log_parts(jnp.clip(y, -reach, reach))
        logs = jnp.where(on, jnp.log(self.noise.atom), jnp.where(beyond, (reach - jnp.abs(y)) / rounding, between))
        return logs, jnp.where(on, 1.0, jnp.where(beyond, jnp.where(sides > 0, _BEYOND, 2 * _BEYOND), 0.0)).astype(y.dtype)

    def _relative(self, logs: Float[Array, " K"], ranks: Float[Array, " K"]) -> Float[Array, " K"]:
        weights, _ = _counting(self.weights, ranks)
        return relative_terms(weights, jnp.where(weights > 0, logs, -jnp.inf))

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent draws."""
        return self.sample_with_velocity(key, n)[0]

    def sample_with_velocity(self, key: PRNGKeyArray, n: int) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
        """`n` independent draws of the place and of the signs of the velocities."""
        return _drawn(self, key, n)

    def entropy(self, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
        """The differential entropy in nats: quadrature for d <= 2, else Monte Carlo.

        Raises:
            ValueError: if d > 2 and no key is given.
            TypeError: for points as data, which have no density.
        """
        self._require_density("entropy")
        return expectation(self, surprise, (self,), key, samples)

    def pieces(self) -> tuple[Float[Array, "K d"], Float[Array, "K d"]]:
        """The components' centres with the width of the whole, and the ends of their light cones with their own."""
        self._require_density("piece that quadrature could resolve")
        wide = jnp.sqrt(self.deviations**2 + self.noise.variance)
        return (
            jnp.concatenate([self.means, self.means - self.noise.reach, self.means + self.noise.reach]),
            jnp.concatenate([wide, self.deviations, self.deviations]),
        )

    def marginal(self, dims: Sequence[int]) -> "KacMixture":
        """The law of the coordinates `dims`, in that order."""
        kept = np.asarray(checked_dims(dims, self.dim))
        return eqx.tree_at(lambda law: (law.means, law.deviations), self, (self.means[:, kept], self.deviations[:, kept]))

    def condition(self, dims: Sequence[int], values: Numbers) -> "KacMixture":
        """The law of the remaining coordinates, in order, given that the coordinates `dims` equal `values`.

        Raises:
            ValueError: if `dims` repeats a coordinate, is out of range or leaves nothing, or `values` does not have its length.
        """
        given = checked_dims(dims, self.dim)
        rest = [i for i in range(self.dim) if i not in given]
        if not rest:
            refuse("dims", "all coordinates", "at least one left free", "Evaluate log_prob at the values instead.")
        return eqx.tree_at(lambda law: law.weights, self.marginal(rest), _responsibilities(self.marginal(given), checked_point("values", values, len(given))))

    def push(self, A: Numbers, b: Numbers) -> Law:
        """Refused: but along the axes, no linear map leaves the coordinates of the noise independent."""
        raise TypeError("KacMixture.push: got an affine map; expected none. Push the data before they are noised, or sample.")

    def _require_density(self, what: str) -> None:
        if self.points:
            raise TypeError(f"KacMixture: got a request for its {what}; expected data with a density. Points keep masses on light cones: smooth them first.")


def ratios_of_parts(weights: Float[Array, " K"], logs: Float[Array, "K d 2"], ranks: Float[Array, "K d 2"], v: Float[Array, " d"]) -> Float[Array, " d"]:
    """p(x, R_j v) / p(x, v) out of the logarithms of f_{k,j,+-} and the ranks of which only the highest count."""
    both, ahead = jnp.stack([logs, ranks]), (v > 0)[None, None, :]
    own, other = jnp.where(ahead, both[..., 0], both[..., 1]), jnp.where(ahead, both[..., 1], both[..., 0])
    turned = jnp.sum(jnp.where(jnp.eye(len(v), dtype=bool)[None, None], other[:, :, None, :], own[:, :, None, :]), axis=-1)  # (2, K, j)
    log_own, rank_own = _total(weights, *jnp.sum(own, axis=-1))
    log_turned, rank_turned = jax.vmap(_total, in_axes=(None, 1, 1))(weights, turned[0], turned[1])
    return jnp.exp(jnp.where(rank_turned == rank_own, log_turned - log_own, jnp.where(rank_turned > rank_own, jnp.inf, -jnp.inf)))


def _counting(weights: Float[Array, " K"], ranks: Float[Array, " K"]) -> tuple[Float[Array, " K"], Float[Array, ""]]:
    """The weights of the components of the highest rank, and that rank."""
    highest = jnp.max(jnp.where(weights > 0, ranks, -jnp.inf))
    return jnp.where(ranks == highest, weights, 0.0), highest


def _total(weights: Float[Array, " K"], logs: Float[Array, " K"], ranks: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    counting, highest = _counting(weights, ranks)
    return log_weighted_sum(counting, jnp.where(counting > 0, logs, -jnp.inf)), highest


def along_axes(data: Gaussian | GaussianMixture) -> tuple[Float[Array, " K"], Float[Array, "K d"], Float[Array, "K d"]]:
    """Weights, means and standard deviations of components with independent coordinates.

    Raises:
        ValueError: if a covariance is not diagonal, or is singular.
    """
    if is_singular(data):
        refuse("data", "a Gaussian with a singular covariance", "positive variances", "For points use FiniteLaw.")
    weights, means, deviations, correlation = _along_axes(data)
    if not isinstance(data.covariance if isinstance(data, Gaussian) else data.components.covariance, AxisAligned):
        if not is_concrete(correlation):
            refuse("data", "traced full covariances", "diagonal covariances, given as (K, d) variances", "The telegraph process moves coordinates independently.")
        if float(correlation) > 0:
            remedy = "Coordinates move independently: rotate the data, or take more components."
            refuse("data", f"a covariance with off-diagonal {float(correlation):.6g}", "diagonal covariances", remedy)
    return weights, means, deviations


@eqx.filter_jit
def _along_axes(data: Gaussian | GaussianMixture) -> tuple[Float[Array, " K"], Float[Array, "K d"], Float[Array, "K d"], Float[Array, ""]]:
    """Weights, means and standard deviations, and the largest entry off the diagonal of a covariance."""
    weights, components = weighted_components(data)
    matrices = jax.vmap(lambda component: component.cov)(components)
    diagonal = jnp.diagonal(matrices, axis1=1, axis2=2)
    return weights, components.mean, jnp.sqrt(diagonal), jnp.max(jnp.abs(matrices - diagonal[:, :, None] * jnp.eye(data.dim)[None]))


@eqx.filter_jit
def _moments(law: KacMixture) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    mean = law.weights @ law.means
    centred = law.means - mean[None, :]
    variances = law.weights @ law.deviations**2 + law.noise.variance
    return mean, jnp.diag(variances) + (law.weights[:, None] * centred).T @ centred


@eqx.filter_jit
def _log_joint(law: KacMixture, x: Float[Array, "... d"], v: Float[Array, "... d"]) -> Float[Array, "..."]:
    def at(x, v):
        logs, _ = law._parts(x)
        return log_weighted_sum(law.weights, jnp.sum(jnp.where(v[None, :] > 0, logs[:, :, 0], logs[:, :, 1]), axis=1))

    return jnp.vectorize(at, signature="(d),(d)->()")(x, v)


@eqx.filter_jit
def _responsibilities(law: KacMixture, x: Float[Array, " d"]) -> Float[Array, " K"]:
    logs, ranks = law._parts(x)
    top = jnp.max(ranks, axis=2, keepdims=True)
    both = jnp.where(ranks == top, logs, -jnp.inf)
    return law._relative(jnp.sum(jnp.logaddexp(both[:, :, 0], both[:, :, 1]), axis=1), jnp.sum(top[:, :, 0], axis=1))


@eqx.filter_jit
def _drawn(law: KacMixture, key: PRNGKeyArray, n: int) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
    key_label, key_data, key_noise = jax.random.split(key, 3)
    label = jax.random.choice(key_label, law.weights.shape[0], (n,), p=law.weights)
    first = law.means[label] + law.deviations[label] * jax.random.normal(key_data, (n, law.dim), law.means.dtype)
    moved, signs = drawn(law.noise, key_noise, (n, law.dim))
    return first + moved, signs
