"""PPCA against its joint law in NumPy, the ELBO against its definition by simulation, and the Hadamard gap three ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import ensembletheory as et
from ensembletheory.latent import best_diagonal_encoder, elbo, hadamard_gap
from tests.helpers import assert_mean, spd

RNG = np.random.default_rng(5)
W, MU, S2 = RNG.normal(size=(4, 2)), RNG.normal(size=4), 0.3
MODEL = et.Ppca(W, MU, S2)
X = RNG.normal(size=(6, 4))


def test_law_and_posterior():
    law = scipy.stats.multivariate_normal(MU, W @ W.T + S2 * np.eye(4))
    np.testing.assert_allclose(MODEL.log_prob(X), law.logpdf(X), rtol=1e-12)
    np.testing.assert_allclose(MODEL.score(X), -(X - MU) @ np.linalg.inv(law.cov), rtol=1e-10)
    posterior, bayes = MODEL.posterior, MODEL.decoder.invert(MODEL.prior)
    np.testing.assert_allclose(posterior.A, W.T @ np.linalg.inv(law.cov), atol=1e-13)  # the push-through identity
    np.testing.assert_allclose(posterior.A @ MU + posterior.b, 0.0, atol=1e-13)
    np.testing.assert_allclose(posterior.C.as_matrix(), np.eye(2) - W.T @ np.linalg.solve(law.cov, W), atol=1e-13)
    np.testing.assert_allclose(bayes.C.as_matrix(), posterior.C.as_matrix(), atol=1e-13)
    draws = MODEL.sample(jax.random.key(0), 100_000)
    assert_mean(draws, MU)


ENCODERS = {
    "posterior": MODEL.posterior,
    "best diagonal": best_diagonal_encoder(MODEL),
    "arbitrary": et.AffineKernel(RNG.normal(size=(2, 4)) / 3, RNG.normal(size=2), spd(RNG, 2)),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_elbo_is_log_likelihood_minus_kl_to_the_posterior(name):
    encoder = ENCODERS[name]
    gap = [float(et.kl(encoder.at(jnp.asarray(x)), MODEL.posterior.at(jnp.asarray(x)))) for x in X]
    np.testing.assert_allclose(MODEL.log_prob(X) - elbo(MODEL, encoder, X), gap, atol=1e-10)


def test_elbo_is_the_mean_log_weight():
    encoder, x = ENCODERS["arbitrary"], jnp.asarray(X[0])
    z = np.asarray(encoder.at(x).sample(jax.random.key(1), 200_000))
    log_joint = scipy.stats.multivariate_normal(np.zeros(4), S2 * np.eye(4)).logpdf(X[0] - z @ W.T - MU) + scipy.stats.multivariate_normal(np.zeros(2)).logpdf(z)
    law = encoder.at(x)
    assert_mean(log_joint - scipy.stats.multivariate_normal(law.mean, law.cov).logpdf(z), float(elbo(MODEL, encoder, x)))


def test_hadamard_gap_is_the_gap_of_the_best_diagonal_encoder_at_every_point():
    np.testing.assert_allclose(MODEL.log_prob(X) - elbo(MODEL, best_diagonal_encoder(MODEL), X), float(hadamard_gap(MODEL)), rtol=1e-11)


def test_no_diagonal_encoder_does_better():
    best = best_diagonal_encoder(MODEL)

    def mean_elbo(parameters):
        V, v, log_d = parameters
        return jnp.mean(elbo(MODEL, et.AffineKernel(V, v, jnp.exp(log_d)), X))

    at = (best.A, best.b, jnp.log(best.C.variances))
    for slope in jax.tree.leaves(jax.grad(mean_elbo)(at)):
        np.testing.assert_allclose(slope, 0.0, atol=1e-12)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        assert mean_elbo(jax.tree.map(lambda leaf, r=rng: leaf + 0.1 * r.normal(size=leaf.shape), at)) < mean_elbo(at)


@given(st.integers(0, 2**32 - 1))
def test_gap_is_positive_but_for_orthogonal_columns(seed):
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(4, 3))
    assert float(hadamard_gap(et.Ppca(loadings, np.zeros(4), 0.5))) > 0
    orthogonal = np.linalg.qr(loadings)[0] * rng.uniform(0.1, 3.0, 3)
    assert abs(float(hadamard_gap(et.Ppca(orthogonal, np.zeros(4), 0.5)))) < 1e-13


def test_gap_in_two_dimensions_is_that_of_the_posterior_correlation():
    gram = np.array([[2.0, 0.9], [0.9, 1.5]]) - S2 * np.eye(2)
    model = et.Ppca(np.linalg.cholesky(gram).T, np.zeros(2), S2)
    assert float(hadamard_gap(model)) == pytest.approx(-0.5 * np.log1p(-(0.9**2) / (2.0 * 1.5)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: et.Ppca(W, MU, 0.0), "`noise_variance`.*0.*positive"),
        (lambda: et.Ppca(W, MU[:3], S2), r"shapes \(4, 2\), \(3,\)"),
        (lambda: et.Ppca(W, MU, np.nan), "`noise_variance`.*NaN"),
        (lambda: elbo(MODEL, MODEL.decoder, X), "`encoder`.*maps x to z"),
        (lambda: elbo(MODEL, MODEL.posterior, X[:, :3]), "`x`.*shape"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()
