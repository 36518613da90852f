import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from ensembletheory.linalg import cholesky, logdet, lyapunov, solve_lower, solve_lower_transposed, solve_spd, sqrtm, williamson
from tests.helpers import spd


@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_factorisations_agree_with_lapack(d):
    rng = np.random.default_rng(d)
    S, x = spd(rng, d, 0.01, 50.0), rng.normal(size=d)
    L = np.linalg.cholesky(S)
    np.testing.assert_allclose(cholesky(jnp.asarray(S)), L, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(solve_lower(jnp.asarray(L), jnp.asarray(x)), scipy.linalg.solve_triangular(L, x, lower=True), rtol=1e-11)
    np.testing.assert_allclose(solve_lower_transposed(jnp.asarray(L), jnp.asarray(x)), scipy.linalg.solve_triangular(L, x, lower=True, trans=1), rtol=1e-11)
    np.testing.assert_allclose(solve_spd(jnp.asarray(S), jnp.asarray(x)[:, None])[:, 0], np.linalg.solve(S, x), rtol=1e-10)
    np.testing.assert_allclose(logdet(jnp.asarray(S)), np.linalg.slogdet(S)[1], atol=1e-12)


@pytest.mark.parametrize("d", [2, 6])
def test_cholesky_of_an_indefinite_matrix_is_nan(d):
    assert jnp.any(jnp.isnan(cholesky(jnp.diag(jnp.linspace(-1.0, 1.0, d)))))


def test_root_squares_to_the_matrix():
    S = spd(np.random.default_rng(0), 4)
    R = np.asarray(sqrtm(jnp.asarray(S)))
    np.testing.assert_allclose(R @ R, S, atol=1e-13)
    np.testing.assert_allclose(R, scipy.linalg.sqrtm(S), atol=1e-12)


@pytest.mark.parametrize("spectrum", [[0.5, 1.0, 3.0], [2.0, 2.0, 2.0], [1.0, 1.0, 4.0]])
def test_root_has_finite_right_derivatives_also_at_equal_eigenvalues(spectrum):
    rng = np.random.default_rng(1)
    Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    S, H = jnp.asarray((Q * spectrum) @ Q.T), rng.normal(size=(3, 3))
    H = jnp.asarray(H + H.T)
    tangent = jax.jvp(sqrtm, (S,), (H,))[1]
    R = scipy.linalg.sqrtm(np.asarray(S))
    np.testing.assert_allclose(tangent, scipy.linalg.solve_sylvester(R, R, np.asarray(H)), atol=1e-12)
    second = jax.jvp(lambda A: jax.jvp(sqrtm, (A,), (H,))[1], (S,), (H,))[1]
    step = 1e-4
    difference = (scipy.linalg.sqrtm(S + step * H) - 2 * R + scipy.linalg.sqrtm(S - step * H)) / step**2
    np.testing.assert_allclose(second, difference, atol=1e-6)  # the difference's rounding: eps / step^2 = 2e-8 times a few
    W = jnp.asarray(rng.normal(size=(3, 3)))
    forward_over_reverse = jax.jvp(lambda A: jax.vjp(sqrtm, A)[1](W)[0], (S,), (H,))[1]
    np.testing.assert_allclose(jnp.sum(forward_over_reverse * H), jnp.sum(W * second), rtol=1e-10)


def test_lyapunov_solves_its_equation():
    rng = np.random.default_rng(2)
    A, C = spd(rng, 3), rng.normal(size=(3, 3))
    X = lyapunov(jnp.asarray(A), jnp.asarray(C))
    np.testing.assert_allclose(A @ X + X @ A, C, atol=1e-13)


def test_williamson_form():
    """P = S diag(nu, nu) S^T with S^T J S = J, also where two symplectic eigenvalues are equal."""
    rng = np.random.default_rng(8)
    d = 2
    J = np.block([[np.zeros((d, d)), np.eye(d)], [-np.eye(d), np.zeros((d, d))]])
    turn = scipy.linalg.expm(J @ spd(rng, 2 * d))
    for P in (spd(rng, 2 * d), turn @ np.diag([0.7, 0.7, 0.7, 0.7]) @ turn.T):
        nu, S = map(np.asarray, jax.jit(williamson)(P))
        np.testing.assert_allclose(nu, np.sort(abs(np.linalg.eigvals(J @ P)))[::2], rtol=1e-10)
        np.testing.assert_allclose(S.T @ J @ S, J, atol=1e-12)
        np.testing.assert_allclose(S @ np.diag(np.r_[nu, nu]) @ S.T, P, rtol=1e-10, atol=1e-12)
