r"""What is not true of averaged scores and velocities: each statement is natural, and refuted by a stored counter-example.

For exact members at infinite horizon the average loses nothing in forward KL (`claims.averaged_score`). In reverse KL and in W2^2 it can; the probability flow's covariance
need not be above the reverse SDE's where covariances do not commute; and the theorem fails where members are not followed exactly:

**Finite horizon.** From N(0, I) at a finite T no member is sampled exactly, not even one that is the target.

**Inexact scores.** Networks give scores that are those of no diffusion. With b = 1 and the score -lambda_t x the reverse SDE has V' = (1 - 2 lambda) V + 1: a lambda > 1 for
a time t takes V = 1 to V_1 = c + (1 - c) exp(-t / c) < 1, c = 1 / (2 lambda - 1), and lambda = 1/2 for the time 1 - V_1 takes it back to 1. This member and lambda = 1 both
sample N(0, 1) exactly. Their average does not.

**Inexact velocities.** The flows "stretch by diag(r, -r), rest, undo" and "stretch, turn by a quarter, undo along the turned axes" both keep N(0, I). Their average with
weights w stretches, turns by w_2 pi / 2 and undoes the part w_1 - w_2: the map exp((w_2 - w_1) A) R exp(A), with A = diag(r, -r). For equal weights its law has
KL(N(0, I) || p_hat) = cosh 2r - 1 = 2 sinh^2 r.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.claims.averaged_score import COVARIANCES, REFERENCES
from ensembletheory.claims.claim import claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.mean_score import MEMBERS, limit_law
from ensembletheory.claims.members import average, gain, gaussian, gaussians
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.divergences import kl, w2_squared
from ensembletheory.estimate import Estimate
from ensembletheory.laws import Gaussian, standard_normal
from ensembletheory.pooling import mean_score_law
from ensembletheory.processes import VariancePreserving

__all__ = [
    "inexact_mean_score",
    "inexact_mean_velocity",
    "mean_score_finite_horizon",
    "mean_score_reverse_kl_average",
    "mean_score_w2sq_average",
    "ode_dominates_sde_covariance",
]


@claim(
    id="mean-score-w2sq-average",
    statement=r"W_2^2(p, \hat p_\eta) \leq \sum_k w_k \, W_2^2(p, q_k) \quad (T = \infty, \; \eta \geq 0)",
    source="the analogue of mean-score-kl-average for W2^2; refuted here",
    domain=MEMBERS,
    kind="refuted",
    references=REFERENCES,
    proof="The sampled deviation can be far below the members' average, where a wide target is farther from it than from the members.",
)
def mean_score_w2sq_average(target_mean, target_variance, means, variances, weights, churn) -> Estimate:
    """The gain in W2^2."""
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return average(weights, members, lambda q: w2_squared(p, q)) - w2_squared(p, limit_law(members, weights, churn))


@claim(
    id="mean-score-reverse-kl-average",
    statement=r"\mathrm{KL}(\hat p_\eta \,\|\, p) \leq \sum_k w_k \, \mathrm{KL}(q_k \,\|\, p) \quad (T = \infty, \; \eta \geq 0)",
    source="the analogue of mean-score-kl-average for the reverse divergence; refuted here",
    domain=MEMBERS,
    kind="refuted",
    references=REFERENCES,
    proof="The entropy of the sampled law can fall below the members' average by more than its fit improves.",
)
def mean_score_reverse_kl_average(target_mean, target_variance, means, variances, weights, churn) -> Estimate:
    """The gain in reverse KL."""
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return average(weights, members, lambda q: kl(q, p)) - kl(limit_law(members, weights, churn), p)


@claim(
    id="ode-dominates-sde-covariance",
    statement=r"\mathrm{Cov}\, \hat p_0 \succeq \mathrm{Cov}\, \hat p_1 \quad (T = \infty, \; q_k = \mathcal{N}(0, S_k) \ \mathrm{in\ the\ plane})",
    source="true where the covariances commute, by Jensen's inequality; refuted here where they do not",
    domain=Domain(**COVARIANCES),
    kind="refuted",
    references=REFERENCES,
    proof="Along the narrow axis of one member the noise of the SDE mixes in the width of the other, turned one.",
)
def ode_dominates_sde_covariance(covs, weights) -> Float[Array, ""]:
    """The least eigenvalue of the difference."""
    members = [Gaussian(jnp.zeros(2), cov) for cov in covs]
    return jnp.linalg.eigvalsh(limit_law(members, weights, 0.0).cov - limit_law(members, weights, 1.0).cov)[0]


@claim(
    id="mean-score-finite-horizon",
    statement=r"\mathrm{KL}(p \,\|\, \hat p_{\eta, T}) \leq \sum_k w_k \, \mathrm{KL}(p \,\|\, q_k) \quad (T < \infty, \; b = 1, \; \eta \geq 0)",
    source="mean-score-kl-average begun from N(0, I) at a finite time; refuted here",
    domain=MEMBERS.replace(horizon=positive(0.1, 10)),
    kind="refuted",
    references=REFERENCES,
    proof="At a finite horizon not even members that are the target are sampled exactly.",
)
def mean_score_finite_horizon(target_mean, target_variance, means, variances, weights, churn, horizon) -> Estimate:
    """The gain in forward KL at a finite horizon."""
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return gain(p, weights, members, mean_score_law(members, VariancePreserving(1.0, 1.0, horizon), churn=churn, weights=weights))


def _variance(start: Float[Array, ""], strength: Float[Array, ""], duration: Float[Array, ""]) -> Float[Array, ""]:
    """V after V' = (1 - 2 strength) V + 1."""
    rate = 1 - 2 * strength
    flat = jnp.abs(rate) < 1e-9
    growth = jnp.where(flat, duration, jnp.expm1(rate * duration) / jnp.where(flat, 1.0, rate))
    return start + growth * (rate * start + 1)


@claim(
    id="inexact-mean-score",
    statement=r"\hat p_1(s_k) = p \ \mathrm{for\ all}\ k \ \Rightarrow\ \hat p_1(\sum_k w_k s_k) = p, \quad p = \mathcal{N}(0, 1), \; s_k(x, t) = -\lambda_k(t) \, x",
    source="mean-score-kl-average for scores that sample each member exactly and are not those of a diffusion; refuted here",
    domain=Domain(strength=positive(1, 4), duration=positive(0.05, 1), weights=simplex(2)),
    kind="refuted",
    references=REFERENCES,
    proof="The variance is not affine in the course of the score: scores that undo themselves do not do so on average.",
)
def inexact_mean_score(strength, duration, weights) -> Estimate:
    """Minus the KL divergence of the law of the average from N(0, 1): lambda = 1 averaged with `strength` for a time, then 1/2 until the variance is 1 again."""
    rest = 1 - _variance(jnp.ones(()), strength, duration)
    first = _variance(jnp.ones(()), weights[0] + weights[1] * strength, duration)
    return -kl(standard_normal(1), Gaussian(jnp.zeros(1), _variance(first, weights[0] + weights[1] / 2, rest)[None]))


@claim(
    id="inexact-mean-velocity",
    statement=r"\hat p(v_k) = p \ \mathrm{for\ all}\ k \ \Rightarrow\ \hat p(\sum_k w_k v_k) = p, \quad p = \mathcal{N}(0, I), \; v_k(x, t) = A_k(t) \, x",
    source="mean-velocity-equals-mean-score for velocities that sample each member exactly and are not those of a path to it; refuted here",
    domain=Domain(stretch=real(0, 2), weights=simplex(2)),
    kind="refuted",
    references=["lipman2023flow", "razafindralambo2026scores"],
    proof="Flows whose maps keep a law need not commute, and the flow of an average is no average of maps.",
)
def inexact_mean_velocity(stretch, weights) -> Estimate:
    """Minus the KL divergence of the law of the average from N(0, I): stretch, turn by a quarter or not, undo along the turned axes or not."""
    angle, undone = weights[1] * jnp.pi / 2, (weights[0] - weights[1]) * stretch
    axes = jnp.asarray([1.0, -1.0])
    turn = jnp.stack([jnp.stack([jnp.cos(angle), -jnp.sin(angle)]), jnp.stack([jnp.sin(angle), jnp.cos(angle)])])
    M = jnp.exp(-undone * axes)[:, None] * turn * jnp.exp(stretch * axes)[None, :]
    return -kl(standard_normal(2), Gaussian(jnp.zeros(2), M @ M.T))
