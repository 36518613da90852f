r"""Flows trained through their discretisation, by likelihood: the rows of a comparison in which the solver is part of the model.

**Leapfrog.** A quadratic potential 1/2 (q - m)^T K (q - m), a scalar inverse mass a^2 and an encoder p | q ~ N(W (q - m), D), D diagonal, are trained together, on centred
data, since the mean is a translation. The deficit of the evidence lower bound, in expectation over data N(m, S), is the divergence of joint laws

    KL( N(m, S) encoder || law of L leapfrog steps ) = KL(data || model) + E KL(encoder || posterior),

both Gaussian, the second that of `Sampler`. On the line with c = a^2 h <= s it is 0 for L = 1, at two stiffnesses k = 2 (1 -+ (s^2 - c^2)^{1/2}) / (h c); with the mass
held so that c > s, no k does better than log(c / s) + (s^2 / c^2 - 1) / 2.

**Residual map.** The control: N Euler steps x <- x + (G x + b) / N of an autonomous linear flow without momenta, trained on KL(data || model), are exact from N = 1 on as
well, with (I + G / N)^N a root of S. What one step is worth comes from training through the solver, not from symplecticity.

In several dimensions the diagonal D leaves the bias of `hamiltonian.mean_field`, whatever L.

Both are minimised by BFGS (optimistix) from random starts, all in one compiled program; nothing is told of the solutions above.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.covariance import Dense
from ensembletheory.divergences import kl
from ensembletheory.errors import refuse
from ensembletheory.laws import Gaussian, standard_normal
from ensembletheory.linalg import symmetrised
from ensembletheory.processes import QuadraticHamiltonian
from ensembletheory.samplers import Leapfrog, Sampler, padded

__all__ = ["Trained", "train_leapfrog", "train_residual"]

_STEPS = 400
_SPREAD = 0.5  # of the starts


class Trained(eqx.Module):
    """What training found: the deficit in nats of each start, ascending, and the parameters of the best."""

    deficits: Float[Array, " starts"]
    parameters: dict[str, Float[Array, "..."]]


def train_leapfrog(key: PRNGKeyArray, data: Gaussian, steps: int, starts: int = 16, inverse_mass: float | None = None, most: int | None = None) -> Trained:
    """Potential, mass and encoder of `steps` leapfrog steps over time 1, from random starts.

    Args:
        key: of the starts.
        data: N(m, S).
        steps: L.
        starts: how many.
        inverse_mass: a^2, if it is held.
        most: steps of length zero make the run this long, so that several L share a program.

    Raises:
        ValueError: if there is no step or no start.
    """
    d = data.dim
    shapes = {"stiffness": (d, d), "weights": (d, d), "log_variances": (d,)} | ({} if inverse_mass is not None else {"log_inverse_mass": ()})
    held = None if inverse_mass is None else jnp.log(jnp.asarray(inverse_mass, float))
    return _trained(key, _leapfrog_deficit, shapes, starts, (data, _times(steps, starts, most), held))


def train_residual(key: PRNGKeyArray, data: Gaussian, steps: int, starts: int = 16, most: int | None = None) -> Trained:
    """Slope and shift of `steps` Euler steps of an autonomous linear flow over time 1, from random starts; `most` as in `train_leapfrog`.

    Raises:
        ValueError: if there is no step or no start.
    """
    shapes = {"slope": (data.dim, data.dim), "shift": (data.dim,)}
    return _trained(key, _residual_deficit, shapes, starts, (data, _times(steps, starts, most)))


def _times(steps: int, starts: int, most: int | None) -> Float[Array, " n"]:
    """From 1 to 0."""
    if steps < 1 or starts < 1:
        refuse("steps, starts", f"{steps}, {starts}", "at least 1 of each", "Train something, from somewhere.")
    return padded(np.linspace(1.0, 0.0, steps + 1), (steps if most is None else most) + 1)


def _leapfrog_deficit(parameters: dict[str, Array], given: tuple[Gaussian, Array, Array | None]) -> Float[Array, ""]:
    data, times, held = given
    mass = jnp.exp(-(parameters["log_inverse_mass"] if held is None else held)) * jnp.eye(data.dim)
    hamiltonian = QuadraticHamiltonian(mass, symmetrised(parameters["stiffness"]))
    model = Sampler(hamiltonian, hamiltonian.gradient(), Leapfrog(unstable=True), times).law(standard_normal(2 * data.dim))
    W, S = parameters["weights"], data.cov
    encoded = jnp.block([[S, S @ W.T], [W @ S, W @ S @ W.T + jnp.diag(jnp.exp(parameters["log_variances"]))]])
    return kl(Gaussian(jnp.zeros(2 * data.dim), Dense(symmetrised(encoded))), model).value


def _residual_deficit(parameters: dict[str, Array], given: tuple[Gaussian, Array]) -> Float[Array, ""]:
    data, times = given

    def move(moments, h):
        (mean, cov), A = moments, jnp.eye(data.dim) + h * parameters["slope"]
        return (A @ mean + h * parameters["shift"], A @ cov @ A.T), None

    (mean, cov), _ = jax.lax.scan(move, (jnp.zeros(data.dim), jnp.eye(data.dim)), -jnp.diff(times))
    return kl(data, Gaussian(mean, Dense(symmetrised(cov)))).value


@eqx.filter_jit
def _trained(key: PRNGKeyArray, deficit: Callable[..., Array], shapes: dict[str, tuple[int, ...]], starts: int, args: Any) -> Trained:
    def minimised(key):
        keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
        start = {name: _SPREAD * jax.random.normal(keys[name], shape) for name, shape in shapes.items()}
        solution = optimistix.minimise(deficit, optimistix.BFGS(rtol=1e-10, atol=1e-13), start, args, max_steps=_STEPS, throw=False)
        return deficit(solution.value, args), solution.value

    deficits, parameters = jax.vmap(minimised)(jax.random.split(key, starts))
    order = jnp.argsort(jnp.where(jnp.isnan(deficits), jnp.inf, deficits))
    return Trained(deficits[order], jax.tree.map(lambda leaf: leaf[order[0]], parameters))
