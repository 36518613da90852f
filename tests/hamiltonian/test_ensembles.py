"""Ensembles of Hamiltonian flows: averages of matrices in NumPy, the barycenter by SciPy's roots, binomial sums by enumeration, gains by divergences one by one."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, special

import ensembletheory as et
from ensembletheory.hamiltonian import AveragedHamiltonian, FlowEnsemble, HamiltonianFlow, OneStepPotential, gauge_cost, one_step_gauges
from ensembletheory.processes import QuadraticHamiltonian, SeparableHamiltonian
from ensembletheory.samplers import Leapfrog
from tests.hamiltonian.test_gauge import leapfrog
from tests.helpers import spd

PRIOR, FREE = et.standard_normal(4), Leapfrog(unstable=True)
WEIGHTS = np.array([0.2, 0.3, 0.5])
H = 0.5
COVS = [spd(np.random.default_rng(seed), 2, 0.4, 3.0) for seed in (0, 1, 2)]


def member(K, centre=(0.0, 0.0), steps=2, prior=PRIOR, horizon=2 * H):
    return HamiltonianFlow(QuadraticHamiltonian(1.0, K, centre, horizon=horizon), prior, steps, FREE)


def rows(K, steps=2):
    return leapfrog(np.asarray(K), 1.0, H, steps)[:2]


def kl(S, V):
    return 0.5 * (np.trace(np.linalg.solve(V, S)) - len(S) - np.linalg.slogdet(S)[1] + np.linalg.slogdet(V)[1])


def w2_squared(S, V):
    root = linalg.sqrtm(S).real
    return np.trace(S) + np.trace(V) - 2 * np.trace(linalg.sqrtm(root @ V @ root).real)


STIFF = [spd(np.random.default_rng(seed), 2, 0.3, 3.0) for seed in (5, 6, 7)]
CENTRES = [(0.3, -0.2), (-1.0, 0.5), (0.0, 0.8)]
ENSEMBLE = FlowEnsemble([member(K, c) for K, c in zip(STIFF, CENTRES, strict=True)], WEIGHTS)


def mean_of(matrices):
    return sum(w * M for w, M in zip(WEIGHTS, matrices, strict=True))


def shift(K, c, steps=2):
    """Where the steps take a point at rest at the origin."""
    A = leapfrog(np.asarray(K), 1.0, H, steps)[:2, :2]
    return np.asarray(c) - A @ np.asarray(c)


def test_averaged_energy_is_the_flow_of_averaged_potentials():
    law = ENSEMBLE.averaged_energy().law()
    K = mean_of(STIFF)
    c = np.linalg.solve(K, mean_of([k @ np.asarray(c) for k, c in zip(STIFF, CENTRES, strict=True)]))
    np.testing.assert_allclose(law.cov, rows(K) @ rows(K).T, rtol=1e-11)
    np.testing.assert_allclose(law.mean, shift(K, c), rtol=1e-10)
    z = np.array([0.3, -0.7, 1.1, 0.2])
    averaged = ENSEMBLE.averaged_energy().hamiltonian
    expected = mean_of([0.5 * (z[:2] - c) @ k @ (z[:2] - c) for k, c in zip(STIFF, np.asarray(CENTRES), strict=True)]) + 0.5 * z[2:] @ z[2:]
    assert float(averaged.energy(jnp.asarray(z))) == pytest.approx(expected, rel=1e-12)


def test_averaged_flow_is_the_average_of_maps_and_aligned_flow_the_barycenter():
    Z = [rows(K) for K in STIFF]
    raw = ENSEMBLE.averaged_flow()
    np.testing.assert_allclose(raw.cov, mean_of(Z) @ mean_of(Z).T, rtol=1e-11)
    np.testing.assert_allclose(raw.mean, mean_of([shift(K, c) for K, c in zip(STIFF, CENTRES, strict=True)]), rtol=1e-11)
    aligned = np.asarray(ENSEMBLE.averaged_flow(aligned=True).cov)
    root, laws = linalg.sqrtm(aligned).real, [z @ z.T for z in Z]
    np.testing.assert_allclose(aligned, mean_of([linalg.sqrtm(root @ S @ root).real for S in laws]), atol=1e-9)
    np.testing.assert_allclose(aligned, et.w2_barycenter(ENSEMBLE.laws(), WEIGHTS).cov, atol=1e-9)
    assert np.linalg.eigvalsh(mean_of(laws) - np.asarray(raw.cov))[0] > 0
    assert np.trace(raw.cov) < np.trace(aligned)


@pytest.mark.parametrize("aligned", [False, True])
def test_ambiguity_decomposition(aligned):
    target = member(spd(np.random.default_rng(9), 2), (0.5, 0.5))
    terms = ENSEMBLE.ambiguity(target, aligned)
    assert float(terms.average) == pytest.approx(float(terms.ensemble) + float(terms.diversity), rel=1e-12)
    assert float(terms.transport) <= float(terms.ensemble) * (1 + 1e-12)
    Z, T = [rows(K) for K in STIFF], np.asarray(target.kernel().A)[:2]
    gaps = [np.sum((shift(K, c) - np.asarray(target.kernel().b)[:2]) ** 2) for K, c in zip(STIFF, CENTRES, strict=True)]
    squared = [w2_squared(z @ z.T, T @ T.T) if aligned else np.sum((z - T) ** 2) for z in Z]  # in the nearest gauges a flow couples its law optimally
    assert float(terms.average) == pytest.approx(mean_of([a + b for a, b in zip(gaps, squared, strict=True)]), rel=1e-10)


def test_gains_are_differences_of_divergences():
    flows = [one_step_gauges(et.Gaussian([0.0, 0.0], S), H)[0] for S in COVS]
    ensemble = FlowEnsemble([HamiltonianFlow(flow, PRIOR, 1, FREE) for flow in flows], WEIGHTS)
    S = spd(np.random.default_rng(11), 2, 0.5, 2.0)
    average = mean_of([kl(S, C) for C in COVS])
    M = mean_of([linalg.sqrtm(C - H**2 * np.eye(2)).real for C in COVS])
    averaged = H**2 * np.eye(2) + M @ M
    pools = {"averaged energy": averaged, "averaged flow": averaged, et.log_pool: np.linalg.inv(mean_of([np.linalg.inv(C) for C in COVS]))}
    for rule, law in pools.items():
        found = ensemble.gain(et.Gaussian([0.0, 0.0], S), rule)
        assert float(found.average) == pytest.approx(average, rel=1e-10)
        assert float(found.gain) == pytest.approx(average - kl(S, law), rel=1e-9)
    moved = ensemble.gain(et.Gaussian([0.0, 0.0], S), "aligned flow", et.w2_squared)
    assert float(moved.ensemble) == pytest.approx(w2_squared(S, np.asarray(et.w2_barycenter(ensemble.laws(), WEIGHTS).cov)), rel=1e-7)


def test_unaligned_gauges_cost_what_a_sum_over_all_signs_says():
    s, c2, K = 1.7, 0.2, 3
    y = np.sqrt(s - c2)
    costs = [kl(np.array([[s]]), np.array([[c2 + np.mean(signs) ** 2 * y**2]])) for signs in product((1.0, -1.0), repeat=K)]
    assert float(gauge_cost(s, c2, K)) == pytest.approx(np.mean(costs), rel=1e-12)
    assert float(gauge_cost(s, c2, 1)) == 0
    limit = 0.5 * (s / c2 - 1 - np.log(s / c2))
    assert 0.99 * limit < float(gauge_cost(s, c2, 2000)) < limit
    one, other = one_step_gauges(et.Gaussian([0.0], s), np.sqrt(c2))
    opposite = FlowEnsemble([HamiltonianFlow(H, et.standard_normal(2), 1, FREE) for H in (one, other)])
    assert float(opposite.averaged_energy().law().cov[0, 0]) == pytest.approx(c2, rel=1e-12)
    assert float(opposite.averaged_flow(aligned=True).cov[0, 0]) == pytest.approx(s, rel=1e-12)
    assert float(gauge_cost(s, c2, 2)) == pytest.approx(0.5 * limit, rel=1e-12)


def test_averaged_potentials_of_mixtures_average_their_quantiles():
    """On the line one step of averaged convex potentials samples (mean of the quantile functions of mu_k) * N(0, c^2)."""
    laws = [et.GaussianMixture([0.4, 0.6], [[-1.0], [1.5]], [[0.3], [0.5]]), et.Gaussian([0.5], 1.2)]
    potentials = [OneStepPotential(law, 0.5) for law in laws]
    members = [SeparableHamiltonian.fixed_kinetic(potential, [1.0], 0.5) for potential in potentials]
    averaged = AveragedHamiltonian(members, [0.3, 0.7])
    slopes = jax.jit(lambda averaged, q, p: averaged.slopes(q, p))
    for q in (-1.3, 0.4):
        slope = float(slopes(averaged, jnp.array([q]), jnp.zeros(1))[0][0])
        u = special.ndtr(q)
        low, high = -12.0, 12.0
        for _ in range(80):
            x = (low + high) / 2
            below = 0.4 * special.ndtr((x + 1) / np.sqrt(0.05)) + 0.6 * special.ndtr((x - 1.5) / 0.5) < u
            low, high = (x, high) if below else (low, x)
        expected = 0.3 * x + 0.7 * (0.5 + np.sqrt(0.95) * q)
        assert q - 0.125 * slope == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FlowEnsemble([]), ValueError, "`members`: got an empty list"),
        (lambda: AveragedHamiltonian([]), ValueError, "`members`: got an empty list"),
        (lambda: FlowEnsemble([member(STIFF[0]), member(STIFF[0], steps=3)]), ValueError, "3 and 2 steps"),
        (lambda: FlowEnsemble([member(STIFF[0]), member(STIFF[0], prior=et.Gaussian(np.zeros(4), 2.0))]), ValueError, "different priors"),
        (lambda: FlowEnsemble([member(STIFF[0])], [0.5]), ValueError, "`weights`"),
        (lambda: FlowEnsemble([member(STIFF[0]), member(STIFF[0], horizon=2.0)]).averaged_energy(), ValueError, "one horizon.*rescaled"),
        (lambda: FlowEnsemble([member(STIFF[0], prior=et.Gaussian(np.zeros(4), 2.0))]).averaged_flow(aligned=True), ValueError, "`aligned`"),
        (lambda: ENSEMBLE.gain(et.standard_normal(2), "best"), ValueError, "`rule`: got 'best'"),
        (lambda: gauge_cost(1.0, 2.0, 2), ValueError, "`noise_variance`: got 2"),
        (lambda: gauge_cost(1.0, 0.5, 0), ValueError, "`members`: got 0"),
    ],
)
def test_mistakes_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
