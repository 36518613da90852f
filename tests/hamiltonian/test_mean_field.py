"""Mean-field encoders: the optimum by SciPy's search and by the fixed point in NumPy, the deficit as E log p - ELBO written out, and the target numbers to their digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, optimize

import ensembletheory as et
from ensembletheory.hamiltonian import (
    diagonal_encoder,
    encoder_gap,
    mean_field_deficit,
    mean_field_model,
    mean_field_reverse_deficit,
    mean_field_reverse_model,
    moment_encoder,
)
from tests.helpers import spd


def centred(S):
    return et.Gaussian(np.zeros(len(S)), S)


def deficit(S, model):
    """1/2 ( tr S_m^{-1} S - d + sum log (S_m)_ii - log det S )."""
    return 0.5 * (np.trace(np.linalg.solve(model, S)) - len(S) + np.sum(np.log(np.diag(model))) - np.linalg.slogdet(S)[1])


def of_factor(flat, d):
    L = np.zeros((d, d))
    L[np.tril_indices(d)] = flat
    return L @ L.T + 1e-12 * np.eye(d)


def searched(objective, start):
    d = len(start)
    return of_factor(optimize.minimize(lambda flat: objective(of_factor(flat, d)), np.linalg.cholesky(start)[np.tril_indices(d)], tol=1e-12).x, d)


def test_target_numbers_at_correlation_eight_tenths():
    target = centred(np.array([[1.0, 0.8], [0.8, 1.0]]))
    model = np.asarray(mean_field_model(target).cov)
    np.testing.assert_allclose(model, [[0.8, 0.4], [0.4, 0.8]], rtol=1e-14)
    assert float(mean_field_deficit(target)) == pytest.approx(np.log(4 / 3), rel=1e-13)
    assert f"{float(mean_field_deficit(target)):.6f}" == "0.287682"
    assert f"{float(mean_field_deficit(target, target)):.6f}" == "0.510826"
    np.testing.assert_allclose(mean_field_reverse_model(target).cov, [[0.6, 0.3], [0.3, 0.6]], rtol=1e-14)


@settings(max_examples=20)
@given(st.floats(-0.995, 0.995), st.floats(0.1, 10), st.floats(0.1, 10))
def test_two_coordinates_in_closed_form(rho, first, second):
    scale = np.diag([first, second]) ** 0.5
    model = np.asarray(mean_field_model(centred(scale @ np.array([[1, rho], [rho, 1]]) @ scale)).cov)
    r = np.tan(np.arcsin(rho) / 2)
    s = (1 - r * rho) / (1 - r**2)
    np.testing.assert_allclose(model, s * scale @ np.array([[1, r], [r, 1]]) @ scale, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_optimum_is_the_one_that_a_search_finds(seed):
    S = spd(np.random.default_rng(seed), 3)
    model = np.asarray(mean_field_model(et.Gaussian([0.3, -1.0, 2.0], S)).cov)
    np.testing.assert_allclose(model, searched(lambda M: deficit(S, M), S), atol=3e-6)
    assert float(mean_field_deficit(centred(S))) == pytest.approx(deficit(S, model), rel=1e-12)
    P = np.linalg.inv(S)

    def reverse(M):
        """1/2 ( tr S^{-1} S_m - d + log det S + sum log (S_m^{-1})_ii )."""
        return 0.5 * (np.trace(P @ M) - 3 + np.linalg.slogdet(S)[1] + np.sum(np.log(np.diag(np.linalg.inv(M)))))

    backward = np.asarray(mean_field_reverse_model(centred(S)).cov)
    np.testing.assert_allclose(backward, searched(reverse, S), atol=3e-6)
    assert float(mean_field_reverse_deficit(centred(S))) == pytest.approx(reverse(backward), rel=1e-12)


def test_the_optimum_solves_its_equation_from_anywhere_whatever_the_condition():
    rng = np.random.default_rng(3)
    S = spd(rng, 3, 1e-4, 1e3)
    model = np.asarray(mean_field_model(centred(S)).cov)
    D = np.diag(model)
    np.testing.assert_allclose(model / D[None, :] @ model, S, rtol=1e-9, atol=1e-9)
    other, distances = np.exp(5 * rng.normal(size=3)), []
    for _ in range(60):
        root = linalg.sqrtm(S / np.sqrt(np.outer(other, other))).real
        other = other * np.diag(root)
        distances.append(np.max(np.abs(np.log(other / D))))
    np.testing.assert_allclose(other, D, rtol=1e-9)
    big = np.asarray(distances)[np.asarray(distances) > 1e-8]
    assert np.all(big[1:] <= 0.5 * big[:-1] * (1 + 1e-6))


@pytest.mark.parametrize("seed", [0, 1])
def test_variances_never_exceed_those_of_the_data(seed):
    S = spd(np.random.default_rng(seed), 3, 0.01, 10)
    assert np.all(np.diag(mean_field_model(centred(S)).cov) < np.diag(S))
    D = np.diag([0.5, 2.0, 3.0])
    np.testing.assert_allclose(mean_field_model(centred(D)).cov, D, rtol=1e-14)
    assert float(mean_field_deficit(centred(D))) == pytest.approx(0, abs=1e-14)


def test_the_deficit_is_what_the_elbo_misses():
    """E over data of log p - ELBO, with joint covariance P, encoder N(W q, s), all expectations of quadratic forms written out."""
    rng = np.random.default_rng(5)
    S, model, W = spd(rng, 2), spd(rng, 2), rng.normal(size=(2, 2))
    W = W + W.T
    P = np.block([[model, model @ W], [W @ model, np.linalg.inv(model) + W @ model @ W]])
    encoder = diagonal_encoder(et.Gaussian(np.zeros(4), P))
    np.testing.assert_allclose(encoder.A, W, atol=1e-12)
    np.testing.assert_allclose(encoder.C.as_matrix(), np.diag(1 / np.diag(model)), rtol=1e-12)
    s = np.diag(1 / np.diag(model))
    seen = np.block([[S, S @ W], [W @ S, W @ S @ W + s]])  # covariance of (q, p) under data and encoder
    log_joint = -0.5 * (np.trace(np.linalg.solve(P, seen)) + np.linalg.slogdet(2 * np.pi * P)[1])
    log_encoder = -0.5 * np.linalg.slogdet(2 * np.pi * np.e * s)[1]
    log_data = -0.5 * np.linalg.slogdet(2 * np.pi * np.e * S)[1]
    assert float(mean_field_deficit(centred(S), centred(model))) == pytest.approx(log_data - (log_joint - log_encoder), rel=1e-11)
    moments = moment_encoder(et.Gaussian(np.zeros(4), P))
    np.testing.assert_allclose(moments.C.as_matrix(), np.diag(np.diag(np.linalg.inv(model))), rtol=1e-11)
    assert float(encoder_gap(centred(model))) == pytest.approx(0.5 * (np.sum(np.log(np.diag(model))) - np.linalg.slogdet(model)[1]), rel=1e-12)


def test_the_optimum_has_a_derivative():
    def correlation(rho):
        cov = jnp.stack([jnp.stack([jnp.ones(()), rho]), jnp.stack([rho, jnp.ones(())])])
        return mean_field_model(et.Gaussian(jnp.zeros(2), cov)).cov[0, 1]

    def closed(rho):
        r = np.tan(np.arcsin(rho) / 2)
        return r * (1 - r * rho) / (1 - r**2)

    assert jax.jit(jax.grad(correlation))(0.8) == pytest.approx((closed(0.8 + 1e-5) - closed(0.8 - 1e-5)) / 2e-5, rel=1e-8)


def test_phase_space_has_an_even_dimension():
    for encoder in (diagonal_encoder, moment_encoder):
        with pytest.raises(ValueError, match="`joint`: got 3 coordinates; expected positions and as many momenta"):
            encoder(et.standard_normal(3))
