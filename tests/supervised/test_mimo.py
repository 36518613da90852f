"""Linear MIMO: the optimum against a plain singular value decomposition and against perturbed networks, its errors against simulated networks, and fits to samples."""

import numpy as np
import pytest

from ensembletheory.supervised import linear_mimo, mimo_sample_errors, mixmo_shrinkage, mixmo_weights
from tests.helpers import assert_mean

SLOPE = np.array([[1.0, -0.5, 0.3], [0.2, 0.8, -1.1]])
INPUTS = np.array([[1.3, 0.3, 0.1], [0.3, 2.0, -0.4], [0.1, -0.4, 0.8]])
NOISE = np.array([[0.2, 0.05], [0.05, 0.1]])
LEVELS = np.linalg.svd(SLOPE @ np.linalg.cholesky(INPUTS))[1]
EQUAL, UNEQUAL = (1 / 3, 1 / 3, 1 / 3), (0.2, 0.3, 0.5)
CASES = [(EQUAL, 0, "slots"), (EQUAL, 4, "slots"), (EQUAL, 4, "shared"), (EQUAL, 5, "shared"), (UNEQUAL, 1, "slots"), (UNEQUAL, 4, "slots"), (UNEQUAL, 9, "slots")]
Z_DRAWS = 200_000


def weights(mixing):
    r = np.cbrt(np.array(mixing))
    return len(mixing) * r / r.sum()


def training_loss(maps, mixing):
    """sum_i r_i E|y_i - y_i^|^2 of a network whose head i does maps[i, k] to slot k, by second moments."""
    loss = 0.0
    for i, r in enumerate(weights(mixing)):
        wrong = [SLOPE * (i == k) - maps[i, k] for k in range(len(mixing))]
        loss += r * (np.trace(NOISE) + sum(np.trace(E @ INPUTS @ E.T) for E in wrong))
    return loss


@pytest.mark.parametrize(("mixing", "width", "ties"), CASES)
def test_the_optimum_is_that_of_reduced_rank_regression(mixing, width, ties):
    model = linear_mimo(SLOPE, INPUTS, NOISE, width, mixing, ties=ties)
    r = weights(mixing)
    values = np.linalg.svd(np.kron(np.diag(np.sqrt(r)), SLOPE @ np.linalg.cholesky(INPUTS)))[1]
    least = np.sum(values[width:] ** 2) + r.sum() * np.trace(NOISE)
    np.testing.assert_allclose(training_loss(np.asarray(model.maps), mixing), least, rtol=1e-12)
    np.testing.assert_allclose(r @ np.asarray(model.training_errors), least, rtol=1e-12)
    flat = np.asarray(model.maps).transpose(0, 2, 1, 3).reshape(6, 9)
    assert np.linalg.matrix_rank(flat, tol=1e-9) == min(width, 6)


@pytest.mark.parametrize(("mixing", "width", "ties"), CASES)
def test_errors_are_those_of_a_simulated_network(mixing, width, ties):
    """Heads D_i and encoders C_k are cut out of the maps by a decomposition, features are mixed as the model says, and inputs, targets and losses are drawn."""
    M, lam, tau = 3, np.array(mixing), np.array([0.5, 0.2, 0.3])
    model = linear_mimo(SLOPE, INPUTS, NOISE, width, mixing, test_mixing=tau, ties=ties)
    U, s, Vt = np.linalg.svd(np.asarray(model.maps).transpose(0, 2, 1, 3).reshape(6, 9))
    r = min(width, 6)
    heads = (U[:, :r] * s[:r]).reshape(M, 2, r)
    encoders = Vt[:r].reshape(r, M, 3).transpose(1, 0, 2) / (M * lam)[:, None, None]
    rng = np.random.default_rng(width)
    n = Z_DRAWS // 2
    x = rng.multivariate_normal(np.zeros(3), INPUTS, size=(n, M))
    y = x @ SLOPE.T + rng.multivariate_normal(np.zeros(2), NOISE, size=(n, M))
    features = M * np.einsum("k,krd,nkd->nr", lam, encoders, x)
    assert_mean(((y - np.einsum("ipr,nr->nip", heads, features)) ** 2).sum(axis=2), model.training_errors)
    one, target = x[:, 0], y[:, 0]
    features = M * np.einsum("k,krd,nd->nr", tau, encoders, one)
    errors = target[:, None, :] - np.einsum("ipr,nr->nip", heads, features)
    assert_mean(np.einsum("nip,nlp->nil", errors, errors), model.error_products)
    assert_mean((errors.mean(axis=1) ** 2).sum(axis=1), model.average_error)


def test_no_small_change_of_heads_or_encoders_helps():
    mixing, rng = UNEQUAL, np.random.default_rng(0)
    maps = np.asarray(linear_mimo(SLOPE, INPUTS, NOISE, 4, mixing).maps)
    U, s, Vt = np.linalg.svd(maps.transpose(0, 2, 1, 3).reshape(6, 9))
    left, right, least = U[:, :4] * s[:4], Vt[:4], training_loss(maps, mixing)
    for _ in range(50):
        moved = (left + 0.03 * rng.normal(size=left.shape)) @ (right + 0.03 * rng.normal(size=right.shape))
        assert training_loss(moved.reshape(3, 2, 3, 3).transpose(0, 2, 1, 3), mixing) > least


def test_width_is_shared_out_among_the_slots():
    """Width M r gives every head what width r gives one network."""
    alone = linear_mimo(SLOPE, INPUTS, NOISE, 1, [1.0])
    three = linear_mimo(SLOPE, INPUTS, NOISE, 3, EQUAL)
    np.testing.assert_allclose(three.test_errors, np.repeat(np.asarray(alone.test_errors), 3), rtol=1e-12)
    np.testing.assert_allclose(three.error_correlations, np.ones((3, 3)), rtol=1e-12)
    np.testing.assert_allclose(alone.test_errors[0], np.trace(NOISE) + LEVELS[1] ** 2, rtol=1e-12)


def test_a_shared_component_is_lost_in_training_and_whole_at_test():
    shared = linear_mimo(SLOPE, INPUTS, NOISE, 1, [0.5, 0.5], ties="shared")
    slots = linear_mimo(SLOPE, INPUTS, NOISE, 1, [0.5, 0.5])
    floor = np.trace(NOISE)
    np.testing.assert_allclose(shared.training_errors, floor + LEVELS[1] ** 2 + np.repeat(LEVELS[0] ** 2 / 2, 2), rtol=1e-12)
    np.testing.assert_allclose(shared.test_errors, np.repeat(floor + LEVELS[1] ** 2, 2), rtol=1e-12)
    np.testing.assert_allclose(slots.test_errors, floor + LEVELS[1] ** 2 + np.array([0, LEVELS[0] ** 2]), rtol=1e-12)
    np.testing.assert_allclose(slots.average_error, floor + LEVELS[1] ** 2 + LEVELS[0] ** 2 / 4, rtol=1e-12)
    np.testing.assert_allclose(shared.training_errors.sum(), slots.training_errors.sum(), rtol=1e-12)
    assert float(slots.error_correlations[0, 1]) < 1 - 1e-3


def test_a_wide_trunk_with_plain_mixing_leaves_only_noise():
    model = linear_mimo(SLOPE, INPUTS, NOISE, 6, EQUAL)
    np.testing.assert_allclose(model.test_errors, np.repeat(np.trace(NOISE), 3), rtol=1e-12)
    np.testing.assert_allclose(model.maps[1, 1], SLOPE, rtol=1e-12)
    np.testing.assert_allclose(model.maps[1, 0], np.zeros((2, 3)), atol=1e-12)


def test_mixmo_weights_are_the_papers():
    np.testing.assert_allclose(mixmo_weights([0.3, 0.7]), 2 * np.array([0.3, 0.7]) ** (1 / 3) / (0.3 ** (1 / 3) + 0.7 ** (1 / 3)), rtol=1e-14)
    np.testing.assert_allclose(mixmo_weights([0.3, 0.7], root=1.0), [0.6, 1.4], rtol=1e-14)
    np.testing.assert_allclose(mixmo_weights([[0.5, 0.5], [0.2, 0.8]]).sum(axis=1), [2.0, 2.0], rtol=1e-14)


def test_shrinkage_is_weighted_least_squares_under_random_mixing():
    """One output, one input: regress y_i on the features 2 lambda_i x_i of both slots with weights r_i, over drawn lambda and x."""
    rng, n = np.random.default_rng(1), 400_000
    first = rng.choice([0.15, 0.4, 0.85], p=[0.2, 0.5, 0.3], size=n)
    lam = np.stack([first, 1 - first], axis=1)
    features = 2 * lam * rng.normal(size=(n, 2))
    r = np.cbrt(lam)
    r *= 2 / r.sum(axis=1, keepdims=True)
    kappa = mixmo_shrinkage([[0.15, 0.85], [0.4, 0.6], [0.85, 0.15]], [0.2, 0.5, 0.3])
    for i in (0, 1):
        target = features[:, i] / (2 * lam[:, i])
        residual = target - float(kappa[i]) * features[:, i]
        assert_mean(r[:, i, None] * residual[:, None] * features, [0.0, 0.0])  # the normal equations, with nothing left for the other slot
    np.testing.assert_allclose(mixmo_shrinkage([[0.5, 0.5]]), [1.0, 1.0], rtol=1e-14)
    assert np.all(np.asarray(mixmo_shrinkage([[0.3, 0.7], [0.7, 0.3]])) < 0.9)


@pytest.mark.parametrize(("slots", "dim", "samples"), [(2, 3, 20), (3, 2, 15), (1, 4, 12)])
def test_sample_errors_are_those_of_least_squares(slots, dim, samples):
    rng, fits, s2 = np.random.default_rng(slots), 20_000, 0.7
    X = rng.normal(size=(fits, samples, slots * dim)) * np.tile([1.0, 0.5, 2.0, 1.5][:dim], slots)
    slope = rng.normal(size=dim)
    Y = np.stack([X[:, :, k * dim : (k + 1) * dim] @ slope for k in range(slots)], axis=2) + np.sqrt(s2) * rng.normal(size=(fits, samples, slots))
    estimates = np.linalg.solve(X.swapaxes(1, 2) @ X, X.swapaxes(1, 2) @ Y)
    x = rng.normal(size=(fits, dim)) * [1.0, 0.5, 2.0, 1.5][:dim]
    y = x @ slope + np.sqrt(s2) * rng.normal(size=fits)
    errors = y[:, None] - np.einsum("fd,fdi->fi", np.tile(x, (1, slots)), estimates)
    exact = mimo_sample_errors(slots, dim, samples, s2)
    assert_mean(errors**2, np.repeat(float(exact.head), slots))
    assert_mean(errors.mean(axis=1) ** 2, exact.average)
    if slots > 1:
        assert_mean(errors[:, 0] * errors[:, 1], exact.correlation * exact.head)
    else:
        np.testing.assert_allclose([exact.head, exact.average], exact.alone, rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: linear_mimo([1.0], 1.0, 1.0, 1, [1.0]), r"`slope`: got shape \(1,\)"),
        (lambda: linear_mimo(SLOPE, INPUTS, NOISE, -1, EQUAL), "`width`: got -1"),
        (lambda: linear_mimo(SLOPE, INPUTS, NOISE, 1, [0.5, 0.6]), "`mixing`: got coefficients that sum to 1.1"),
        (lambda: linear_mimo(SLOPE, INPUTS, NOISE, 1, [0.0, 1.0]), "`mixing`: got 0; expected numbers above 0"),
        (lambda: linear_mimo(SLOPE, INPUTS, NOISE, 1, [[0.5, 0.5]]), r"`mixing`: got shape \(1, 2\)"),
        (lambda: linear_mimo(SLOPE, INPUTS, NOISE, 1, UNEQUAL, ties="shared"), "`ties`: got 'shared' with unequal mixing"),
        (lambda: linear_mimo(SLOPE, np.eye(2), NOISE, 1, EQUAL), r"`input_cov`: got shape \(2, 2\)"),
        (lambda: mixmo_shrinkage([0.5, 0.5]), r"`mixings`: got shape \(2,\)"),
        (lambda: mimo_sample_errors(3, 5, 16), "`samples`: got 16 with 15 regressors"),
    ],
)
def test_bad_input_is_refused_by_name(call, words):
    with pytest.raises(ValueError, match=words):
        call()
