"""Claims whose truth and least margins are known without the package."""

import jax.numpy as jnp
import numpy as np

from ensembletheory.claims import Domain, claim, positive, real

LARGEST_RATIO = 10.886907429279493  # of the relaxed triangle inequality below; test_falsify derives it again by SciPy


def triangle_domain(d: int) -> Domain:
    return Domain(means=real(-3, 3, shape=(3, d)), variances=positive(np.exp(-2.0), np.exp(2.0), shape=(3, d)))


def kl(means, variances, i, j, xp=jnp):
    ratio = variances[i] / variances[j]
    return 0.5 * xp.sum(ratio - 1 - xp.log(ratio) + (means[i] - means[j]) ** 2 / variances[j])


def ratio(means, variances, xp=jnp):
    """KL(1, 3) / (KL(1, 2) + KL(2, 3))."""
    return kl(means, variances, 0, 2, xp) / (kl(means, variances, 0, 1, xp) + kl(means, variances, 1, 2, xp))


def triangle(d: int, constant: float):
    """KL(1, 3) <= constant (KL(1, 2) + KL(2, 3)) for diagonal Gaussians in a box."""

    @claim(id=f"triangle-{d}", statement=r"\mathrm{KL}_{13} \leq c (\mathrm{KL}_{12} + \mathrm{KL}_{23})", source="toy", domain=triangle_domain(d))
    def margin(means, variances):
        return constant - ratio(means, variances)

    return margin


def toy(function, kind="conjecture", domain=None, **more):
    """A claim on x in [-3, 3]."""
    return claim(id="toy", statement="x", source="toy", kind=kind, domain=domain or Domain(x=real(-3, 3)), **more)(function)
