r"""The Gaussian mixture p(x) = sum_k w_k N(x; m_k, S_k), w on the simplex (zeros allowed), S_k positive definite.

With responsibilities r_k(x) = w_k N(x; m_k, S_k) / p(x) and the components' scores s_k(x) = -S_k^{-1} (x - m_k):

    score(x) = s(x) = sum_k r_k s_k,      Hessian of log p = -sum_k r_k S_k^{-1} + sum_k r_k (s_k - s)(s_k - s)^T.

Mean sum w_k m_k, covariance sum w_k (S_k + m_k m_k^T) - mean mean^T. Conditioning on x_B = v multiplies w_k by N(v; m_k,B, S_k,BB) and conditions each component.
"""

from collections.abc import Callable, Sequence
from typing import overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.covariance import Covariance, Dense, as_covariance, refuse_singular
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.laws.expectation import expectation, surprise
from ensembletheory.laws.gaussian import Gaussian
from ensembletheory.laws.law import Law, checked_affine, checked_point
from ensembletheory.laws.modes import modes
from ensembletheory.laws.weights import checked_weights, log_weighted_sum, relative_terms
from ensembletheory.laws.whitening import Whitening, whitening

__all__ = ["GaussianMixture", "join_covariances"]


class GaussianMixture(Law):
    """The mixture of N(means[k], covs[k]) with probabilities weights[k].

    Args:
        weights: (K,), non-negative, summing to 1.
        means: (K, d).
        covs: (K, d, d), or (K, d) diagonals, or a list of K `Covariance`s, whose structure is kept if they share one, or a `Covariance` whose arrays have a leading axis K.

    Raises:
        ValueError: if shapes do not agree, weights are off the simplex, a value is not finite, or a covariance is not symmetric positive definite.
    """

    weights: Float[Array, " K"]
    components: Gaussian  # batched: every leaf has a leading axis K

    def __init__(self, weights: Numbers, means: Numbers, covs: Numbers | Covariance | Sequence[Covariance]):
        means = as_floats("means", means)
        if means.ndim != 2 or 0 in means.shape:
            refuse("means", f"shape {means.shape}", "(K, d) with K, d >= 1", "One row a component.")
        K, d = means.shape
        self.weights = checked_weights(weights, K)
        self.components = jax.vmap(Gaussian)(means, _checked_covariances(covs, K, d))

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.components.dim

    @property
    def means(self) -> Float[Array, "K d"]:
        """The components' means."""
        return self.components.mean

    @property
    def covs(self) -> Float[Array, "K d d"]:
        """The components' covariance matrices."""
        return jax.vmap(lambda component: component.cov)(self.components)

    @property
    def mean(self) -> Float[Array, " d"]:
        """The mean."""
        return _moments(self)[0]

    @property
    def cov(self) -> Float[Array, "d d"]:
        """The covariance matrix."""
        return _moments(self)[1]

    def _joint(self, x: Float[Array, " d"]) -> Float[Array, " K"]:
        return jax.vmap(lambda component: component._log_prob(x))(self.components)

    def _log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return log_weighted_sum(self.weights, self._joint(x))

    def responsibilities(self, x: Float[Array, " d"]) -> Float[Array, " K"]:
        """The posterior probabilities r_k(x) of the components at one point."""
        return relative_terms(self.weights, self._joint(x))

    def _score(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.responsibilities(x) @ jax.vmap(lambda component: component._score(x))(self.components)

    def _prepared(self) -> Whitening | None:
        return whitening(self.components)

    def _log_probs(self, prepared: Whitening | None, points: Float[Array, "n d"]) -> Float[Array, " n"]:
        if prepared is None:
            return super()._log_probs(prepared, points)
        return jax.vmap(log_weighted_sum, in_axes=(None, 1))(self.weights, prepared.log_densities(points))

    def _scores(self, prepared: Whitening | None, points: Float[Array, "n d"]) -> Float[Array, "n d"]:
        return super()._scores(prepared, points) if prepared is None else prepared.mixed_scores(self.weights, points)

    def _hessian(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        r, scores = self.responsibilities(x), jax.vmap(lambda component: component._score(x))(self.components)
        spread = scores - (r @ scores)[None, :]
        own = jax.vmap(lambda component: component._hessian(x))(self.components)
        return jnp.einsum("k,kij->ij", r, own) + (r[:, None] * spread).T @ spread

    def modes(self) -> Float[Array, "M d"]:
        """The modes that climbs from the components' means, and from where two components cross, reach, the highest first; see `laws.modes`.

        Raises:
            ValueError: if a climb ends where the Hessian is singular, so that a mode is about to split.
        """
        return modes(self)

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent draws."""
        return _drawn(self, key, n)

    def entropy(self, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
        """The differential entropy in nats: quadrature for d <= 2, else Monte Carlo.

        Raises:
            ValueError: if d > 2 and no key is given.
        """
        return expectation(self, surprise, (self,), key, samples)

    def pieces(self) -> tuple[Float[Array, "K d"], Float[Array, "K d"]]:
        """Centres and standard deviations of the components."""
        return self.means, jnp.sqrt(jax.vmap(lambda component: component.covariance.diagonal())(self.components))

    def marginal(self, dims: Sequence[int]) -> "GaussianMixture":
        """The law of the coordinates `dims`, in that order."""
        return _mapped(self, Gaussian.marginal, dims)

    def condition(self, dims: Sequence[int], values: Numbers) -> "GaussianMixture":
        """The law of the remaining coordinates, in order, given that the coordinates `dims` equal `values`.

        Raises:
            ValueError: if `dims` repeats a coordinate, is out of range or leaves nothing, or `values` does not have its length.
        """
        given = self.marginal(dims)
        values = checked_point("values", values, given.dim)
        remaining = _mapped(self, Gaussian.condition, dims, values)
        return eqx.tree_at(lambda mixture: mixture.weights, remaining, _responsibilities(given, values))

    def push(self, A: Numbers, b: Numbers) -> "GaussianMixture":
        """The law of A x + b, for A (k, d) of full row rank and b (k,)."""
        A, b = checked_affine(A, b, self.dim)
        return _mapped(self, Gaussian.push, A, b)


def _checked_covariances(covs: Numbers | Covariance | Sequence[Covariance], K: int, d: int) -> Covariance:
    """One covariance whose arrays have a leading axis K."""
    if isinstance(covs, Covariance):
        shapes = {leaf.shape[:1] for leaf in jax.tree.leaves(covs)}
        if shapes != {(K,)}:
            refuse("covs", f"arrays of leading shapes {sorted(shapes)}", f"a leading axis of {K}", "One covariance a component.")
        if is_concrete(*jax.tree.leaves(covs)):
            for k in range(K):
                refuse_singular(f"covs[{k}]", as_covariance(f"covs[{k}]", jax.tree.map(lambda leaf: leaf[k], covs), d))  # noqa: B023
        return covs
    values = _listed(covs) or as_floats("covs", covs)  # pyright: ignore[reportArgumentType]
    shape = (len(values), d) if isinstance(values, list) else values.shape
    if shape not in ((K, d, d), (K, d)):
        refuse("covs", f"shape {shape}", f"({K}, {d}, {d}) or ({K}, {d})", "One covariance a component.")
    each = values if isinstance(values, list) or not is_concrete(values) else np.asarray(values)  # known numbers are parted without compiling
    covariances = [as_covariance(f"covs[{k}]", cov, d) for k, cov in enumerate(each)]
    for k, covariance in enumerate(covariances):
        refuse_singular(f"covs[{k}]", covariance)
    return join_covariances([jax.tree.map(lambda leaf: (np.asarray(leaf) if is_concrete(leaf) else leaf)[None], covariance) for covariance in covariances])


def _listed(covs: Numbers | Sequence[Covariance]) -> list[Covariance]:
    """The covariances of a list that holds some, else nothing."""
    return list(covs) if isinstance(covs, list | tuple) and any(isinstance(cov, Covariance) for cov in covs) else []


def join_covariances(stacks: Sequence[Covariance]) -> Covariance:
    """One stack (arrays with a leading axis) of several, in their structure if they share one, else of full matrices."""
    forms = {(jax.tree.structure(stack), tuple(leaf.shape[1:] for leaf in jax.tree.leaves(stack))) for stack in stacks}
    alike = stacks if len(forms) == 1 else [jax.vmap(lambda one: Dense(one.as_matrix()))(stack) for stack in stacks]
    return jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)) if is_concrete(*leaves) else jnp.concatenate(leaves), *alike)


def weighted_components(law: Gaussian | GaussianMixture) -> tuple[Float[Array, " K"], Gaussian]:
    """Weights and stacked components (arrays with a leading axis K): one of weight 1, for a Gaussian."""
    if isinstance(law, GaussianMixture):
        return law.weights, law.components
    return jnp.ones(1), jax.tree.map(lambda leaf: leaf[None], law)


def components(law: Gaussian | GaussianMixture) -> list[Gaussian]:
    """The components, one by one."""
    weights, stacked = weighted_components(law)
    return [jax.tree.map(lambda leaf: leaf[k], stacked) for k in range(len(weights))]  # noqa: B023


@overload
def with_components(law: Gaussian, change: Callable[[Gaussian], Gaussian]) -> Gaussian: ...
@overload
def with_components(law: GaussianMixture, change: Callable[[Gaussian], Gaussian]) -> GaussianMixture: ...
@overload
def with_components(law: Gaussian | GaussianMixture, change: Callable[[Gaussian], Gaussian]) -> Gaussian | GaussianMixture: ...
def with_components(law: Gaussian | GaussianMixture, change: Callable[[Gaussian], Gaussian]) -> Gaussian | GaussianMixture:
    """A changed Gaussian, or the mixture of the changed components with the same weights."""
    if isinstance(law, Gaussian):
        return change(law)
    return eqx.tree_at(lambda mixture: mixture.components, law, jax.vmap(change)(law.components))


@eqx.filter_jit
def _mapped(mixture: GaussianMixture, method: Callable[..., Gaussian], *arguments) -> GaussianMixture:
    """The mixture of the transformed components, with the same weights."""
    return with_components(mixture, lambda component: method(component, *arguments))


@eqx.filter_jit
def _moments(mixture: GaussianMixture) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    mean = mixture.weights @ mixture.means
    centred = mixture.means - mean[None, :]
    return mean, jnp.einsum("k,kij->ij", mixture.weights, mixture.covs) + (mixture.weights[:, None] * centred).T @ centred


@eqx.filter_jit
def _responsibilities(mixture: GaussianMixture, x: Float[Array, " d"]) -> Float[Array, " K"]:
    return mixture.responsibilities(x)


@eqx.filter_jit
def _drawn(mixture: GaussianMixture, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
    key_label, key_noise = jax.random.split(key)
    label = jax.random.choice(key_label, mixture.weights.shape[0], (n,), p=mixture.weights)
    z = jax.random.normal(key_noise, (n, mixture.components.covariance.width), mixture.means.dtype)
    factors = jax.vmap(lambda component: component.covariance.factor())(mixture.components)
    return mixture.means[label] + jnp.einsum("nij,nj->ni", factors[label], z)
