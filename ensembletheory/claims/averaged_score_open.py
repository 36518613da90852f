r"""Does the law sampled from averaged scores come closer to every target with each member, and with less noise? What is proved, what is refuted, what is open.

Notation: equal weights, exact Gaussian members, infinite time, churn eta >= 0, e = eta^2; p_hat the law of all n = K + 1 members, p_hat_j the law without member j.

*Pointwise form.* E_p log is affine in p. Hence KL(p || p_hat) <= mean_j KL(p || p_hat_j) for every p if and only if log p_hat(x) >= mean_j log p_hat_j(x) for every
x; and as translating all members translates the laws, it is enough to look at x = 0. It implies that the expected divergence never rises with the number of
exchangeable members, and fails for the exchangeable ensemble that draws its members from a fixed n without replacement wherever it fails for these n.

*Commuting covariances.* In the common frame each law is a product over coordinates, so that the pointwise margin is a sum over coordinates: d = 1 decides them all.

*Relative form.* With the gain Gamma = log p_hat(x) - mean_k log q_k(x) >= 0 (a theorem) the margin is Gamma - mean_j Gamma_j. For nearly equal members Gamma is the
quadratic form (1/n) sum_k |delta_k - mean delta|^2 of their deviations, so that the margin is Gamma / K^2. Margins here are K^2 (Gamma - mean_j Gamma_j) / Gamma,
which is 1 for nearly equal members; both numbers carry `FLOOR` nats so that equal members give 1 as well, which hides no violation above `FLOOR` / K^2.

`mean-score-monotone-in-k` is false, with three members on the line already, for the reverse SDE and for the probability flow.

*One centre.* Where all members and the target have one mean, the margin for the target N(0, s) on the line is half of mean_j log v_j - log v + s (mean_j 1/v_j -
1/v). The first difference is >= 0: with l = -log v and A of `sub_ensembles`, dl/dlog u = -1 - e exp(l) + (1+e) A(w) and A is affine in the weights w, so along any
line of weights the second derivative obeys d l''/dlog u = -e exp(l) (l'' + l'^2) with l'' = 0 at u = 0, hence l'' <= 0 and log v is convex in w. The second, that
1/v <= mean_j 1/v_j, is proved for the flow (e = 0: v is the geometric mean) and is open otherwise: `mean-score-monotone-centred`. (For three members and more 1/v is
not convex in w: for the SDE, where v is the integral of an exponential of a form linear in w, v'' > 0 along the line of weights on which v' = 0.)

*Churn.* On the line the variance falls with the churn (`churn-monotone`, a theorem). With z = dv/de, dz/dlog u = (1 - (1+e) A) z + 1 - A v and z = O(u^2), so that z
<= 0 follows from v >= h = 1/A, the variance of the log pool. With a_k = 1/(1 + u C_k), A = mean a, this is a comparison: dv/dlog u = v (1 - A) + e (1 - A v), while
dh/dlog u = h^2 (mean a - mean a^2) <= h^2 (A - A^2) = h (1 - A), and v - h = u^2 (mean C^2 - (mean C)^2) / (2 + e) + O(u^3) >= 0 at the start. Hence the chain from
the geometric mean of the variances (e = 0) to the harmonic mean (e -> infinity), and the same for covariances that commute. For those that do not, Loewner's order
fails between the flow and the SDE already (`ode-dominates-sde-covariance`); that log det falls with the churn is open: `churn-monotone-log-det`.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Claim, Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.claims.sub_ensembles import COVARIANCE_ERROR, LINE_ERROR, LineRule, all_and_without_each, frames, line_laws, sampled_covariances
from ensembletheory.estimate import Estimate
from ensembletheory.linalg import logdet

__all__ = ["FLOOR", "centred", "churn_log_det", "churn_monotone", "log_det_falls", "mean_score_monotone", "monotone_centred", "monotone_in_k", "variance_falls"]

LARGEST = 20.0
LINE = LineRule(LARGEST)
FLOOR = 1e-8  # nats

VARIANCE = (1 / LARGEST, LARGEST)
CHURN = real(0, 2)


def _share(margin: Float[Array, ""], gain: Float[Array, ""], error: Float[Array, ""], K: int) -> Estimate:
    """K^2 margin / gain, 1 where both vanish, with its error where both, the gain being >= 0, are off by `error`."""
    whole = jnp.maximum(gain, 0.0) + FLOOR
    value = (K**2 * margin + FLOOR) / whole
    return Estimate(value, (K**2 + jnp.abs(value)) * error / whole, "quadrature")


def _log_density(mean: Float[Array, " m"], variance: Float[Array, " m"]) -> Float[Array, " m"]:
    """Logarithm of N(0; mean, variance), but for its constant."""
    return -(jnp.log(variance) + mean**2 / variance) / 2


def _monotone(means, variances, churn) -> Estimate:
    M, V = line_laws(LINE, all_and_without_each, means, variances, jnp.asarray(churn))
    at_zero = _log_density(M, V)
    gain = at_zero[0] - jnp.mean(_log_density(means, variances))
    error = LINE_ERROR * (1 + jnp.max(jnp.abs(M) / jnp.sqrt(V) + M**2 / V))
    return _share(at_zero[0] - jnp.mean(at_zero[1:]), gain, error, len(means) - 1)


def mean_score_monotone(members: int, churn: float | None = None, farthest: float = 3.0) -> Claim:
    """The claim for `members` on the line, with the churn free in [0, 2] or given, and means up to `farthest` from the point."""
    domain = Domain(means=real(-farthest, farthest, (members,)), variances=positive(*VARIANCE, (members,)))
    make = partial(claim, id=f"mean-score-monotone-in-k-{members}", statement=monotone_in_k.statement, source=monotone_in_k.source)
    return make(domain=domain.replace(churn=CHURN))(_monotone) if churn is None else make(domain=domain)(partial(_monotone, churn=churn))


@claim(
    id="mean-score-monotone-in-k",
    statement=r"\mathrm{KL}(p \,\|\, \hat p_{1 \ldots K+1}) \leq \frac{1}{K+1} \sum_j \mathrm{KL}(p \,\|\, \hat p_{-j}) \quad (T = \infty, \; \eta \geq 0)",
    source="a conjecture that would make the expected divergence fall with every exchangeable member; refuted here",
    domain=Domain(means=real(-10, 10, (3,)), variances=positive(*VARIANCE, (3,)), churn=CHURN),
    kind="refuted",
    references=["razafindralambo2026scores"],
    proof="One wide member between two narrow ones that agree: K = 2.",
)
def monotone_in_k(means, variances, churn) -> Estimate:
    """What the last member adds to the gain at the point 0, relative to nearly equal members."""
    return _monotone(means, variances, churn)


def _centred(variances, churn) -> Estimate:
    V = line_laws(LINE, all_and_without_each, jnp.zeros_like(variances), variances, churn)[1]
    gain, margin = jnp.mean(1 / variances) - 1 / V[0], jnp.mean(1 / V[1:]) - 1 / V[0]
    return _share(margin, gain, LINE_ERROR * jnp.max(1 / V), len(variances) - 1)


def monotone_centred(members: int) -> Claim:
    """The claim for any number of members."""
    domain = Domain(variances=positive(*VARIANCE, (members,)), churn=CHURN)
    return claim(id=f"mean-score-monotone-centred-{members}", statement=centred.statement, source=centred.source, domain=domain)(_centred)


@claim(
    id="mean-score-monotone-centred",
    statement=r"\hat v^{-1} \leq \frac{1}{K+1} \sum_j \hat v_{-j}^{-1}, \quad d = 1, \; m_1 = \ldots = m_{K+1}, \; \eta \geq 0, \; T = \infty",
    source="derived here; what is left of mean-score-monotone-in-k where members and target share their mean",
    domain=Domain(variances=positive(*VARIANCE, (3,)), churn=CHURN),
    references=["razafindralambo2026scores"],
)
def centred(variances, churn) -> Estimate:
    """What the last member takes from the precision, relative to nearly equal members."""
    return _centred(variances, churn)


def _line_fall(variances, weights, churn, added, least=0.0) -> Estimate:
    log_v, log_less = (jnp.log(line_laws(LINE, _weighted(weights), jnp.zeros_like(variances), variances, eta)[1][0]) for eta in (churn, churn + added))
    way = jnp.maximum(weights @ jnp.log(variances) - log_less, 0.0) + FLOOR
    return Estimate((log_v - log_less) / way - least, 4 * LINE_ERROR / way, "quadrature")


def _weighted(weights: Float[Array, " n"]):
    return lambda values: jnp.tensordot(weights, values, 1)[None]


def _churns(members: int) -> dict[str, Any]:
    return {"weights": simplex(members), "churn": real(0, 1.5), "added": real(0.05, 0.5)}


def _line_parts(members: int) -> Domain:
    return Domain(variances=positive(*VARIANCE, (members,)), **_churns(members))


def variance_falls(members: int) -> Claim:
    """`churn-monotone` for any number of members."""
    return claim(id=f"churn-monotone-{members}", statement=churn_monotone.statement, source=churn_monotone.source, domain=_line_parts(members))(_line_fall)


def _equal_members() -> Iterator[dict[str, Any]]:
    for churn, added in ((0.0, 0.5), (1.0, 0.25), (1.5, 0.05)):
        yield {"variances": [0.25, 0.25, 0.25], "weights": [0.2, 0.3, 0.5], "churn": churn, "added": added}


@claim(
    id="churn-monotone",
    statement=r"\hat v_{\eta'} \leq \hat v_\eta \quad (\eta \leq \eta', \; d = 1, \; T = \infty)",
    source="derived here; the chain from the geometric to the harmonic mean of the variances",
    domain=_line_parts(3),
    kind="theorem",
    references=["razafindralambo2026scores"],
    equality=_equal_members,
    mutants={"faster": Mutant("the constant: the variance falls by a tenth of the way, instead", partial(_line_fall, least=0.1))},
    proof="The derivative in eta^2 obeys a linear equation whose source is 1 minus the ratio of the variance to the log pool's, which is the smaller; see the module.",
)
def churn_monotone(variances, weights, churn, added) -> Estimate:
    """How much of the way down from the geometric mean the added churn takes the variance."""
    return _line_fall(variances, weights, churn, added)


def _log_det_fall(spectra, reflections, weights, churn, added) -> Estimate:
    Q, d = frames(reflections), spectra.shape[1]
    log_v, log_less = (logdet(sampled_covariances(LARGEST, _weighted(weights), spectra, Q, eta)[0]) for eta in (churn, churn + added))
    way = jnp.maximum(weights @ jnp.sum(jnp.log(spectra), axis=1) - log_less, 0.0) + FLOOR
    return Estimate((log_v - log_less) / way, 4 * d * COVARIANCE_ERROR / way, "quadrature")


def _matrix_parts(dim: int, members: int) -> Domain:
    return Domain(spectra=positive(*VARIANCE, (members, dim)), reflections=real(-1, 1, (members, dim - 1, dim)), **_churns(members))


def log_det_falls(dim: int, members: int) -> Claim:
    """`churn-monotone-log-det` for any dimension >= 2 and number of members."""
    domain = _matrix_parts(dim, members)
    return claim(id=f"churn-monotone-log-det-{dim}-{members}", statement=churn_log_det.statement, source=churn_log_det.source, domain=domain)(_log_det_fall)


@claim(
    id="churn-monotone-log-det",
    statement=r"\log \det \hat\Sigma_{\eta'} \leq \log \det \hat\Sigma_\eta \quad (\eta \leq \eta', \; T = \infty)",
    source="derived here; churn-monotone for covariances that do not commute",
    domain=_matrix_parts(2, 2),
    references=["razafindralambo2026scores"],
)
def churn_log_det(spectra, reflections, weights, churn, added) -> Estimate:
    """How much of the way down from the geometric mean the added churn takes the determinant."""
    return _log_det_fall(spectra, reflections, weights, churn, added)
