r"""The claim that RePaint samples the conditional law, which it does not: neither a perfect score nor infinitely many steps make up for finitely many resamplings.

For two standard normal coordinates of correlation rho, of which the second is seen, RePaint's law of the first is Gaussian in the limit of infinitely many steps
(`ensembletheory.imputation.replacement_limits`), with r = 1, replacement, of slope (1 - sqrt(1 - rho^2)) / rho where the conditional has rho.
"""

import jax.numpy as jnp

from ensembletheory.claims.claim import claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real
from ensembletheory.estimate import Estimate
from ensembletheory.imputation.replacement_limits import continuous_moments

__all__ = ["repaint_exact"]


@claim(
    id="repaint-exact",
    statement=r"\mathrm{KL}(p(x_1 | x_2) \,\|\, \mathrm{RePaint}_r(x_1 | x_2)) \leq 0 \quad (\mathrm{exact\ score,\ infinitely\ many\ steps})",
    source="what replacing, noising again and resampling is taken to do; refuted here",
    domain=Domain(correlation=real(-0.95, 0.95), value=real(1, 3), resamplings=positive(1, 1000)),
    kind="refuted",
    references=["song2021scorebased", "lugmayr2022repaint", "rout2023inpainting"],
    proof="Each step draws x_1 given all of x_t, not given x_2: for small correlations the slope is rho r / (r + 1).",
)
def repaint_exact(correlation, value, resamplings) -> Estimate:
    """Minus the divergence of RePaint's law from the conditional."""
    cov = jnp.eye(2) + correlation * (jnp.ones((2, 2)) - jnp.eye(2))
    slopes, variance, error = continuous_moments(cov, 0, resamplings)
    ratio = (1 - correlation**2) / variance
    gap = (correlation - slopes[0]) * value
    divergence = (ratio - 1 - jnp.log(ratio) + gap**2 / variance) / 2
    return Estimate(-divergence, 8 * error * (ratio + jnp.abs(gap * value) / variance), "quadrature")
