r"""Rubin's rules: one inference from m completed copies of a table.

Copy l gives an estimate Q_l and its variance U_l as if nothing had been missing. With averages Q and U and the variance B between the Q_l (divided by m - 1),

    T = U + (1 + 1/m) B,     r = (1 + 1/m) B / U,     nu = (m - 1) (1 + 1/r)^2,     (estimand - Q) / sqrt(T) ~ Student's t with nu degrees of freedom, approximately.

That nu is for tables so large that the complete-data inference would be Gaussian. With nu_com complete-data degrees of freedom, and lambda = (1 + 1/m) B / T the share of the
variance that is due to what is missing (Barnard & Rubin 1999),

    1 / nu_small = 1 / nu + 1 / nu_obs,     nu_obs = nu_com (nu_com + 1) / (nu_com + 3) (1 - lambda).

The degrees of freedom given are nu_small, which is nu for infinite nu_com. The fraction of missing information is gamma = (r + 2 / (nu + 3)) / (1 + r), with the nu of large
tables whatever nu_com (Rubin 1987), and m imputations are 1 / (1 + gamma / m) as efficient as infinitely many. Where the copies agree, B = 0, nothing is missing: nu is
infinite and gamma is 0. That the rules are valid asks for proper draws, in which the parameters of the imputation are drawn too: see
`ensembletheory.imputation.posterior`, and `ensembletheory.imputation.missing_mean` for a case in which everything is known exactly.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import stats

from ensembletheory.errors import Numbers, as_floats, refuse

__all__ = ["MultipleEstimate", "checked_level", "pool_estimates"]


class MultipleEstimate(eqx.Module):
    """What m completed copies say of an estimand; arrays have the shape of one estimate."""

    estimate: Float[Array, "..."]
    within: Float[Array, "..."]  # U
    between: Float[Array, "..."]  # B
    total: Float[Array, "..."]  # T
    dof: Float[Array, "..."]  # nu_small
    missing_share: Float[Array, "..."]  # lambda, the share of T that is due to what is missing: 0 where T is
    missing_information: Float[Array, "..."]  # gamma
    copies: int = eqx.field(static=True)

    @property
    def efficiency(self) -> Float[Array, "..."]:
        """1 / (1 + gamma / m), relative to infinitely many copies."""
        return jnp.asarray(1 / (1 + np.asarray(self.missing_information) / self.copies))

    def interval(self, level: float = 0.95) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """The ends of the interval of this level.

        Raises:
            ValueError: if the level is not between 0 and 1.
        """
        dof = np.asarray(self.dof)  # 0 where the copies have no variance of their own, which a small table does not take for certainty
        half = np.where(dof > 0, stats.t.ppf((1 + checked_level(level)) / 2, np.maximum(dof, np.finfo(float).tiny)), np.inf) * np.sqrt(self.total)
        return jnp.asarray(np.asarray(self.estimate) - half), jnp.asarray(np.asarray(self.estimate) + half)


def pool_estimates(estimates: Numbers, variances: Numbers, complete_dof: Numbers = np.inf) -> MultipleEstimate:
    """Rubin's rules.

    Args:
        estimates: (m, ...), those of the m >= 2 completed copies.
        variances: (m, ...), their complete-data variances, >= 0.
        complete_dof: degrees of freedom of the complete-data inference; infinite by default.

    Raises:
        ValueError: if the shapes differ, there are fewer than two copies, a variance is negative, or the degrees of freedom are not positive.
    """
    Q, U, dof = np.asarray(as_floats("estimates", estimates)), np.asarray(as_floats("variances", variances)), np.asarray(complete_dof, dtype=float)
    if Q.ndim == 0 or len(Q) < 2:
        refuse("estimates", f"shape {Q.shape}", "(m, ...) with m >= 2", "One copy does not tell the variance between copies.")
    if U.shape != Q.shape:
        refuse("variances", f"shape {U.shape}", f"{Q.shape}, that of the estimates", "One variance an estimate.")
    if np.min(U, initial=0.0) < 0:
        refuse("variances", f"{float(np.min(U)):.6g}", "numbers >= 0", "Pass squared standard errors.")
    if not np.all(dof > 0):
        refuse("complete_dof", f"{complete_dof}", "a positive number, or infinity", "Rows less coefficients, for a regression.")
    return _pooled(Q, U, np.broadcast_to(dof, Q.shape[1:]))


def checked_level(level: float) -> float:
    """A level of confidence.

    Raises:
        ValueError: if it is not between 0 and 1.
    """
    if not 0 < level < 1:
        refuse("level", f"{level}", "a number between 0 and 1", "Write 0.95 for 95 %.")
    return float(level)


def _pooled(Q: np.ndarray, U: np.ndarray, complete_dof: np.ndarray) -> MultipleEstimate:
    m = len(Q)
    within, between = np.mean(U, axis=0), np.var(Q, axis=0, ddof=1)
    missing = (1 + 1 / m) * between
    share = np.where(missing > 0, missing / np.where(missing > 0, within + missing, 1.0), 0.0)
    per_dof = share**2 / (m - 1)
    with np.errstate(divide="ignore"):
        dof = 1 / (per_dof + _per_observed_dof(share, complete_dof))
    information = share + (1 - share) * 2 * per_dof / (1 + 3 * per_dof)  # with nu = 1 / per_dof
    mean, within, between, total, dof, share, information = (
        jnp.asarray(part, Q.dtype) for part in (np.mean(Q, axis=0), within, between, within + missing, dof, share, information)
    )
    return MultipleEstimate(mean, within, between, total, dof, share, information, m)


def _per_observed_dof(share: np.ndarray, complete_dof: np.ndarray) -> np.ndarray:
    """1 / nu_obs: 0 for infinite complete-data degrees of freedom, whatever the share."""
    finite = np.where(np.isfinite(complete_dof), complete_dof, 1.0)
    return np.where(np.isfinite(complete_dof), (finite + 3) / (finite * (finite + 1)) / (1 - share), 0.0)
