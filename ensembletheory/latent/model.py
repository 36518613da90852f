"""What models with latent variables share: the law of what is observed, and what is asked of it."""

from abc import abstractmethod

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers
from ensembletheory.laws import Law

__all__ = ["LatentModel"]


class LatentModel(eqx.Module):
    """A model of x through latent variables, of which the law of x is known; see `Ppca` and `PpcaMixture`."""

    @property
    @abstractmethod
    def law(self) -> Law:
        """The law of x."""

    def log_prob(self, x: Numbers) -> Float[Array, "..."]:
        """Log-density of x (..., d) in nats."""
        return self.law.log_prob(x)

    def score(self, x: Numbers) -> Float[Array, "... d"]:
        """Gradient of the log-density at x (..., d)."""
        return self.law.score(x)

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent draws of x."""
        return self.law.sample(key, n)
