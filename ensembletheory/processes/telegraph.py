r"""The telegraph process as noise: X_t = X_0 + tau_t, every coordinate of tau moving at speed c in a direction that turns round at rate a; time 0 is the data.

Two dynamics run backwards from the exact law at a time to the data, and both are exact:

    dx/dt = u(t, x) = E[v | X_t = x]                                         (the flow; |u_j| <= c, whatever the data),
    dx/dt = v,  v_j turns round at the rate  a p_t(x, R_j v) / p_t(x, v)     (the reversed jump process, of place and velocity),

the first by the continuity equation d_t p + div(p u) = 0, the second by flux balance: what turns from (x, v) to (x, R_j v) forward in time turns back as often backwards.
Laws, fields and rates are those of `ensembletheory.laws.kac_mixture`: exact for data with independent coordinates given the component.

As a -> infinity with c^2/a = s^2, X_t tends to X_0 + s W_t, W a Brownian motion, and u to its probability flow. Source: Kac (1974); Duong et al. (2025).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers
from ensembletheory.fields import Field
from ensembletheory.laws import Law
from ensembletheory.laws.kac import KacLaw, drawn_at
from ensembletheory.laws.kac_mixture import KacMixture
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.process import Clock

__all__ = ["Telegraph"]


class Telegraph(Clock):
    """X_t = X_0 + tau_t.

    Args:
        speed: c.
        rate: a, at which a coordinate turns round.
        horizon: the time of the noise.

    Raises:
        ValueError: if one of them is not positive.
    """

    speed: Float[Array, ""]
    rate: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, speed: Numbers = 3.0, rate: Numbers = 9.0, horizon: Numbers = 1.0):
        self.speed, self.rate, self.horizon = positive("speed", speed), positive("rate", rate), positive("horizon", horizon)

    def noise(self, t: Numbers) -> KacLaw:
        """The law of a coordinate of tau_t.

        Raises:
            ValueError: if t is not within [0, horizon].
        """
        return KacLaw(self.speed, self.rate, self.checked_time("t", t))

    def marginal(self, law: Law, t: Numbers) -> Law:
        """The law of X_t when X_0 has `law`; see `KacMixture`.

        Raises:
            ValueError: if t is not within [0, horizon], or a covariance of the law is not diagonal.
            TypeError: if `law` is none of Gaussian, GaussianMixture and FiniteLaw.
        """
        return KacMixture(law, self.noise(t))

    def velocity(self, law: Law) -> Field:
        """The exact u(t, x) = E[v | X_t = x] when X_0 has `law`.

        Raises:
            ValueError, TypeError: as `marginal`.
        """
        return _Velocity(self, KacMixture(law, self.noise(self.horizon)))

    def turned_ratios(self, law: Law) -> "TurnedRatios":
        """The exact (t, x, v) -> p_t(x, R_j v) / p_t(x, v) when X_0 has `law`.

        Raises:
            ValueError, TypeError: as `marginal`.
        """
        return TurnedRatios(self, KacMixture(law, self.noise(self.horizon)))

    def flow(self, x: Float[Array, " d"], v: Float[Array, " d"], s: Numbers) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """Place and signs of the velocities after time s of any sign without a turn, from one point."""
        return x + self.speed * v * jnp.asarray(s, x.dtype), v

    def draw_velocities(self, key: PRNGKeyArray, n: int, dim: int = 1) -> Float[Array, "n d"]:
        """`n` draws of the signs of the velocities, all equally likely."""
        return jax.random.rademacher(key, (n, dim), self.horizon.dtype)

    def rates(self, x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """The rates at which the coordinates turn round."""
        return jnp.full_like(v, self.rate)

    def displacements(self, key: PRNGKeyArray, times: Float[Array, " n"], dim: int = 1) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
        """Exact draws of tau_t and of the signs of the velocities, each at a time of its own; times are not looked at."""
        return drawn_at(self.speed, self.rate, times[:, None], key, (times.size, dim))

    def noised(self, key: PRNGKeyArray, positions: Float[Array, "n d"], times: Float[Array, " n"]) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
        """Place and signs of the velocities of paths from `positions`, each at a time of its own: what reversed processes learn from."""
        moved, signs = self.displacements(key, times, positions.shape[1])
        return positions + moved, signs

    def simulate(self, key: PRNGKeyArray, n: int, law: Law, t: Numbers | None = None) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
        """`n` exact draws of the place and the signs of the velocities at time t, by default the horizon, begun from `law`.

        Raises:
            ValueError, TypeError: as `marginal`.
        """
        return KacMixture(law, self.noise(self.horizon if t is None else t)).sample_with_velocity(key, n)


class _Velocity(Field):
    process: Telegraph
    noised: KacMixture

    @property
    def kind(self) -> str:
        return "velocity"

    @property
    def origin(self) -> Telegraph:
        return self.process

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return at_time(self.noised, t).mean_velocity(x)


class TurnedRatios(eqx.Module):
    """(t, x, v) -> p_t(x, R_j v) / p_t(x, v), one for every coordinate j; times the rate, these are the rates of the reversed jump process."""

    process: Telegraph
    noised: KacMixture

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """The ratios at one point."""
        return at_time(self.noised, t).turned_ratios(x, v)

    def batch(self, t: Float[Array, ""], x: Float[Array, "n d"], v: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The ratios at many points."""
        return jax.vmap(at_time(self.noised, t).turned_ratios)(x, v)


def at_time(noised: KacMixture, t: Float[Array, ""]) -> KacMixture:
    """The law of the same data noised until time t."""
    return eqx.tree_at(lambda law: law.noise.time, noised, t)
