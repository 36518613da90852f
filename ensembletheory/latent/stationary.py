r"""Where PPCA's likelihood and the linear VAE's ELBO are stationary, and which of these points are maxima.

Data of covariance S with eigenvalues l_1 >= ... >= l_d and eigenvectors u_i; the objective L(W, s2) is the average log-likelihood of PPCA, or the average ELBO of the
linear VAE at its best diagonal encoder, which is lower by the Hadamard gap 1/2 (sum_j log M_jj - log det M), M = W^T W + s2 I (`ensembletheory.latent.ppca`).

**Points.** The gradient of the likelihood in W vanishes if and only if S C^{-1} W = W, hence if and only if, for a set A of at most q eigenpairs with l_j > s2,

    W = [ (l_j - s2)^{1/2} u_j ]_{j in A}  and zero columns, times any rotation R in O(q);       s2 free adds  s2 = mean of the l_k, k not in A.

The value is -1/2 [ d log 2 pi + sum_A log l_j + (d - |A|) log s2 + |A| + sum_{k not in A} l_k / s2 ] (Tipping & Bishop 1999). For the ELBO the same points with R a signed
permutation (orthogonal columns: the gap, which is >= 0, is 0) are stationary with the same value, and *identified*: R is no longer free when the l_j of A differ.

**Curvature** at such a point, for fixed s2, from the expansion of L at W + eps B (derived here; r = |A|). Hessian eigenvalues, d q in number:

    (l_k - s2) / s2^2              k not in A, once for each of the q - r zero columns: a zero column turned towards an unused direction,
    (l_k - l_j) / (s2 l_j)         k not in A, j in A: a used column turned towards an unused direction,
    -2 (l_j - s2) / l_j^2          j in A: the length of a column,
    -(a_i + a_j)^2 / (l_i l_j)     i < j in A, and, where the likelihood has its orbits of rotations, by objective
                                   likelihood: -(a_i^2 + a_j^2) / (l_i l_j) instead, and 0;   ELBO: -(a_i - a_j)^2 / (l_i l_j),        a_j = (l_j - s2)^{1/2},
    likelihood: 0,   ELBO: -(l_j - s2) / (l_j s2)        j in A, once for each zero column: a copy of column j grows in a zero column.

So a point is unstable if and only if some unused l_k exceeds s2 while a column is zero, or exceeds a used l_j: at fixed s2 the stable point has the top min(q, #{l > s2})
directions, a column collapses stably if and only if every unused l_k <= s2, and this is then the global maximum. With s2 free only the lengths of columns couple to s2,
and their joint block, with quadratic form -1/2 sum_A ((2 a_j b_j + h) / l_j)^2 - h^2 (d - r) / (2 s2^2), is negative definite, so the other eigenvalues decide;
as s2 is then the mean of the unused l_k, a zero column is stable only if these are all equal. In encoder and decoder parameters together the ELBO has (d + 1) q further
negative directions and no others, since it is strictly concave in the encoder.

**Others.** The ELBO has further stationary points, whose columns are not orthogonal, and none of them is a maximum. Stationarity implies that M commutes with diag(M); in a
block of b columns where M_jj = m is constant, W = U diag(mu_k - s2)^{1/2} Q with Q orthogonal and l_k = mu_k^2 / m on the directions in use, m the mean of the b values mu
(mu = s2 on an unused one). Turning Q towards a signed permutation keeps the likelihood, and lowers the gap to second order: each is unstable (derived here). The simplest
spreads one direction over two columns. `stationary_points` lists the identified ones.

Reference: Lucas, Tucker, Grosse & Norouzi (2019) for stability governed by s2, and for an ELBO without local maxima that the likelihood lacks.
"""

from collections.abc import Iterator
from itertools import combinations

import equinox as eqx
import numpy as np

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.latent.averages import checked_beta
from ensembletheory.latent.ppca import Ppca

__all__ = ["StationaryPoint", "active_dimensions", "beta_vae_optimum", "collapse_thresholds", "stationary_points"]


class StationaryPoint(eqx.Module):
    """A stationary point: which eigenpairs it uses (0 is the largest), its model (columns on eigenvectors), the objective in nats a datum, and its curvatures.

    `curvatures` are the eigenvalues of the Hessian, sorted: in W for fixed s2, in (W, s2) for free s2.
    """

    subset: tuple[int, ...] = eqx.field(static=True)
    model: Ppca
    value: float
    curvatures: np.ndarray
    unstable: int

    @property
    def stable(self) -> bool:
        """Whether no direction gains to second order; the point is then a global maximum (for fixed s2, if s2 is fixed)."""
        return self.unstable == 0


def stationary_points(S: Numbers, q: int, s2: Numbers | None = None, objective: str = "likelihood", mean: Numbers | None = None) -> list[StationaryPoint]:
    """All subsets of eigenpairs at which the objective is stationary, the best first; one representative of each orbit.

    Args:
        S: the covariance (d, d) of the data, positive definite.
        q: latent dimension, 1 <= q <= d (q < d when s2 is free).
        s2: the noise variance; None to make the objective stationary in it too.
        objective: "likelihood" or "elbo" (at its best diagonal encoder).
        mean: the mean of the data, 0 by default.

    Raises:
        ValueError: if S is not symmetric positive definite, q or s2 is out of range, or the objective has another name.
    """
    spectrum, vectors = _eigenpairs(S)
    if objective not in ("likelihood", "elbo"):
        refuse("objective", repr(objective), "'likelihood' or 'elbo'", "The ELBO is that of the best diagonal encoder.")
    q = _checked_rank(q, spectrum.size - (s2 is None))
    fixed = None if s2 is None else _checked_noise(s2)
    centre = np.zeros(spectrum.size) if mean is None else np.asarray(as_floats("mean", mean))
    points = [_point(spectrum, vectors, subset, q, noise, s2 is None, objective, centre) for subset, noise in _candidates(spectrum, q, fixed)]
    return sorted(points, key=lambda point: -point.value)


def active_dimensions(S: Numbers, q: int, s2: Numbers, beta: Numbers = 1.0) -> int:
    """How many of the q columns an optimal (beta-)VAE of noise variance s2 uses: those with l_j > beta s2; the others have collapsed onto the prior.

    Raises:
        ValueError: as `stationary_points`, or if beta is not a positive number.
    """
    return int(np.sum(collapse_thresholds(S, q, beta) > _checked_noise(s2)))


def collapse_thresholds(S: Numbers, q: int, beta: Numbers = 1.0) -> np.ndarray:
    """The noise variances l_j / beta, j <= q, at which the first, ..., last column of an optimal (beta-)VAE collapses.

    Raises:
        ValueError: as `stationary_points`, or if beta is not a positive number.
    """
    spectrum, _ = _eigenpairs(S)
    return spectrum[: _checked_rank(q, spectrum.size)] / float(checked_beta(beta))


def beta_vae_optimum(S: Numbers, q: int, s2: Numbers, beta: Numbers = 1.0, mean: Numbers | None = None) -> Ppca:
    """The decoder of largest average ELBO_beta at noise variance s2 (with the encoder `beta_encoder`): W = U_q (L_q - beta s2)_+^{1/2}.

    Raises:
        ValueError: as `stationary_points`, or if beta is not a positive number.
    """
    spectrum, vectors = _eigenpairs(S)
    q, noise = _checked_rank(q, spectrum.size), _checked_noise(s2)
    lengths = np.sqrt(np.maximum(spectrum[:q] - float(checked_beta(beta)) * noise, 0.0))
    return Ppca(vectors[:, :q] * lengths[None, :], np.zeros(spectrum.size) if mean is None else mean, noise)


def _candidates(spectrum: np.ndarray, q: int, s2: float | None) -> Iterator[tuple[tuple[int, ...], float]]:
    """Subsets of eigenpairs with their noise variance, below each used eigenvalue."""
    for size in range(q + 1):
        for subset in combinations(range(spectrum.size), size):
            noise = float(np.mean(np.delete(spectrum, subset))) if s2 is None else s2
            if all(spectrum[j] > noise for j in subset):
                yield subset, noise


def _point(spectrum: np.ndarray, vectors: np.ndarray, subset: tuple[int, ...], q: int, s2: float, free: bool, objective: str, mean: np.ndarray) -> StationaryPoint:
    used, unused = spectrum[list(subset)], np.delete(spectrum, subset)
    loadings = np.zeros((spectrum.size, q))
    loadings[:, : used.size] = vectors[:, list(subset)] * np.sqrt(used - s2)[None, :]
    value = -0.5 * (spectrum.size * np.log(2 * np.pi) + np.sum(np.log(used)) + unused.size * np.log(s2) + used.size + np.sum(unused) / s2)
    turned = np.concatenate([np.repeat((unused - s2) / s2**2, q - used.size), ((unused[:, None] - used[None, :]) / (s2 * used[None, :])).ravel()])
    lengths = np.linalg.eigvalsh(_length_block(used, unused, s2)) if free else -2 * (used - s2) / used**2
    curvatures = np.concatenate([turned, lengths, _within(used, q, s2, objective)])
    return StationaryPoint(subset, Ppca(loadings, mean, s2), float(value), np.sort(curvatures), int(np.sum(turned > 0)))


def _within(used: np.ndarray, q: int, s2: float, objective: str) -> np.ndarray:
    """Curvatures of the turns of columns among themselves and into zero columns."""
    i, j = np.triu_indices(used.size, 1)
    a, scale, zero_columns = np.sqrt(used - s2), used[i] * used[j], q - used.size
    if objective == "likelihood":
        return np.concatenate([-(a[i] ** 2 + a[j] ** 2) / scale, np.zeros(i.size + used.size * zero_columns)])
    return np.concatenate([-((a[i] + a[j]) ** 2) / scale, -((a[i] - a[j]) ** 2) / scale, np.repeat(-(a**2) / (used * s2), zero_columns)])


def _length_block(used: np.ndarray, unused: np.ndarray, s2: float) -> np.ndarray:
    """The Hessian in the lengths of the columns and s2."""
    a, r = np.sqrt(used - s2), used.size
    block = np.zeros((r + 1, r + 1))
    block[:r, :r] = np.diag(-2 * a**2 / used**2)
    block[:r, r] = block[r, :r] = -a / used**2
    block[r, r] = -0.5 * np.sum(1 / used**2) - 0.5 * np.sum(2 * unused / s2 - 1) / s2**2
    return block


def _eigenpairs(S: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues from the largest, and eigenvectors."""
    matrix = np.asarray(as_floats("S", S))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        refuse("S", f"shape {matrix.shape}", "(d, d)", "Pass the covariance matrix of the data, divided by n.")
    spectrum, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if spectrum[0] <= 0 or not np.allclose(matrix, matrix.T, rtol=0, atol=1e3 * np.finfo(matrix.dtype).eps * spectrum[-1]):
        got = f"smallest eigenvalue {spectrum[0]:.6g}, asymmetry {np.max(np.abs(matrix - matrix.T)):.3g}"
        refuse("S", got, "a symmetric positive definite matrix", "Drop redundant coordinates or add a ridge.")
    return spectrum[::-1], vectors[:, ::-1]


def _checked_rank(q: int, most: int) -> int:
    if not isinstance(q, int | np.integer) or isinstance(q, bool) or not 1 <= q <= most:
        refuse("q", repr(q), f"a whole number from 1 to {most}", "With s2 free a latent dimension less than d is needed, for some direction has to hold the noise.")
    return int(q)


def _checked_noise(s2: Numbers) -> float:
    noise = as_floats("s2", s2)
    if noise.ndim or noise <= 0:
        refuse("s2", f"{np.asarray(noise)}", "a positive number", "Pass a variance, not its logarithm.")
    return float(noise)
