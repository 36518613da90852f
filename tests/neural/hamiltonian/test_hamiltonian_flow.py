"""Neural Hamiltonian flows: structure for any weights, bounds against Gaussian closed forms and against integrals over the momenta, and training to the mean-field optimum."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial
from scipy import stats

import ensembletheory as et
from ensembletheory.hamiltonian import HamiltonianFlow, elbo_deficit
from ensembletheory.kernels import AffineKernel
from ensembletheory.neural import (
    EvidenceBound,
    FixedKineticLearner,
    MomentumEncoder,
    NeuralHamiltonianFlow,
    NhfLearner,
    Recipe,
    ReverseEvidenceBound,
    fit_ensemble,
)
from ensembletheory.processes import QuadraticHamiltonian, SeparableHamiltonian
from ensembletheory.processes.hamiltonian import QuadraticEnergy
from ensembletheory.structures import symplectic_defect, volume_defect
from tests.helpers import assert_mean, assert_within_errors, spd

PLANE = et.Gaussian([0.3, -0.2], [[1.0, 0.8], [0.8, 1.0]])
POINTS = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))


def begun(learner):
    """The shapes of what training begins with, for which nothing is compiled."""
    return eqx.filter_eval_shape(learner.initialise, jax.random.key(0), PLANE)


def with_weights(rng, learner, size):
    """A model of a family whose weights are numbers of this size, whatever it would begin with."""
    model = begun(learner)
    energies = [(H.potential, H.kinetic) for H in model.hamiltonians]
    return jax.tree.map(lambda leaf: size * rng.normal(size=leaf.shape) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf, energies)


@eqx.filter_jit
def moved(hamiltonians, encoder, prior, points):
    """Where points go, where they come back to, and the derivative of the former."""
    model = NeuralHamiltonianFlow(hamiltonians, encoder, prior, 2, jnp.zeros(2), jnp.ones(()))
    ends = jax.vmap(model.generate)(points)
    return ends, jax.vmap(model.encode)(ends), jax.vmap(jax.jacfwd(model.generate))(points)


@settings(max_examples=12)
@given(st.integers(0, 2**31), st.floats(0.1, 2.0))
def test_structure_for_any_weights(seed, size):
    """Of a network for each energy, and then a fixed kinetic one."""
    rng, parts = np.random.default_rng(seed), []
    for family in (NhfLearner, FixedKineticLearner):
        parts += with_weights(rng, family(width=8, depth=1), size)
    hamiltonians = [SeparableHamiltonian(V, K, 0.7) for V, K in jax.tree.map(jnp.asarray, parts)]
    _, back, D = moved(hamiltonians, Quadratic(0.0).model.encoder, et.standard_normal(4), POINTS)
    condition = 1 + np.max(np.sum(np.asarray(D) ** 2, axis=(1, 2)))
    for derivative in D:
        assert symplectic_defect(derivative) < 1e-13
        assert volume_defect(derivative) < 1e-14 * condition
    assert np.max(np.abs(back - POINTS)) < 1e-14 * condition * (1 + np.max(np.abs(POINTS)))


class Quadratic:
    """A flow of quadratic energies with an affine encoder, and its joint law in NumPy."""

    steps, horizon, scale = 2, 0.8, 1.7
    centre = np.array([0.4, -1.0])

    def __init__(self, widening):
        rng = np.random.default_rng(3)
        self.stiffness, self.inverse_mass, self.prior_cov = spd(rng, 2), spd(rng, 2, 0.5, 2.0), spd(rng, 4, 0.5, 2.0)
        self.prior_mean, self.A, self.b = 0.4 * rng.normal(size=4), rng.normal(size=(2, 2)) / 2, rng.normal(size=2) / 2
        self.widths = np.hstack([widening * rng.normal(size=(2, 2)), np.array([[-0.2], [0.1]])])

    @property
    def model(self):
        H = SeparableHamiltonian(*(QuadraticEnergy(jnp.asarray(A), jnp.zeros(2)) for A in (self.stiffness, self.inverse_mass)), self.horizon)
        encoder = eqx.filter_eval_shape(MomentumEncoder, jax.random.key(0), 2, 1, 0)
        layers = ((jnp.asarray(np.hstack([self.A, self.b[:, None]])),), (jnp.asarray(self.widths),))
        encoder = eqx.tree_at(lambda e: (e.mean.layers, e.log_width.layers), encoder, layers)
        return NeuralHamiltonianFlow([H], encoder, et.Gaussian(self.prior_mean, self.prior_cov), self.steps, jnp.asarray(self.centre), jnp.asarray(self.scale))

    @property
    def joint(self):
        """Mean and covariance of (q, p)."""
        h, I, O = self.horizon / self.steps, np.eye(2), np.zeros((2, 2))
        kick, drift = np.block([[I, O], [-h / 2 * self.stiffness, I]]), np.block([[I, h * self.inverse_mass], [O, I]])
        N = np.linalg.matrix_power(kick @ drift @ kick, self.steps)
        return N @ self.prior_mean, N @ self.prior_cov @ N.T

    def exact(self, x):
        """Log p(x), and the ELBO as log p(x) - KL(encoder || posterior)."""
        (m, P), q = self.joint, (x - self.centre) / self.scale
        gain = P[2:, :2] @ np.linalg.inv(P[:2, :2])
        posterior_mean, posterior_cov = m[2:] + gain @ (q - m[:2]), P[2:, 2:] - gain @ P[:2, 2:]
        mean, deviations = self.A @ q + self.b, np.exp(self.widths @ np.append(q, 1.0))
        log_p = stats.multivariate_normal(m[:2], P[:2, :2]).logpdf(q) - 2 * np.log(self.scale)
        ratio = np.linalg.solve(posterior_cov, np.diag(deviations**2))
        off = mean - posterior_mean
        return log_p, log_p - 0.5 * (np.trace(ratio) - 2 - np.linalg.slogdet(ratio)[1] + off @ np.linalg.solve(posterior_cov, off))


def test_bounds_and_log_density_of_a_quadratic_flow():
    quadratic = Quadratic(0.3)
    model, x = quadratic.model, quadratic.centre + np.array([[0.0, 0.0], [1.0, -2.0], [-0.5, 1.5]])
    log_p, elbo = np.transpose([quadratic.exact(point) for point in x])
    key = jax.random.key(1)
    lower, better, found = model.elbo(key, x, 4096), model.iwae(key, x, 8, 512), model.log_prob(x, key, 4096)
    assert_within_errors(lower.value, lower.error, elbo)
    assert_within_errors(found.value, found.error, log_p)
    assert np.all(np.asarray(found.error) < 0.1)
    quadratic.b = quadratic.b + 12.0  # an encoder so far off that one draw outweighs all others: nats away, with a relative error of 1 that tells nothing
    off = quadratic.model.log_prob(x, key, 4096)
    assert np.all(np.abs(np.asarray(off.value) - log_p) > 5)
    assert np.all(np.isinf(off.error))
    assert np.all(lower.value < better.value)  # on the same draws
    assert np.all(better.value < log_p)
    assert {lower.kind, better.kind, found.kind} == {"monte_carlo"}


def test_steps_are_those_of_the_package():
    model = Quadratic(0.0).model
    (flow,) = model.flows()
    ends, back, _ = moved(model.hamiltonians, model.encoder, model.prior, POINTS)
    np.testing.assert_allclose(ends, flow.generate(POINTS), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(back, flow.encode(ends), rtol=1e-13, atol=1e-13)


def test_draws_of_a_quadratic_flow():
    quadratic = Quadratic(0.0)
    mean, cov = quadratic.joint
    draws = (np.asarray(quadratic.model.sample(jax.random.key(2), 4096)) - quadratic.centre) / quadratic.scale - mean[:2]
    assert_mean(draws, 0.0)
    assert_mean(draws[:, :, None] * draws[:, None, :], cov[:2, :2])


@eqx.filter_jit
def losses(model, loss, keys):
    return jax.vmap(lambda key: loss(model, key))(keys)


def test_losses_of_a_quadratic_flow_are_closed_forms():
    quadratic = Quadratic(0.0)
    model, keys = quadratic.model, jax.random.split(jax.random.key(5), 24)
    data = et.Gaussian([0.5, 0.2], [[1.2, -0.5], [-0.5, 0.7]])
    in_units = et.Gaussian((np.asarray(data.mean) - quadratic.centre) / quadratic.scale, np.asarray(data.cov) / quadratic.scale**2)
    D = np.diag(np.exp(2 * quadratic.widths[:, -1]))
    flow = HamiltonianFlow(
        QuadraticHamiltonian(np.linalg.inv(quadratic.inverse_mass), quadratic.stiffness, horizon=quadratic.horizon),
        et.Gaussian(quadratic.prior_mean, quadratic.prior_cov),
        quadratic.steps,
    )
    deficit = elbo_deficit(in_units, flow, AffineKernel(quadratic.A, quadratic.b, D)).total
    assert_mean(losses(model, EvidenceBound(data, 1024), keys), float(deficit) + float(data.entropy()))

    (mean, P), A, b, S = quadratic.joint, quadratic.A, quadratic.b, np.asarray(in_units.cov)
    m = np.concatenate([in_units.mean, A @ np.asarray(in_units.mean) + b])
    target = np.block([[S, S @ A.T], [A @ S, A @ S @ A.T + D]])
    ratio, off = np.linalg.solve(target, P), m - mean
    divergence = 0.5 * (np.trace(ratio) - 4 - np.linalg.slogdet(ratio)[1] + off @ np.linalg.solve(target, off))
    log_z = 0.7
    unnormalised = Partial(lambda law, x: law._log_prob(x) + log_z, data)
    assert_mean(losses(model, ReverseEvidenceBound(unnormalised, 1024), keys), divergence - log_z)


def test_bounds_for_any_weights():
    """On the line, where log p(x) is an integral over one momentum; three seeds."""
    law, x, p = et.Gaussian([0.5], [[2.0]]), jnp.asarray([[-2.0], [1.5]]), jnp.linspace(-40.0, 40.0, 4001)

    @eqx.filter_jit
    def found(keys):
        def one(key):
            model = NhfLearner(steps=2, width=8, depth=1, horizon=0.5).initialise(key, law)
            joint = jax.vmap(lambda point: jax.vmap(lambda momentum: model.log_joint(point, momentum[None]))(p))(x)
            return joint, model.elbo(key, x, 2048), model.iwae(key, x, 16, 128), model.log_prob(x, key, 2048)

        return eqx.filter_vmap(one)(keys)

    joint, elbo, iwae, log_prob = found(jax.random.split(jax.random.key(4), 3))
    truth = np.log(np.trapezoid(np.exp(np.asarray(joint)), np.asarray(p), axis=-1))
    assert np.all(elbo.value <= iwae.value)
    assert np.all(np.asarray(iwae.value) <= truth + 5 * np.asarray(iwae.error))
    assert_within_errors(log_prob.value, log_prob.error, truth)


def quality(models, target):
    """By Gauss-Hermite quadrature in four normal variables: the deficit on a Gaussian target and the covariance of the draws, of each of a stack."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    grid = np.stack(np.meshgrid(*[nodes] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    weights = np.prod(np.stack(np.meshgrid(*[weights / np.sqrt(2 * np.pi)] * 4, indexing="ij"), axis=-1), axis=-1).ravel()
    x = grid[:, :2] @ np.linalg.cholesky(target.cov).T

    @eqx.filter_jit
    def at(models, x, grid):
        return eqx.filter_vmap(lambda m: (jax.vmap(m.log_weight)(x, grid[:, 2:]), jax.vmap(m.generate)(grid)[:, :2]))(models)

    log_weights, q = map(np.asarray, at(models, jnp.asarray(x), jnp.asarray(grid)))
    centred = q - np.einsum("n,knd->kd", weights, q)[:, None, :]
    log_p = stats.multivariate_normal(np.zeros(2), target.cov).logpdf(x)
    return (log_p - log_weights) @ weights, np.einsum("n,kni,knj->kij", weights, centred, centred)


def trained(learner, steps, target):
    return fit_ensemble(jax.random.key(3), learner, target, members=3, recipe=Recipe(steps=steps, learning_rate=3e-2, chunk=steps))


def test_fixed_kinetic_flows_approach_the_mean_field_optimum():
    """From random starts they come within 0.02 nats of the least deficit, log(4/3), and nearer to the model that attains it (0.8, 0.4) than to the data (1, 0.8)."""
    target = et.Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])
    deficits, covs = quality(trained(FixedKineticLearner(steps=2, width=12, batch=64), 300, target).model, target)
    assert np.all(deficits < np.log(4 / 3) + 0.02)
    optimum = np.array([[0.8, 0.4], [0.4, 0.8]])
    for cov in covs:
        assert np.linalg.norm(cov - optimum) < 0.5 * np.linalg.norm(cov - np.asarray(target.cov))


@pytest.mark.verify
@pytest.mark.parametrize(("family", "tolerance"), [(NhfLearner, 0.1), (FixedKineticLearner, 0.02)])
def test_flows_reach_the_mean_field_optimum(family, tolerance):
    """The median of three seeds comes within a share `tolerance` of the least deficit log(4/3), its variance and correlation; keeping the data misses by more."""
    target = et.Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])
    deficits, covs = quality(trained(family(steps=4, width=32, batch=256), 4000, target).average, target)
    variances, correlations = (covs[:, 0, 0] + covs[:, 1, 1]) / 2, covs[:, 0, 1] / np.sqrt(covs[:, 0, 0] * covs[:, 1, 1])
    print(f"{family.__name__}: deficits {deficits}, variances {variances}, correlations {correlations}")
    for values, truth, kept in ((variances, 0.8, 1.0), (correlations, 0.5, 0.8), (deficits, np.log(4 / 3), -np.log(1 - 0.8**2) / 2)):
        assert abs(np.median(values) - truth) <= tolerance * truth < abs(kept - truth)


class TestRefusals:
    @pytest.mark.parametrize(("name", "value"), [("composed", 0), ("steps", 0), ("batch", 0), ("horizon", 0.0), ("width", 0), ("depth", -1)])
    def test_numbers_that_are_none(self, name, value):
        with pytest.raises(ValueError, match=f"`{name}`: got {value:g}"):
            NhfLearner(**{name: value})

    def test_batches_of_nothing(self):
        for loss in (EvidenceBound, ReverseEvidenceBound):
            with pytest.raises(ValueError, match="`batch`: got 0"):
                loss(PLANE, 0)

    def test_no_hamiltonian(self):
        model = Quadratic(0.0).model
        with pytest.raises(ValueError, match="`hamiltonians`: got none"):
            NeuralHamiltonianFlow([], model.encoder, model.prior, 2, model.centre, model.scale)
        with pytest.raises(ValueError, match="`steps`: got 0"):
            NeuralHamiltonianFlow(model.hamiltonians, model.encoder, model.prior, 0, model.centre, model.scale)

    def test_a_prior_of_positions_only(self):
        with pytest.raises(ValueError, match="`prior`: got dimension 2; expected 4"):
            begun(FixedKineticLearner(prior=et.standard_normal(2)))

    def test_points_and_samples(self):
        model = Quadratic(0.0).model
        with pytest.raises(ValueError, match=r"`x`: got shape \(3,\)"):
            model.log_prob([0.0, 0.0, 0.0], jax.random.key(0))
        with pytest.raises(ValueError, match="`K`: got 0"):
            model.iwae(jax.random.key(0), [0.0, 0.0], 0)
        with pytest.raises(ValueError, match="`samples`: got 1"):
            model.elbo(jax.random.key(0), [0.0, 0.0], 1)
        with pytest.raises(ValueError, match="`samples`: got 3; expected a whole number >= 4"):
            model.log_prob([0.0, 0.0], jax.random.key(0), 3)

    def test_rows_that_say_nothing(self):
        with pytest.raises(ValueError, match="NaN"):
            fit_ensemble(jax.random.key(0), NhfLearner(), np.full((4, 2), np.nan))
