r"""Laws sampled from averaged scores, of an ensemble and of all its sub-ensembles without one member, at the least cost: searches evaluate them 10^8 times.

With u = a_t^2, C_k = S_k - I and, at each u, the averages A = sum_k w_k (I + u C_k)^{-1} and B = sum_k w_k (I + u C_k)^{-1} m_k, the law N(sqrt(u) mu, v) of the
reverse dynamics with e = eta^2 from infinite time obeys (see `pooling.mean_score_matrix`, where D = (I - A) / u)

    dv/dlog u = v + e I - (1+e)/2 (A v + v A),      dmu/dlog u = (1+e)/2 (B - A mu),      v = I, mu = B at u = 0.

On the line these are solved by their factors: with F = (u G(1) / G(u))^{(1+e)/2}, log G = sum_k w_k log(1 + u C_k),

    v(1) = 1 + (1+e) int F^2 (1 - A) / u dlog u,      mu(1) = (1+e)/2 int F B dlog u.

The weights enter through averages of arrays over members, which all sub-ensembles share. The integrals are taken by the trapezoidal rule in s, where u = sigmoid(2
sinh s): the integrands fall off double exponentially and are analytic between the images of the poles of (1 + u C_k)^{-1}, at height delta, so that the rule's error
falls as exp(-2 pi delta / step). With matrices the equation for v is solved by the classical Runge-Kutta method in y = log(u / (1 + 1/largest - u)), in which it
sees no eigenvalue above 1 + e, from its series v = I + u A_1 + u^2 (1+e)/(2+e) (A_1^2 - A_2), A_i = sum_k w_k C_k^i, at a small u.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["COVARIANCE_ERROR", "LINE_ERROR", "LineRule", "all_and_without_each", "frames", "line_laws", "sampled_covariances"]

Averages = Callable[[Float[Array, "n ..."]], Float[Array, "m ..."]]  # of arrays over the members, one row for each ensemble

LINE_ERROR = 1e-10  # of a variance relative to itself, and of a mean in standard deviations of the narrowest law, for churn up to 2 (tested)
COVARIANCE_ERROR = 5e-4  # of a covariance, relative to itself, for variances up to 20 and churn up to 2 (tested)
DIGITS = 38.0  # exp(-38) times the integrands at their poles is below LINE_ERROR
LEFT, RIGHT = 50.0, 28.0  # where the integrands, which fall like exp(-y/2) and exp(-y), have vanished
STEPS, FIRST = 64, 1e-3


class LineRule:
    """Nodes and weights of integrals over log u from 0 to 1 for variances in [1 / largest, largest]."""

    def __init__(self, largest: float):
        height = np.arcsinh((np.log(largest) + 1j * np.pi) / 2).imag
        step = 2 * np.pi * height / DIGITS
        s = np.arange(-np.arcsinh((LEFT + np.log(largest)) / 2), np.arcsinh((RIGHT + np.log(largest)) / 2), step)
        y = 2 * np.sinh(s)
        self.u, self.rest, self.log_u = 1 / (1 + np.exp(-y)), 1 / (1 + np.exp(y)), -np.log1p(np.exp(-y))
        self.weights = 2 * step * np.cosh(s) * self.rest


def all_and_without_each(values: Float[Array, "n ..."]) -> Float[Array, "n+1 ..."]:
    """The mean over all members, then the means over all but one."""
    n, total = len(values), jnp.sum(values, axis=0, keepdims=True)
    return jnp.concatenate([total / n, (total - values) / (n - 1)])


def line_laws(
    rule: LineRule, average: Averages, means: Float[Array, " n"], variances: Float[Array, " n"], churn: Float[Array, ""]
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """Means and variances of the laws on the line, one for each row of `average`."""
    e, noised = churn**2, rule.rest[None, :] + rule.u[None, :] * variances[:, None]
    A, B, log_G, log_end = average(1 / noised), average(means[:, None] / noised), average(jnp.log(noised)), average(jnp.log(variances))
    F = jnp.exp((1 + e) / 2 * (rule.log_u[None, :] + log_end[:, None] - log_G))
    return (1 + e) / 2 * (F * B) @ rule.weights, 1 + (1 + e) * (F**2 * (1 - A)) @ (rule.weights / rule.u)


def frames(reflections: Float[Array, "n r d"]) -> Float[Array, "n d d"]:
    """Orthogonal matrices, products of the reflections in the hyperplanes normal to the given vectors."""
    n, r, d = reflections.shape
    Q = jnp.broadcast_to(jnp.eye(d), (n, d, d))
    for i in range(r):
        v = reflections[:, i, :]
        Q = Q - (2 / (jnp.sum(v**2, axis=1) + 1e-12))[:, None, None] * jnp.sum(Q * v[:, None, :], axis=2)[:, :, None] * v[:, None, :]
    return Q


def sampled_covariances(largest: float, average: Averages, spectra: Float[Array, "n d"], Q: Float[Array, "n d d"], churn: Float[Array, ""]) -> Float[Array, "m d d"]:
    """Covariances of the laws of members with covariances Q_k diag(spectra_k) Q_k^T, spectra in [1 / largest, largest], one for each row of `average`."""
    e, (step, u, slope) = churn**2, _grid(largest)

    def averaged(values: Float[Array, "n nodes d"]) -> Float[Array, "nodes m d d"]:
        return jnp.moveaxis(average(jnp.einsum("kij,ktj,klj->ktil", Q, values, Q)), 1, 0)

    A1, A2 = averaged(jnp.stack([spectra - 1, (spectra - 1) ** 2], axis=1))
    start = jnp.eye(Q.shape[-1])[None] + FIRST * A1 + FIRST**2 * (1 + e) / (2 + e) * (_product(A1, A1) - A2)
    A = averaged(1 / (1 + jnp.asarray(u)[None, :, None] * (spectra[:, None, :] - 1)))

    def velocity(v, A, slope):
        Av = _product(A, v)
        return slope * (v + e * jnp.eye(Q.shape[-1])[None] - (1 + e) / 2 * (Av + Av.mT))

    def advance(v, nodes):
        A, slope = nodes
        k1 = velocity(v, A[0], slope[0])
        k2 = velocity(v + step / 2 * k1, A[1], slope[1])
        k3 = velocity(v + step / 2 * k2, A[1], slope[1])
        k4 = velocity(v + step * k3, A[2], slope[2])
        return v + step / 6 * (k1 + 2 * (k2 + k3) + k4), None

    return jax.lax.scan(advance, start, (_triples(A), _triples(jnp.asarray(slope))))[0]


def _grid(largest: float) -> tuple[float, np.ndarray, np.ndarray]:
    """The step in y, and u and dlog u/dy at the nodes and midpoints of the steps from `FIRST` to 1."""
    end = 1 + 1 / largest
    y = np.linspace(np.log(FIRST / (end - FIRST)), np.log(largest), 2 * STEPS + 1)
    u = end / (1 + np.exp(-y))
    return 2 * (y[1] - y[0]), u, 1 - u / end


def _triples(values: Float[Array, "nodes ..."]) -> Float[Array, "steps 3 ..."]:
    """The values at the beginning, the middle and the end of each step."""
    return jnp.stack([values[:-2:2], values[1::2], values[2::2]], axis=1)


def _product(X: Float[Array, "m d d"], Y: Float[Array, "m d d"]) -> Float[Array, "m d d"]:
    """Products of small matrices, which batch better as sums than as calls of BLAS."""
    return sum((X[:, :, j, None] * Y[:, j, None, :] for j in range(X.shape[-1])), jnp.zeros_like(X))
