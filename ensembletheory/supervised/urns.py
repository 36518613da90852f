r"""Votes drawn from an urn: exact losses of juries whose members are independent, correlated, or some of the members of a larger ensemble.

An urn holds a_c balls of colour c, A in all. A vote draws a ball and returns it with s more of its colour, so that votes are exchangeable, and K of them have the
counts n_c with probability
$$ P(n) = \prod_c f(a_c, n_c) \,/\, f(A, K), \qquad f(a, n) = \prod_{i < n} \frac{a + i s}{i + 1}. $$

| votes                                              | a_c           | s    | correlation of two votes | law of the counts                            |
|----------------------------------------------------|---------------|------|--------------------------|----------------------------------------------|
| independent, class c with probability p_c          | p_c           | 0    | 0                        | multinomial                                  |
| correlated by rho                                  | p_c (1 - rho) | rho  | rho                      | Dirichlet-multinomial (C = 2: beta-binomial) |
| K of the T members of an ensemble, R_c vote for c  | R_c           | -1   | -1/(T - 1)               | hypergeometric                               |

The third row is the average over all subsets of K members, which an experiment with T trained members can report without choosing any.

*Two classes*, a right and b wrong: a split jury tosses a fair coin, so 2m members err as often as 2m - 1, and with rising factorials x^{[m]} = x (x + s) ... (x + (m - 1) s)
$$ err_{2m-1} - err_{2m+1} = \binom{2m-1}{m} \frac{a^{[m]} b^{[m]}}{A^{[2m+1]}} (a - b), $$
so that in all three rows the error falls with K if the vote is right more often than not, and else rises. As K grows it tends to I_{1/2}(a/s, b/s) in the second row.

*C classes*: the class with most votes is chosen, and ties are broken evenly. The right class wins with n votes against t others that also have n with probability
1/(t + 1) = int_0^1 u^t du; the counts of the others then come from the product of the generating functions sum_{j<n} f(a_c, j) x^j + u f(a_c, n) x^n, and the integral
over u of a polynomial of degree C - 1 is exact by Gauss-Legendre. With more than two classes the
error need not be monotone: right with probability 0.3 against 0.32, 0.19 and 0.19, a vote errs less and less until about K = 100, because the small classes fall out,
and then more and more, because the large wrong one wins in the end.

*A loss of the share* S/K of right votes, such as the cross-entropy of averaged one-hot predictions (trees grown to pure leaves): the sum over the law of S.

Source: Condorcet's jury in the setting of Mattei & Garreau, "Are ensembles getting better all the time?" (JMLR 26, 2025); urns: Eggenberger & Polya (1923).
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.laws.weights import checked_weights
from ensembletheory.supervised.arguments import ensemble_size, fraction

__all__ = [
    "correlated_majority_vote_error",
    "plurality_vote_error",
    "subset_majority_vote_error",
    "subset_plurality_vote_error",
    "subset_vote_share_loss",
    "vote_share_loss",
]

_MOST = 600  # members: the terms stay below exp(600)

Loss = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def vote_share_loss(members: Numbers, accuracy: Numbers, loss: Loss, correlation: Numbers = 0.0) -> Float[Array, "..."]:
    """Expected loss of the share of right votes among K exchangeable votes.

    Args:
        members: K, whole numbers up to 600 that are known (not traced); numbers go elementwise, scalars with every shape.
        accuracy: p in [0, 1], the probability that one vote is right.
        loss: from the share in [0, 1] to the loss, elementwise; it may be infinite.
        correlation: rho in [0, 1] between any two votes.

    Returns:
        E loss(S/K) for a beta-binomial S, of the common shape.

    Raises:
        ValueError: if K is not a whole number from 1 to 600, or p or rho lies outside [0, 1].
    """
    right, rho = fraction("accuracy", accuracy), fraction("correlation", correlation)
    sizes, largest = _sizes(members)
    return _correlated(sizes, right, rho, loss, largest)


def subset_vote_share_loss(members: Numbers, right: Numbers, total: Numbers, loss: Loss) -> Float[Array, "..."]:
    """Mean, over all subsets of K of the T members of an ensemble, of the loss of the share of right votes.

    Args:
        members: K, whole numbers up to T that are known (not traced); numbers go elementwise, scalars with every shape.
        right: R, how many of the T members vote right.
        total: T.
        loss: from the share in [0, 1] to the loss, elementwise; it may be infinite.

    Returns:
        E loss(S/K) for a hypergeometric S, of the common shape.

    Raises:
        ValueError: if K is not a whole number from 1 to min(T, 600), or R not one from 0 to T.
    """
    sizes, largest = _sizes(members)
    members_in_all, balls = ensemble_size(total), as_floats("right", right)
    _demand_subset(sizes, members_in_all)
    if is_concrete(balls, members_in_all) and np.any((np.asarray(balls) < 0) | (np.asarray(balls) > np.asarray(members_in_all)) | (np.asarray(balls) % 1 != 0)):
        refuse("right", f"numbers between {np.min(balls):g} and {np.max(balls):g}", "whole numbers from 0 to `total`", "Count the members that vote right.")
    return _subset(sizes, balls, members_in_all, loss, largest)


def correlated_majority_vote_error(members: Numbers, accuracy: Numbers, correlation: Numbers = 0.0, split: float = 0.5) -> Float[Array, "..."]:
    """Probability that the majority of K voters, any two correlated by rho, is wrong.

    Args:
        members: K, whole numbers up to 600 that are known (not traced); numbers go elementwise, scalars with every shape.
        accuracy: p in [0, 1], the probability that one voter is right.
        correlation: rho in [0, 1] between any two votes (beta-binomial counts).
        split: the probability that an even jury that is split decides wrongly.

    Returns:
        P(S < K/2) + split P(S = K/2), of the common shape.

    Raises:
        ValueError: as `vote_share_loss`, or if `split` lies outside [0, 1].
    """
    fraction("split", split)
    return vote_share_loss(members, accuracy, _ERRORS.get(split) or _error(split), correlation)


def subset_majority_vote_error(members: Numbers, right: Numbers, total: Numbers) -> Float[Array, "..."]:
    """Part of the subsets of K of T voters whose majority is wrong, a split counting one half.

    Args:
        members: K, whole numbers up to T that are known (not traced); numbers go elementwise, scalars with every shape.
        right: R, how many of the T voters are right.
        total: T.

    Returns:
        P(S < K/2) + P(S = K/2)/2 for a hypergeometric S, of the common shape.

    Raises:
        ValueError: as `subset_vote_share_loss`.
    """
    return subset_vote_share_loss(members, right, total, _ERRORS[0.5])


def plurality_vote_error(members: Numbers, probabilities: Numbers, correlation: Numbers = 0.0) -> Float[Array, "..."]:
    """Probability that class 0, the right one, does not win the vote of K voters among C classes; ties are broken evenly.

    Args:
        members: K, whole numbers of any shape up to 600 that are known (not traced).
        probabilities: (C,), of one vote for each class, the right one first.
        correlation: rho in [0, 1], one number: counts are Dirichlet-multinomial, and the indicators of one class in two votes are correlated by rho.

    Returns:
        One minus the probability that class 0 wins, of the shape of `members`; absolute error below 1e-12.

    Raises:
        ValueError: if K is not a whole number from 1 to 600, the probabilities are off the simplex, there are fewer than 2, or rho lies outside [0, 1].
    """
    sizes, largest = _sizes(members)
    shares = as_floats("probabilities", probabilities)
    if shares.ndim != 1 or shares.size < 2:
        refuse("probabilities", f"shape {shares.shape}", "(C,) with C >= 2", "Give one probability a class, the right one first.")
    rho = fraction("correlation", correlation)
    return _correlated_plurality(sizes, checked_weights(shares, shares.shape[0]), rho, largest)


def subset_plurality_vote_error(members: Numbers, votes: Numbers) -> Float[Array, "..."]:
    """Part of the subsets of K of T voters in which class 0, the right one, does not win among C classes; ties are broken evenly.

    Args:
        members: K, whole numbers of any shape up to T that are known (not traced).
        votes: (C,), how many of the T voters vote for each class, the right one first.

    Returns:
        One minus the probability that class 0 wins, of the shape of `members`; absolute error below 1e-12.

    Raises:
        ValueError: if K is not a whole number from 1 to min(T, 600), or the votes are not two or more whole numbers >= 0.
    """
    sizes, largest = _sizes(members)
    balls = as_floats("votes", votes)
    if balls.ndim != 1 or balls.size < 2 or (is_concrete(balls) and np.any((np.asarray(balls) < 0) | (np.asarray(balls) % 1 != 0))):
        refuse("votes", f"{balls}", "(C,) with C >= 2 whole numbers >= 0", "Count the votes for each class, the right one first.")
    _demand_subset(sizes, jnp.sum(balls))
    return _subset_plurality(sizes, balls, largest)


def _error(split: float) -> Loss:
    def error(share):
        return jnp.where(share < 0.5, 1.0, jnp.where(share == 0.5, split, 0.0))

    return error


_ERRORS: dict[float, Loss] = {0.5: _error(0.5), 0.0: _error(0.0), 1.0: _error(1.0)}  # one compilation each


def _sizes(members: Numbers) -> tuple[np.ndarray, int]:
    """K as integers, and the largest of them."""
    with jax.ensure_compile_time_eval():
        sizes = ensemble_size(members)
    if not is_concrete(sizes):
        refuse("members", "a traced array", "numbers that are known", "Close over K instead of passing it through jit, vmap or grad.")
    largest = int(np.max(np.asarray(sizes)))
    if largest > _MOST:
        refuse("members", str(largest), f"at most {_MOST}", "For larger juries use majority_vote_error, or its limit.")
    return np.asarray(sizes).astype(int), largest


def _demand_subset(sizes: np.ndarray, total: Float[Array, "..."]) -> None:
    if is_concrete(total) and np.any(sizes > np.asarray(total)):
        refuse("members", f"{np.max(sizes)}", f"at most the {np.min(total):g} members there are", "A subset is no larger than the ensemble.")


def _terms(share: Array, balls: Array, step: Array, scale: Array, largest: int) -> Array:
    """A f(a, n) scale^n / a for n = 1, ..., largest times the share a/A (which is known where A = 0), and 1 for n = 0."""
    i = jnp.arange(1, largest, dtype=share.dtype)
    ratios = (balls + i * step) * scale / (i + 1)
    leading = jnp.stack([jnp.ones_like(share), share * scale])
    return jnp.concatenate([leading, leading[1] * jnp.cumprod(ratios)])


def _scale(total: Float[Array, ""], step: Float[Array, ""], largest: int) -> Float[Array, ""]:
    """The saddle point of the generating function of all votes, which keeps its terms of one size."""
    return largest / (total + largest * jnp.maximum(step, 0.0))


@eqx.filter_jit
def _correlated(sizes, accuracy, correlation, loss: Loss, largest: int) -> Float[Array, "..."]:
    return _expected(sizes, accuracy, accuracy * (1 - correlation), 1 - correlation, correlation, loss, largest)


@eqx.filter_jit
def _subset(sizes, right, total, loss: Loss, largest: int) -> Float[Array, "..."]:
    return _expected(sizes, right / total, right, total, -1.0, loss, largest)


def _expected(sizes, share, balls, total, step, loss: Loss, largest: int) -> Float[Array, "..."]:
    """E loss(S/K) elementwise, for an urn of which `share` and `balls` are right."""
    arrays = jnp.broadcast_arrays(*(jnp.asarray(x, jnp.result_type(float)) for x in (sizes, share, balls, total, step)))
    counts = jnp.arange(largest + 1.0)

    def one(size: Array, share: Array, balls: Array, total: Array, step: Array) -> Array:
        scale = _scale(total, step, largest)
        right, wrong = _terms(share, balls, step, scale, largest), _terms(1 - share, total - balls, step, scale, largest)
        others = size - counts
        both = jnp.where((counts > 0) & (others > 0), total, 1.0)
        joint = both * right * wrong[jnp.maximum(others, 0.0).astype(int)]
        law = jnp.where(others >= 0, joint / _terms(jnp.ones_like(total), total, step, scale, largest)[size.astype(int)], 0.0)
        return jnp.sum(law * jnp.where(law > 0, loss(jnp.minimum(counts / size, 1.0)), 0.0))

    return jax.vmap(one)(*(array.ravel() for array in arrays)).reshape(arrays[0].shape)


@eqx.filter_jit
def _correlated_plurality(sizes, shares, correlation, largest: int) -> Float[Array, "..."]:
    return _plurality_error(shares, shares * (1 - correlation), 1 - correlation, correlation, largest)[sizes]


@eqx.filter_jit
def _subset_plurality(sizes, votes, largest: int) -> Float[Array, "..."]:
    total = jnp.sum(votes)
    return _plurality_error(votes / total, votes, total, jnp.asarray(-1.0, votes.dtype), largest)[sizes]


def _plurality_error(shares, balls, total, step, largest: int) -> Float[Array, " n"]:
    """The error for K = 0 (without meaning), 1, ..., largest."""
    scale, counts = _scale(total, step, largest), jnp.arange(largest + 1)
    winner, in_all = (_terms(share, ball, step, scale, largest) for share, ball in ((shares[0], balls[0]), (jnp.ones_like(total), total)))
    others = jax.vmap(lambda share, ball: _terms(share * total, ball, step, scale, largest))(shares[1:], balls[1:])
    nodes, masses = np.polynomial.legendre.leggauss((shares.shape[0] + 1) // 2)
    lag = counts[:, None] - counts[None, :]

    def times(product, factor):
        return jnp.where(lag >= 0, factor[jnp.maximum(lag, 0)], 0.0) @ product, None

    def won_with(votes):
        def at(u):
            part = jnp.heaviside((votes - counts).astype(others.dtype), u)
            return jax.lax.scan(times, (counts == 0).astype(others.dtype), part[None, :] * others)[0]

        rest = jnp.asarray(masses / 2) @ jax.vmap(at)(jnp.asarray((nodes + 1) / 2))
        return winner[votes] * jnp.where(counts >= votes, rest[jnp.maximum(counts - votes, 0)], 0.0)

    won = jnp.sum(jax.lax.map(won_with, counts[1:]), axis=0)
    return 1 - won / in_all
