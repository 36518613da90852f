r"""Targets that one leapfrog step reaches exactly, with fixed kinetic energy: whatever is as wide as one drift.

One step of length h with mass m takes N(0, I) x N(0, I) to the positions q_1 = T(q_0) + c p_0 with T = Id - (h^2 / 2m) grad V and c = h / m. So a law rho is reached,
with T the gradient of a convex function, iff rho = mu * N(0, c^2 I): T is then the Brenier map of N(0, I) to mu and

    V(q) = (2m / h^2) ( |q|^2 / 2 - phi(q) ),   T = grad phi.

**Gaussian**: rho = N(0, S) with c^2 <= the least eigenvalue of S: T = (S - c^2 I)^{1/2}, and V is quadratic. **On the line**, a mixture of variances at least c^2:
T = F_mu^{-1} o F_N, mu the mixture with variances less c^2. Where they all are c^2, mu is discrete, and V quadratic between the quantiles of its weights: a power diagram.
Any other rho is reached up to W2 <= c sqrt(d), by mu = rho.

phi is found by its conjugate, phi(q) = q x - int^x F_N^{-1}(F_mu(u)) du at x = T(q), in which nothing has to be inverted.

**The momenta.** From q_1 and q_0 follows p_1 = (T(q_1) - q_0) / c: given q_1 the momentum is an affine image of q_0, whose law has the density
N(q_0; 0, 1) N(q_1; T(q_0), c^2) / rho(q_1). That is not Gaussian: it falls off a cliff where T is steep, between modes of the target, so the best Gaussian encoder of p_1,
the N(a, b^2) for q_0 that minimises KL to it, point by point, leaves the gap

    E_rho min_{a, b} [ E_{N(a, b^2)} ( q_0^2 / 2 + (q_1 - T(q_0))^2 / 2 c^2 ) - log b ] + E_rho log rho + log c + (log 2 pi - 1) / 2,

which is the whole ELBO deficit of the flow. Derived here.
"""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jax.custom_derivatives import SymbolicZero
from jax.scipy.special import log_ndtr, ndtri
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.hamiltonian.flow import HamiltonianFlow
from ensembletheory.laws import FiniteLaw, Gaussian, GaussianMixture, standard_normal
from ensembletheory.laws.mixture import weighted_components
from ensembletheory.laws.univariate import quantile, smaller_tail
from ensembletheory.linalg import sqrtm, symmetrised
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.hamiltonian import QuadraticHamiltonian, SeparableHamiltonian
from ensembletheory.quadrature import gauss_legendre

__all__ = ["OneStepPotential", "best_gaussian_encoder", "gaussian_encoder_gap", "one_step_flow", "one_step_gaussian"]

_NODES = 16
_REACH = 8.5  # standard deviations of q_0: what lies beyond weighs less than 1e-16
_POSITIONS, _WIDTHS = 33, (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)  # where the search for the best encoder begins
_STEPS = 60  # of its polishing
_RESOLVED = 0.03  # the least c, over the larger of 1 and the widest component, at which the rule is right to 1e-5


def one_step_gaussian(target: Gaussian, step: Numbers, mass: Numbers = 1.0) -> QuadraticHamiltonian:
    """The quadratic Hamiltonian, of horizon `step`, one leapfrog step of which takes N(mean, I) x N(0, I) exactly to positions of law `target`.

    Raises:
        ValueError: if step or mass is not positive, or c = step / mass exceeds the least standard deviation of the target.
    """
    h, m = positive("step", step), positive("mass", mass)
    if is_concrete(h, m, target.mean, target.cov):
        c, least = float(h) / float(m), float(np.sqrt(np.linalg.eigvalsh(np.asarray(target.cov))[0]))
        if not c <= least:
            remedy = f"Take a step below {least * float(m):.6g} or a larger mass."
            refuse("step", f"{float(h):.6g}, c = step / mass = {c:.6g}", f"c at most {least:.6g}, the least standard deviation of the target", remedy)
    mass, stiffness = _one_step(target.cov, h, m)
    return QuadraticHamiltonian(mass, stiffness, target.mean, horizon=h)


@jax.jit
def _one_step(S: Float[Array, "d d"], h: Float[Array, ""], m: Float[Array, ""]) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    identity = jnp.eye(len(S), dtype=S.dtype)
    return m * identity, 2 * m / h**2 * symmetrised(identity - sqrtm(S - (h / m) ** 2 * identity))


class OneStepPotential(eqx.Module):
    """The potential V on the line with which one leapfrog step reaches `target`; V(0) = 0.

    Args:
        target: a Gaussian or a mixture on the line, whose variances are at least c^2, c = step / mass, or all equal to it.
        step: h.
        mass: m.

    Raises:
        ValueError: if the target is not on the line, a variance is below c^2 or, though not all are, equal to it, or step or mass is not positive.
    """

    target: GaussianMixture
    mu: GaussianMixture | FiniteLaw
    step: Float[Array, ""]
    mass: Float[Array, ""]

    def __init__(self, target: Gaussian | GaussianMixture, step: Numbers, mass: Numbers = 1.0):
        self.step, self.mass = positive("step", step), positive("mass", mass)
        if target.dim != 1:
            refuse("target", f"dimension {target.dim}", "a law on the line", "Take a product of potentials for independent coordinates, or a Gaussian with one_step_gaussian.")
        weights, stacked = weighted_components(target)
        variances = jax.vmap(lambda component: component.covariance.diagonal())(stacked)
        self.target = GaussianMixture(weights, stacked.mean, variances)
        self.mu = _narrowed(self.target, variances, self.c)

    @property
    def c(self) -> Float[Array, ""]:
        """Step / mass: how far a drift carries."""
        return self.step / self.mass

    def transport(self, q: Float[Array, ""]) -> Float[Array, ""]:
        """The Brenier map T of N(0, 1) to mu: increasing."""
        if isinstance(self.mu, FiniteLaw):
            levels, lines = _power_diagram(self.mu)
            return lines[0][jnp.sum(q > levels)]
        return _transport(self.mu, q)

    def slope(self, q: Float[Array, ""]) -> Float[Array, ""]:
        """V'(q)."""
        return 2 * self.mass / self.step**2 * (q - self.transport(q))

    def __call__(self, q: Float[Array, " 1"]) -> Float[Array, ""]:
        """V at one point (1,)."""
        return 2 * self.mass / self.step**2 * (q[0] ** 2 / 2 - self._convex(q[0]))

    def _convex(self, q: Float[Array, ""]) -> Float[Array, ""]:
        """The phi of phi' = T and phi(0) = 0."""
        if isinstance(self.mu, FiniteLaw):
            slopes, offsets = _power_diagram(self.mu)[1]
            return jnp.max(slopes * q - offsets) - jnp.max(-offsets)
        return _integral_of_transport(self.mu, q)


def one_step_flow(target: Gaussian | GaussianMixture, step: Numbers, mass: Numbers = 1.0) -> HamiltonianFlow:
    """The flow of one leapfrog step from N(0, I) whose positions have exactly the law `target`, on the line.

    Raises:
        ValueError: as `OneStepPotential`.
    """
    potential = OneStepPotential(target, step, mass)
    return HamiltonianFlow(SeparableHamiltonian.fixed_kinetic(potential, potential.mass[None], potential.step), standard_normal(2), 1)


def gaussian_encoder_gap(potential: OneStepPotential, points: int = 321) -> Estimate:
    """The ELBO deficit that the best Gaussian encoder leaves the exact one-step flow, in nats: the gap of the module, by quadrature.

    The best encoder at each point is found by descent from the best of a grid of starts. `points` of the target are looked at; the error is the change when every
    other is left out.

    Raises:
        ValueError: unless `points` is odd and at least 5, or if c is too small for the rule.
    """
    _require_resolved(potential)
    if points < 5 or points % 2 == 0:
        refuse("points", str(points), "an odd number, at least 5", "The error leaves out every other point.")
    fine, coarse = _gaps(potential, points)
    return Estimate(fine, jnp.abs(fine - coarse), "quadrature")


def best_gaussian_encoder(potential: OneStepPotential, q: Numbers) -> Gaussian:
    """The Gaussian law of p_1 that is nearest, in KL(encoder || posterior), to what the exact one-step flow leaves of the momentum at q_1 = q.

    Raises:
        ValueError: if c is too small for the rule.
    """
    _require_resolved(potential)
    return Gaussian(*_best_encoder(potential, jnp.asarray(q, potential.step.dtype)))


def _require_resolved(potential: OneStepPotential) -> None:
    """Refuse a c of which q_0 given q_1 is too narrow for the fixed rule of q_0."""
    widths = potential.target.pieces()[1]
    if is_concrete(potential.c, widths):
        least = _RESOLVED * max(1.0, float(np.max(np.asarray(widths))))
        if not float(potential.c) >= least:
            got = f"c = step / mass = {float(potential.c):.6g}"
            refuse("potential", got, f"at least {least:.6g}", "What is known of q_0 is then as narrow as the rule that integrates over it: take a larger step.")


@eqx.filter_jit
def _best_encoder(potential: OneStepPotential, q: Float[Array, ""]) -> tuple[Float[Array, " 1"], Float[Array, " 1"]]:
    nodes, weights, transported = _rule(potential)
    a, log_b = _least_loss(nodes, weights, _losses(potential, transported, q))[1]
    return ((potential.transport(q) - a) / potential.c)[None], (jnp.exp(log_b) / potential.c)[None] ** 2


def _narrowed(target: GaussianMixture, variances: Float[Array, "K 1"], c: Float[Array, ""]) -> GaussianMixture | FiniteLaw:
    """The law mu with mu * N(0, c^2) = target."""
    rest = variances - c**2
    if is_concrete(rest):
        left = np.asarray(rest) / np.asarray(variances)
        if np.all(np.abs(left) < 1e-12):
            return FiniteLaw(target.means, target.weights)
        if np.min(left) < 1e-12:
            least = float(np.sqrt(np.min(np.asarray(variances))))
            expected = f"c below {least:.6g}, the least standard deviation of a component, or equal to all of them"
            refuse("step", f"c = step / mass = {float(c):.6g}", expected, "One step adds noise of deviation c: take a smaller step or a larger mass.")
    return GaussianMixture(target.weights, target.means, rest)


def _power_diagram(mu: FiniteLaw) -> tuple[Float[Array, " m"], tuple[Float[Array, " n"], Float[Array, " n"]]]:
    """The quantiles of the cumulated weights, between which T is constant, and the slopes a_k and offsets b_k of phi = max_k a_k q - b_k."""
    order = jnp.argsort(mu.points[:, 0])
    atoms, weights = mu.points[order, 0], mu.weights[order]
    levels = ndtri(jnp.clip(jnp.cumsum(weights)[:-1], 1e-300, 1.0))
    return levels, (atoms, jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.diff(atoms) * levels)]))


def _transport(mu: GaussianMixture, q: Float[Array, ""]) -> Float[Array, ""]:
    side = jnp.where(q < 0, 1.0, -1.0)
    return quantile(mu, side, log_ndtr(side * q))


def _back(mu: GaussianMixture, x: Float[Array, ""]) -> Float[Array, ""]:
    """The inverse of T."""
    side, log = smaller_tail(mu, x)
    return side * ndtri(jnp.exp(log))


def _conjugate(mu: GaussianMixture, x: Float[Array, ""], start: Float[Array, ""]) -> Float[Array, ""]:
    """The integral of the inverse of T from `start` to x, panel by panel."""
    ends = jnp.clip(mu.marks()[0], jnp.minimum(start, x), jnp.maximum(start, x))
    ends = jnp.concatenate([jnp.minimum(start, x)[None], ends, jnp.maximum(start, x)[None]])
    nodes, weights = gauss_legendre(_NODES, 1)
    lengths = jnp.diff(ends)
    points = ends[:-1, None] + lengths[:, None] * jnp.asarray(nodes[:, 0])[None, :]
    return jnp.where(x < start, -1.0, 1.0) * jnp.sum(lengths * (jax.vmap(jax.vmap(lambda u: _back(mu, u)))(points) @ jnp.asarray(weights)))


@jax.custom_jvp
def _integral_of_transport(mu: GaussianMixture, q: Float[Array, ""]) -> Float[Array, ""]:
    """The integral of T from 0 to q: q x less the conjugate at x = T(q), from the conjugate's least value at T(0)."""
    x = _transport(mu, q)
    return q * x - _conjugate(mu, x, _transport(mu, jnp.zeros_like(q)))


def _integral_of_transport_jvp(primals, tangents):
    """By the envelope theorem x = T(q) may be held; where mu is not varied, T(q) is all that is needed."""
    mu, q = primals
    x = _transport(mu, q)
    slope = x * _filled(tangents[1], q)
    if not all(map(_is_zero, jax.tree.leaves(tangents[0], is_leaf=_is_zero))):
        start, in_mu = _transport(mu, jnp.zeros_like(q)), jax.tree.map(_filled, tangents[0], mu, is_leaf=_is_zero)
        slope = slope + jax.jvp(lambda law: -_conjugate(law, x, start), (mu,), (in_mu,))[1]
    return _integral_of_transport(mu, q), slope


_integral_of_transport.defjvp(_integral_of_transport_jvp, symbolic_zeros=True)


def _is_zero(tangent: object) -> bool:
    return isinstance(tangent, SymbolicZero)


def _filled(tangent: Array | SymbolicZero, primal: Array) -> Array:
    return jnp.zeros_like(primal) if isinstance(tangent, SymbolicZero) else tangent


@eqx.filter_jit
def _gaps(potential: OneStepPotential, points: int) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The gap by the trapezoid rule of all points and of every other."""
    target, nodes, weights, transported = potential.target, *_rule(potential)
    ends = target.marks()[0]
    q = jnp.linspace(ends[0], ends[-1], points)  # 13 standard deviations of the components beyond their means
    log_density = jax.vmap(target._log_prob)(q[:, None])

    def at(point, log_rho):
        least, _ = _least_loss(nodes, weights, _losses(potential, transported, point))
        return least + log_rho + jnp.log(potential.c) + (np.log(2 * np.pi) - 1) / 2

    gaps = jnp.exp(log_density) * jax.lax.map(lambda both: at(*both), (q, log_density))
    spacing = q[1] - q[0]
    return spacing * jnp.sum(gaps), 2 * spacing * jnp.sum(gaps[::2])


def _rule(potential: OneStepPotential) -> tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, " n"]]:
    """Nodes and weights in q_0, whose panels break where T is steep, and T at the nodes."""
    mu = potential.mu
    steep = _power_diagram(mu)[0] if isinstance(mu, FiniteLaw) else jax.vmap(lambda x: _back(mu, x))(mu.marks()[0])
    ends = jnp.sort(jnp.concatenate([jnp.linspace(-_REACH, _REACH, 69), jnp.clip(steep, -_REACH, _REACH)]))
    inner, weights = gauss_legendre(_NODES, 1)
    nodes = (ends[:-1, None] + jnp.diff(ends)[:, None] * jnp.asarray(inner[:, 0])[None, :]).ravel()
    return nodes, (jnp.diff(ends)[:, None] * jnp.asarray(weights)[None, :]).ravel(), jax.vmap(potential.transport)(nodes)


def _losses(potential: OneStepPotential, transported: Float[Array, " n"], q: Float[Array, ""]) -> Float[Array, " n"]:
    """Minus the log-density of q_1 = q given q_0 at the nodes, up to a constant."""
    return (q - transported) ** 2 / (2 * potential.c**2)


def _least_loss(nodes: Float[Array, " n"], weights: Float[Array, " n"], losses: Float[Array, " n"]) -> tuple[Float[Array, ""], Float[Array, " 2"]]:
    """The least (a^2 + b^2) / 2 + E_{N(a, b^2)} loss - log b, and the (a, log b) at which it is attained."""

    def loss(encoder, _=None):
        a, log_b = encoder
        density = jnp.exp(-((nodes - a) ** 2) * jnp.exp(-2 * log_b) / 2 - log_b) / np.sqrt(2 * np.pi)
        return (a**2 + jnp.exp(2 * log_b)) / 2 + jnp.sum(weights * density * losses) / jnp.sum(weights * density) - log_b

    a, log_b = jnp.meshgrid(jnp.linspace(-4.0, 4.0, _POSITIONS), jnp.log(jnp.asarray(_WIDTHS)), indexing="ij")
    starts = jnp.stack([a.ravel(), log_b.ravel()], axis=1)
    best = starts[jnp.argmin(jax.vmap(loss)(starts))]
    found = cast(Array, optimistix.minimise(loss, optimistix.BFGS(rtol=1e-8, atol=1e-10), best, max_steps=_STEPS, throw=False).value)
    lower = loss(found) < loss(best)
    return jnp.where(lower, loss(found), loss(best)), jnp.where(lower, found, best)
