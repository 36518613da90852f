r"""The law sampled from sums of scores, averages above all, and from averaged velocities, for Gaussian members with any covariances.

Member k noised at u = a_t^2 is N(sqrt(u) m_k, I + u (S_k - I)). With coefficients c_k of total W (W = 1 for averages and guidance, W = K for the sum of all scores) and
e = eta^2 the churn (e = 0: probability flow; e = 1: reverse SDE; e -> infinity: the density prod_k q_k^{c_k}, normalised), the reverse dynamics of drift
(b/2) [x + (1 + e) sum_k c_k s_k] and noise sqrt(e b), begun at N(0, I) where u = u_T, has at u = 1, for diagonal covariances and in each coordinate, with variances S_k
and means m_k:

    G(u) = prod_k (1 + u (S_k - 1))^{c_k},     B(u) = sum_k c_k m_k / (1 + u (S_k - 1)),     p = (1+e) W - 1,
    variance = G(1)^{1+e} [ u_T^p G(u_T)^{-(1+e)} + (e/p) int_{u_T^p}^1 G(w^{1/p})^{-(1+e)} dw ],
    mean     = (1 + e) G(1)^{(1+e)/2} int_{sqrt(u_T)}^1 r^p B(r^2) G(r^2)^{-(1+e)/2} dr.

(dv/du = [(1+e) G'/G - p/u] v + e/u and dm/du = [(1+e)/2 G'/G - p/(2u)] m + (1+e)/2 B/sqrt(u), integrated by their factors; w = u^p, r = sqrt(u).) The schedule enters only
through u_T, which is 0 in the limit of infinite time and for interpolants; averaging velocities of an interpolant is averaging scores in its probability flow. At u_T = 0
there is a law only if p > 0, or e = 0 and W = 1 (the flow keeps u_T^{W-1} of the start: it collapses for W > 1, explodes for W < 1).
Source: theorem on averaged scores, derived here (see the documentation); for two centred members, W = 1 and e = 1 the variance is S_1 S_2 log(S_1/S_2) / (S_1 - S_2).
Guidance with a scale, c = (g, 1 - g): the flow has variance S_1^g S_2^{1-g}, which is not that of q_1^g q_2^{1-g} (Bradley & Nakkiran 2025).

Full covariances that commute are treated along their common eigenvectors, others in `mean_score_matrix`.
Each integral here is taken by 16-point Gauss-Legendre on panels that shrink geometrically towards both ends, where G bends on scales S_k and 1/S_k.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.covariance import AxisAligned
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.laws import Gaussian
from ensembletheory.linalg import symmetrised
from ensembletheory.pooling.log import gaussian_log_pool
from ensembletheory.pooling.mean_score_matrix import matrix_moments
from ensembletheory.pooling.members import Member, checked_gaussians, stacked_means
from ensembletheory.processes import GaussianPath

__all__ = ["mean_score_law", "mean_velocity_law", "score_sum_law"]

_CHURN = {"ode": 0.0, "sde": 1.0}
_COMMUTING = 1e-12  # what counts as zero beside the diagonal, relative to the variances
_RESOLVED = 1e-7  # between 6 and 8 nodes; the 8-node result is then good to about 1e-10


def mean_score_law(
    members: Sequence[Member],
    process: GaussianPath,
    reverse: str = "sde",
    weights: Numbers | None = None,
    horizon: Numbers | None = None,
    churn: Numbers | None = None,
) -> Gaussian:
    """The law at the data end of the reverse dynamics driven by the members' averaged exact scores, begun at N(0, I).

    Args:
        members: Gaussians (or PPCA models); diagonal ones are fastest.
        process: the noising process; only its u_T = a_T^2 enters.
        reverse: "sde" (churn 1) or "ode" (churn 0).
        weights: on the simplex; default equal.
        horizon: the time at which generation starts; None means the process's, `jnp.inf` the limit u_T = 0.
        churn: the noise level eta >= 0, instead of `reverse`; `jnp.inf` is the log pool.

    Raises:
        ValueError: if there is no member, an argument is out of range, or the integration does not resolve the dynamics.
        TypeError: if a member is not Gaussian.
    """
    gaussians, weights = checked_gaussians(members, weights, "law of the averaged score")
    eta = _checked_churn(reverse, churn)
    if is_concrete(eta) and np.isinf(np.asarray(eta)):
        return gaussian_log_pool(gaussians, weights)
    return _sampled_law(gaussians, weights, jnp.ones(()), _squared(eta), _checked_start(process, horizon))


def score_sum_law(
    members: Sequence[Member],
    process: GaussianPath,
    coefficients: Numbers,
    reverse: str = "sde",
    horizon: Numbers | None = None,
    churn: Numbers | None = None,
) -> Gaussian:
    """The law at the data end of the reverse dynamics driven by sum_k c_k s_k of the members' exact scores, begun at N(0, I).

    `coefficients` need not be positive nor sum to 1: ones sum the scores, (g, 1 - g) guides from the second member to the first with scale g.

    Args:
        members: as in `mean_score_law`, and so are process, reverse, horizon and churn.
        process: the noising process.
        coefficients: (K,) finite numbers c_k.
        reverse: "sde" or "ode".
        horizon: the time at which generation starts.
        churn: the noise level; `jnp.inf` is the normalised prod_k q_k^{c_k}.

    Raises:
        ValueError: as `mean_score_law`; or if the horizon is infinite and no limit exists, or prod_k q_k^{c_k} cannot be normalised.
        TypeError: if a member is not Gaussian.
    """
    gaussians, _ = checked_gaussians(members, None, "law of a sum of scores")
    c, eta = checked_coefficients(coefficients, len(gaussians)), _checked_churn(reverse, churn)
    if is_concrete(eta) and np.isinf(np.asarray(eta)):
        return _product_of_powers(gaussians, c)
    total, e, u_T = jnp.sum(c), _squared(eta), _checked_start(process, horizon)
    total = jnp.where(jnp.abs(total - 1) <= 8 * c.size * jnp.finfo(c.dtype).eps, 1.0, total)
    _require_limit(total, e, u_T)
    return _sampled_law(gaussians, c, total, e, u_T)


def mean_velocity_law(members: Sequence[Member], process: GaussianPath, weights: Numbers | None = None) -> Gaussian:
    """The law at the data end of the flow driven by the members' averaged exact velocities, begun at N(0, I) at the process's horizon.

    For an interpolant, whose source is exactly N(0, I), this is the averaged-score probability flow in the limit of infinite time, whatever the path.

    Raises:
        ValueError: as `mean_score_law`.
        TypeError: as `mean_score_law`.
    """
    return mean_score_law(members, process, "ode", weights=weights)


def checked_coefficients(coefficients: Numbers, K: int) -> Float[Array, " K"]:
    """`coefficients` as K finite numbers.

    Raises:
        ValueError: naming the shape.
    """
    c = as_floats("coefficients", coefficients)
    if c.shape != (K,):
        refuse("coefficients", f"shape {c.shape}", f"({K},)", "One coefficient a member.")
    return c


def _squared(eta: Numbers) -> Float[Array, ""]:
    return jnp.square(jnp.asarray(eta, dtype=jnp.result_type(float)))


def _require_limit(total: Float[Array, ""], e: Float[Array, ""], u_T: Float[Array, ""]) -> None:
    """Refuse sums of scores too weak for the noise, and infinite horizons at which the law collapses or spreads without end."""
    if not is_concrete(total, e, u_T):
        return
    p = float((1 + e) * total - 1)
    if e > 0 and (p == 0 or (p < 0 and u_T == 0)):
        remedy = "The variance grows with the horizon: use larger coefficients, more churn, or a finite horizon."
        refuse("coefficients", f"a sum of {float(total):.6g} with churn {float(jnp.sqrt(e)):.6g}", f"a sum above {1 / (1 + float(e)):.6g}", remedy)
    if e == 0 and total != 1 and u_T == 0:
        fate = "collapses" if total > 1 else "spreads without end"
        got = f"an infinite one, for coefficients that sum to {float(total):.6g}"
        refuse("horizon", got, "a finite time", f"The flow {fate}: its variance is of order u_T^(sum - 1).")


def _product_of_powers(gaussians: Sequence[Gaussian], c: Float[Array, " K"]) -> Gaussian:
    """The normalised prod_k q_k^{c_k}."""
    precisions = jnp.stack([jnp.linalg.inv(member.cov) for member in gaussians])
    precision = symmetrised(jnp.tensordot(c, precisions, 1))
    if is_concrete(precision) and not np.linalg.eigvalsh(np.asarray(precision))[0] > 0:
        refuse("coefficients", "a product of powers whose precision is not positive definite", "one that can be normalised", "Use a smaller guidance scale.")
    cov = symmetrised(jnp.linalg.inv(precision))
    return Gaussian(cov @ jnp.einsum("k,kij,kj->i", c, precisions, stacked_means(gaussians)), cov)


def _checked_churn(reverse: str, churn: Numbers | None) -> Numbers:
    """The noise level eta, as it came: inside `jit` a number stays one that can be looked at."""
    if churn is None:
        if reverse not in _CHURN:
            refuse("reverse", repr(reverse), "'sde' or 'ode'", "For other noise levels pass churn=eta.")
        return _CHURN[reverse]
    if is_concrete(churn) and not float(np.asarray(churn)) >= 0:
        refuse("churn", f"{float(np.asarray(churn)):.6g}", "a noise level >= 0", "0 is the probability flow, 1 the reverse SDE, jnp.inf the log pool.")
    return churn


def _checked_start(process: GaussianPath, horizon: Numbers | None) -> Float[Array, ""]:
    """u_T."""
    if horizon is None:
        return process.a(process.horizon) ** 2
    time = float(np.asarray(horizon))
    if not time > 0:
        refuse("horizon", f"{time}", "a positive time, None or jnp.inf", "None takes the process's own horizon.")
    return jnp.asarray(0.0) if np.isinf(time) else process.a(process.checked_time("horizon", time)) ** 2


def _sampled_law(gaussians: Sequence[Gaussian], c: Float[Array, " K"], total: Float[Array, ""], e: Float[Array, ""], u_T: Float[Array, ""]) -> Gaussian:
    """The law, coordinate by coordinate where all covariances are diagonal, along common eigenvectors where they have some, else by matrices."""
    means = stacked_means(gaussians)
    if all(isinstance(member.covariance, AxisAligned) for member in gaussians) or means.shape[1] == 1:
        return Gaussian(*_sampled_moments(means, jnp.stack([member.covariance.diagonal() for member in gaussians]), c, total, e, u_T))
    covs = jnp.stack([member.cov for member in gaussians])
    Q = _common_eigenvectors(covs)
    if Q is None:
        return Gaussian(*_verified_matrix_moments(means, covs, c, total, e, u_T))
    mean, variances = _sampled_moments(means @ Q, jnp.stack([jnp.diagonal(Q.T @ cov @ Q) for cov in covs]), c, total, e, u_T)
    return Gaussian(Q @ mean, symmetrised((Q * variances[None, :]) @ Q.T))


def _common_eigenvectors(covs: Float[Array, "K d d"]) -> Float[Array, "d d"] | None:
    """Eigenvectors of all matrices, if they commute to rounding and can be looked at; those of a generic combination, which parts what any of them parts."""
    if not is_concrete(covs):
        return None
    matrices = np.asarray(covs)
    mixed = np.tensordot(np.random.default_rng(0).uniform(1, 2, len(matrices)), matrices / np.linalg.norm(matrices, axis=(1, 2), keepdims=True), 1)
    Q = np.linalg.eigh(mixed)[1]
    turned = Q.T @ matrices @ Q
    diagonals = np.diagonal(turned, axis1=1, axis2=2)
    scale = np.sqrt(np.abs(diagonals[:, :, None] * diagonals[:, None, :]))
    off = np.abs(turned - np.einsum("ki,ij->kij", diagonals, np.eye(Q.shape[0])))
    return jnp.asarray(Q) if np.all(off <= _COMMUTING * scale) else None


def _verified_matrix_moments(means, covs, c, total, e, u_T) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    mean, cov = matrix_moments(means, covs, c, total, e, u_T)
    if is_concrete(cov):
        coarse_mean, coarse_cov = matrix_moments(means, covs, c, total, e, u_T, nodes=6)
        defect = max(float(jnp.max(jnp.abs(mean - coarse_mean))), float(jnp.max(jnp.abs(cov - coarse_cov))))
        if not defect < _RESOLVED * float(jnp.max(jnp.abs(cov))):
            refuse("members", f"two resolutions that differ by {defect:.3g}", "agreement", "Use a smaller churn, or better conditioned covariances.")
    return mean, cov


@eqx.filter_jit
def _sampled_moments(
    means: Float[Array, "K d"], variances: Float[Array, "K d"], c: Float[Array, " K"], total: Float[Array, ""], e: Float[Array, ""], u_T: Float[Array, ""]
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """Mean and variance in each coordinate (the two displayed equations)."""

    def log_G(u, rest):
        return c @ jnp.log(rest + u * variances)

    def B(u, rest):
        return c @ (means / (rest + u * variances))

    p = (1 + e) * total - 1
    safe_p, log_G1 = jnp.where(e > 0, p, 1.0), c @ jnp.log(variances)

    def diffused(w, rest):
        return jnp.exp(-(1 + e) * log_G(w ** (1 / safe_p), -jnp.expm1(jnp.log1p(-rest) / safe_p)))

    def driven(r, rest):
        u, rest = r**2, rest * (1 + r)
        return r**p * B(u, rest) * jnp.exp((1 + e) / 2 * (log_G1 - log_G(u, rest)))

    begun = jnp.where(p == 0, 1.0, u_T ** jnp.where(p == 0, 1.0, p))
    start = jnp.where(e > 0, begun, 1.0)
    variance = begun * jnp.exp((1 + e) * (log_G1 - log_G(u_T, 1 - u_T))) + e / safe_p * jnp.exp((1 + e) * log_G1) * _integral(diffused, start)
    return (1 + e) * _integral(driven, jnp.sqrt(u_T)), variance


def _integral(f, start: Float[Array, ""]) -> Float[Array, " d"]:
    """The integral of f(x, 1 - x) over x from `start` to 1; 1 - x is given without cancellation, for variances as small as 1e-8."""
    nodes, weights = _UNIT_RULE
    points, rest = start + (1 - start) * jnp.asarray(nodes), (1 - start) * jnp.asarray(nodes[::-1])  # the rule is symmetric
    return (1 - start) * jnp.asarray(weights) @ jax.vmap(f)(points, rest)


def _graded_rule() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1], with panels that halve towards both ends down to 2^-40."""
    ends = 0.5 ** np.arange(1, 41)
    breaks = np.concatenate([[0.0], ends[::-1], 1 - ends[1:], [1.0]])
    nodes, weights = np.polynomial.legendre.leggauss(16)
    widths = np.diff(breaks)[:, None]
    return (breaks[:-1, None] + widths * (nodes + 1) / 2).ravel(), (widths * weights / 2).ravel()


_UNIT_RULE = _graded_rule()
