r"""A law on the line or in the plane known by its log-density up to a constant: normalised by quadrature on panels.

Panels break at the marks of the given pieces (`Law.marks`) and are halved until the 16-point Gauss-Legendre rule and the 8-point one agree on the mass of all panels to 1e-12
(1e-10 in the plane). The law is then carried by its panels: moments, tails and draws use their nodes. On a panel the density is its interpolating polynomial to the same
accuracy, so that draws are exact up to that error: a panel is drawn by its mass, then each coordinate by inverting the polynomial's distribution function.

What lies outside the box of the pieces is taken to be zero; inside it every feature must be seen by the panels, as in `ensembletheory.quadrature`.
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.laws.expectation import expectation, surprise
from ensembletheory.laws.law import Law, checked_affine, checked_dims, checked_point, marks
from ensembletheory.quadrature import gauss_legendre, integrate, panels

__all__ = ["GridLaw"]

_NODES = 16
_AGREEMENT = {1: 1e-12, 2: 1e-10}
_MOST_PANELS = {1: 2000, 2: 20_000}
_CHUNK = 64  # panels evaluated at once while they are refined, so that all rounds share one program
_BISECTIONS = 52

LogDensity = Callable[[Float[Array, " d"]], Float[Array, ""]]


class GridLaw(Law):
    """The law of density exp(log_density(x)) / Z on the line or in the plane.

    Args:
        log_density: a pytree (such as `jax.tree_util.Partial` or an `equinox.Module`) that maps one point (d,) to its log-density up to a constant.
        centres: (K, d), where the features of the density are.
        widths: (K, d), their standard deviations along the axes: 13 of them around the centres must hold the mass, and none of them may be much wider than a feature.

    Raises:
        ValueError: if d is neither 1 nor 2, shapes do not agree, a width is not positive, or the total mass is zero, infinite or NaN.
    """

    log_density: LogDensity
    centres: Float[Array, "K d"]
    widths: Float[Array, "K d"]
    breaks: tuple[Float[Array, " _"], ...]
    log_normaliser: Estimate

    def __init__(self, log_density: LogDensity, centres: Numbers, widths: Numbers):
        self.log_density = log_density
        self.centres, self.widths = as_floats("centres", centres), as_floats("widths", widths)
        if self.centres.ndim != 2 or self.centres.shape[1] not in (1, 2) or self.centres.shape != self.widths.shape or not len(self.centres):
            got = f"shapes {self.centres.shape} and {self.widths.shape}"
            refuse("centres, widths", got, "(K, 1) or (K, 2), both the same", "Grids serve one and two dimensions: take a marginal, or sample.")
        if is_concrete(self.widths) and not np.all(np.asarray(self.widths) > 0):
            refuse("widths", f"{np.min(self.widths):.6g}", "positive standard deviations", "Pass standard deviations, not logarithms.")
        self.breaks, top = _refined(log_density, jax.lax.stop_gradient(marks(self.centres, self.widths)))
        self.log_normaliser = _log_mass(log_density, self.breaks, top)

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.centres.shape[-1]

    @property
    def mean(self) -> Float[Array, " d"]:
        """The mean."""
        return _moments(self)[0]

    @property
    def cov(self) -> Float[Array, "d d"]:
        """The covariance matrix."""
        return _moments(self)[1]

    def _log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return self.log_density(x) - self.log_normaliser.value

    def _score(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return jax.grad(self.log_density)(x)

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent draws."""
        return _drawn(self, key, n)

    def entropy(self, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
        """The differential entropy in nats, by quadrature (by Monte Carlo where `samples` is given)."""
        return expectation(self, surprise, (self,), key, samples)

    def pieces(self) -> tuple[Float[Array, "K d"], Float[Array, "K d"]]:
        """The centres and widths it was given."""
        return self.centres, self.widths

    def _doubt(self) -> Float[Array, ""]:
        return self.log_normaliser.error

    def marks(self) -> tuple[Float[Array, " _"], ...]:
        """The ends of its panels."""
        return self.breaks

    def marginal(self, dims: Sequence[int]) -> "GridLaw":
        """The law of the coordinates `dims`, in that order."""
        listed = checked_dims(dims, self.dim)
        pieces = self.centres[:, np.asarray(listed)], self.widths[:, np.asarray(listed)]
        if len(listed) == self.dim:
            return GridLaw(Partial(_permuted, self.log_density, jnp.argsort(jnp.asarray(listed))), *pieces)
        return GridLaw(Partial(_integrated_out, self.log_density, self.breaks[1 - listed[0]], jnp.asarray(listed[0])), *pieces)

    def condition(self, dims: Sequence[int], values: Numbers) -> "GridLaw":
        """The law of the remaining coordinate, given that the coordinate `dims` equals `values`.

        Raises:
            ValueError: if `dims` repeats a coordinate, is out of range or leaves nothing, or `values` does not have its length.
        """
        given = checked_dims(dims, self.dim)
        if len(given) == self.dim:
            refuse("dims", "all coordinates", "at least one left free", "Evaluate log_prob at the values instead.")
        rest = 1 - given[0]
        slice_ = Partial(_sliced, self.log_density, jnp.asarray(rest), checked_point("values", values, 1)[0])
        return GridLaw(slice_, self.centres[:, [rest]], self.widths[:, [rest]])

    def push(self, A: Numbers, b: Numbers) -> "GridLaw":
        """The law of A x + b, for A (k, d) of full row rank and b (k,)."""
        A, b = checked_affine(A, b, self.dim)
        if A.shape[0] < self.dim:
            turned = self.push(jnp.stack([A[0], jnp.stack([-A[0, 1], A[0, 0]])]), jnp.concatenate([b, jnp.zeros(1)]))
            return turned.marginal([0])
        return GridLaw(Partial(_pulled_back, self.log_density, jnp.linalg.inv(A), b), self.centres @ A.T + b[None, :], self.widths @ jnp.abs(A).T)


def _permuted(log_density: LogDensity, order: Array, x: Float[Array, " d"]) -> Float[Array, ""]:
    return log_density(x[order])


def _placed(first: Float[Array, ""], second: Float[Array, ""], axis: Array) -> Float[Array, " 2"]:
    """The point of the plane with coordinate `first` on `axis` and `second` on the other."""
    return jnp.where(axis == 0, jnp.stack([first, second]), jnp.stack([second, first]))


def _sliced(log_density: LogDensity, axis: Array, value: Float[Array, ""], x: Float[Array, " 1"]) -> Float[Array, ""]:
    return log_density(_placed(x[0], value, axis))


def _integrated_out(log_density: LogDensity, breaks: Float[Array, " n"], axis: Array, x: Float[Array, " 1"]) -> Float[Array, ""]:
    """The log of the marginal density on `axis`, by the panels of the other axis."""
    t, log_weights = _line_nodes(breaks)
    return jax.nn.logsumexp(jax.vmap(lambda s: log_density(_placed(x[0], s, axis)))(t) + log_weights)


def _pulled_back(log_density: LogDensity, inverse: Float[Array, "d d"], b: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
    return log_density(inverse @ (y - b))


def _line_nodes(breaks: Float[Array, " n"]) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """Nodes of all panels of a line, and the logarithms of their weights (-inf on panels of no length)."""
    nodes, weights = gauss_legendre(_NODES, 1)
    lengths = jnp.diff(breaks)
    points = breaks[:-1, None] + lengths[:, None] * jnp.asarray(nodes[:, 0])[None, :]
    return points.ravel(), _log((lengths[:, None] * jnp.asarray(weights)[None, :]).ravel())


def _log(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The logarithm, -inf with derivative 0 where x is 0."""
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1.0)), -jnp.inf)


def _top(log_density: LogDensity, breaks: tuple[Float[Array, " _"], ...]) -> Float[Array, ""]:
    """The largest log-density at the corners of the panels: what exponentials are taken relative to."""
    corners = jnp.stack([grid.ravel() for grid in jnp.meshgrid(*breaks, indexing="ij")], axis=-1)
    return jax.lax.stop_gradient(jnp.max(jax.vmap(log_density)(corners)))


def _relative_density(log_density: LogDensity, top: Float[Array, ""], x: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    exponent = log_density(x) - top
    density = jnp.exp(exponent)
    return density, density * (1 + jnp.abs(exponent) + jnp.abs(top))


def _log_mass(log_density: LogDensity, breaks: tuple[Float[Array, " _"], ...], top: Float[Array, ""]) -> Estimate:
    """Log of the integral of exp(log_density), whose largest values are about exp(top)."""
    mass = integrate(Partial(_relative_density, log_density, top), breaks)
    if is_concrete(mass.value) and not (np.isfinite(mass.value) and mass.value > 0):
        refuse("log_density", f"a total mass of {float(mass.value):.6g} times exp({float(top):.6g})", "a positive finite one", "Check its sign, and the pieces.")
    return Estimate(top + jnp.log(mass.value), mass.error / mass.value, "quadrature")


def _refined(log_density: LogDensity, breaks: tuple[Float[Array, " _"], ...]) -> tuple[tuple[Float[Array, " _"], ...], Float[Array, ""]]:
    """The breaks, with intervals halved until the masses of all panels are known (as they are where values cannot be looked at), and the scale of the log-density."""
    if not is_concrete(*breaks, *jax.tree.leaves(log_density)):
        return breaks, _top(log_density, breaks)
    ends = tuple(np.unique(np.asarray(b)) for b in breaks)
    d = len(ends)
    while True:
        masses, defects, top = _panel_masses(log_density, ends)
        tolerance = _AGREEMENT[d] * np.sum(masses)
        bad = np.flatnonzero(defects > tolerance / defects.size)
        if not bad.size or np.sum(defects) <= tolerance:
            break
        split = [np.unique(index) for index in np.unravel_index(bad, [len(e) - 1 for e in ends])]
        finer = tuple(np.union1d(e, (e[i] + e[i + 1]) / 2) for e, i in zip(ends, split, strict=True))
        if np.prod([len(e) - 1 for e in finer]) > _MOST_PANELS[d]:
            break
        ends = finer
    return tuple(jnp.asarray(e) for e in ends), jnp.asarray(top)


def _panel_masses(log_density: LogDensity, ends: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray, np.float64]:
    """The mass of each panel by the 16-point rule, its distance from the 8-point one, both over exp(top), and top."""
    lower, upper = (np.stack([g.ravel() for g in np.meshgrid(*sides, indexing="ij")], -1) for sides in ([e[:-1] for e in ends], [e[1:] for e in ends]))
    n = len(lower)
    padded = -(-n // _CHUNK) * _CHUNK
    lower, upper = (np.resize(corner, (padded, len(ends))) for corner in (lower, upper))
    parts = [_chunk_masses(log_density, jnp.asarray(lower[i : i + _CHUNK]), jnp.asarray(upper[i : i + _CHUNK])) for i in range(0, padded, _CHUNK)]
    logs, coarse_over_fine = (np.concatenate([np.asarray(part[j]) for part in parts])[:n] for j in range(2))
    top = np.max(logs) if np.isfinite(np.max(logs)) else np.float64(0.0)
    masses = np.exp(logs - top)
    return masses, masses * np.abs(1 - coarse_over_fine), top


@eqx.filter_jit
def _chunk_masses(log_density: LogDensity, lower: Float[Array, "m d"], upper: Float[Array, "m d"]) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """The log of the mass of each panel, and the ratio of the 8-point rule's to it (1 where there is none)."""
    fine, coarse = (_log_masses(log_density, lower, upper, n) for n in (_NODES, _NODES // 2))
    return fine, jnp.where(fine > -jnp.inf, jnp.exp(coarse - jnp.where(fine > -jnp.inf, fine, 0.0)), 1.0)


def _log_masses(log_density: LogDensity, lower: Float[Array, "m d"], upper: Float[Array, "m d"], n: int) -> Float[Array, " m"]:
    nodes, weights = gauss_legendre(n, lower.shape[1])
    points = lower[:, None, :] + (upper - lower)[:, None, :] * jnp.asarray(nodes)[None]
    logs = jax.vmap(jax.vmap(log_density))(points)
    return _log(jnp.prod(upper - lower, axis=1)) + jax.nn.logsumexp(logs, axis=1, b=jnp.asarray(weights)[None, :])


def _nodal_masses(law: GridLaw) -> tuple[Float[Array, "m n d"], Float[Array, "m n"]]:
    """The nodes of all panels and the probability each stands for."""
    nodes, weights = gauss_legendre(_NODES, law.dim)
    lower, upper = panels(jax.lax.stop_gradient(law.breaks))
    points = lower[:, None, :] + (upper - lower)[:, None, :] * jnp.asarray(nodes)[None]
    log_weights = _log(jnp.prod(upper - lower, axis=1))[:, None] + jnp.log(jnp.asarray(weights))[None, :]
    return points, jnp.exp(jax.vmap(jax.vmap(law._log_prob))(points) + log_weights)


@eqx.filter_jit
def _moments(law: GridLaw) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    points, masses = _nodal_masses(law)
    points, masses = points.reshape(-1, law.dim), masses.ravel() / jnp.sum(masses)
    mean = masses @ points
    centred = points - mean[None, :]
    return mean, (masses[:, None] * centred).T @ centred


@eqx.filter_jit
def _drawn(law: GridLaw, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
    key_panel, key_place = jax.random.split(key)
    _, masses = _nodal_masses(law)
    index = jax.random.choice(key_panel, masses.shape[0], (n,), p=jnp.sum(masses, axis=1))
    lower, upper = panels(law.breaks)
    _, weights = gauss_legendre(_NODES, law.dim)
    densities = (masses / jnp.asarray(weights)[None, :]).reshape(-1, *[_NODES] * law.dim)
    uniforms = jax.random.uniform(key_place, (n, law.dim), lower.dtype)
    places = jax.lax.map(lambda draw: _place_in_panel(densities[draw[0]], draw[1]), (index, uniforms), batch_size=1024)
    return lower[index] + (upper - lower)[index] * places


def _place_in_panel(densities: Float[Array, "..."], u: Float[Array, " d"]) -> Float[Array, " d"]:
    """The point of the unit cube at the quantiles u of the law whose density has these values at the nodes: first axis first, the second given the first."""
    if u.shape[0] == 1:
        return _inverted(densities, u[0])[None]
    _, weights = gauss_legendre(_NODES, 1)
    first = _inverted(densities @ jnp.asarray(weights), u[0])
    return jnp.stack([first, _inverted(_legendre_at(first) @ jnp.asarray(_coefficients()) @ densities, u[1])])


def _inverted(densities: Float[Array, " n"], u: Float[Array, ""]) -> Float[Array, ""]:
    """The t in [0, 1] with F(t) = u F(1), F the integral of the interpolating polynomial."""
    coefficients = jnp.asarray(_coefficients()) @ densities
    # the integral over [0, t] of P_k(2 s - 1) is (P_{k+1} - P_{k-1})(2 t - 1) / (2 (2 k + 1)), and t for k = 0
    padded = jnp.concatenate([coefficients / jnp.asarray(2.0 * (2 * np.arange(_NODES) + 1)), jnp.zeros(2)])
    antiderivative = jnp.concatenate([padded[:1], padded[:_NODES]]) - jnp.concatenate([padded[1 : _NODES + 1], jnp.zeros(1)])
    target = u * coefficients[0]

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        short = _legendre_at(middle, _NODES + 1) @ antiderivative < target
        return jnp.where(short, middle, low), jnp.where(short, high, middle)

    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (jnp.asarray(0.0, u.dtype), jnp.asarray(1.0, u.dtype)))
    return (low + high) / 2


def _legendre_at(t: Float[Array, ""], terms: int = _NODES) -> Float[Array, " terms"]:
    """P_0, P_1, ... at 2 t - 1."""
    x = 2 * t - 1
    values = [jnp.ones_like(x), x]
    for k in range(1, terms - 1):
        values.append(((2 * k + 1) * x * values[k] - k * values[k - 1]) / (k + 1))
    return jnp.stack(values)


def _coefficients() -> np.ndarray:
    """The matrix from values at the nodes to Legendre coefficients on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return (np.polynomial.legendre.legvander(nodes, _NODES - 1) * weights[:, None]).T * (np.arange(_NODES)[:, None] + 0.5)
