r"""How errors of imputations depend on the number of draws and of members, exactly.

**Draws.** The missing entry x has the law p given what is observed (mean m_p, variance v_p), an imputation the law q (m_q, v_q), independent of x. The mean of L draws of q
errs by

    E (mean of L draws - x)^2 = (m_q - m_p)^2 + v_p + v_q / L.

The exact conditional, q = p, has 2 v_p for one draw, twice the error of the conditional mean, and (1 + 1/L) v_p for the mean of L; v_p is the Bayes error, below which
nobody is.

**Members.** M members err by e_1 .. e_M, exchangeable: E e_i^2 = A + B and E e_i e_j = A for i != j, whatever else. Then

    E ( mean of M errors )^2 = A + B / M,       B = 1/2 E (e_1 - e_2)^2 >= 0,

and the mean over all subsets of M out of K given members is the same with A and B the averages over pairs and members: an identity for every set of numbers, since a subset
drawn at random is exchangeable. If each member is known by L draws of variance C given the member, C / (M L) is added. The energy score of the linear pool of M members,
and every kernel score, is A + B / M too:

    A = E|X_1 - y| - 1/2 E|X_1 - X_2|,      B = 1/2 ( E|X_1 - X_2| - E|X_1 - X_1'| ) = 1/4 E D(P_1, P_2) >= 0

with X_1, X_1' of one member and X_2 of another. No root of such a number is of this form. Derived here; that such losses fall with M is in Mattei & Garreau (2025).
"""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, checked_count, refuse
from ensembletheory.imputation.conditionals import Model, conditional_mean, conditional_variance

__all__ = ["EnsembleLaw", "draw_errors", "law_of_scores", "law_of_squares"]


class EnsembleLaw(eqx.Module):
    """The expected loss A + B / M of ensembles of M exchangeable members."""

    limit: Float[Array, ""]  # A
    excess: Float[Array, ""]  # B

    def at(self, members: Numbers) -> Float[Array, "..."]:
        """A + B / M for M = `members`, infinity included."""
        return jnp.asarray(np.asarray(self.limit) + np.asarray(self.excess) / np.asarray(members, dtype=float))


def draw_errors(truth: Model, law: Model, X: Numbers, draws: int | float = math.inf) -> Float[Array, "n d"]:
    """The expected squared error at each entry of X (n, d), NaN = missing, of the mean of L = `draws` draws of the conditional of `law` when that of `truth` is right.

    It is 0 where observed. Infinitely many draws have the conditional mean.

    Raises:
        ValueError: as `conditional_mean`, or if `draws` is neither infinite nor a whole number >= 1.
        TypeError: as `conditional_mean`.
    """
    if draws != math.inf:
        draws = checked_count("draws", draws, 1)  # pyright: ignore[reportArgumentType]
    bias = np.asarray(conditional_mean(law, X)) - np.asarray(conditional_mean(truth, X))
    return jnp.asarray(bias**2 + np.asarray(conditional_variance(truth, X)) + np.asarray(conditional_variance(law, X)) / draws)


def law_of_squares(errors: Numbers) -> EnsembleLaw:
    """A and B of the mean square, over entries, of the averaged errors (K, ...) of K members: exact over all their subsets of a size.

    Raises:
        ValueError: if there are fewer than two members.
    """
    values = _members("errors", errors).reshape(len(np.asarray(errors)), -1)
    K, n = values.shape
    own, whole = np.sum(values**2) / (K * n), np.sum(np.sum(values, axis=0) ** 2) / (K * n)
    return _law((whole - own) / (K - 1), own)


def law_of_scores(to_target: Numbers, between: Numbers) -> EnsembleLaw:
    """A and B of the energy score of pools of K members: exact over all their subsets of a size.

    Args:
        to_target: (K,) the means E|X_k - y|, averaged over outcomes.
        between: (K, K) the means E|X_k - X_l|, of independent draws also where k = l.

    Raises:
        ValueError: if there are fewer than two members, or the shapes do not agree.
    """
    target, pairs = _members("to_target", to_target), np.asarray(as_floats("between", between))
    K = len(target)
    if pairs.shape != (K, K):
        refuse("between", f"shape {pairs.shape}", f"({K}, {K})", "One row and one column a member.")
    own = np.trace(pairs) / K
    others = (np.sum(pairs) - K * own) / (K * (K - 1))
    return _law(np.mean(target) - others / 2, np.mean(target) - own / 2)


def _law(limit: float, single: float) -> EnsembleLaw:
    return EnsembleLaw(jnp.asarray(limit), jnp.asarray(single - limit))


def _members(argument: str, values: Numbers) -> np.ndarray:
    """One slice a member.

    Raises:
        ValueError: if there are fewer than two.
    """
    array = np.asarray(as_floats(argument, values))
    if array.ndim == 0 or len(array) < 2 or array.size == 0:
        refuse(argument, f"shape {array.shape}", "(K, ...) with K >= 2", "One member does not tell how members differ.")
    return array
