r"""The Frechet distance (Dowson & Landau 1982): W2 between the Gaussians that have the moments of two laws, or of two samples.

In full

    sqrt( |m_p - m_q|^2 + tr S_p + tr S_q - 2 tr (S_p^{1/2} S_q S_p^{1/2})^{1/2} ).

It is a lower bound on W2 (Gelbrich 1990). Its square is the number reported as "Frechet inception distance", where the samples are features of a network.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.divergences.wasserstein import moment_distance_squared
from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Law

__all__ = ["frechet_distance"]


def frechet_distance(p: Law | Numbers, q: Law | Numbers) -> Estimate:
    """The distance (not its square) between the moments of two laws or samples (n, d), in closed form.

    A sample's covariance divides by n - 1; singular covariances are allowed. The moments of a `GridLaw` are known to about 1e-12.

    Raises:
        ValueError: if a sample is not (n, d) with n >= 2, or the dimensions differ.
    """
    (m, S), (n, R) = _moments("p", p), _moments("q", q)
    if m.shape != n.shape:
        refuse("q", f"dimension {n.size}", f"dimension {m.size}, that of `p`", "Compare laws or samples on the same space.")
    return closed_form(jnp.sqrt(moment_distance_squared(m, S, n, R)))


def _moments(argument: str, law: Law | Numbers) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    if isinstance(law, Law):
        return law.mean, law.cov
    sample = as_floats(argument, law)
    if sample.ndim != 2 or len(sample) < 2 or sample.shape[1] == 0:
        refuse(argument, f"shape {sample.shape}", "a law, or a sample (n, d) with n >= 2", "One row a draw; in 1-D write x[:, None].")
    centred = sample - jnp.mean(sample, axis=0)[None, :]
    return jnp.mean(sample, axis=0), centred.T @ centred / (len(sample) - 1)
