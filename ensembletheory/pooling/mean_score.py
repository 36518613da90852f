r"""The law sampled from averaged scores or velocities, for Gaussian members.

Member k noised at u = a_t^2 is N(sqrt(u) m_k, I + u (S_k - I)). With e = eta^2 the churn (e = 0: probability flow; e = 1: reverse SDE; e -> infinity: log pool), the
reverse dynamics with the averaged score, drift (b/2) [x + (1 + e) sum_k w_k s_k] and noise sqrt(e b), begun at N(0, I) where u = u_T, has at u = 1, for diagonal covariances
and in each coordinate, with variances S_k and means m_k:

    G(u) = prod_k (1 + u (S_k - 1))^{w_k},     B(u) = sum_k w_k m_k / (1 + u (S_k - 1)),
    variance = G(1)^{1+e} [ u_T^e G(u_T)^{-(1+e)} + int_{u_T^e}^1 G(w^{1/e})^{-(1+e)} dw ],
    mean     = (1 + e) G(1)^{(1+e)/2} int_{sqrt(u_T)}^1 r^e B(r^2) G(r^2)^{-(1+e)/2} dr.

(dv/du = [(1+e) G'/G - e/u] v + e/u and dm/du = [(1+e)/2 G'/G - e/(2u)] m + (1+e)/2 B/sqrt(u), integrated by their factors; w = u^e, r = sqrt(u).) The schedule enters only
through u_T, which is 0 in the limit of infinite time and for interpolants; averaging velocities of an interpolant is averaging scores in its probability flow.
Source: theorem on averaged scores, derived here (see the documentation); for two centred members and e = 1 the variance is S_1 S_2 log(S_1/S_2) / (S_1 - S_2).

Full covariances are treated in `mean_score_matrix`.
Each integral here is taken by 16-point Gauss-Legendre on panels that shrink geometrically towards both ends, where G bends on scales S_k and 1/S_k.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.covariance import AxisAligned
from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.laws import Gaussian
from ensembletheory.pooling.log import gaussian_log_pool
from ensembletheory.pooling.mean_score_matrix import matrix_moments
from ensembletheory.pooling.members import Member, checked_gaussians, stacked_means
from ensembletheory.processes import GaussianPath

__all__ = ["mean_score_law", "mean_velocity_law"]

_CHURN = {"ode": 0.0, "sde": 1.0}
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
    if is_concrete(eta) and np.isinf(eta):
        return gaussian_log_pool(gaussians, weights)
    means, e, u_T = stacked_means(gaussians), jnp.square(eta), _checked_start(process, horizon)
    if all(isinstance(member.covariance, AxisAligned) for member in gaussians) or means.shape[1] == 1:
        variances = jnp.stack([jnp.diagonal(member.cov) for member in gaussians])
        return Gaussian(*_sampled_moments(means, variances, weights, e, u_T))
    return Gaussian(*_verified_matrix_moments(means, jnp.stack([member.cov for member in gaussians]), weights, e, u_T))


def mean_velocity_law(members: Sequence[Member], process: GaussianPath, weights: Numbers | None = None) -> Gaussian:
    """The law at the data end of the flow driven by the members' averaged exact velocities, begun at N(0, I) at the process's horizon.

    For an interpolant, whose source is exactly N(0, I), this is the averaged-score probability flow in the limit of infinite time, whatever the path.

    Raises:
        ValueError: as `mean_score_law`.
        TypeError: as `mean_score_law`.
    """
    return mean_score_law(members, process, "ode", weights=weights)


def _checked_churn(reverse: str, churn: Numbers | None) -> Float[Array, ""]:
    if churn is None:
        if reverse not in _CHURN:
            refuse("reverse", repr(reverse), "'sde' or 'ode'", "For other noise levels pass churn=eta.")
        churn = _CHURN[reverse]
    eta = jnp.asarray(churn, dtype=jnp.result_type(float))
    if is_concrete(eta) and not eta >= 0:
        refuse("churn", f"{float(eta):.6g}", "a noise level >= 0", "0 is the probability flow, 1 the reverse SDE, jnp.inf the log pool.")
    return eta


def _checked_start(process: GaussianPath, horizon: Numbers | None) -> Float[Array, ""]:
    """u_T."""
    if horizon is None:
        return process.a(process.horizon) ** 2
    time = float(np.asarray(horizon))
    if not time > 0:
        refuse("horizon", f"{time}", "a positive time, None or jnp.inf", "None takes the process's own horizon.")
    return jnp.asarray(0.0) if np.isinf(time) else process.a(process.checked_time("horizon", time)) ** 2


def _verified_matrix_moments(means, covs, weights, e, u_T) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    mean, cov = matrix_moments(means, covs, weights, e, u_T)
    if is_concrete(cov):
        coarse_mean, coarse_cov = matrix_moments(means, covs, weights, e, u_T, nodes=6)
        defect = max(float(jnp.max(jnp.abs(mean - coarse_mean))), float(jnp.max(jnp.abs(cov - coarse_cov))))
        if not defect < _RESOLVED * float(jnp.max(jnp.abs(cov))):
            refuse("members", f"two resolutions that differ by {defect:.3g}", "agreement", "Use a smaller churn, or better conditioned covariances.")
    return mean, cov


@eqx.filter_jit
def _sampled_moments(
    means: Float[Array, "K d"], variances: Float[Array, "K d"], weights: Float[Array, " K"], e: Float[Array, ""], u_T: Float[Array, ""]
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """Mean and variance in each coordinate (the two displayed equations)."""

    def log_G(u, rest):
        return weights @ jnp.log(rest + u * variances)

    def B(u, rest):
        return weights @ (means / (rest + u * variances))

    safe_e, log_G1 = jnp.where(e > 0, e, 1.0), weights @ jnp.log(variances)

    def diffused(w, rest):
        return jnp.exp(-(1 + e) * log_G(w ** (1 / safe_e), -jnp.expm1(jnp.log1p(-rest) / safe_e)))

    def driven(r, rest):
        u, rest = r**2, rest * (1 + r)
        return r**e * B(u, rest) * jnp.exp((1 + e) / 2 * (log_G1 - log_G(u, rest)))

    start = jnp.where(e > 0, u_T**safe_e, 1.0)
    variance = start * jnp.exp((1 + e) * (log_G1 - log_G(u_T, 1 - u_T))) + jnp.exp((1 + e) * log_G1) * _integral(diffused, start)
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
