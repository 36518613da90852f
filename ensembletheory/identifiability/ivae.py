r"""Linear nonlinear-ICA: what two segments identify, and the mean correlation coefficient (MCC) with its null.

Model (the linear-Gaussian case of Khemakhem et al. 2020): x = W z + noise, z ~ N(0, diag v_u) in segment u, noise N(0, s2 I), so C_u = W diag(v_u) W^T + s2 I. For two
segments and W with independent columns, (C_1 - s2 I) y = r (C_2 - s2 I) y on the range of W has the eigenvalues r_i = v_1i / v_2i and eigenvectors dual to the columns of W.
Where the ratios are distinct, W is determined up to permutation and scaling of columns; equal ratios, or a single segment, leave a rotation.

MCC(z, z') = max over matchings of the mean of |corr(z_i, z'_pi(i))|. It is 1 exactly for component-wise affine maps, and above 0 for independent sources: with one source
and n independent Gaussian samples corr^2 ~ Beta(1/2, n/2 - 1), whence E |corr| = Gamma((n-1)/2) / (sqrt(pi) Gamma(n/2)) ~ sqrt(2 / (pi n)), and the matching raises it.
"""

import jax
import numpy as np
import scipy.linalg
from jaxtyping import Float, PRNGKeyArray
from scipy.special import gammaln

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.identifiability.groups import Permutations

__all__ = ["mcc", "mcc_null", "mean_null_correlation", "recover_mixing"]

_DISTINCT = 1e-6  # relative distance of ratios below which eigenvectors are not determined


def recover_mixing(first: Numbers, second: Numbers, factors: int, noise_variance: float = 0.0) -> tuple[Float[np.ndarray, "d q"], Float[np.ndarray, " q"]]:
    """The mixing matrix, columns of length one in the order of decreasing ratio, and the ratios, from the covariances (d, d) of two segments.

    Args:
        first: covariance of x in one segment.
        second: covariance of x in another.
        factors: q, at most d.
        noise_variance: s2.

    Raises:
        ValueError: if the covariances do not have rank q beyond the noise, or two ratios agree, so that a rotation is left undetermined.
    """
    C = [np.asarray(as_floats(name, S)) for name, S in (("first", first), ("second", second))]
    d = C[0].shape[0]
    if any(S.shape != (d, d) for S in C) or not 1 <= factors <= d:
        refuse("first, second, factors", f"shapes {C[0].shape}, {C[1].shape} and {factors} factors", "(d, d) twice and 1 <= factors <= d", "Pass two covariances.")
    A, B = (S - noise_variance * np.eye(d) for S in C)
    basis = np.linalg.eigh(A + B)[1][:, d - factors :]
    A, B = basis.T @ A @ basis, basis.T @ B @ basis
    if np.linalg.eigvalsh(B)[0] <= 0:
        refuse("second", f"smallest eigenvalue {np.linalg.eigvalsh(B)[0]:.3g} on the range of the factors", "a positive one", "Check `factors` and `noise_variance`.")
    ratios, dual = scipy.linalg.eigh(A, B)
    ratios, dual = ratios[::-1], dual[:, ::-1]
    if np.any(-np.diff(ratios) <= _DISTINCT * np.max(abs(ratios))):
        refuse("first, second", f"ratios of variances {ratios}", "distinct ratios", "Equal ratios leave a rotation of their factors; add a segment.")
    columns = basis @ np.linalg.inv(dual).T
    return columns / np.linalg.norm(columns, axis=0), ratios


def mcc(sources: Numbers, estimates: Numbers) -> float:
    """The mean correlation coefficient of sources (n, q) and estimates (n, q), matched by linear assignment on |correlation|.

    Raises:
        ValueError: if the shapes differ, there are fewer than three samples, or a column is constant.
    """
    z, y = (np.asarray(as_floats(name, x)) for name, x in (("sources", sources), ("estimates", estimates)))
    if z.ndim != 2 or z.shape != y.shape or len(z) < 3:
        refuse("sources, estimates", f"shapes {z.shape} and {y.shape}", "(n, q) twice, n >= 3", "One column a source.")
    if np.any(np.ptp(z, axis=0) == 0) or np.any(np.ptp(y, axis=0) == 0):
        refuse("sources, estimates", "a constant column", "columns that vary", "A constant correlates with nothing; drop it.")
    return _matched(_correlations(z, y))


def mcc_null(key: PRNGKeyArray, n: int, q: int, draws: int = 1000) -> Float[np.ndarray, " draws"]:
    """Sorted draws of the MCC of q sources with q independent estimates from n Gaussian samples: compare an observed MCC with their quantiles.

    Raises:
        ValueError: unless n >= 3, q >= 1 and draws >= 1.
    """
    if n < 3 or q < 1 or draws < 1:
        refuse("n, q, draws", f"{n}, {q}, {draws}", "n >= 3, q >= 1, draws >= 1", "Two samples always correlate perfectly.")
    z, y = np.asarray(jax.random.normal(key, (2, draws, n, q)), dtype=float)
    return np.sort([_matched(_correlations(*pair)) for pair in zip(z, y, strict=True)])


def mean_null_correlation(n: int) -> float:
    """E |corr| of two independent Gaussian samples of size n: the mean of the null MCC of one source.

    Raises:
        ValueError: unless n >= 3.
    """
    if n < 3:
        refuse("n", str(n), "at least 3", "Two samples always correlate perfectly.")
    return float(np.exp(gammaln((n - 1) / 2) - gammaln(n / 2)) / np.sqrt(np.pi))


def _correlations(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    z, y = ((x - x.mean(axis=0)) for x in (z, y))
    return abs((z / np.linalg.norm(z, axis=0)).T @ (y / np.linalg.norm(y, axis=0)))


def _matched(correlations: np.ndarray) -> float:
    q = len(correlations)
    return float(np.sum(correlations * Permutations(q).nearest(correlations)) / q)
