r"""Perceptrons as functions under x ~ N(0, I): their distance in L2, whatever their weights.

**One hidden ReLU layer**, in any dimension. Let u_i = w_i . x + b_i be the pre-activations of the units of both networks, v_i their outgoing weights (those of the second
network with a minus sign) and c the difference of the last biases. Then

    E |F - G|^2 = sum_ij <v_i, v_j> Cov(relu u_i, relu u_j) + |sum_i v_i E relu(u_i) + c|^2.

With s_i = |w_i|, a_i = b_i / s_i, rho_ij the correlation of u_i and u_j, and phi, Phi of the standard normal law,

    E relu(u_i) = s_i [ a_i Phi(a_i) + phi(a_i) ],
    Cov_ij      = s_i s_j [ rho Phi(a_i) Phi(a_j) + int_0^{asin rho} (rho - sin t) exp( -(a_i^2 - 2 a_i a_j sin t + a_j^2) / (2 cos^2 t) ) dt / 2 pi ],

since d^2/drho^2 E relu(u_i) relu(u_j) is s_i s_j times the bivariate normal density at the kinks (Price 1958), integrated twice from rho = 0; rho = sin t makes the integrand
smooth. Without biases the integral is rho asin(rho) + sqrt(1 - rho^2) - 1, and E relu(u_i) relu(u_j) = s_i s_j [sin th + (pi - th) cos th] / 2 pi, cos th = rho: the
arc-cosine kernel (Cho & Saul 2009).

**Any other perceptron**: by quadrature in one and two dimensions, else by Monte Carlo.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import refuse
from ensembletheory.estimate import Estimate
from ensembletheory.laws import Gaussian
from ensembletheory.laws.expectation import expectation
from ensembletheory.neural.perceptron import Perceptron

__all__ = ["OnNormalInputs", "function_distance_squared"]

_NODES = (64, 32)  # of the integral over t; the error is the difference
_MOST_NODES = 20_000


class OnNormalInputs(eqx.Module):
    """Functions as vectors whose Euclidean distance is their distance in L2(N(0, I)), by a Gauss-Hermite rule: what `identifiability.check` needs to look at a network.

    Args:
        inputs: the dimension of x.
        nodes: of the rule along each axis.

    Raises:
        ValueError: if the rule has no nodes, or too many.
    """

    points: Float[Array, "n d"]
    roots: Float[Array, " n"]

    def __init__(self, inputs: int, nodes: int = 12):
        if inputs < 1 or nodes < 1 or nodes**inputs > _MOST_NODES:
            refuse(
                "inputs and nodes", f"{inputs} and {nodes}", f"1 to {_MOST_NODES} nodes in all", "In many dimensions observe the values at draws: lambda f: jax.vmap(f)(x)."
            )
        x, w = np.polynomial.hermite_e.hermegauss(nodes)
        grids = [np.stack([axis.ravel() for axis in np.meshgrid(*[values] * inputs, indexing="ij")], axis=1) for values in (x, w / w.sum())]
        self.points, self.roots = jnp.asarray(grids[0]), jnp.asarray(np.sqrt(np.prod(grids[1], axis=1)))

    def __call__(self, network: Perceptron) -> Float[Array, " values"]:
        """The weighted values at all nodes."""
        return jnp.ravel(self.roots[:, None] * jax.vmap(network)(self.points))


def function_distance_squared(a: Perceptron, b: Perceptron, key: PRNGKeyArray | None = None, samples: int | None = None, rtol: float | None = None) -> Estimate:
    """E |a(x) - b(x)|^2 under x ~ N(0, I).

    Args:
        a: a perceptron.
        b: a perceptron with as many inputs and outputs.
        key: needed with more than two inputs, unless both have one hidden ReLU layer.
        samples: of Monte Carlo.
        rtol: relative error asked of quadrature over x; loosen it for kinks.

    Raises:
        ValueError: if inputs or outputs differ, or a key is needed.
    """
    ends = [(network.layers[0].shape[1] - 1, network.layers[-1].shape[0]) for network in (a, b)]
    if ends[0] != ends[1]:
        refuse("b", f"{ends[1][0]} inputs and {ends[1][1]} outputs", f"{ends[0][0]} and {ends[0][1]}, those of `a`", "Compare functions between the same spaces.")
    if samples is None and all(len(network.layers) == 2 and network.activation is jax.nn.relu for network in (a, b)):
        return _relu_distance_squared(a.layers, b.layers)
    return expectation(Gaussian(jnp.zeros(ends[0][0]), 1.0), _squared_difference, (a, b), key, samples, rtol)


def _squared_difference(x: Float[Array, " d"], a: Perceptron, b: Perceptron) -> tuple[Float[Array, ""], Float[Array, ""]]:
    left, right = a(x), b(x)
    difference = left - right
    return jnp.sum(difference**2), 2 * jnp.sum(jnp.abs(difference) * (jnp.abs(left) + jnp.abs(right)))


@eqx.filter_jit
def _relu_distance_squared(a: tuple[Float[Array, "..."], ...], b: tuple[Float[Array, "..."], ...]) -> Estimate:
    units, outgoing = jnp.concatenate([a[0], b[0]]), jnp.concatenate([a[1][:, :-1], -b[1][:, :-1]], axis=1)
    means, (fine, coarse) = _relu_moments(units)
    constant = outgoing @ means + a[1][:, -1] - b[1][:, -1]
    value, rough = (jnp.sum((outgoing @ cov) * outgoing) + jnp.sum(constant**2) for cov in (fine, coarse))
    rounding = 8 * jnp.finfo(value.dtype).eps * (jnp.sum((jnp.abs(outgoing) @ jnp.abs(fine)) * jnp.abs(outgoing)) + jnp.sum((jnp.abs(outgoing) @ means) ** 2))
    return Estimate(value, jnp.abs(value - rough) + rounding, "quadrature")


def _relu_moments(units: Float[Array, "h d_and_one"]) -> tuple[Float[Array, " h"], list[Float[Array, "h h"]]]:
    """Means of the outputs of ReLU units (w b) under N(0, I), and their covariances by a fine and a coarse rule."""
    w, b = units[:, :-1], units[:, -1]
    squared = jnp.sum(w**2, axis=1)
    varies = squared > 0
    safe = jnp.sqrt(jnp.where(varies, squared, 1.0))
    lengths, a = jnp.where(varies, safe, 0.0), jnp.where(varies, b / safe, 0.0)
    means = jnp.where(varies, safe * (a * norm.cdf(a) + norm.pdf(a)), jax.nn.relu(b))
    above = jnp.where(varies, norm.cdf(a), jnp.where(b > 0, 1.0, 0.0))
    products = w @ w.T
    rho = jnp.clip(products / (safe[:, None] * safe[None, :]), -1.0, 1.0)
    linear, size = products * above[:, None] * above[None, :], lengths[:, None] * lengths[None, :]
    return means, [linear + size * _double_integral(rho, a, nodes) for nodes in _NODES]


def _double_integral(rho: Float[Array, "h h"], a: Float[Array, " h"], nodes: int) -> Float[Array, "h h"]:
    """The integral of (rho - r) times the bivariate normal density of correlation r at (a_i, a_j) over r from 0 to rho, where the integrand is 0: its end has no slope."""
    x, weights = np.polynomial.legendre.leggauss(nodes)
    end, left, right = jax.lax.stop_gradient(jnp.arcsin(rho)), a[:, None], a[None, :]

    def at(share):
        t = end * share
        below = 2 * jnp.sin(np.pi / 4 - t / 2) ** 2  # 1 - sin t without cancellation
        quotient = ((left - right) ** 2 + 2 * left * right * below) / (2 * below * (2 - below))
        return (rho - jnp.sin(t)) * jnp.exp(-quotient)

    return end / (2 * np.pi) * jnp.tensordot(jnp.asarray(weights / 2), jax.vmap(at)(jnp.asarray((x + 1) / 2)), 1)
