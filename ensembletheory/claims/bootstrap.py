r"""Claims about ensembles of Gaussians on the line fitted to parametric-bootstrap resamples of one data set, against the maximum-likelihood fit to the data.

N(m, s^2) is the fit to n points of p. Of infinitely many fits to n points of N(m, s^2) each, the log pool is N(m, (n - 3)/n s^2), for precisions are biased by n / (n - 3)
upwards: it adds to the bias of the fit, whose variance is too small already. The linear pool is the law of m + s (r z + y), z standard normal, y the mean
and r^2 the variance of a resample: wider, with longer tails, as the uncertainty of m and s asks for. Expectations over the data are exact (`gains.gaussian_fits`); n may be
any real number.
"""

import jax.numpy as jnp

from ensembletheory.claims.claim import claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.gains.chi_square import bootstrap_linear_limit
from ensembletheory.gains.gaussian_fits import expected_kl_of_fit, wishart_kl

__all__ = ["bootstrap_linear_pool", "bootstrap_log_pool"]

POINTS = Domain(points=positive(4, 64))


@claim(
    id="bootstrap-log-pool",
    statement=r"E \, \mathrm{KL}(p \,\|\, g) \leq E \, \mathrm{KL}(p \,\|\, \hat q), \quad g \propto \lim \prod_k \hat q_k^{1/K}\quad (\hat q_k \ \mathrm{refit\ to}\ \hat q)",
    source="bagging of densities by the log pool; refuted here",
    domain=POINTS,
    kind="refuted",
    references=["efron1979bootstrap", "heskes1998selecting"],
    proof="The log pool is N(m, (n - 3)/n s^2), narrower than the fit N(m, s^2), which is too narrow.",
)
def bootstrap_log_pool(points) -> Estimate:
    """What the log pool gains on the fit."""
    shrunk = wishart_kl(1, points - 1, points**2 / (points - 3), 1 / points)
    return expected_kl_of_fit(points) - closed_form(shrunk)


@claim(
    id="bootstrap-linear-pool",
    statement=r"E \, \mathrm{KL}(p \,\|\, \lim_K \frac{1}{K} \sum_k \hat q_k) \leq E \, \mathrm{KL}(p \,\|\, \hat q)\quad (\hat q_k \ \mathrm{refit\ to}\ \hat q)",
    source="bagging of densities by the linear pool; open: no counter-example is known",
    domain=POINTS,
    kind="conjecture",
    references=["efron1979bootstrap"],
    proof="Open. The exact gain is positive at every n tried: 0.98 nats at n = 4, 2.4e-4 at n = 64, falling like a multiple of 1/n^2.",
)
def bootstrap_linear_pool(points) -> Estimate:
    """What the linear pool gains on the fit."""
    return expected_kl_of_fit(jnp.asarray(points)) - bootstrap_linear_limit(points)
