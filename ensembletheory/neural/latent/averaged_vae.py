r"""Averages of VAEs as functions, raw and with their latents aligned; and how alike two VAEs' latents are.

A turn of the latents by an orthogonal Q, z -> Q z, gives the decoder g(Q^T z), whose law of x is the same. So g_1 ... g_K may describe one law and have an average that
describes another. The average of VAEs with elements Q_k is

    g(z) = sum_k w_k g_k(Q_k^T z),   v = sum_k w_k v_k,   encoder mean sum_k w_k Q_k m_k(x),   encoder variances sum_k w_k (Q_k o Q_k) D_k(x),

(o: entry by entry; the diagonal of Q D Q^T). Of linear VAEs it is `average_loadings` of their `ppca()`.

**Alignment** is by what the encoders say of the same points: with M_k (n, q) the means of z given these points, the Q_k of a group minimise

    sum_k w_k | M_k Q_k^T - R |^2,    R = sum_k w_k M_k Q_k^T,

by turns in the Q_k and in R (generalised Procrustes analysis, Gower 1975), each exact: polar factors for `Orthogonal`, linear assignment with signs for `SignedPermutations`,
under which the ELBO is invariant too. The sum never rises. Two members are aligned optimally; of more, K such descents, each of which begins with another member as R, may
all end above the least sum, and the best is taken. A member may be replaced by a turned copy of itself without changing the
average, if its alignment is unique: the decoder g_k(h^T z) has means M_k h^T, and is given Q_k h^T. For which members have no element of the group in common that makes
them alike, no turn helps: other maps that keep N(0, I) are gauges as well.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.identifiability.groups import Group, SignedPermutations
from ensembletheory.laws.law import checked_point
from ensembletheory.laws.weights import checked_weights
from ensembletheory.neural.latent.vae import Vae
from ensembletheory.neural.latent.variational import VariationalModel
from ensembletheory.neural.stacks import count

__all__ = ["AveragedVae", "align_latents", "turned"]

_ROUNDS = 200
_SETTLED = 1e-12


class AveragedVae(VariationalModel):
    """The average of a stack of VAEs as functions.

    Args:
        models: a stack of K `Vae`s.
        turns: (K, q, q), orthogonal matrices Q_k by which their latents are turned first (`align_latents`); default none.
        weights: (K,) on the simplex; default equal.

    Raises:
        ValueError: if the weights are off the simplex, or the turns are not K orthogonal matrices.
    """

    models: Any
    turns: Float[Array, "K q q"]
    weights: Float[Array, " K"]

    def __init__(self, models: Any, turns: Numbers | None = None, weights: Numbers | None = None):
        K, q = count(models), models.latent
        self.models, self.weights = models, checked_weights(weights, K)
        self.turns = as_floats("turns", np.tile(np.eye(q), (K, 1, 1)) if turns is None else turns)
        if self.turns.shape != (K, q, q) or (is_concrete(self.turns) and not _are_orthogonal(np.asarray(self.turns))):
            refuse("turns", f"shape {self.turns.shape}, or matrices that are not orthogonal", f"({K}, {q}, {q}), orthogonal", "Take them from align_latents.")

    @property
    def dim(self) -> int:
        """The dimension d of x."""
        return self.models.dim

    @property
    def latent(self) -> int:
        """The dimension q of z."""
        return self.models.latent

    @property
    def affine(self) -> bool:
        """Whether the members are linear VAEs."""
        return self.models.affine

    @property
    def noise_variances(self) -> Float[Array, " d"]:
        """The average of the members' variances."""
        return self.weights @ eqx.filter_vmap(lambda vae: vae.noise_variances)(self.models)

    def decode(self, z: Float[Array, " q"]) -> Float[Array, " d"]:
        """The average of the members' means of x, each at its turned z."""
        return self.weights @ eqx.filter_vmap(lambda vae, turn: vae.decode(turn.T @ z))(self.models, self.turns)

    def encode(self, x: Float[Array, " d"]) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        """The averages of the members' turned means and variances of z."""
        means, variances = eqx.filter_vmap(lambda vae, turn: _turned_pair(turn, vae.encode(x)))(self.models, self.turns)
        return self.weights @ means, self.weights @ variances


def _are_orthogonal(turns: Float[np.ndarray, "K q q"]) -> bool:
    return np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(turns.shape[-1]), rtol=0, atol=np.sqrt(np.finfo(turns.dtype).eps))


def _turned_pair(turn: Float[Array, "q q"], pair: tuple[Float[Array, " q"], Float[Array, " q"]]) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
    return turn @ pair[0], turn**2 @ pair[1]


def align_latents(models: Any, x: Numbers, group: type[Group] = SignedPermutations, weights: Numbers | None = None) -> Float[np.ndarray, "K q q"]:
    """The elements of a group by which the latents of a stack of VAEs agree at the points x (n, d): exactly the best for two members, else the best of K descents.

    That of the first member is the identity.

    Args:
        models: a stack of K VAEs.
        x: points (n, d) that all encoders see.
        group: `SignedPermutations`, `Orthogonal`, or another group of orthogonal matrices.
        weights: (K,) on the simplex; default equal.

    Raises:
        ValueError: if the points are not (n, d), or the weights are off the simplex.
    """
    points, weights = checked_point("x", x, models.dim), np.asarray(checked_weights(weights, count(models)))
    means = np.asarray(_means(models, points.reshape(-1, models.dim)))
    return _aligned(means, group(models.latent), weights)


@eqx.filter_jit
def _means(models: Any, points: Float[Array, "n d"]) -> Float[Array, "K n q"]:
    return eqx.filter_vmap(lambda vae: jax.vmap(lambda x: vae.encode(x)[0])(points))(models)


def _aligned(means: Float[np.ndarray, "K n q"], group: Group, weights: Float[np.ndarray, " K"]) -> Float[np.ndarray, "K q q"]:
    """The best of the descents from each member, the first element the identity."""
    found = [_gower(means, group, weights, reference) for reference in (means if len(means) > 2 else means[:1])]
    best = min(found, key=lambda elements: _misfit(means @ elements.transpose(0, 2, 1), weights))
    return best[0].T @ best


def _misfit(turned: Float[np.ndarray, "K n q"], weights: Float[np.ndarray, " K"]) -> float:
    return float(weights @ np.sum((turned - np.tensordot(weights, turned, 1)) ** 2, axis=(1, 2)))


def _gower(means: Float[np.ndarray, "K n q"], group: Group, weights: Float[np.ndarray, " K"], reference: Float[np.ndarray, "n q"]) -> Float[np.ndarray, "K q q"]:
    """Elements by turns with their reference, from a first one."""
    elements = np.tile(group.identity, (len(means), 1, 1))
    for _ in range(_ROUNDS):
        before, elements = elements, np.stack([group.nearest(reference.T @ M) for M in means])
        if np.max(np.abs(elements - before)) <= _SETTLED:
            break
        reference = np.tensordot(weights, means @ elements.transpose(0, 2, 1), 1)
    return elements


def turned(vae: Vae, g: Numbers) -> Vae:
    """The VAE with its latents turned by a signed permutation g: the same law of x and the same ELBO at every point.

    Raises:
        ValueError: if g is not a signed permutation of the latents.
    """
    matrix = np.asarray(as_floats("g", g))
    if not SignedPermutations(vae.latent).contains(matrix):
        refuse(
            "g",
            f"a matrix of shape {matrix.shape}",
            f"a signed permutation of {vae.latent} latents",
            "A diagonal encoder has no other turned copy; AveragedVae takes more.",
        )
    return _turned(vae, jnp.asarray(matrix))


@eqx.filter_jit
def _turned(vae: Vae, g: Float[Array, "q q"]) -> Vae:
    first, last = vae.decoder.layers[0], vae.encoder.layers[-1]
    inputs = jnp.concatenate([first[:, :-1] @ g.T, first[:, -1:]], axis=1)
    q = vae.latent
    outputs = jnp.concatenate([g @ last[:q], jnp.abs(g) @ last[q:]]) if len(last) > q else g @ last
    constants = jnp.abs(g) @ vae.constants if vae.affine else vae.constants
    where = lambda v: (v.decoder.layers[0], v.encoder.layers[-1], v.constants)  # noqa: E731
    return eqx.tree_at(where, vae, (inputs, outputs, constants))
