"""What VAEs learn: the linear one ends at the optimum of PPCA, found by eigenvectors, from any start; its loss and its symmetries are exact."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.latent import active_dimensions, average_elbo, average_log_likelihood, hadamard_gap, iwae_bound
from ensembletheory.neural import Recipe, Vae, VaeLearner, VariationalLoss, fit_ensemble, train, train_ensemble, turned

RNG = np.random.default_rng(7)
ROWS = RNG.normal(size=(24, 3)) * [1.8, 1.1, 0.5] @ np.linalg.qr(RNG.normal(size=(3, 3)))[0] + [1.0, -2.0, 0.5]
MEAN, S = ROWS.mean(axis=0), np.cov(ROWS.T, bias=True)
SPECTRUM, VECTORS = (part[..., ::-1] for part in np.linalg.eigh(S))
LINEAR = VaeLearner(latent=2, depth=0, batch=None)
RECIPE = Recipe(steps=800, learning_rate=3e-2, chunk=400)
valued = eqx.filter_jit(lambda objective, vae, key: objective(vae, key))
CONSTANTS = jnp.array([-0.7, 0.4])  # encoder variances that are not 1
built = eqx.filter_jit(lambda key: eqx.tree_at(lambda vae: vae.constants, Vae(key, et.FiniteLaw(ROWS), 2, depth=0), CONSTANTS))


@eqx.filter_jit
def described(models):
    """Of each linear VAE of a stack: loadings, mean and noise of its PPCA, average log-likelihood, average ELBO and Hadamard gap."""

    def of(vae):
        model = vae.ppca()
        return model, average_log_likelihood(model, S), average_elbo(model, vae.encoder_kernel(), S), hadamard_gap(model)

    return eqx.filter_vmap(of)(models)


@pytest.fixture(scope="module")
def linear():
    """Four linear VAEs after training."""
    return described(fit_ensemble(jax.random.key(1), LINEAR, ROWS, 4, RECIPE).model)


def test_linear_vaes_reach_the_ppca_optimum_from_random_starts(linear):
    models, _, elbos, _ = linear
    s2 = SPECTRUM[2]
    best = -0.5 * (3 * np.log(2 * np.pi) + np.log(SPECTRUM).sum() + 3)
    columns = (VECTORS[:, :2] * np.sqrt(SPECTRUM[:2] - s2)).T
    assert np.all((best - 1e-6 < elbos) & (elbos <= best + 1e-12))
    np.testing.assert_allclose(models.mean, np.tile(MEAN, (4, 1)), atol=1e-3)
    np.testing.assert_allclose(models.noise_variance, s2, rtol=1e-3)
    for W in np.asarray(models.loadings):
        overlaps = np.abs(columns @ W) / (columns**2).sum(axis=1)[:, None]  # a signed permutation: rows and columns of zeros and a one
        np.testing.assert_allclose(np.sort(overlaps, axis=1), [[0, 1], [0, 1]], atol=5e-3)
        np.testing.assert_allclose(overlaps.sum(axis=0), 1, atol=5e-3)


def test_what_its_elbo_leaves_is_the_hadamard_gap(linear):
    _, log_likelihoods, elbos, hadamard = linear
    excess = log_likelihoods - elbos - hadamard
    assert np.all((-1e-12 <= excess) & (excess < 1e-6))  # the encoder has been trained too


def test_the_loss_of_all_rows_is_minus_the_average_elbo():
    vae, weights = built(jax.random.key(3)), RNG.dirichlet(np.ones(24))
    law, mean = et.FiniteLaw(ROWS, weights), weights @ ROWS
    model, kernel = vae.ppca(), vae.encoder_kernel()
    recentred = et.Ppca(model.loadings, mean, model.noise_variance)  # average_elbo is of data whose mean is the model's
    shifted = eqx.tree_at(lambda v: v.decoder.layers[0], vae, vae.decoder.layers[0].at[:, -1].set(jnp.asarray(mean - np.asarray(vae.mean)) / vae.scale))
    scatter = ((ROWS - mean) * weights[:, None]).T @ (ROWS - mean)
    for beta in (1.0, 2.5):
        loss = valued(VariationalLoss(law, None, beta=beta), shifted, jax.random.key(0))
        assert float(loss) == pytest.approx(-float(average_elbo(recentred, kernel, scatter, beta)), rel=1e-12)


def test_the_importance_weighted_loss_is_minus_the_average_of_the_exact_bound():
    vae = built(jax.random.key(3))
    model, kernel = vae.ppca(), vae.encoder_kernel()
    law = et.FiniteLaw(ROWS[:2], [0.3, 0.7])
    objective = VariationalLoss(law, None, importance=3)
    draws = np.asarray(eqx.filter_jit(jax.vmap(lambda key: objective(vae, key)))(jax.random.split(jax.random.key(0), 4000)))
    exact = -(0.3 * float(iwae_bound(model, kernel, ROWS[0], 3)) + 0.7 * float(iwae_bound(model, kernel, ROWS[1], 3)))
    assert abs(draws.mean() - exact) <= 5 * draws.std() / np.sqrt(4000)


def test_training_commutes_with_signed_permutations_of_the_latents():
    """Adam works entry by entry and the clip by the norm: so every copy of an optimum is as likely as any other."""
    start, g, recipe = built(jax.random.key(3)), np.array([[0.0, -1.0], [1.0, 0.0]]), Recipe(steps=20, chunk=20)
    objective = LINEAR.loss(et.FiniteLaw(ROWS))
    plain, copy = (train(jax.random.key(0), vae, objective, recipe) for vae in (start, turned(start, g)))
    np.testing.assert_allclose(copy.losses, plain.losses, rtol=1e-12)
    assert np.ptp(plain.losses) > 1e-3
    moved, expected = copy.model, turned(plain.model, g)
    np.testing.assert_allclose(moved.decoder.layers[0], expected.decoder.layers[0], atol=1e-12)
    np.testing.assert_allclose(moved.encoder.layers[0], expected.encoder.layers[0], atol=1e-12)
    np.testing.assert_allclose(moved.constants, expected.constants, atol=1e-12)


def test_columns_of_a_beta_vae_collapse_beyond_the_threshold():
    """At fixed noise the squared lengths are (lambda_j - beta s2)_+; here beta s2 is below both eigenvalues, then between them."""
    s2, betas = 0.3, (1.0, 1.0, 4.5, 4.5)
    assert SPECTRUM[1] < 4.5 * s2 < SPECTRUM[0] - 0.2
    law = et.FiniteLaw(ROWS)
    learner = VaeLearner(latent=2, depth=0, noise=s2, batch=None)
    trained = train_ensemble(jax.random.key(2), lambda key: learner.initialise(key, law), [VariationalLoss(law, None, beta=beta) for beta in betas], RECIPE).model
    models, *_ = described(trained)
    np.testing.assert_allclose(models.noise_variance, s2, rtol=1e-12)
    for W, beta in zip(np.asarray(models.loadings), betas, strict=True):
        lengths = np.sort(np.sum(W**2, axis=0))[::-1]
        np.testing.assert_allclose(lengths, np.maximum(SPECTRUM[:2] - beta * s2, 0), atol=2e-3)
        assert np.sum(lengths > 0.1) == active_dimensions(S, 2, s2, beta) == (2 if beta == 1 else 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_ensemble(jax.random.key(0), VaeLearner(latent=4), ROWS, 2), "`latent`: got 4; expected at most 3, the dimension of the data"),
        (lambda: fit_ensemble(jax.random.key(0), LINEAR, ROWS, 0), "`members`: got 0"),
        (lambda: fit_ensemble(jax.random.key(0), LINEAR, np.full((3, 2), np.nan), 2), "`data`: got 6 NaN"),
        (lambda: fit_ensemble(jax.random.key(0), LINEAR, ROWS[:1], 2), "`data`: got shape"),
        (lambda: VariationalLoss(et.Gaussian([0.0], 1.0), batch=None), "`batch`: got None, for a Gaussian"),
        (lambda: VariationalLoss(et.FiniteLaw(ROWS), batch=0), "`batch`: got 0"),
        (lambda: VariationalLoss(et.FiniteLaw(ROWS), importance=0), "`importance`: got 0"),
        (lambda: VariationalLoss(et.FiniteLaw(ROWS), importance=5, beta=2.0), "`beta`: got 2.0 with 5 importance samples"),
        (lambda: VariationalLoss(et.FiniteLaw(ROWS), beta=-1.0), "`beta`: got -1.0"),
        (lambda: VaeLearner(width=0), "`width`: got 0"),
        (lambda: VaeLearner(depth=-1), "`depth`: got -1"),
        (lambda: VaeLearner(batch=0), "`batch`: got 0"),
        (lambda: VaeLearner(importance=0), "`importance`: got 0"),
        (lambda: VaeLearner(beta=0.0), "`beta`: got 0.0"),
        (lambda: LINEAR.initialise(jax.random.key(0), et.FiniteLaw(np.ones((5, 3)))), "rows that vary"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
