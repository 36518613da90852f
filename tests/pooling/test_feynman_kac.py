"""Corrected averages against the exact Gaussian recursion of the weighted particles, the log pool, and the numbers of the theory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.pooling.feynman_kac import FeynmanKac, _resampled
from ensembletheory.pooling.weighted_sample import WeightedSample
from ensembletheory.samplers import EulerMaruyama, LangevinCorrector, Sampler
from tests.helpers import assert_within_errors

UNIT, VP = et.processes.VariancePreserving(1.0, 1.0, 1.0), et.processes.VariancePreserving()
MEANS, COVS = np.array([[1.0, 0.5], [-1.0, 0.0]]), np.array([[[0.4, 0.3], [0.3, 1.0]], [[2.5, -0.9], [-0.9, 0.6]]])  # which do not commute
WEIGHTS = np.array([0.35, 0.65])
LAWS = [et.Gaussian(mean, cov) for mean, cov in zip(MEANS, COVS, strict=True)]
SCORES = et.MeanField([UNIT.score(law) for law in LAWS], WEIGHTS)
KEY = jax.random.key(5)
PAIR = np.zeros((2, 1)), np.array([[[0.25]], [[4.0]]]), np.full(2, 0.5)  # the members of the table


def noised(means, covs, u):
    return np.sqrt(u) * means, u * covs + (1 - u) * np.eye(means.shape[1])


def log_pool(means, covs, weights):
    """Mean, covariance and log-normaliser of the geometric mean."""
    precisions = np.linalg.inv(covs)
    P = np.einsum("k,kij->ij", weights, precisions)
    mean = np.linalg.solve(P, np.einsum("k,kij,kj->i", weights, precisions, means))
    gaps = means - mean
    log_z = -0.5 * (np.linalg.slogdet(P)[1] + weights @ (np.linalg.slogdet(covs)[1] + np.einsum("ki,kij,kj->k", gaps, precisions, gaps)))
    return mean, np.linalg.inv(P), log_z


def exact(means, covs, weights, us, betas, hs, start, eta=1.0, power=1.0):
    """Mean and covariance of the particles under the power of their weights, and the log of its mean: every step multiplies a Gaussian by one, and moves it affinely."""
    (mean, cov), log_mass, d = start, 0.0, means.shape[1]
    for u, beta, h in zip(us, betas, hs, strict=True):
        m, S = noised(means, covs, u)
        P = np.linalg.inv(S)
        r = np.einsum("kij,kj->ki", P, m)
        mean_P, mean_r = np.einsum("k,kij->ij", weights, P), weights @ r
        A = np.einsum("k,kij,kjl->il", weights, P, P) - mean_P @ mean_P
        b = np.einsum("k,kij,kj->i", weights, P, r) - mean_P @ mean_r
        c = weights @ np.sum(r**2, axis=1) - mean_r @ mean_r
        rate = power * h * beta  # the weight is exp(-rate/2 (x A x - 2 b x + c))
        tilted = np.linalg.inv(np.linalg.inv(cov) + rate * A)
        moved = tilted @ (np.linalg.solve(cov, mean) + rate * b)
        log_mass += 0.5 * (np.linalg.slogdet(tilted)[1] - np.linalg.slogdet(cov)[1] + moved @ np.linalg.solve(tilted, moved) - mean @ np.linalg.solve(cov, mean) - rate * c)
        M = np.eye(d) + h * beta / 2 * (np.eye(d) - (1 + eta**2) * mean_P)
        mean, cov = M @ moved + h * beta * (1 + eta**2) / 2 * mean_r, M @ tilted @ M.T + eta**2 * h * beta * np.eye(d)
    return mean, cov, log_mass


def unit_run(n, **options):
    """On the process of unit rate in n steps, from the log pool of the noised members."""
    times = np.linspace(1.0, 0.0, n + 1)
    start = log_pool(*noised(MEANS, COVS, np.exp(-1.0)), WEIGHTS)[:2]
    return exact(MEANS, COVS, WEIGHTS, np.exp(-times[:-1]), np.ones(n), np.full(n, 1 / n), start, **options)


def vp_run(n, **options):
    """Of the table's members on Song's schedule in n quadratic steps, from N(0, 1)."""
    times = np.linspace(1.0, 0.0, n + 1) ** 2
    us, betas = np.exp(-0.1 * times - 9.95 * times**2)[:-1], (0.1 + 19.9 * times)[:-1]
    return exact(*PAIR, us, betas, -np.diff(times), (np.zeros(1), np.eye(1)), **options)


def moments(x):
    return jnp.concatenate([x, jnp.outer(x, x).ravel()])


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0])
def test_weighted_particles_tend_to_the_log_pool_whatever_the_churn(eta):
    """Exactly, at order 1 in the step, at a finite horizon; the mean weight to the ratio of normalisers."""
    mean, cov, log_z = log_pool(MEANS, COVS, WEIGHTS)
    log_z -= log_pool(*noised(MEANS, COVS, np.exp(-1.0)), WEIGHTS)[2]
    errors = [max(np.max(np.abs(m - mean)), np.max(np.abs(C - cov)), abs(mass - log_z)) for m, C, mass in (unit_run(n, eta=eta) for n in (100, 400))]
    assert errors[1] < 0.02
    assert np.log(errors[0] / errors[1]) / np.log(4) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("eta", "below"), [(1.0, 0.0), (1.0, 0.9), (0.5, 0.9), (0.0, 0.0)])
def test_simulated_particles_are_those_of_the_recursion(eta, below):
    """Weighted mean, second moments and log-normaliser with and without resampling; without the weights the moments are far off."""
    start = et.Gaussian(*log_pool(*noised(MEANS, COVS, np.exp(-1.0)), WEIGHTS)[:2])
    sampler = Sampler(UNIT, SCORES, EulerMaruyama(jnp.asarray(eta)), np.linspace(1.0, 0.0, 65))
    sample = FeynmanKac(sampler, below).sample(KEY, 8192, start)
    mean, cov, log_mass = unit_run(64, eta=eta)
    truth = np.concatenate([mean, (cov + np.outer(mean, mean)).ravel()])
    estimate = sample.expectation(moments)
    assert_within_errors(estimate.value, estimate.error, truth)
    assert_within_errors(sample.log_normaliser.value, sample.log_normaliser.error, log_mass)
    assert (np.ptp(np.asarray(sample.effective_sizes)[1:] / 256, axis=0) > 0).all()
    if not below:
        plain = np.asarray(jax.vmap(moments)(sample.points))
        assert np.max(np.abs(plain.mean(0) - truth) / plain.std(0) * np.sqrt(8192)) > 10
        assert float(sample.effective_size) < 0.9 * 8192


def test_weights_fall_at_the_diversity_in_the_metric_of_the_noise():
    """For matrices F and G, from the members' exact scores."""
    G, x = np.array([[1.0, 0.3], [0.0, 0.7]]), np.array([[0.2, -0.4], [1.5, 0.3]])
    process = et.processes.LinearSde([[-0.5, 0.8], [-0.2, -1.0]], G)
    scores = [process.score(law) for law in LAWS]
    corrected = FeynmanKac(Sampler(process, et.MeanField(scores, WEIGHTS), EulerMaruyama(), [1.0, 0.0]))
    rate, (first, second) = jax.jit(lambda t: (corrected._rate(t, jnp.asarray(x)), [score.batch(t, jnp.asarray(x)) for score in scores]))(jnp.asarray(0.4))
    np.testing.assert_allclose(rate, WEIGHTS.prod() * np.sum(((np.asarray(first) - np.asarray(second)) @ G) ** 2, axis=1), rtol=1e-12)


def test_numbers_of_the_theory():
    """Variances .25 and 4: unweighted G^2/L, weighted H, log mean weight log Z_0, effective size; by the recursion refined, and by simulation."""
    (_, plain, _), (_, weighted, log_mass), (_, _, log_square) = (
        [2 * np.asarray(fine) - coarse for fine, coarse in zip(vp_run(600, power=power), vp_run(300, power=power), strict=True)] for power in (0, 1, 2)
    )
    assert plain[0, 0] == pytest.approx(16 / 15 * np.log(2), abs=2e-5)  # .73936
    assert weighted[0, 0] == pytest.approx(8 / 17, abs=2e-5)
    assert log_mass == pytest.approx(0.5 * np.log(8 / 17), abs=2e-5)  # -.37689
    assert np.exp(2 * log_mass - log_square) == pytest.approx(0.896, abs=5e-4)
    scores = et.MeanField([VP.score(et.Gaussian(np.zeros(2), np.diag([s, 1.0]))) for s in (0.25, 4.0)], [0.5, 0.5])  # in the plane, for the program of the test above
    sampler = Sampler(VP, scores, EulerMaruyama(jnp.asarray(1.0)), np.linspace(1.0, 0.0, 65) ** 2)
    sample = FeynmanKac(sampler, 0.0).sample(KEY, 8192, et.Gaussian(np.zeros(2), np.eye(2)))
    _, weighted, log_mass = vp_run(64)
    estimate = sample.expectation(moments)
    assert_within_errors(estimate.value[2], estimate.error[2], weighted[0, 0])
    assert_within_errors(sample.log_normaliser.value, sample.log_normaliser.error, log_mass)
    assert float(sample.effective_size) / 8192 == pytest.approx(np.exp(2 * log_mass - vp_run(64, power=2)[2]), abs=0.01)
    draws = np.asarray(sample.points)[:, 0]
    assert_within_errors(np.mean(draws**2), np.std(draws**2) / np.sqrt(8192), vp_run(64, power=0)[1][0, 0])


def test_starting_elsewhere_moves_expectations_by_at_most_the_distance_of_the_starts():
    """At a finite horizon and from N(0, I): the mean weight moves by at most the L1 distance of the two Gaussians, which is at most the root of twice their divergence."""
    n, times = 400, np.linspace(1.0, 0.0, 401)
    mean, cov, _ = log_pool(*noised(MEANS, COVS, np.exp(-1.0)), WEIGHTS)
    masses = [np.exp(exact(MEANS, COVS, WEIGHTS, np.exp(-times[:-1]), np.ones(n), np.full(n, 1 / n), start)[2]) for start in ((mean, cov), (np.zeros(2), np.eye(2)))]
    divergence = 0.5 * (np.trace(cov) + mean @ mean - 2 - np.linalg.slogdet(cov)[1])
    assert 0.001 < abs(masses[0] - masses[1]) < np.sqrt(2 * divergence)


def test_resampling_is_systematic_and_keeps_the_mean_weight():
    logs = np.log(np.random.default_rng(0).exponential(size=64)) - 700.0
    places = jnp.asarray(np.random.default_rng(1).uniform(size=4000))
    run = jax.jit(jax.vmap(_resampled, (0, None, None)))
    chosen, after = map(np.asarray, run(places, jnp.asarray(logs), jnp.asarray(1.0)))
    shares = np.exp(logs - logs.max()) / np.sum(np.exp(logs - logs.max()))
    counts = np.stack([np.bincount(row, minlength=64) for row in chosen])
    assert np.all((counts >= np.floor(64 * shares)) & (counts <= np.ceil(64 * shares)))
    spread = counts.std(0)
    assert np.all(np.abs(counts.mean(0) - 64 * shares) <= 5 * spread / np.sqrt(4000) + 1e-12)
    np.testing.assert_allclose(after, np.log(np.mean(np.exp(logs + 700.0))) - 700.0, rtol=1e-14)
    same, kept = run(places, jnp.asarray(logs), jnp.asarray(0.0))
    np.testing.assert_array_equal(same[0], np.arange(64))
    np.testing.assert_array_equal(kept[0], logs)


def test_estimates_and_errors_are_those_of_independent_batches():
    rng = np.random.default_rng(1)
    x, logs = rng.normal(size=(64, 2)), rng.normal(size=64) - 1000.0
    sample = WeightedSample(jnp.asarray(x), jnp.asarray(logs), jnp.ones((1, 4)))
    w = np.exp(logs + 1000.0).reshape(4, 16)
    masses = w.mean(1)
    assert float(sample.log_normaliser) == pytest.approx(np.log(masses.mean()) - 1000.0, rel=1e-14)
    assert float(sample.log_normaliser.error) == pytest.approx(masses.std(ddof=1) / 2 / masses.mean(), rel=1e-12)
    assert float(sample.effective_size) == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-12)
    integrals = np.einsum("bi,bij->bj", w, x.reshape(4, 16, 2)) / 16
    mean = integrals.mean(0) / masses.mean()
    estimate = sample.expectation(moments)
    np.testing.assert_allclose(estimate.value[:2], mean, rtol=1e-12)
    np.testing.assert_allclose(estimate.error[:2], (integrals - np.outer(masses, mean)).std(0, ddof=1) / 2 / masses.mean(), rtol=1e-12)


def test_langevin_corrections_tend_to_the_log_pool():
    """With more and more corrections of length h the law tends, at order 1, to their invariant law (P - h P^2/2)^{-1}, which is h/2 I + O(h^2) off the log pool."""
    h, counts = 0.05, (64, 256)
    grids = np.stack([np.concatenate([np.ones(256 - n), np.linspace(1.0, 0.0, n + 1)]) for n in counts])
    run = jax.jit(jax.vmap(lambda grid: Sampler(UNIT, SCORES, LangevinCorrector(EulerMaruyama(), h), grid).kernel(2)))(grids)
    A = np.asarray(run.A)
    covs, means = A @ np.swapaxes(A, 1, 2) + np.asarray(run.C.matrix), np.asarray(run.b)  # begun at N(0, I)
    mean, pool, _ = log_pool(MEANS, COVS, WEIGHTS)
    P = np.linalg.inv(pool)
    invariant = np.linalg.inv(P - h / 2 * P @ P)
    errors = np.max(np.abs(covs - invariant), axis=(1, 2)) + np.max(np.abs(means - mean), axis=1)
    assert errors[1] < 0.1
    assert np.log(errors[0] / errors[1]) / np.log(4) == pytest.approx(1, abs=0.2)
    np.testing.assert_allclose(invariant - pool - h / 2 * np.eye(2), h**2 / 4 * P, atol=1.1 * h**3 / 8 * np.linalg.norm(P, 2) ** 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FeynmanKac(Sampler(UNIT, SCORES.fields[0], EulerMaruyama(), [1.0, 0.0])), "`sampler`.*MeanField"),
        (lambda: FeynmanKac(Sampler(UNIT, et.MeanField([UNIT.velocity(LAWS[0])]), et.samplers.Heun(), [1.0, 0.0])), "`sampler`.*Heun"),
        (lambda: FeynmanKac(Sampler(UNIT, SCORES, EulerMaruyama(), [1.0, 0.0]), 1.5), "`resample_below`.*from 0 to 1"),
        (lambda: FeynmanKac(Sampler(UNIT, SCORES, EulerMaruyama(), [1.0, 0.0]), batches=1), "`batches`.*at least 2"),
        (lambda: FeynmanKac(Sampler(UNIT, SCORES, EulerMaruyama(), [1.0, 0.0])).sample(KEY, 40, et.standard_normal(2)), "`n`.*multiple of 32"),
        (lambda: FeynmanKac(Sampler(UNIT, SCORES, EulerMaruyama(), [1.0, 0.0])).sample(KEY, 64, et.standard_normal(3)), r"`field`.*\(3,\)"),
        (lambda: WeightedSample(jnp.zeros((6, 1)), jnp.zeros(6), jnp.ones((2, 4))), "`effective_sizes`.*equal size"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()
