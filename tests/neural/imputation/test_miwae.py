"""MIWAE: with an affine decoder everything about it is Gaussian and known; NumPy gives it again from covariances."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import ensembletheory as et
from ensembletheory.kernels import AffineKernel
from ensembletheory.latent import iwae_bound
from ensembletheory.neural import BoundLoss, Miwae, MiwaeLearner, Recipe, fit, joined_law, linear_vae
from ensembletheory.neural.imputation.missing_data import observed_units, own_units, parted
from tests.helpers import assert_mean, assert_within_errors

RNG = np.random.default_rng(3)
W, MU, S2 = RNG.normal(size=(3, 2)), np.array([0.4, -0.7, 0.2]), 0.3
C = W @ W.T + S2 * np.eye(3)
ENCODER = AffineKernel(0.3 * RNG.normal(size=(2, 3)), [0.2, -0.1], [0.9, 1.3])  # variances above the posterior's: weights have a second moment
LOCATION, SCALE = np.array([1.0, -2.0, 3.0]), np.array([2.0, 0.5, 1.5])
X = LOCATION + SCALE * [[0.3, np.nan, -0.8], [np.nan, 0.9, np.nan], [np.nan] * 3, [0.1, -0.4, 0.6]]
SEEN = ~np.isnan(X)


@pytest.fixture(scope="module")
def model():
    """The PPCA (W, MU, S2) in units that are not 1, with an encoder that is not the best."""
    law = joined_law(np.concatenate([LOCATION + SCALE * s * np.ones((1, 3)) for s in (1, -1)]))
    return Miwae(linear_vae(et.Ppca(W, MU, S2), ENCODER), observed_units(law))


def given(x):
    """Log-density of what is observed of a row, and mean and covariance of what is missing, by blocks of the covariance."""
    mean, cov, o = LOCATION + SCALE * MU, SCALE[:, None] * C * SCALE, ~np.isnan(x)
    gain = cov[np.ix_(~o, o)] @ np.linalg.inv(cov[np.ix_(o, o)])
    log_prob = stats.multivariate_normal.logpdf(x[o], mean[o], cov[np.ix_(o, o)]) if o.any() else 0.0
    return log_prob, mean[~o] + gain @ (x[o] - mean[o]), cov[np.ix_(~o, ~o)] - gain @ cov[np.ix_(o, ~o)]


@eqx.filter_jit
def drawn(model, key, values, observed, K):
    return jax.vmap(lambda k, x, o: model.proposals(k, x, o, K))(jax.random.split(key, len(values)), values, observed)


def test_weights_average_to_the_density_of_what_is_observed_and_to_the_conditional_moments(model):
    """With E w f = p(x_o) E[f | x_o] for f = 1, the draw, and the mean that stands for it."""
    log_weights, means, rows = (np.asarray(a) for a in drawn(model, jax.random.key(0), jnp.asarray(np.nan_to_num(X)), jnp.asarray(SEEN), 40_000))
    for x, o, logs, mean, row in zip(X, SEEN, log_weights, means, rows, strict=True):
        log_prob, m, _ = given(x)
        w = np.exp(logs - log_prob)
        assert_mean(w, 1.0)
        np.testing.assert_array_equal(row[:, o], np.tile(x[o], (len(w), 1)))
        if not o.all():
            assert_mean(w[:, None] * (mean[:, ~o] - m), 0.0)
            assert_mean(w[:, None] * (row[:, ~o] - m), 0.0)


def test_bounds_are_those_of_the_loadings_that_are_observed(model):
    """By quadrature over the plane, in units: what the encoder sees of a hole is 0, and the units cost their logarithm. The loss is minus their weighted mean."""
    rows = np.array([X[0], LOCATION + SCALE * [np.nan, 0.9, 0.2]])
    found = model.bounds(jax.random.key(1), rows, K=3, samples=4000)
    exact = []
    for x in rows:
        o = ~np.isnan(x)
        encoder = AffineKernel(np.asarray(ENCODER.A)[:, o], ENCODER.b, ENCODER.C)
        bound = iwae_bound(et.Ppca(W[o], MU[o], S2), encoder, ((x - LOCATION) / SCALE)[o], 3).value
        exact.append(float(bound) - np.log(SCALE[o]).sum())
        assert exact[-1] < given(x)[0]
    assert_within_errors(found.value, found.error, exact)
    law = joined_law(rows, [0.3, 0.7])
    of_all, of_some = losses([BoundLoss(law, batch, 3) for batch in (None, 1)], model, jax.random.split(jax.random.key(2), 2000))
    for found in (of_all, of_some):
        assert_mean(found, -np.dot([0.3, 0.7], exact))


@eqx.filter_jit
def losses(objectives, model, keys):
    return [jax.vmap(lambda key, objective=objective: objective(model, key))(keys) for objective in objectives]


def test_imputations_have_the_conditional_law(model):
    K = 4000
    single = np.asarray(model.impute(jax.random.key(2), X, K))
    copies = np.asarray(model.complete(jax.random.key(3), X, 1500, K))
    np.testing.assert_array_equal(single[SEEN], X[SEEN])
    np.testing.assert_array_equal(copies[:, SEEN], np.tile(X[SEEN], (1500, 1)))
    for i in (0, 1, 2):
        _, m, cov = given(X[i])
        errors = np.sqrt(np.diag(cov))
        np.testing.assert_array_less(np.abs(single[i, ~SEEN[i]] - m), 5 * errors * np.sqrt(20 / K))  # E w^2 / p^2 is at most 20 here
        np.testing.assert_array_less(np.abs(copies[:, i, ~SEEN[i]].mean(axis=0) - m), 5 * errors * np.sqrt(20 / K + 1 / 1500))
        np.testing.assert_allclose(copies[:, i, ~SEEN[i]].std(axis=0), errors, rtol=0.25)


def test_joined_rows_hold_values_and_holes_and_units_those_of_what_is_observed():
    law = joined_law(X, [0.1, 0.2, 0.3, 0.4])
    values, observed = parted(np.asarray(law.points)[1])
    np.testing.assert_array_equal(observed, SEEN[1])
    np.testing.assert_array_equal(values, np.where(SEEN[1], X[1], 0))
    units = observed_units(law)
    column, weights = X[[1, 3], 1], np.array([1, 2]) / 3
    np.testing.assert_allclose(np.asarray(units.mean)[1], weights @ column, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(units.scale)[1], np.sqrt(weights @ (column - weights @ column) ** 2), rtol=1e-12)
    table = [[0.3, 1.0, 5.0], [0.3, np.nan, 5.0], [0.3, 2.0, np.nan], [np.nan, 1.5, np.nan]]
    np.testing.assert_allclose(observed_units(joined_law(table)).scale, [1, np.std([1.0, 2.0, 1.5]), 1], rtol=1e-12)
    np.testing.assert_array_equal(own_units(law).scale, np.ones(3))


@pytest.fixture(scope="module")
def trained():
    """A table of 60 rows with holes, and a MIWAE with affine decoder trained on it."""
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 3)) + 0.5 * rng.normal(size=(60, 3)) + [1.0, 0.0, -1.0]
    table = np.where(rng.random((60, 3)) < 0.3, np.nan, rows)
    table = table[~np.isnan(table).all(axis=1)]
    learner = MiwaeLearner(latent=1, width=16, depth=1, decoder_depth=0, noise="scalar", batch=None, importance=10, standardise=False)
    return table, fit(jax.random.key(0), learner, joined_law(table), Recipe(steps=400, learning_rate=3e-2, chunk=400)).model


def log_likelihood(ppca, table):
    """The mean over rows, by SciPy."""
    mean, loadings = np.asarray(ppca.mean), np.asarray(ppca.loadings)
    cov = loadings @ loadings.T + float(ppca.noise_variance) * np.eye(3)
    return np.mean([stats.multivariate_normal.logpdf(x[o], mean[o], cov[np.ix_(o, o)]) for x in table for o in [~np.isnan(x)]])


@pytest.mark.verify  # trains; that the loss is minus the bound, and what the bound is, stays
def test_with_an_affine_decoder_training_ends_at_the_maximum_of_the_observed_likelihood(trained):
    """Of which EM tells: no model of the family lies above it, and the bound of ten draws leaves little to the trained one."""
    table, model = trained
    best = log_likelihood(et.fit_ppca(table, 1), table)
    found = log_likelihood(model.vae.ppca(), table)
    assert best - 5e-3 < found <= best + 1e-9


@pytest.mark.verify  # of what the test above trained; the same refusal of a VAE stays
def test_an_encoder_with_hidden_layers_has_no_affine_kernel(trained):
    _, model = trained
    assert model.vae.affine
    with pytest.raises(ValueError, match="1 hidden layers"):
        model.vae.encoder_kernel()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: joined_law([[1.0, np.nan], [2.0, np.nan]]), r"columns \[1\] without an observed value"),
        (lambda: joined_law([[1.0, np.inf]]), "1 infinite values"),
        (lambda: joined_law([["a"]]), "`X`"),
        (lambda: joined_law(X, [0.5, 0.5, 0.5, 0.5]), "`weights`"),
        (lambda: BoundLoss(joined_law(X), 0, 1), "`batch`: got 0"),
        (lambda: BoundLoss(joined_law(X), 1, 0), "`importance`: got 0"),
        (lambda: MiwaeLearner(latent=0), "`latent`: got 0"),
        (lambda: MiwaeLearner(decoder_depth=-1), "`decoder_depth`: got -1"),
        (lambda: MiwaeLearner().loss(et.Gaussian([0.0, 0.0], 1.0)), "expected a FiniteLaw of joined rows"),
        (lambda: MiwaeLearner().loss(et.FiniteLaw([[0.0]])), "expected a FiniteLaw of joined rows"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_table_of_other_columns_is_refused(model):
    with pytest.raises(ValueError, match="`X`: got 2 columns; expected 3"):
        model.impute(jax.random.key(0), X[:, :2])
