"""The claims on linear VAEs: margins by NumPy and SciPy, theorems under Hypothesis, equality families, mutants violated by hand."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from ensembletheory.claims import get

THEOREMS = ("beta-vae-threshold", "ppca-stationary-stability")
IDS = (*THEOREMS, "iwae-rate")
S = np.array([[2.0, 0.8], [0.8, 1.0]])
SPECTRUM, U = np.linalg.eigh(S)
MUTANTS = {
    ("beta-vae-threshold", "noise-alone"): {
        **{"covariance": S, "noise_variance": 0.3, "beta": 2.0, "loadings": (W := U * np.sqrt(SPECTRUM - 0.6 * (SPECTRUM > 0.6)) * (SPECTRUM > 0.6))},
        **{"encoder": (W / (np.sum(W**2, axis=0) + 0.6)).T, "encoder_variances": 0.6 / (np.sum(W**2, axis=0) + 0.6)},
    },
    ("ppca-stationary-stability", "not-stationary"): {"noise_variance": 0.5, "excess": 2.0, "unused": [1.0, 0.3], "length": 1.5},
    ("ppca-stationary-stability", "larger-noise"): {"noise_variance": 0.5, "excess": 2.0, "unused": [1.0, 0.3]},
    ("iwae-rate", "three-latents"): {"correlation": 0.34},
}


@cache
def compiled(claim):
    return jax.jit(claim.traced)


def margin(claim, instance):
    return tuple(map(float, compiled(claim)({name: jnp.asarray(value, dtype=float) for name, value in instance.items()})))


def beta_vae_threshold(instance):
    """Both sides by the definition of the objective; the optimum's encoder from its normal equations."""
    S, s2, beta, W, V, D = (np.asarray(instance[name]) for name in ("covariance", "noise_variance", "beta", "loadings", "encoder", "encoder_variances"))

    def objective(W, V, D):
        left = np.eye(2) - W @ V
        reconstruction = -np.log(2 * np.pi * s2) - (np.trace(left @ S @ left.T) + np.sum(W**2 * D)) / (2 * s2)
        return reconstruction - beta / 2 * (np.trace(V @ S @ V.T) + np.sum(D - np.log(D)) - 2)

    spectrum, U = np.linalg.eigh(S)
    best = U * np.sqrt(np.maximum(spectrum - beta * s2, 0))
    N = best.T @ best + beta * s2 * np.eye(2)
    return objective(best, np.linalg.solve(N, best.T), beta * s2 / np.diag(N)) - objective(W, V, D)


def ppca_stationary_stability(instance):
    """Finite differences of the likelihood from the 3 x 3 covariance and of Hadamard's deficit: how far they are from what is stated, up to their error."""
    s2, excess, unused = float(instance["noise_variance"]), float(instance["excess"]), np.asarray(instance["unused"])
    spectrum = np.array([s2 + excess, *unused])
    worst, step = 0.0, 1e-3 * np.sqrt(s2)

    def objective(row, column, at, weight):
        W = np.zeros((3, 2))
        W[0, 0] = np.sqrt(excess)
        W[row, column] += at
        C, M = W @ W.T + s2 * np.eye(3), W.T @ W + s2 * np.eye(2)
        gap = 0.5 * (np.log(np.diag(M)).sum() - np.linalg.slogdet(M)[1])
        return -0.5 * (np.linalg.slogdet(C)[1] + np.trace(np.linalg.solve(C, np.diag(spectrum)))) - weight * gap

    for row in (1, 2):
        for column, stated in ((0, (spectrum[row] - spectrum[0]) / (s2 * spectrum[0])), (1, (spectrum[row] - s2) / s2**2)):
            for weight in (0, 1):
                found = sum(c * objective(row, column, a * step, weight) for c, a in ((1, -1), (-2, 0), (1, 1))) / step**2
                worst = max(worst, abs(found - stated) / (1 + spectrum[row] / s2**2))
    return -worst if worst > 1e-4 else 0.0


def iwae_rate(instance):
    """phi by the definition, on a grid of the two normal variables."""
    rho = float(instance["correlation"])
    e = np.linspace(0, 11, 261)  # even in both
    density = 2 * norm.pdf(e) * (e[1] - e[0]) * np.where(e == 0, 0.5, 1)
    grid, r = np.multiply.outer(density, density).ravel(), np.exp(0.5 * np.log(1 - rho**2) + 0.5 * rho * np.subtract.outer(e**2, e**2)).ravel()
    log_t = np.arange(-40, 36, 0.4)
    slope = np.array([grid @ np.expm1(-t * r) for t in np.exp(log_t)])
    log_phi = np.log1p(np.maximum(slope, -1 + 1e-15))
    gaps = [-0.5 * np.log(1 - rho**2), *(np.trapezoid(np.exp(K * log_phi) - np.exp(-K * np.exp(log_t)), log_t) for K in (2, 4, 8, 16))]
    return np.min(np.diff(gaps * 2 ** np.arange(5)))


@pytest.mark.parametrize("id", IDS)
def test_margins_agree_with_a_second_route(id):
    claim = get(id)
    for seed in range(3):
        instance = {name: np.asarray(value) for name, value in claim.domain.sample(jax.random.key(seed)).items()}
        np.testing.assert_allclose(margin(claim, instance)[0], globals()[id.replace("-", "_")](instance), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated(id, name):
    mutant = get(id).mutated(name)
    value, error = margin(mutant, MUTANTS[id, name])
    assert value + error < -1e-3
    mutant.domain.check(MUTANTS[id, name])


def test_the_open_one_is_called_open():
    assert get("iwae-rate").kind == "conjecture"
