r"""Strategies of laws that are valid by construction and shrink to models a reader can type.

Every number is a half-integer or a small fraction: means k/2, covariances L L^T with L lower triangular, half-integers below the diagonal and 1, 2, 1/2 or 3 on it (so that no
candidate is ever filtered out, and no number is subnormal), weights proportional to small integers. Dimensions and numbers of members come from small fixed sets, for each
shape compiles once. Everything shrinks towards N(0, I) in the first dimension of its set, equal weights and the first number of components: order the sets with the simplest
first. The strategies say what is valid, not what is likely.
"""

from collections.abc import Callable, Sequence

import hypothesis.strategies as st
import numpy as np

from ensembletheory.errors import refuse
from ensembletheory.latent import Ppca
from ensembletheory.laws import Gaussian, GaussianMixture, Law

__all__ = ["ensembles", "gaussians", "mixtures", "ppcas"]

_SCALES = (1.0, 2.0, 0.5, 3.0)  # diagonals of Cholesky factors, the simplest first
_NOISES = (1.0, 0.5, 2.0, 0.25)
_LARGEST_WEIGHT = 8  # weights are these integers over their sum
_STRUCTURES = ("isotropic", "diagonal", "dense")


def gaussians(*, dims: Sequence[int] = (1, 2, 3), reach: int = 3, structures: Sequence[str] = _STRUCTURES) -> st.SearchStrategy[Gaussian]:
    """Gaussian laws.

    Args:
        dims: the dimensions to choose from, the one to shrink to first.
        reach: bound on the absolute values of the means.
        structures: the forms of covariance to choose from, of "isotropic", "diagonal" and "dense", the one to shrink to first.

    Raises:
        ValueError: if a set is empty or holds something else, or the reach is not a positive integer.
    """
    _check_sizes("dims", dims)
    _check_reach(reach)
    if not structures or not set(structures) <= set(_STRUCTURES):
        refuse("structures", repr(structures), f"one or more of {_STRUCTURES}", "Leave it out for all of them.")

    @st.composite
    def build(draw: st.DrawFn) -> Gaussian:
        d = draw(st.sampled_from(dims))
        return Gaussian(draw(_halves(reach, d)), draw(_covariances(d, draw(st.sampled_from(structures)))))

    return build()


def mixtures(*, dims: Sequence[int] = (1, 2), components: Sequence[int] = (1, 2, 3), reach: int = 3, zero_weights: bool = False) -> st.SearchStrategy[GaussianMixture]:
    """Gaussian mixtures with full covariances.

    Args:
        dims: the dimensions to choose from, the one to shrink to first.
        components: the numbers of components to choose from, the one to shrink to first.
        reach: bound on the absolute values of the means.
        zero_weights: whether components may have weight zero.

    Raises:
        ValueError: if a set is empty or holds something else than positive integers, or the reach is not a positive integer.
    """
    _check_sizes("dims", dims)
    _check_sizes("components", components)
    _check_reach(reach)

    @st.composite
    def build(draw: st.DrawFn) -> GaussianMixture:
        d, K = draw(st.sampled_from(dims)), draw(st.sampled_from(components))
        covs = np.stack([draw(_covariances(d, "dense")) for _ in range(K)])
        return GaussianMixture(draw(_weights(K, zero_weights)), draw(_halves(reach, K, d)), covs)

    return build()


def ppcas(*, dims: Sequence[int] = (2, 3), factors: Sequence[int] = (1, 2), reach: int = 3) -> st.SearchStrategy[Ppca]:
    """Probabilistic PCA models with fewer factors than dimensions; loadings may be zero or of less than full rank.

    Args:
        dims: the dimensions d to choose from, the one to shrink to first.
        factors: the numbers of factors q to choose from, the one to shrink to first; pairs with q >= d are left out.
        reach: bound on the absolute values of loadings and means.

    Raises:
        ValueError: if a set is empty or holds something else than positive integers, no pair has q < d, or the reach is not a positive integer.
    """
    _check_sizes("dims", dims)
    _check_sizes("factors", factors)
    _check_reach(reach)
    shapes = [(d, q) for d in dims for q in factors if q < d]
    if not shapes:
        refuse("dims, factors", f"{tuple(dims)}, {tuple(factors)}", "a pair with fewer factors than dimensions", "Add a dimension, or a smaller number of factors.")

    @st.composite
    def build(draw: st.DrawFn) -> Ppca:
        d, q = draw(st.sampled_from(shapes))
        return Ppca(draw(_halves(reach, d, q)), draw(_halves(reach, d)), draw(st.sampled_from(_NOISES)))

    return build()


def ensembles(
    *,
    members: Sequence[int] = (2, 3),
    dims: Sequence[int] = (1, 2),
    kind: Callable[..., st.SearchStrategy[Law | Ppca]] = gaussians,
) -> st.SearchStrategy[list[Law | Ppca]]:
    """Lists of models of one kind on the same space.

    Args:
        members: the numbers of members to choose from, the one to shrink to first.
        dims: the dimensions to choose from, the one to shrink to first.
        kind: a strategy that takes `dims`, such as `gaussians`, `mixtures`, `ppcas` or `functools.partial(gaussians, reach=1)`.

    Raises:
        ValueError: if a set is empty or holds something else than positive integers, or `kind` has no model of one of the dimensions.
    """
    _check_sizes("members", members)
    _check_sizes("dims", dims)
    of_dimension = {d: kind(dims=(d,)) for d in dims}

    @st.composite
    def build(draw: st.DrawFn) -> list[Law | Ppca]:
        K, member = draw(st.sampled_from(members)), of_dimension[draw(st.sampled_from(dims))]
        return [draw(member) for _ in range(K)]

    return build()


def _halves(reach: int, *shape: int) -> st.SearchStrategy[np.ndarray]:
    """Arrays of half-integers of absolute value at most `reach`, shrinking to zero."""
    size = int(np.prod(shape))
    return st.lists(st.integers(-2 * reach, 2 * reach), min_size=size, max_size=size).map(lambda entries: np.reshape(entries, shape) / 2)


def _covariances(d: int, structure: str) -> st.SearchStrategy[np.ndarray]:
    """A scalar, (d,) or (d, d) covariance."""
    scale = st.sampled_from(_SCALES)
    if structure == "isotropic":
        return scale.map(lambda s: np.asarray(s**2))
    scales = st.lists(scale, min_size=d, max_size=d)
    if structure == "diagonal":
        return scales.map(lambda s: np.square(s))
    below = st.lists(st.integers(-3, 3), min_size=d * (d - 1) // 2, max_size=d * (d - 1) // 2)
    return st.builds(_of_cholesky, scales, below)


def _of_cholesky(scales: list[float], below: list[int]) -> np.ndarray:
    L = np.diag(scales)
    L[np.tril_indices(len(scales), -1)] = np.asarray(below) / 2
    return L @ L.T


def _weights(K: int, zeros: bool) -> st.SearchStrategy[np.ndarray]:
    """Small integers over their sum, the first above zero; shrinking to equal weights."""
    least = st.integers(1, _LARGEST_WEIGHT)
    rest = st.one_of(least, st.just(0)) if zeros else least
    return st.tuples(least, *[rest] * (K - 1)).map(lambda counts: np.asarray(counts) / sum(counts))


def _check_sizes(argument: str, sizes: Sequence[int]) -> None:
    if not len(sizes) or any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in sizes):
        refuse(argument, repr(sizes), "one or more positive integers, the simplest first", f"Write {argument}=(1, 2).")


def _check_reach(reach: int) -> None:
    if not isinstance(reach, int) or isinstance(reach, bool) or reach < 1:
        refuse("reach", repr(reach), "a positive integer", "Means are half-integers of at most this absolute value.")
