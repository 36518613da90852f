"""Kernels against the joint Gaussian of input and output, built by brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.kernels import DiagonalKernel
from tests.helpers import assert_mean, spd

RNG = np.random.default_rng(3)
A, B_OFFSET, C = RNG.normal(size=(2, 3)), RNG.normal(size=2), spd(RNG, 2)
KERNEL = et.AffineKernel(A, B_OFFSET, C)
PRIOR = et.Gaussian(RNG.normal(size=3), spd(RNG, 3))


def joint():
    """The law of (x, y) from its precision, which shares no formula with the kernel: log p(x) + log p(y | x) is quadratic."""
    P, R = np.linalg.inv(PRIOR.cov), np.linalg.inv(C)
    precision = np.block([[P + A.T @ R @ A, -A.T @ R], [-R @ A, R]])
    shift = np.concatenate([P @ np.asarray(PRIOR.mean) - A.T @ R @ B_OFFSET, R @ B_OFFSET])
    return et.Gaussian(np.linalg.solve(precision, shift), (lambda S: (S + S.T) / 2)(np.linalg.inv(precision)))


def test_push_is_the_marginal_of_the_joint():
    pushed, expected = KERNEL.push(PRIOR), joint().marginal([3, 4])
    np.testing.assert_allclose(pushed.mean, expected.mean, atol=1e-12)
    np.testing.assert_allclose(pushed.cov, expected.cov, atol=1e-12)


def test_invert_is_the_conditional_of_the_joint():
    y = np.array([0.3, -1.2])
    posterior, expected = KERNEL.invert(PRIOR).at(jnp.asarray(y)), joint().condition([3, 4], y)
    np.testing.assert_allclose(posterior.mean, expected.mean, atol=1e-12)
    np.testing.assert_allclose(posterior.cov, expected.cov, atol=1e-12)


def test_after_is_one_kernel_and_then_the_other():
    second = et.AffineKernel(RNG.normal(size=(3, 2)), RNG.normal(size=3), spd(RNG, 3))
    once, twice = second.after(KERNEL).push(PRIOR), second.push(KERNEL.push(PRIOR))
    np.testing.assert_allclose(once.mean, twice.mean, atol=1e-12)
    np.testing.assert_allclose(once.cov, twice.cov, atol=1e-12)


def test_deterministic_kernels_condition_on_coordinates():
    selection = et.AffineKernel(np.eye(3)[[2, 0]], np.zeros(2), 0.0)
    posterior = selection.invert(PRIOR)
    conditional = PRIOR.condition([2, 0], [0.7, -0.4])
    y = jnp.asarray([0.7, -0.4])
    np.testing.assert_allclose((posterior.A @ y + posterior.b)[1], conditional.mean[0], atol=1e-12)
    np.testing.assert_allclose(posterior.C.as_matrix()[1, 1], conditional.cov[0, 0], atol=1e-12)
    np.testing.assert_allclose(posterior.A @ y + posterior.b, [-0.4, conditional.mean[0], 0.7], atol=1e-12)


def test_mixtures_are_pushed_component_by_component():
    mixture = et.GaussianMixture([0.3, 0.7], RNG.normal(size=(2, 3)), np.stack([spd(RNG, 3), spd(RNG, 3)]))
    pushed = KERNEL.push(mixture)
    key_x, key_noise = jax.random.split(jax.random.key(0))
    x = np.asarray(mixture.sample(key_x, 200_000))
    y = x @ A.T + B_OFFSET + np.asarray(jax.random.normal(key_noise, (200_000, 2))) @ np.linalg.cholesky(C).T
    assert_mean(y, pushed.mean)
    centred = y - np.asarray(pushed.mean)
    assert_mean(centred[:, :, None] * centred[:, None, :], pushed.cov)
    assert_mean(y**3, pushed.weights @ (pushed.means**3 + 3 * pushed.means * jnp.stack([jnp.diagonal(S) for S in pushed.covs])))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KERNEL.push(et.standard_normal(2)), "`law`.*dimension 2.*dimension 3"),
        (lambda: KERNEL.invert(et.standard_normal(2)), "`law`.*dimension 2.*dimension 3"),
        (lambda: KERNEL.after(KERNEL), "`first`.*output dimension 2.*3"),
        (lambda: et.AffineKernel([1.0, 2.0], [0.0], 1.0), "`A`.*a matrix"),
        (lambda: et.AffineKernel(A, B_OFFSET, [[1.0, 2.0], [2.0, 1.0]]), "`C`.*eigenvalue -1"),
        (lambda: et.AffineKernel(A, [0.0], C), "`b`.*shape"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()


def test_a_kernel_along_axes_refuses_to_make_a_law_without_density():
    flat = DiagonalKernel(jnp.zeros(2), jnp.zeros(2), et.Diagonal(jnp.array([1.0, 0.0])))
    with pytest.raises(ValueError, match="`cov`.*positive definite"):
        flat.push(et.standard_normal(2))
