"""Averages over data against the sum over the rows of a data set with that covariance, term by term in NumPy."""

import numpy as np
import pytest
import scipy.stats

import ensembletheory as et
from ensembletheory.latent import average_elbo, average_log_likelihood, best_diagonal_encoder, beta_encoder, elbo
from tests.helpers import spd

RNG = np.random.default_rng(3)
X = RNG.normal(size=(20, 3)) @ RNG.normal(size=(3, 3)) + [1.0, -2.0, 0.5]
S = np.cov(X.T, bias=True)
MODEL = et.Ppca(RNG.normal(size=(3, 2)), X.mean(0), 0.4)
ENCODER = et.AffineKernel(RNG.normal(size=(2, 3)) / 2, RNG.normal(size=2), spd(RNG, 2))


def test_averages_are_means_over_the_rows():
    law = scipy.stats.multivariate_normal(X.mean(0), MODEL.loadings @ MODEL.loadings.T + 0.4 * np.eye(3))
    assert float(average_log_likelihood(MODEL, S)) == pytest.approx(law.logpdf(X).mean(), rel=1e-12)
    assert float(average_elbo(MODEL, ENCODER, S)) == pytest.approx(float(np.mean(elbo(MODEL, ENCODER, X))), rel=1e-12)


@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_beta_weighs_the_divergence_to_the_prior(beta):
    m, D = X @ np.asarray(ENCODER.A).T + np.asarray(ENCODER.b), np.asarray(ENCODER.C.as_matrix())
    divergence = 0.5 * (np.trace(D) - 2 - np.linalg.slogdet(D)[1] + np.mean(np.sum(m**2, axis=1)))
    assert float(average_elbo(MODEL, ENCODER, S, beta)) == pytest.approx(float(average_elbo(MODEL, ENCODER, S)) - (beta - 1) * divergence, rel=1e-12)
    softened = et.Ppca(MODEL.loadings, MODEL.mean, beta * 0.4)
    constant = 1.5 * (beta * np.log(2 * np.pi * beta * 0.4) - np.log(2 * np.pi * 0.4))
    assert float(average_elbo(MODEL, ENCODER, S, beta)) == pytest.approx(beta * float(average_elbo(softened, ENCODER, S)) + constant, rel=1e-12)


def test_no_diagonal_encoder_has_a_larger_beta_elbo():
    beta, best = 2.0, beta_encoder(MODEL, 2.0)
    top = float(average_elbo(MODEL, best, S, beta))
    for seed in range(8):
        rng = np.random.default_rng(seed)
        other = et.AffineKernel(
            best.A + 0.1 * rng.normal(size=(2, 3)), best.b + 0.1 * rng.normal(size=2), np.asarray(best.C.as_matrix().diagonal()) * np.exp(0.1 * rng.normal(size=2))
        )
        assert float(average_elbo(MODEL, other, S, beta)) < top
    exact, same = best_diagonal_encoder(MODEL), beta_encoder(MODEL, 1.0)
    np.testing.assert_allclose(same.A, exact.A, rtol=1e-12)
    np.testing.assert_allclose(same.C.as_matrix(), exact.C.as_matrix(), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: average_log_likelihood(MODEL, S[:2, :2]), r"`S`: got shape \(2, 2\)"),
        (lambda: average_elbo(MODEL, MODEL.decoder, S), "`encoder`.*maps x to z"),
        (lambda: beta_encoder(MODEL, [1.0, 2.0]), r"`beta`: got \[1. 2.\]"),
        (lambda: average_elbo(MODEL, ENCODER, S, -1.0), "`beta`: got -1.0"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
