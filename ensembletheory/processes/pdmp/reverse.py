r"""Piecewise deterministic processes run backwards in time, where the joint laws p_t(x, v) of forward places and velocities are known.

The reverse of a process with flow Phi, rates l and jumps Q moves along -Phi, and its rates and jumps follow from flux balance: what jumps from y to z forward in time jumps
back as often,

    p_t(y) l(y) Q(y, dz) dy = p_t(z) l_back(t, z) Q_back(t, z, dy) dz.

- **Flips and turns** (`ReverseFlips`; zig-zag, telegraph): the same flips R_j at the rates l_back,j(t, x, v) = l_j(x, R_j v) p_t(x, R_j v) / p_t(x, v).
- **Refreshment** (`ReverseRefreshments`; randomised HMC): at the rate lambda nu(v) / p_t(v | x), nu = N(0, I), with the new velocity from p_t(. | x).
- **Bounces** (`ReverseBounces`; bouncy particle): the same bounce R at the rate (-v . S (x - m))_+ p_t(R v | x) / p_t(v | x), and refreshment as above.

From the stationary law all ratios are 1, and the reverse is the process itself with v -> -v. Otherwise the ratios come from `Telegraph.turned_ratios` and `ZigZagTables`
for flips, and from `RefreshedMixture` for refreshment; for bounces no law but the stationary one is known in closed form.

**Randomised HMC given its refreshments.** Let C be the product of cos g over the times g between refreshments up to the last one (1 if there was none), and g the time since.
On N(m, I), from data of coordinate variance s^2 about a mean b, the place at the last refreshment is N(m + C (b - m), S), S = 1 + C^2 (s^2 - 1), and (x, v) is that place with
a fresh velocity, turned by the angle g:

    Var x = S cos^2 g + sin^2 g,   Cov(x, v) = (1 - S) sin g cos g,   Var v = S sin^2 g + cos^2 g,   means C (b - m) (cos g, -sin g).

So p_t(x, v) is a mixture of these Gaussians over the law of the Poisson times: exact but for their average, which is taken over drawn paths (Rao-Blackwell), with a standard
error.

Source: Bertazzi et al. (2024).
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.estimate import Estimate, monte_carlo
from ensembletheory.laws import Gaussian, GaussianMixture
from ensembletheory.laws.kac_mixture import along_axes
from ensembletheory.laws.weights import log_weighted_sum
from ensembletheory.processes.pdmp.bouncy import BouncyParticle
from ensembletheory.processes.pdmp.randomised_hmc import RandomisedHmc
from ensembletheory.processes.process import Clock

__all__ = ["RefreshedMixture", "ReverseBounces", "ReverseFlips", "ReverseJumps", "ReverseRefreshments", "stationary_ratios"]

Ratios = Callable[[Float[Array, ""], Float[Array, " d"], Float[Array, " d"]], Float[Array, " d"]]


class ReverseJumps(eqx.Module):
    """A process run backwards: `drift` against its flow, and random changes of the velocity, one letter for each kind; see `ensembletheory.samplers.JumpSampler`."""

    process: eqx.AbstractVar[Clock]
    letters: eqx.AbstractClassVar[str]

    @abstractmethod
    def turn(self, letter: str, key: PRNGKeyArray, t: Float[Array, ""], h: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """The velocity after a time h of the jumps of that letter alone, with x and t held."""


def stationary_ratios(t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
    """1: of a process begun from its stationary law."""
    return jnp.ones_like(v)


class ReverseFlips(ReverseJumps):
    """The reverse of a process whose clock j turns the sign of v_j: `ZigZag` or `Telegraph`. Letter J.

    Args:
        process: the forward process, with `flow` and `rates` at one point.
        ratios: (t, x, v) -> p_t(x, R_j v) / p_t(x, v), such as `Telegraph.turned_ratios(law)`, `ZigZagTables(...)` or `stationary_ratios`.
    """

    letters: ClassVar[str] = "J"
    process: Any
    ratios: Ratios

    def rates(self, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """The rates l_j(x, R_j v) p_t(x, R_j v) / p_t(x, v)."""
        return self.ratios(t, x, v) * self.process.rates(x, -v)

    def turn(self, letter: str, key: PRNGKeyArray, t: Float[Array, ""], h: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """Every coordinate by its two-state chain, with the other coordinates held: the law of v_j given the rest is kept exactly."""
        ratios: Float[Array, " d"] = self.ratios(t, x, v)
        there: Float[Array, " d"] = ratios * self.process.rates(x, -v)
        back: Float[Array, " d"] = self.process.rates(x, v) / ratios
        total = there + back
        share = jnp.where(jnp.isfinite(there), there / jnp.where(total > 0, total, 1.0), 1.0)
        return jnp.where(jax.random.uniform(key, v.shape, v.dtype) < -share * jnp.expm1(-total * h), -v, v)


class StationaryVelocities(eqx.Module):
    """The law N(0, I) of velocities, whatever the place: of a process begun from its stationary law."""

    def relative(self, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, ""]:
        """nu(v) / p_t(v | x): 1."""
        return jnp.ones((), x.dtype)

    def bounced(self, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"], other: Float[Array, " d"]) -> Float[Array, ""]:
        """p_t(other | x) / p_t(v | x) of velocities of the same length: 1."""
        return jnp.ones((), x.dtype)

    def draw(self, key: PRNGKeyArray, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """A draw of p_t(v | x)."""
        return jax.random.normal(key, x.shape, x.dtype)


class RefreshedMixture(eqx.Module):
    """p_t(x, v) of randomised HMC begun from a mixture, given the Poisson times of drawn paths.

    Args:
        key: of the Poisson times.
        process: with a target of covariance I.
        law: the data, a Gaussian or mixture with diagonal covariances.
        paths: how many sets of Poisson times.

    Raises:
        ValueError: if the target's covariance is not I, `law` has correlated coordinates or another dimension, or there are fewer than two paths.
    """

    process: RandomisedHmc
    weights: Float[Array, " K"]
    means: Float[Array, "K d"]  # deviations from the target's mean
    variances: Float[Array, "K d"]
    events: Float[Array, "J m"]  # ordered Poisson times; those after the horizon do not matter

    def __init__(self, key: PRNGKeyArray, process: RandomisedHmc, law: Gaussian | GaussianMixture, paths: int = 512):
        if np.any(np.asarray(process.target.cov) != np.eye(process.dim)):
            refuse("process", "a target of another covariance than I", "N(m, I), whose flow turns every coordinate by the same angle", "Rescale the coordinates.")
        if law.dim != process.dim:
            refuse("law", f"dimension {law.dim}", f"dimension {process.dim}, that of the process", "Give the process and the law the same space.")
        if paths < 2:
            refuse("paths", str(paths), "at least 2, to know the standard error", "Take some hundreds.")
        self.process, (self.weights, means, deviations) = process, along_axes(law)
        expected = float(process.refreshment) * float(process.horizon)
        most = int(expected + 8 * np.sqrt(expected) + 16)  # exceeded with probability below 1e-12
        self.means, self.variances, self.events = _begun(key, process, means, deviations, (paths, most))

    def turned(self, t: Float[Array, ""]) -> tuple[Float[Array, " J"], Float[Array, " J"]]:
        """C and g of every path at time t."""
        past = jnp.minimum(self.events, t)
        gaps = jnp.diff(past, axis=1, prepend=0.0)
        happened = self.events <= t
        last = jnp.max(jnp.where(happened, self.events, 0.0), axis=1)
        return jnp.prod(jnp.where(happened, jnp.cos(gaps), 1.0), axis=1), t - last

    def second_moments(self, t: Numbers) -> Estimate:
        """E z_x^2, E z_x v and E v^2 by coordinate, z = x - m, as (3, d), averaged over the paths."""
        return _moments(self, self.process.checked_time("t", t))

    def density(self, t: Numbers, x: Numbers) -> Estimate:
        """p_t(x) at one point x (d,), averaged over the paths."""
        return _density(self, self.process.checked_time("t", t), as_floats("x", x))

    def joint_density(self, t: Numbers, x: Numbers, v: Numbers) -> Estimate:
        """p_t(x, v) at one point, averaged over the paths."""
        return _joint_density(self, self.process.checked_time("t", t), as_floats("x", x), as_floats("v", v))

    def relative(self, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, ""]:
        """nu(v) / p_t(v | x)."""
        place, joint, _, _ = self._parts(t, x, v)
        log_nu = -0.5 * jnp.sum(v**2) - len(v) * 0.5 * np.log(2 * np.pi)
        return jnp.exp(log_nu + self._log_mean(place) - self._log_mean(joint))

    def draw(self, key: PRNGKeyArray, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """A draw of p_t(v | x): of a path and a component by their shares at x, then of their Gaussian."""
        key_part, key_normal = jax.random.split(key)
        place, _, centre, variance = self._parts(t, x, jnp.zeros_like(x))
        logs = (place + jnp.log(self.weights)[None, :]).ravel()
        shares = jnp.cumsum(jnp.exp(logs - jnp.max(logs)))
        part = jnp.searchsorted(shares, shares[-1] * jax.random.uniform(key_part, (), x.dtype))
        part = jnp.minimum(part, logs.size - 1)
        return centre.reshape(-1, len(x))[part] + jnp.sqrt(variance.reshape(-1, len(x))[part]) * jax.random.normal(key_normal, x.shape, x.dtype)

    def _parts(self, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> tuple[Array, Array, Array, Array]:
        """Of every path and component: log p(x) and log p(x, v) (J, K), and the means and variances of v given x (J, K, d)."""
        C, g = (part[:, None, None] for part in self.turned(t))
        S = 1 + C**2 * (self.variances - 1)[None]
        spread, mixed, centre = S * jnp.cos(g) ** 2 + jnp.sin(g) ** 2, (1 - S) * jnp.sin(g) * jnp.cos(g), C * self.means[None]
        gap = (x - self.process.target.mean)[None, None, :] - centre * jnp.cos(g)
        mean, variance = mixed / spread * gap - centre * jnp.sin(g), S / spread
        place = jnp.sum(-0.5 * (gap**2 / spread + jnp.log(2 * np.pi * spread)), axis=-1)
        given = jnp.sum(-0.5 * ((v[None, None, :] - mean) ** 2 / variance + jnp.log(2 * np.pi * variance)), axis=-1)
        return place, place + given, mean, variance

    def _log_mean(self, logs: Float[Array, "J K"]) -> Float[Array, ""]:
        weights = jnp.broadcast_to(self.weights[None, :] / len(logs), logs.shape)
        return log_weighted_sum(weights.ravel(), logs.ravel())


class ReverseRefreshments(ReverseJumps):
    """The reverse of randomised HMC. Letter R.

    Args:
        process: the forward process.
        velocities: p_t(v | x): a `RefreshedMixture`, or nothing for the stationary law.
    """

    letters: ClassVar[str] = "R"
    process: RandomisedHmc
    velocities: RefreshedMixture | StationaryVelocities

    def __init__(self, process: RandomisedHmc, velocities: RefreshedMixture | None = None):
        self.process, self.velocities = process, StationaryVelocities() if velocities is None else velocities

    def rate(self, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, ""]:
        """Lambda nu(v) / p_t(v | x)."""
        return self.process.refreshment * self.velocities.relative(t, x, v)

    def turn(self, letter: str, key: PRNGKeyArray, t: Float[Array, ""], h: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """A new velocity with the probability that the rate, held, rings within h."""
        return refreshed(self.velocities, self.process.refreshment, key, t, h, x, v)


class ReverseBounces(ReverseJumps):
    """The reverse of the bouncy particle process. Letters B, a bounce, and R, refreshment.

    Args:
        process: the forward process.
        velocities: p_t(v | x), an object with `relative`, `bounced` and `draw` as those of the stationary law, which is taken if it is left out.
    """

    letters: ClassVar[str] = "BR"
    process: BouncyParticle
    velocities: Any

    def __init__(self, process: BouncyParticle, velocities: Any = None):
        self.process, self.velocities = process, StationaryVelocities() if velocities is None else velocities

    def rate(self, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, ""]:
        """The rate of bounces, (-v . S (x - m))_+ p_t(R v | x) / p_t(v | x)."""
        return self.process.rates(x, -v)[0] * self.velocities.bounced(t, x, v, self.bounce(x, v))

    def bounce(self, x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """R v = v - 2 (v . n) n, n along S (x - m)."""
        normal = self.process.target.covariance.solve(x - self.process.target.mean)
        square = normal @ normal
        return v - 2 * normal * (v @ normal) / jnp.where(square > 0, square, 1.0)

    def turn(self, letter: str, key: PRNGKeyArray, t: Float[Array, ""], h: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """A bounce, or a new velocity, with the probability that its rate, held, rings within h."""
        if letter == "R":
            return refreshed(self.velocities, self.process.refreshment, key, t, h, x, v)
        return jnp.where(_rings(key, self.rate(t, x, v), h), self.bounce(x, v), v)


def refreshed(
    velocities: Any, rate: Float[Array, ""], key: PRNGKeyArray, t: Float[Array, ""], h: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]
) -> Float[Array, " d"]:
    """A draw of p_t(v | x), with the probability that the reverse of refreshment at `rate`, held, rings within h; else v."""
    key_ring, key_draw = jax.random.split(key)
    fresh: Float[Array, " d"] = velocities.draw(key_draw, t, x)
    return jnp.where(_rings(key_ring, rate * velocities.relative(t, x, v), h), fresh, v)


def _rings(key: PRNGKeyArray, rate: Float[Array, ""], h: Float[Array, ""]) -> Array:
    return jax.random.uniform(key, (), rate.dtype) < -jnp.expm1(-rate * h)


@eqx.filter_jit
def _begun(key: PRNGKeyArray, process: RandomisedHmc, means: Array, deviations: Array, shape: tuple[int, int]) -> tuple[Array, Array, Array]:
    events = jnp.cumsum(jax.random.exponential(key, shape) / process.refreshment, axis=1)
    return means - process.target.mean[None, :], deviations**2, events


@eqx.filter_jit
def _moments(mixture: RefreshedMixture, t: Float[Array, ""]) -> Estimate:
    C, g = (part[:, None, None] for part in mixture.turned(t))
    S, centre = 1 + C**2 * (mixture.variances - 1)[None], C * mixture.means[None]
    about = S + centre**2
    each = jnp.stack([about * jnp.cos(g) ** 2 + jnp.sin(g) ** 2, (1 - about) * jnp.sin(g) * jnp.cos(g), about * jnp.sin(g) ** 2 + jnp.cos(g) ** 2])
    by_path = jnp.einsum("k,ajkd->jad", mixture.weights, each)
    return Estimate(jnp.mean(by_path, axis=0), jnp.std(by_path, axis=0, ddof=1) / jnp.sqrt(len(by_path)), "monte_carlo")


@eqx.filter_jit
def _density(mixture: RefreshedMixture, t: Float[Array, ""], x: Float[Array, " d"]) -> Estimate:
    place, *_ = mixture._parts(t, x, jnp.zeros_like(x))
    return monte_carlo(jnp.exp(place) @ mixture.weights)


@eqx.filter_jit
def _joint_density(mixture: RefreshedMixture, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Estimate:
    _, joint, *_ = mixture._parts(t, x, v)
    return monte_carlo(jnp.exp(joint) @ mixture.weights)
