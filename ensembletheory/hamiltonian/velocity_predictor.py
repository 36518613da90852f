r"""The Hamiltonian velocity predictor u_t(x) = E[v_t | x_t = x] of data moved by a force, and what it says about the force.

Start from x_0 ~ data with momenta p_0 ~ N(0, M) and follow x' = M^{-1} p, p' = F(x). The positions have the same laws as those of the flow x' = u_t(x), which is why u_t
generates (Hamiltonian generative flows); and if F is the score of the data the law on phase space is stationary, so that u_t = 0. For F(x) = -K (x - c) everything is
Gaussian given a component of the data, hence u_t, density and score are exact for Gaussians, mixtures and atoms, and for momenta that depend on x_0, such as v_0 = x_1 -
x_0 of flow matching.

**What u_t sees.** Let g_t be the density on phase space relative to exp(-V) x N(0, M), F = -grad V. It is carried along by the flow, g_t(z) = g_0(z_{-t}) with log g_0 =
log p_0 + V(x_0) + const, and Gaussian integration by parts in the momenta gives E[p_t | x_t] = E[M grad_p log g_t | x_t]. With x_{-t} = C x - S v, S = A^{-1/2}
sin(A^{1/2} t), A = M^{-1} K,

    u_t(x) = S M^{-1} E[ F(x_0) - score(x_0) | x_t = x ],     E|u_t|^2 <= E|S M^{-1} (F - score)(x_0)|^2 <= t^2 E|F - score|^2  (the last for M = I, K >= 0):

the predictor is the error of the score, smoothed by the motion. It vanishes for all t iff the force is the score, and E|u_t|^2 / t^2 tends to the loss of score matching
as t -> 0. The middle bound holds for any K. Source: Holderrieth, Xu & Jaakkola (2024); the identity and both bounds are derived here.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.covariance import as_covariance, refuse_singular
from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.fields import Field
from ensembletheory.laws import Gaussian, GaussianMixture, Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.laws.gaussian import singular_gaussian
from ensembletheory.laws.mixture import weighted_components, with_components
from ensembletheory.laws.weights import relative_terms
from ensembletheory.linalg import oscillation
from ensembletheory.processes import HomogeneousProcess, QuadraticHamiltonian
from ensembletheory.processes.path import as_gaussians, refuse_unnoised

__all__ = ["VelocityPredictor", "force_error", "hamiltonian_score_discrepancy", "smoothed_force_error", "with_momenta"]


def with_momenta(law: Law, mass: Numbers = 1.0) -> Gaussian | GaussianMixture:
    """The law of (x_0, p_0) with p_0 ~ N(0, mass) independent of x_0, on phase space.

    Args:
        law: of x_0: Gaussian, GaussianMixture or FiniteLaw.
        mass: (d, d), (d,) diagonal or a scalar.

    Raises:
        ValueError: if the mass is not symmetric positive definite, or of another dimension.
        TypeError: if `law` is of another kind.
    """
    data = as_gaussians(law)
    momenta = as_covariance("mass", mass, data.dim)
    refuse_singular("mass", momenta)
    return _with_momenta(data, Gaussian(jnp.zeros(data.dim), momenta))


class VelocityPredictor(Field):
    """u_t(x) = E[x'_t | x_t = x] for positions x of a linear process on phase space, as a velocity in the time of the process.

    Args:
        process: on R^{2d}, such as `QuadraticHamiltonian`.
        joint: the law of (x_0, p_0) on R^{2d}: Gaussian or GaussianMixture; see `with_momenta`.

    Raises:
        ValueError: if the joint law is not on the phase space of the process.
        TypeError: if it is of another kind.
    """

    process: HomogeneousProcess
    joint: Gaussian | GaussianMixture

    def __init__(self, process: HomogeneousProcess, joint: Law):
        expected = process.expected(joint.dim)
        if expected is not None:
            refuse("joint", f"dimension {joint.dim}", expected, "For independent momenta pass with_momenta(law, process.mass).")
        self.process, self.joint = process, as_gaussians(joint)

    @property
    def kind(self) -> str:
        """A velocity."""
        return "velocity"

    @property
    def origin(self) -> HomogeneousProcess:
        """The process."""
        return self.process

    def positions(self, t: Numbers) -> Gaussian | GaussianMixture:
        """The law of x_t.

        Raises:
            ValueError: if t is not within [0, horizon].
        """
        return _positions(self, self.process.checked_time("t", t))

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The velocity at time t and one point x."""
        self.check(t)
        d, (weights, moved) = len(x), weighted_components(_moved(self, t))

        def regressed(one: Gaussian) -> tuple[Float[Array, ""], Float[Array, " d"]]:
            seen, S = Gaussian(one.mean[:d], one.cov[:d, :d]), one.cov
            return seen._log_prob(x), one.mean[d:] + S[d:, :d] @ seen.covariance.solve(x - seen.mean)

        logs, momenta = jax.vmap(regressed)(moved)
        return self.process.drift(t, jnp.concatenate([x, relative_terms(weights, logs) @ momenta]))[:d]

    def check(self, t: Float[Array, ""]) -> None:
        """Refuse time 0, where it can be looked at, for data without a density."""
        if is_concrete(t) and float(t) == 0:
            refuse_unnoised(_positions(self, t), t)


def hamiltonian_score_discrepancy(predictor: VelocityPredictor, t: Numbers, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
    """E|u_t(x_t)|^2: closed form for a Gaussian, quadrature for mixtures in one and two dimensions, else Monte Carlo.

    Raises:
        ValueError: if t is not within [0, horizon], or only Monte Carlo can answer and no key is given.
    """
    time = predictor.process.checked_time("t", t)
    predictor.check(time)
    law = _positions(predictor, time)
    return closed_form(_power(predictor, time, law)) if isinstance(law, Gaussian) else expectation(law, _squared, (predictor, time), key, samples)


def force_error(hamiltonian: QuadraticHamiltonian, law: Law, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
    """E|F - score|^2 under `law` for the force F = -K (x - mean): what E|u_t|^2 / t^2 tends to as t -> 0, where the mass is 1.

    Raises:
        ValueError: if the law has no density or another dimension, or only Monte Carlo can answer and no key is given.
    """
    return smoothed_force_error(hamiltonian, law, None, key, samples)


def smoothed_force_error(hamiltonian: QuadraticHamiltonian, law: Law, t: Numbers | None, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
    """E|S M^{-1} (F - score)(x_0)|^2, the bound on E|u_t|^2; without t, E|F - score|^2.

    Raises:
        ValueError: as `force_error`.
    """
    data = _on_positions(hamiltonian, law)
    factor = jnp.eye(data.dim) if t is None else _smoothing(hamiltonian, hamiltonian.checked_time("t", t))
    if isinstance(data, Gaussian):
        return closed_form(_affine_error(hamiltonian, data, factor))
    return expectation(data, _squared_error, (data, hamiltonian.stiffness, hamiltonian.mean, factor), key, samples)


def _on_positions(hamiltonian: QuadraticHamiltonian, law: Law) -> Gaussian | GaussianMixture:
    data = as_gaussians(law)
    if 2 * data.dim != hamiltonian.dim:
        refuse("law", f"dimension {data.dim}", f"dimension {hamiltonian.dim // 2}, half that of phase space", "Give the law of positions alone.")
    if is_concrete(*jax.tree.leaves(data)):
        refuse_unnoised(data, jnp.zeros(()))
    return data


@eqx.filter_jit
def _with_momenta(data: Gaussian | GaussianMixture, momenta: Gaussian) -> Gaussian | GaussianMixture:
    def joined(one: Gaussian) -> Gaussian:
        cov = jnp.block([[one.cov, jnp.zeros((data.dim, data.dim))], [jnp.zeros((data.dim, data.dim)), momenta.cov]])
        return singular_gaussian(jnp.concatenate([one.mean, momenta.mean]), cov)

    return with_components(data, joined)


def _moved(predictor: VelocityPredictor, t: Float[Array, ""]) -> Gaussian | GaussianMixture:
    moved = predictor.process.transition(t, predictor.joint.dim).push(predictor.joint)
    assert isinstance(moved, Gaussian | GaussianMixture)
    return moved


@eqx.filter_jit
def _positions(predictor: VelocityPredictor, t: Float[Array, ""]) -> Gaussian | GaussianMixture:
    d = predictor.joint.dim // 2
    return with_components(_moved(predictor, t), lambda one: Gaussian(one.mean[:d], one.cov[:d, :d]))


@eqx.filter_jit
def _power(predictor: VelocityPredictor, t: Float[Array, ""], law: Gaussian) -> Float[Array, ""]:
    """The predictor is affine: its values at the mean, and a column of a factor of the covariance away from it."""
    points = jnp.concatenate([law.mean[None, :], law.mean[None, :] + law.covariance.factor().T])
    mean, *away = jax.vmap(lambda x: predictor(t, x))(points)
    return jnp.sum(mean**2) + jnp.sum((jnp.stack(away) - mean[None, :]) ** 2)


def _squared(x: Float[Array, " d"], predictor: VelocityPredictor, t: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    power = jnp.sum(predictor(t, x) ** 2)
    return power, power


@eqx.filter_jit
def _smoothing(hamiltonian: QuadraticHamiltonian, t: Float[Array, ""]) -> Float[Array, "d d"]:
    return oscillation(hamiltonian.inverse_mass @ hamiltonian.stiffness, t)[1] @ hamiltonian.inverse_mass


@eqx.filter_jit
def _affine_error(hamiltonian: QuadraticHamiltonian, law: Gaussian, factor: Float[Array, "d d"]) -> Float[Array, ""]:
    slope = law.covariance.inverse().as_matrix() - hamiltonian.stiffness
    constant = hamiltonian.stiffness @ (hamiltonian.mean - law.mean)
    return jnp.sum((factor @ slope @ law.covariance.factor()) ** 2) + jnp.sum((factor @ constant) ** 2)


def _squared_error(x: Float[Array, " d"], law: Law, stiffness: Array, centre: Array, factor: Array) -> tuple[Float[Array, ""], Float[Array, ""]]:
    force, score = -stiffness @ (x - centre), law._score(x)
    return jnp.sum((factor @ (force - score)) ** 2), jnp.sum((jnp.abs(factor) @ (jnp.abs(force) + jnp.abs(score))) ** 2)
