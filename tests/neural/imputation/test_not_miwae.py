"""not-MIWAE: with an affine decoder and self-masking by probits its evidence is a Gaussian orthant probability; SciPy gives it again."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import ensembletheory as et
from ensembletheory.kernels import AffineKernel
from ensembletheory.neural import AgnosticMechanism, Miwae, MiwaeLearner, NotMiwae, NotMiwaeLearner, Recipe, SelfMaskingMechanism, fit, joined_law, linear_vae
from ensembletheory.neural.imputation.missing_data import observed_units
from tests.helpers import assert_mean
from tests.neural.networks import planted, values

RNG = np.random.default_rng(3)
W, MU, S2 = RNG.normal(size=(3, 2)), np.array([0.4, -0.7, 0.2]), 0.3
C = W @ W.T + S2 * np.eye(3)
ENCODER = AffineKernel(0.3 * RNG.normal(size=(2, 3)), [0.2, -0.1], [0.9, 1.3])
LOCATION, SCALE = np.array([1.0, -2.0, 3.0]), np.array([2.0, 0.5, 1.5])
SLOPES, THRESHOLDS = np.array([1.5, -0.8, 0.6]), np.array([0.3, 0.1, -0.4])
U = np.array([[0.3, np.nan, -0.8], [np.nan, 0.9, np.nan]])  # in units
X, SEEN = LOCATION + SCALE * U, ~np.isnan(U)


def model(mechanism):
    law = joined_law(np.concatenate([LOCATION + SCALE * s * np.ones((1, 3)) for s in (1, -1)]))
    return NotMiwae(Miwae(linear_vae(et.Ppca(W, MU, S2), ENCODER), observed_units(law)), mechanism)


def self_masked(link):
    return model(SelfMaskingMechanism(jnp.asarray(np.arcsinh(SLOPES)), jnp.asarray(THRESHOLDS), link=link))


@eqx.filter_jit
def drawn(model, key, rows, observed, K):
    return jax.vmap(lambda k, x, o: model.proposals(k, x, o, K))(jax.random.split(key, len(rows)), rows, observed)


def given(u):
    """In units: density of what is observed, and mean and covariance of what is missing."""
    o = ~np.isnan(u)
    gain = C[np.ix_(~o, o)] @ np.linalg.inv(C[np.ix_(o, o)])
    density = stats.multivariate_normal.pdf(u[o], MU[o], C[np.ix_(o, o)]) / np.prod(SCALE[o])
    return density, MU[~o] + gain @ (u[o] - MU[o]), C[np.ix_(~o, ~o)] - gain @ C[np.ix_(o, ~o)]


def probit_evidence(u):
    """p(x_o, s), and the mean of the missing values given them: scores of missing values plus unit noise are Gaussian, and all are positive."""
    o = ~np.isnan(u)
    density, m, V = given(u)
    b, seen = SLOPES[~o], np.prod(stats.norm.cdf(-SLOPES[o] * (u[o] - THRESHOLDS[o])))
    t, R = b * (m - THRESHOLDS[~o]), np.eye(len(m)) + b[:, None] * V * b
    orthant = stats.multivariate_normal.cdf(t, cov=R) if len(m) > 1 else stats.norm.cdf(t[0] / np.sqrt(R[0, 0]))
    mills = R[0, 0] ** -0.5 * stats.norm.pdf(t[0] / np.sqrt(R[0, 0])) / orthant  # of one hole
    return density * seen * orthant, m[0] + V[0, 0] * b[0] * mills


def test_weights_average_to_the_probability_of_values_and_holes_together():
    proposals = drawn(self_masked("probit"), jax.random.key(0), jnp.asarray(np.nan_to_num(X)), jnp.asarray(SEEN), 60_000)
    log_weights, rows = np.asarray(proposals.log_weights), np.asarray(proposals.rows)
    for i, u in enumerate(U):
        evidence, mean = probit_evidence(u)
        w = np.exp(log_weights[i]) / evidence
        assert_mean(w, 1.0)
        if i == 0:  # the mean given that the value is missing, by Mills's ratio
            assert_mean(w * ((rows[0, :, 1] - LOCATION[1]) / SCALE[1] - mean), 0.0)
            assert abs(mean - given(u)[1][0]) > 0.1
    np.testing.assert_array_equal(proposals.means, rows)  # the weight is of the draw itself


def test_logits_by_quadrature():
    log_weights, _, rows = (np.asarray(a) for a in drawn(self_masked("logit"), jax.random.key(1), jnp.asarray(np.nan_to_num(X[:1])), jnp.asarray(SEEN[:1]), 60_000))
    density, m, V = given(U[0])
    seen = np.prod(1 / (1 + np.exp(SLOPES[[0, 2]] * (U[0, [0, 2]] - THRESHOLDS[[0, 2]]))))

    def integral(f):
        def at(u):
            return f(u) * stats.norm.pdf(u, m[0], V[0, 0] ** 0.5) / (1 + np.exp(-SLOPES[1] * (u - THRESHOLDS[1])))

        return integrate.quad(at, m[0] - 12 * V[0, 0] ** 0.5, m[0] + 12 * V[0, 0] ** 0.5)[0]

    w = np.exp(log_weights[0]) / (density * seen * integral(lambda u: 1.0))
    assert_mean(w, 1.0)
    assert_mean(w * ((rows[0, :, 1] - LOCATION[1]) / SCALE[1] - integral(lambda u: u) / integral(lambda u: 1.0)), 0.0)


def test_probabilities_of_being_missing_are_those_of_the_table_of_mechanisms():
    rows = np.array([[1.0, -1.0, 2.0], [-2.0, 0.0, 1.0]])
    units = (rows - LOCATION) / SCALE
    np.testing.assert_allclose(self_masked("probit").missing_probabilities(rows), stats.norm.cdf(SLOPES * (units - THRESHOLDS)), rtol=1e-10)
    below = model(SelfMaskingMechanism(jnp.asarray(SLOPES), jnp.asarray(THRESHOLDS), sign=-1))
    np.testing.assert_allclose(below.missing_probabilities(rows), 1 / (1 + np.exp(np.exp(SLOPES) * (units - THRESHOLDS))), rtol=1e-10)
    network = planted(RNG.normal(size=(4, 4)), RNG.normal(size=(3, 5)), activation=jax.nn.silu)
    np.testing.assert_allclose(model(AgnosticMechanism(network)).missing_probabilities(rows), 1 / (1 + np.exp(-values(network, units))), rtol=1e-10)


@pytest.mark.verify  # trains three
def test_training_finds_the_mean_that_ignoring_the_mechanism_misses():
    """Two correlated columns, of which the first goes missing above its mean with certainty: half of the first normal law."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1000, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
    table = np.where(np.stack([rows[:, 0] > 0, np.zeros(1000, bool)], axis=1), np.nan, rows)
    errors = {}
    for name in ("ignored", "self-masking above", "self-masking"):
        rows_learner = MiwaeLearner(latent=1, width=32, depth=1, decoder_depth=0, noise="scalar", batch=100, importance=20, standardise=False)
        learner = rows_learner if name == "ignored" else NotMiwaeLearner(rows_learner, name)
        trained = fit(jax.random.key(0), learner, joined_law(table), Recipe(steps=3000, learning_rate=1e-2)).model
        imputed = np.asarray(trained.impute(jax.random.key(1), table))
        errors[name] = np.sqrt(np.mean((imputed - rows)[:, 0][np.isnan(table[:, 0])] ** 2))
    assert errors["self-masking above"] < errors["ignored"] - 0.2
    assert errors["self-masking"] < errors["ignored"] - 0.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NotMiwaeLearner(mechanism="self-masking sideways"), "`mechanism`: got 'self-masking sideways'"),
        (lambda: NotMiwaeLearner(link="log"), "`link`: got 'log'; expected 'logit' or 'probit'"),
        (lambda: NotMiwaeLearner(hidden=-1), "`hidden`: got -1"),
        (lambda: self_masked("logit").missing_probabilities([[1.0, 2.0]]), r"`X`: got shape \(1, 2\)"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
