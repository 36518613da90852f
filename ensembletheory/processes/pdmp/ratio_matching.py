r"""Ratio matching: the loss by which the ratios p(x, R_j v) / p(x, v) of a zig-zag process are learned, and its exact minimum.

With G(r) = 1 / (1 + r), a guess s of the ratios has the loss

    L(s) = E sum_j [ G(s_j(x, v))^2 + G(s_j(x, R_j v))^2 - 2 G(s_j(x, v)) ]

over draws of (x, v) alone. Two states that differ in the sign of v_j, of masses p_1 and p_2, contribute

    (p_1 + p_2) sum_i (G_i - p_i / (p_1 + p_2))^2 - (p_1^2 + p_2^2) / (p_1 + p_2),

so that the minimiser is s_1 = p_2 / p_1, s_2 = p_1 / p_2, and the minimum -(sum p_i^2) / (sum p_i): over all states, L_min = -E sum_j G(r_j(x, v)) with the true ratios r.
What a guess loses is a squared error; the loss is between -1 and 1, and the minimum between -1 and -1/2, for each coordinate.

Source: Bertazzi et al. (2024).
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate, monte_carlo
from ensembletheory.laws import KacMixture
from ensembletheory.laws.expectation import breaks
from ensembletheory.laws.weights import log_weighted_sum
from ensembletheory.quadrature import integrate

__all__ = ["chances", "least_loss", "least_loss_on_the_line", "loss_on_the_line", "pair_least_loss", "pair_loss", "pair_minimiser", "ratio_matching_loss"]

Guess = Callable[[Float[Array, " d"], Float[Array, " d"]], Float[Array, " d"]]  # (x, v) -> a ratio for each coordinate


def pair_loss(masses: Numbers, guess: Numbers) -> Float[Array, ""]:
    """The loss of two states of the given masses (2,) and guessed ratios (2,), each that of the other state to it.

    Raises:
        ValueError: if shapes are not (2,), or a mass or a ratio is negative.
    """
    p, s = _pair("masses", masses), _pair("guess", guess)
    G = 1 / (1 + s)
    return p @ (G**2 + G[::-1] ** 2 - 2 * G)


def pair_least_loss(masses: Numbers) -> Float[Array, ""]:
    """The least of `pair_loss`, -(p_1^2 + p_2^2) / (p_1 + p_2).

    Raises:
        ValueError: if the shape is not (2,), a mass is negative, or both are 0.
    """
    p = _pair("masses", masses)
    if is_concrete(p) and not float(np.sum(np.asarray(p))) > 0:
        refuse("masses", "0 and 0", "a positive sum", "Where nothing is, no ratio is known.")
    return -(p @ p) / jnp.sum(p)


def pair_minimiser(masses: Numbers) -> Float[Array, " 2"]:
    """The ratios p_2 / p_1 and p_1 / p_2, which alone have the least loss.

    Raises:
        ValueError: as `pair_least_loss`.
    """
    p = _pair("masses", masses)
    return p[::-1] / p


def ratio_matching_loss(guess: Guess, x: Numbers, v: Numbers) -> Estimate:
    """The loss of a guess (a pytree, such as an `equinox.Module`) over draws of x (n, d) and of the signs v (n, d), with its standard error.

    Raises:
        ValueError: if x and v are not of one shape (n, d) with n of at least 2.
    """
    return _loss(guess, *_states(x, v))


def least_loss(ratios: Guess, x: Numbers, v: Numbers) -> Estimate:
    """The least loss -E sum_j G(r_j(x, v)) over the same draws, out of the true ratios.

    Raises:
        ValueError: as `ratio_matching_loss`.
    """
    return _least(ratios, *_states(x, v))


def loss_on_the_line(guess: Guess, noised: KacMixture) -> Estimate:
    """The loss of a guess (a pytree) under the telegraph process on the line, by quadrature.

    Raises:
        ValueError: if the law is not on the line.
        TypeError: for points as data, which have no density.
    """
    return integrate(Partial(_line_loss, guess, noised), breaks(_on_the_line(noised), ()))


def least_loss_on_the_line(noised: KacMixture) -> Estimate:
    """The least loss under the telegraph process on the line, -int (p_+^2 + p_-^2) / (p_+ + p_-) dx, by quadrature.

    Raises:
        ValueError, TypeError: as `loss_on_the_line`.
    """
    return integrate(Partial(_line_least, noised), breaks(_on_the_line(noised), ()))


def chances(guess: Guess, x: Float[Array, " d"], v: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """G(s_j(x, v)) and G(s_j(x, R_j v)) for every coordinate j at one state."""
    turned = jax.vmap(lambda signs: v * signs)(1 - 2 * jnp.eye(len(v), dtype=v.dtype))
    return 1 / (1 + guess(x, v)), 1 / (1 + jnp.diagonal(jax.vmap(lambda u: guess(x, u))(turned)))


def _pair(argument: str, values: Numbers) -> Float[Array, " 2"]:
    pair = as_floats(argument, values)
    if pair.shape != (2,):
        refuse(argument, f"shape {pair.shape}", "(2,)", "One number for each of the two states.")
    if is_concrete(pair) and np.min(np.asarray(pair)) < 0:
        refuse(argument, f"{np.min(np.asarray(pair)):.6g}", "numbers >= 0", "Masses and their ratios are not negative.")
    return pair


def _states(x: Numbers, v: Numbers) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
    places, signs = as_floats("x", x), as_floats("v", v)
    if places.ndim != 2 or len(places) < 2 or places.shape != signs.shape:
        refuse("v", f"shapes {places.shape} of x and {signs.shape}", "one shape (n, d) of both, n >= 2", "Give every place the signs of its velocities.")
    return places, signs


def _on_the_line(noised: KacMixture) -> KacMixture:
    if noised.dim != 1:
        refuse("noised", f"dimension {noised.dim}", "a law on the line", "Take a marginal, or draws: ratio_matching_loss.")
    return noised


@eqx.filter_jit
def _loss(guess: Guess, x: Float[Array, "n d"], v: Float[Array, "n d"]) -> Estimate:
    def one(x, v):
        own, turned = chances(guess, x, v)
        return jnp.sum(own**2 + turned**2 - 2 * own)

    return monte_carlo(jax.vmap(one)(x, v))


@eqx.filter_jit
def _least(ratios: Guess, x: Float[Array, "n d"], v: Float[Array, "n d"]) -> Estimate:
    return monte_carlo(-jax.vmap(lambda x, v: jnp.sum(1 / (1 + ratios(x, v))))(x, v))


def _line_loss(guess: Guess, noised: KacMixture, x: Float[Array, " 1"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    p = jnp.exp(_log_masses(noised, x))
    G = 1 / (1 + jnp.stack([guess(x, jnp.ones_like(x))[0], guess(x, -jnp.ones_like(x))[0]]))
    return p @ (G**2 + G[::-1] ** 2 - 2 * G), jnp.sum(p)


def _line_least(noised: KacMixture, x: Float[Array, " 1"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    logs = _log_masses(noised, x)
    shares, total = jax.nn.softmax(logs), jnp.exp(jax.nn.logsumexp(logs))  # in tails, where squares of masses are 0
    return -total * (shares @ shares), total


def _log_masses(noised: KacMixture, x: Float[Array, " 1"]) -> Float[Array, " 2"]:
    """Log p(x, +) and log p(x, -)."""
    logs, _ = noised._parts(x)
    return jax.vmap(log_weighted_sum, in_axes=(None, 1))(noised.weights, logs[:, 0, :])
