r"""Ways of sampling Gaussian data N(m, S), each with the exact field of its process: from N(0, I), or from N(m, I) where H moves what is centred.

| process | from the prior to the data | scheme | prior of momenta |
|---|---|---|---|
| quarter turn | flow of 1/2 p^T M^{-1} p + 1/2 (q - m)^T K (q - m) over a quarter of its period | leapfrog | N(0, I) |
| transport | straight lines, data and source coupled by optimal transport | Euler | |
| linear | flow of X_t = (1 - t) X_0 + t Z, data and source drawn independently | Euler, Heun | |
| oscillation | flow of X_t = cos(pi t / 2) X_0 + sin(pi t / 2) Z, the positions of an oscillator of momentum Z | Euler, Heun | |
| vp | flow or reverse SDE of the variance-preserving diffusion of rates 0.1 to 20 | Euler, Heun, Euler-Maruyama | |
| cld | flow or reverse SDE of critically damped Langevin, rate 4, mass M = 1/4, first momenta N(0, 0.04 M I) | Euler, Heun, Euler-Maruyama, SSCS | N(0, M I) |

**Quarter turn.** With M = (2 / pi) S^{-1/2} and K = (pi / 2) S^{-1/2} every mode has frequency pi / 2, and over time 1 the flow takes (q, p), centred, to (S^{1/2} p,
-S^{-1/2} q): positions of the data, with momenta N(0, S^{-1}) independent of them, which encoding takes back to N(0, I) exactly. On the line, mass 1, stiffness 1 / s^2 and
horizon pi s / 2 do the same. With a scalar mass one horizon cannot be a quarter turn of every mode: then the horizon is that of the mode of least deviation, and the
stiffness of another deviation s is that w^2 = k / M for which cos^2 w T + sin^2 w T / (M w)^2 = s^2 (w^2 < 0: cosh and sinh), on the branch that falls in k.

Law and draws are those of `Sampler`. The straight lines run on the clock of the linear interpolant. As in the code released with critically damped Langevin, the score is
taken at the first time of a step, and no step of denoising ends the run. Sources: Song et al. (2021), Lipman et al. (2023), Dockhorn et al. (2022), Holderrieth et al.
(2024), Souveton et al. (2024).
"""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ensembletheory.bisection import bisected
from ensembletheory.covariance import Dense
from ensembletheory.errors import refuse
from ensembletheory.fields import Field
from ensembletheory.laws import Gaussian, Law, standard_normal
from ensembletheory.linalg import solve_spd, sqrtm, symmetrised
from ensembletheory.processes import (
    Clock,
    CriticallyDampedLangevin,
    GaussianPath,
    LinearInterpolant,
    QuadraticHamiltonian,
    StochasticInterpolant,
    TrigonometricInterpolant,
    VariancePreserving,
    optimal_transport,
)
from ensembletheory.processes.kinetic import KineticProcess
from ensembletheory.samplers import Euler, EulerMaruyama, Heun, Leapfrog, Sampler, Scheme, Sscs

__all__ = ["METHODS", "Kinetic", "Method", "Model", "Path", "QuarterTurn", "ScalarMass", "Transport", "get"]

_HALVINGS = 100


class Model(eqx.Module):
    """What moves Gaussian data, and how: a clock, its exact fields and laws. The space is that of the data, or twice that, positions before momenta."""

    @abstractmethod
    def clock(self, data: Gaussian) -> Clock:
        """What tells the times."""

    @abstractmethod
    def field(self, data: Gaussian, kind: str) -> Field:
        """The exact field of a kind."""

    @abstractmethod
    def marginal(self, data: Gaussian, t: Float[Array, ""]) -> Gaussian:
        """The law at a time from 0, where positions have the law of the data, to the horizon."""

    @abstractmethod
    def prior(self, data: Gaussian) -> Gaussian:
        """The law from which the data are generated."""


class Path(Model):
    """A Gaussian path to N(0, I)."""

    process: GaussianPath

    def clock(self, data: Gaussian) -> GaussianPath:
        """The path."""
        return self.process

    def field(self, data: Gaussian, kind: str) -> Field:
        """The exact score or velocity."""
        return getattr(self.process, kind)(data)

    def marginal(self, data: Gaussian, t: Float[Array, ""]) -> Gaussian:
        """The law of X_t."""
        return _gaussian(self.process.marginal(data, t))

    def prior(self, data: Gaussian) -> Gaussian:
        """N(0, I)."""
        return standard_normal(data.dim)


class Kinetic(Model):
    """A kinetic Langevin diffusion whose momenta begin from N(0, gamma M I), independent of the data."""

    process: KineticProcess
    gamma: float

    def clock(self, data: Gaussian) -> KineticProcess:
        """The diffusion."""
        return self.process

    def field(self, data: Gaussian, kind: str) -> Field:
        """The exact score or velocity in phase space."""
        return getattr(self.process, kind)(self.process.joint(data, self.gamma))

    def marginal(self, data: Gaussian, t: Float[Array, ""]) -> Gaussian:
        """The law of positions and momenta."""
        return _gaussian(self.process.marginal(self.process.joint(data, self.gamma), t))

    def prior(self, data: Gaussian) -> Gaussian:
        """N(0, I) x N(0, M I)."""
        return self.process.stationary(2 * data.dim)


class Transport(Model):
    """Straight lines from data to source, coupled by optimal transport."""

    def clock(self, data: Gaussian) -> LinearInterpolant:
        """Time from 0 to 1."""
        return LinearInterpolant()

    def field(self, data: Gaussian, kind: str) -> Field:
        """The exact velocity, Z - X_0 as a function of where the line is."""
        return getattr(StochasticInterpolant(), kind)(optimal_transport(data, standard_normal(data.dim)))

    def marginal(self, data: Gaussian, t: Float[Array, ""]) -> Gaussian:
        """The law of X_t."""
        return _gaussian(StochasticInterpolant().marginal(optimal_transport(data, standard_normal(data.dim)), t))

    def prior(self, data: Gaussian) -> Gaussian:
        """N(0, I)."""
        return standard_normal(data.dim)


class _Hamiltonian(Model):
    @abstractmethod
    def clock(self, data: Gaussian) -> QuadraticHamiltonian:
        """The Hamiltonian."""

    def field(self, data: Gaussian, kind: str) -> Field:
        """The gradient of H, or the velocity in the time of the clock."""
        return getattr(self.clock(data), kind)()

    def marginal(self, data: Gaussian, t: Float[Array, ""]) -> Gaussian:
        """The law of positions and momenta, which at the data are those that the model gives to positions."""
        return _gaussian(self.clock(data).marginal(_encoded(self.clock(data), data), t))

    def prior(self, data: Gaussian) -> Gaussian:
        """N(m, I) x N(0, I)."""
        return Gaussian(jnp.concatenate([data.mean, jnp.zeros(data.dim)]), 1.0)


class QuarterTurn(_Hamiltonian):
    """Every mode turns by a quarter, at a mass of its own."""

    def clock(self, data: Gaussian) -> QuadraticHamiltonian:
        """Mass (2 / pi) S^{-1/2}, stiffness (pi / 2) S^{-1/2}."""
        inverse_root = solve_spd(sqrtm(data.cov), jnp.eye(data.dim))
        return QuadraticHamiltonian(2 / np.pi * inverse_root, np.pi / 2 * inverse_root, data.mean)

    def balance(self, data: Gaussian) -> Float[Array, "n n"]:
        """The scaling of momenta with which the flow is a rotation."""
        return jax.scipy.linalg.block_diag(jnp.eye(data.dim), sqrtm(data.cov))


class ScalarMass(_Hamiltonian):
    """Mass 1 for all modes, and the time of a quarter turn of the narrowest."""

    def clock(self, data: Gaussian) -> QuadraticHamiltonian:
        """The stiffness that makes the flow exact."""
        variances, Q = jnp.linalg.eigh(data.cov)
        horizon = np.pi / 2 * jnp.sqrt(variances[0])
        stiffness = _squared_angles(variances, horizon) / horizon**2
        return QuadraticHamiltonian(jnp.eye(data.dim), symmetrised(Q @ (stiffness[:, None] * Q.T)), data.mean, horizon=horizon)


class Method(eqx.Module):
    """A model sampled by a scheme on the times horizon r^spacing, r from 1 to 0 in equal steps."""

    model: Model
    scheme: Scheme
    spacing: int = eqx.field(static=True, default=1)

    def sampler(self, data: Gaussian, steps: Int[Array, ""] | int, most: int | None = None) -> Sampler:
        """The sampler of a number of steps, filled up to `most` by steps of length zero.

        Raises:
            ValueError: if `most` is left out where the number of steps is traced.
        """
        most = _longest(steps, most)
        clock = self.model.clock(data)
        left = jnp.minimum(jnp.asarray(np.arange(most, -1, -1), clock.horizon.dtype) / jnp.asarray(steps, clock.horizon.dtype), 1.0)
        return Sampler(clock, self.model.field(data, self.scheme.takes), self.scheme, clock.horizon * left**self.spacing)

    def law(self, data: Gaussian, steps: Int[Array, ""] | int, most: int | None = None) -> Gaussian:
        """The exact law of the positions drawn.

        Raises:
            ValueError: as `sampler`.
        """
        return _law(self, data, jnp.asarray(steps), _longest(steps, most))


_LINEAR, _OSCILLATION, _VP = Path(LinearInterpolant()), Path(TrigonometricInterpolant()), Path(VariancePreserving())
_CLD = Kinetic(CriticallyDampedLangevin(), 0.04)

METHODS = {
    "quarter_turn": Method(QuarterTurn(), Leapfrog()),
    "transport_euler": Method(Transport(), Euler()),
    "linear_euler": Method(_LINEAR, Euler()),
    "linear_heun": Method(_LINEAR, Heun()),
    "oscillation_euler": Method(_OSCILLATION, Euler()),
    "oscillation_heun": Method(_OSCILLATION, Heun()),
    "vp_euler": Method(_VP, Euler()),
    "vp_euler_quadratic": Method(_VP, Euler(), 2),
    "vp_heun_quadratic": Method(_VP, Heun(), 2),
    "vp_sde": Method(_VP, EulerMaruyama()),
    "vp_sde_quadratic": Method(_VP, EulerMaruyama(), 2),
    "cld_euler": Method(_CLD, Euler()),
    "cld_heun": Method(_CLD, Heun()),
    "cld_sde": Method(_CLD, EulerMaruyama()),
    "cld_sscs": Method(_CLD, Sscs()),
    "scalar_mass": Method(ScalarMass(), Leapfrog()),
}


def get(name: str) -> Method:
    """The method called so.

    Raises:
        ValueError: if there is none.
    """
    if name not in METHODS:
        refuse("name", repr(name), f"one of {', '.join(METHODS)}", "Or make a Method of a model and a scheme.")
    return METHODS[name]


@eqx.filter_jit
def _law(method: Method, data: Gaussian, steps: Int[Array, ""], most: int) -> Gaussian:
    drawn = _gaussian(method.sampler(data, steps, most).law(method.model.prior(data)))
    return drawn if drawn.dim == data.dim else drawn.marginal(range(data.dim))


def _longest(steps: Int[Array, ""] | int, most: int | None) -> int:
    if most is None and not isinstance(steps, int):
        refuse("most", "None, with an array of steps", "the largest number of steps", "One program runs all numbers of steps, and needs the longest.")
    return int(steps) if most is None else most


def _gaussian(law: Law) -> Gaussian:
    assert isinstance(law, Gaussian)
    return law


def _encoded(hamiltonian: QuadraticHamiltonian, data: Gaussian) -> Gaussian:
    """The data with momenta from the model's law of p given q."""
    d, E = data.dim, hamiltonian.flow(hamiltonian.horizon)  # the prior is centred where H is, and stays so
    P = symmetrised(E @ E.T)
    W = solve_spd(P[:d, :d], P[:d, d:]).T
    remainder = symmetrised(P[d:, d:] - W @ P[:d, d:])
    S = data.cov
    cov = jnp.block([[S, S @ W.T], [W @ S, W @ S @ W.T + remainder]])
    return Gaussian(jnp.concatenate([data.mean, jnp.zeros(d)]), Dense(symmetrised(cov)))


def _squared_angles(variances: Float[Array, " d"], horizon: Float[Array, ""]) -> Float[Array, " d"]:
    """The squared angles y <= (pi / 2)^2 with cos^2 y^{1/2} + horizon^2 (sin y^{1/2} / y^{1/2})^2 = variance, which falls in y."""

    def reached(y: Float[Array, " d"]) -> Float[Array, " d"]:
        root = jnp.sqrt(jnp.where(y == 0, 1.0, jnp.abs(y)))
        cosine = jnp.where(y < 0, jnp.cosh(root), jnp.cos(root))
        sine = jnp.where(y == 0, 1.0, jnp.where(y < 0, jnp.sinh(root), jnp.sin(root)) / root)
        return jnp.where(y == 0, 1.0, cosine**2) + horizon**2 * sine**2

    lowest = -(jnp.arccosh(jnp.sqrt(jnp.maximum(variances, 1.0))) ** 2) - 1e-3
    return bisected(lambda y: reached(y) > variances, lowest, jnp.full_like(variances, (np.pi / 2) ** 2), _HALVINGS)[1]
