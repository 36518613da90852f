"""Mixtures of PPCA against their joint law in SciPy, and their bound against the definition with any labels and encoders."""

import jax
import numpy as np
import pytest
import scipy.stats

import ensembletheory as et
from ensembletheory.latent import PpcaMixture, hadamard_gap, mixture_elbo
from tests.helpers import assert_mean

RNG = np.random.default_rng(7)
PI, W, MU, S2 = np.array([0.2, 0.5, 0.3]), RNG.normal(size=(3, 4, 2)), RNG.normal(size=(3, 4)), np.array([0.3, 0.7, 0.5])
MODEL = PpcaMixture(PI, W, MU, S2)
X = RNG.normal(size=(5, 4))
COVS = W @ W.swapaxes(1, 2) + S2[:, None, None] * np.eye(4)
JOINT = np.log(PI) + np.array([scipy.stats.multivariate_normal(m, C).logpdf(X) for m, C in zip(MU, COVS, strict=True)]).T
RESPONSIBILITIES = np.exp(JOINT - np.logaddexp.reduce(JOINT, axis=1)[:, None])


def test_law_and_responsibilities():
    np.testing.assert_allclose(MODEL.log_prob(X), np.logaddexp.reduce(JOINT, axis=1), rtol=1e-12)
    np.testing.assert_allclose(MODEL.responsibilities(X), RESPONSIBILITIES, rtol=1e-11)
    slopes = -np.array([np.linalg.solve(C, (X - m).T).T for m, C in zip(MU, COVS, strict=True)])
    np.testing.assert_allclose(MODEL.score(X), np.einsum("nk,knd->nd", RESPONSIBILITIES, slopes), rtol=1e-10)
    np.testing.assert_allclose(MODEL.law.covs, COVS, rtol=1e-12)
    assert isinstance(MODEL.law.components.covariance, et.LowRankPlusDiagonal)
    assert_mean(MODEL.sample(jax.random.key(0), 50_000), PI @ MU)


def test_latents_given_a_point_by_bayes_on_the_joint_law():
    law = MODEL.latent_law(X[0])
    gains = np.array([w.T @ np.linalg.inv(C) for w, C in zip(W, COVS, strict=True)])
    means = np.einsum("kqd,kd->kq", gains, X[0] - MU)
    np.testing.assert_allclose(law.weights, RESPONSIBILITIES[0], rtol=1e-11)
    np.testing.assert_allclose(law.means, means, atol=1e-12)
    np.testing.assert_allclose(law.covs, np.eye(2) - gains @ W, atol=1e-12)
    posteriors = MODEL.posteriors
    np.testing.assert_allclose(np.einsum("kqd,d->kq", posteriors.A, X[0]) + posteriors.b, means, atol=1e-12)


def gaps(W, s2):
    M = W.T @ W + s2 * np.eye(2)
    return 0.5 * (np.log(np.diag(M)).sum() - np.linalg.slogdet(M)[1])


def test_the_bound_is_the_best_over_labels_and_diagonal_encoders():
    g = np.array([gaps(w, s) for w, s in zip(W, S2, strict=True)])
    best = np.logaddexp.reduce(JOINT - g, axis=1)
    np.testing.assert_allclose(mixture_elbo(MODEL, X), best, rtol=1e-12)
    rng = np.random.default_rng(8)
    M = np.array([w.T @ w + s * np.eye(2) for w, s in zip(W, S2, strict=True)]) / S2[:, None, None]  # posterior precisions
    for _ in range(20):
        labels = rng.dirichlet(np.ones(3), size=5)
        off, D = 0.3 * rng.normal(size=(5, 3, 2)), np.exp(rng.normal(size=(3, 2))) / np.diagonal(M, axis1=1, axis2=2)
        divergence = 0.5 * (np.einsum("kii,ki->k", M, D) - 2 - np.log(D).sum(1) - np.linalg.slogdet(M)[1] + np.einsum("nki,kij,nkj->nk", off, M, off))
        bound = np.sum(labels * (JOINT - np.log(labels) - divergence), axis=1)
        assert np.all(bound < best)
    difference = np.logaddexp.reduce(JOINT, axis=1) - best
    assert np.all((g.min() <= difference) & (difference <= g.max()))
    assert np.ptp(difference) > 1e-3  # it depends on the point, unlike one component's


def test_one_component_is_ppca():
    one, model = PpcaMixture([1.0], W[:1], MU[:1], S2[:1]), et.Ppca(W[0], MU[0], S2[0])
    np.testing.assert_allclose(one.log_prob(X), model.log_prob(X), rtol=1e-12)
    np.testing.assert_allclose(one.log_prob(X) - mixture_elbo(one, X), float(hadamard_gap(model)), rtol=1e-11)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PpcaMixture(PI, W, MU[:, :3], S2), r"shapes \(3, 4, 2\), \(3, 3\), \(3,\)"),
        (lambda: PpcaMixture(PI, W, MU, -S2), "`noise_variances`: got -0.7; expected positive"),
        (lambda: PpcaMixture(PI[:2], W, MU, S2), r"`weights`: got shape \(2,\)"),
        (lambda: MODEL.responsibilities(X[:, :3]), "`x`.*shape"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
