"""Stationary points of PPCA and the linear VAE against finite differences of the objectives, written again in NumPy from their definitions."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime, minimize

from ensembletheory.latent import active_dimensions, beta_vae_optimum, collapse_thresholds, stationary_points
from tests.helpers import spd

SPECTRUM = np.array([3.0, 1.9, 1.1, 0.4])
Q4 = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
S = (Q4 * SPECTRUM) @ Q4.T
MEAN = np.array([1.0, -2.0, 0.5, 3.0])


def log_likelihood(W, s2, S):
    C = W @ W.T + s2 * np.eye(len(S))
    return -0.5 * (len(S) * np.log(2 * np.pi) + np.linalg.slogdet(C)[1] + np.trace(np.linalg.solve(C, S)))


def elbo(W, s2, V, D, S, beta=1.0):
    """Averaged reconstruction minus beta times the divergence to the prior."""
    d, q = W.shape
    residual = np.eye(d) - W @ V
    reconstruction = -0.5 * d * np.log(2 * np.pi * s2) - (np.trace(residual @ S @ residual.T) + np.trace(W.T @ W @ np.diag(D))) / (2 * s2)
    return reconstruction - 0.5 * beta * (np.trace(V @ S @ V.T) + D.sum() - q - np.log(D).sum())


def best_elbo(W, s2, S, beta=1.0):
    """At the maximiser over the encoder, from its normal equations."""
    N = W.T @ W + beta * s2 * np.eye(W.shape[1])
    return elbo(W, s2, np.linalg.solve(N, W.T), beta * s2 / np.diag(N), S, beta)


OBJECTIVES = {"likelihood": log_likelihood, "elbo": best_elbo}


def hessian(f, x, step=2e-4):
    n, H = x.size, np.zeros((x.size, x.size))
    E = step * np.eye(n)
    for i in range(n):
        for j in range(i + 1):
            H[i, j] = H[j, i] = (f(x + E[i] + E[j]) - f(x + E[i] - E[j]) - f(x - E[i] + E[j]) + f(x - E[i] - E[j])) / (4 * step**2)
    return H


def unpack(point, free):
    W, s2 = np.asarray(point.model.loadings), float(point.model.noise_variance)
    return W, s2, np.append(W.ravel(), s2) if free else W.ravel()


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("s2", [0.3, 0.7, 1.5, None])
def test_every_subset_is_stationary_with_its_value_and_curvatures(objective, s2):
    points, kinds = stationary_points(S, 2, s2, objective, MEAN), OBJECTIVES[objective]
    for point in points:
        W, noise, x = unpack(point, s2 is None)
        f = lambda x, noise=noise, shape=W.shape: kinds(x[: W.size].reshape(shape), x[-1] if s2 is None else noise, S)  # noqa: E731, B023
        assert point.value == pytest.approx(f(x), rel=1e-12)
        np.testing.assert_allclose(approx_fprime(x, f, 1e-6), 0.0, atol=2e-4)  # one-sided differences: half the curvature, below 70, times the step
        # Central differences: rounding eps |f| / step^2 = 2e-7 times 10, truncation step^2 times fourth derivatives (below 1e4 at s2 = 0.3).
        np.testing.assert_allclose(np.linalg.eigvalsh(hessian(f, x)), point.curvatures, atol=2e-3)
        assert point.unstable == np.sum(np.asarray(point.curvatures) > 1e-9)
        np.testing.assert_array_equal(point.model.mean, MEAN)
    bound = SPECTRUM if s2 is None else SPECTRUM[SPECTRUM > s2]
    sizes = [A for r in range(3) for A in combinations(range(len(bound)), r)]
    if s2 is None:
        sizes = [A for A in sizes if all(SPECTRUM[j] > np.delete(SPECTRUM, A).mean() for j in A)]
    assert sorted(point.subset for point in points) == sorted(sizes)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("s2", "top"), [(0.3, (0, 1)), (1.5, (0, 1)), (2.5, (0,)), (3.5, ()), (None, (0, 1))])
def test_one_point_is_stable_and_it_is_the_best(objective, s2, top):
    points = stationary_points(S, 2, s2, objective)
    assert [point.subset for point in points if point.stable] == [top] == [points[0].subset]
    assert np.all(np.diff([point.value for point in points]) < 0)


def test_a_rotation_of_latents_is_flat_for_the_likelihood_and_curved_for_the_elbo():
    likelihood, bound = (stationary_points(S, 2, 0.3, objective)[0] for objective in OBJECTIVES)
    assert np.sum(np.abs(likelihood.curvatures) < 1e-12) == 1  # dim O(2)
    assert bound.curvatures.max() == pytest.approx(-((np.sqrt(2.7) - np.sqrt(1.6)) ** 2) / (3.0 * 1.9))
    equal = stationary_points(np.diag([2.0, 2.0, 1.0]), 2, 0.3, "elbo")[0]
    assert equal.curvatures.max() == pytest.approx(0.0, abs=1e-12)  # equal eigenvalues are not identified


def test_no_ascent_ends_at_a_spurious_maximum():
    best = {None: stationary_points(S, 2, None, "elbo")[0].value, 1.5: stationary_points(S, 2, 1.5, "elbo")[0].value}
    rng = np.random.default_rng(1)
    for s2, value in best.items():
        for _ in range(4):
            noise = (lambda x: np.exp(x[-1])) if s2 is None else (lambda x, s2=s2: s2)
            end = minimize(lambda x, noise=noise: -best_elbo(x[:8].reshape(4, 2), noise(x), S), rng.normal(size=9), method="BFGS", options={"gtol": 1e-8})
            assert -end.fun == pytest.approx(value, abs=1e-9)


def test_the_elbo_alone_is_stationary_where_one_direction_is_spread_over_two_columns_and_gains_by_turning():
    s2, top = 0.3, SPECTRUM[0]
    mu = (top + np.sqrt(top**2 + 8 * top * s2)) / 4  # top = mu^2 / m, m = (mu + s2) / 2
    W = np.sqrt((mu - s2) / 2) * np.column_stack([Q4[:, 0], Q4[:, 0]])
    f = lambda x: best_elbo(x.reshape(4, 2), s2, S)  # noqa: E731
    np.testing.assert_allclose(approx_fprime(W.ravel(), f, 1e-6), 0.0, atol=2e-4)
    assert np.abs(approx_fprime(W.ravel(), lambda x: log_likelihood(x.reshape(4, 2), s2, S), 1e-6)).max() > 0.05
    turn = np.array([W[:, 0], -W[:, 1]]).T.ravel()  # the tangent of the rotation that empties one column
    turn /= np.linalg.norm(turn)
    assert (f(W.ravel() + 1e-3 * turn) + f(W.ravel() - 1e-3 * turn) - 2 * f(W.ravel())) / 1e-6 > 0.05


@settings(max_examples=15)
@given(seed=st.integers(0, 2**20), s2=st.floats(0.05, 3), beta=st.floats(0.2, 4))
def test_no_decoder_and_encoder_beat_the_optimum_of_the_beta_vae(seed, s2, beta):
    rng = np.random.default_rng(seed)
    data = spd(rng, 3)
    model = beta_vae_optimum(data, 2, s2, beta)
    W = np.asarray(model.loadings)
    best = best_elbo(W, s2, data, beta)
    assert np.sum(np.linalg.norm(W, axis=0) > 0) == active_dimensions(data, 2, s2, beta) == min(2, np.sum(np.linalg.eigvalsh(data) > beta * s2))
    for scale in (0.1, 1.0):
        other = W + scale * rng.normal(size=W.shape)
        assert best_elbo(other, s2, data, beta) <= best + 1e-12
        V = rng.normal(size=(2, 3)) * scale
        assert elbo(other, s2, V, np.exp(rng.normal(size=2)), data, beta) <= best


@pytest.mark.parametrize("beta", [0.4, 1.0, 2.5])
def test_ascent_finds_the_optimum_of_the_beta_vae_and_its_threshold(beta):
    s2, rng = 0.6, np.random.default_rng(2)

    def loss(x):
        W, V, log_D = x[:8].reshape(4, 2), x[8:16].reshape(2, 4), x[16:]
        return -elbo(W, s2, V, np.exp(log_D), S, beta)

    end = minimize(loss, rng.normal(size=18), method="BFGS", options={"gtol": 1e-9, "maxiter": 3000})
    W = np.asarray(beta_vae_optimum(S, 2, s2, beta).loadings)
    assert -end.fun == pytest.approx(best_elbo(W, s2, S, beta), abs=1e-8)
    found = np.sort(np.linalg.norm(end.x[:8].reshape(4, 2), axis=0))[::-1]
    np.testing.assert_allclose(found**2, np.maximum(SPECTRUM[:2] - beta * s2, 0.0), atol=1e-4)


def test_thresholds_are_the_eigenvalues_over_beta():
    np.testing.assert_allclose(collapse_thresholds(S, 3, 2.0), SPECTRUM[:3] / 2, rtol=1e-12)
    below, above = (active_dimensions(S, 3, 1.1 * factor / 2, 2.0) for factor in (0.999, 1.001))
    assert (below, above) == (3, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stationary_points(S, 0, 0.3), "`q`: got 0; expected a whole number from 1 to 4"),
        (lambda: stationary_points(S, 4), "`q`: got 4; expected a whole number from 1 to 3"),
        (lambda: stationary_points(S, 2, -1.0), "`s2`: got -1.0; expected a positive number"),
        (lambda: stationary_points(S, 2, 0.3, "loss"), "`objective`: got 'loss'"),
        (lambda: stationary_points(S[:3], 2, 0.3), r"`S`: got shape \(3, 4\)"),
        (lambda: stationary_points(np.diag([1.0, 0.0]), 1, 0.3), "`S`: got smallest eigenvalue 0"),
        (lambda: stationary_points(np.array([[1.0, 0.5], [0.0, 1.0]]), 1, 0.3), "`S`.*asymmetry 0.5"),
        (lambda: collapse_thresholds(S, 2, 0.0), "`beta`: got 0.0; expected a positive number"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
