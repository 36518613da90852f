"""Reversed jump processes: tables of the zig-zag against the telegraph process and simulation, refreshed mixtures against equations of moments, splittings, ratio matching."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, optimize, stats

from ensembletheory.laws import Gaussian, GaussianMixture, standard_normal
from ensembletheory.processes import BouncyParticle, RandomisedHmc, Telegraph, ZigZag
from ensembletheory.processes.pdmp import (
    RefreshedMixture,
    ReverseBounces,
    ReverseFlips,
    ReverseRefreshments,
    ZigZagTables,
    least_loss,
    ratio_matching_loss,
    stationary_ratios,
    transported,
)
from ensembletheory.processes.pdmp.ratio_matching import least_loss_on_the_line, loss_on_the_line, pair_least_loss, pair_loss, pair_minimiser
from ensembletheory.samplers import JumpSampler
from tests.helpers import assert_mean, assert_within_errors
from tests.laws.kac_by_hand import smoothed_on

LINE = GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [[0.16], [0.09]])
C, A, T = 3.0, 9.0, 0.5


@eqx.filter_jit
def at(function, *arguments):
    return function(*map(jnp.asarray, arguments))


def test_characteristics_of_constant_rates_are_the_telegraph_process():
    """Second order in the step, and mass conserved to rounding."""
    errors = []
    for points in (601, 1201):
        x = np.linspace(-6, 6, points)
        cell = x[1] - x[0]
        start = np.exp(-((x - 0.2) ** 2) / 0.32) / np.sqrt(0.32 * np.pi) / 2
        steps = round(C * T / cell)
        found = np.asarray(_transported(np.full((2, points), A), np.stack([start, start]), cell / C, steps))
        assert abs(found.sum() - 2 * start.sum()) < 1e-12 / cell
        errors.append(np.max(np.abs(found - smoothed_on(C, A, T, x - 0.2, 0.4))))
    assert errors[1] < 2e-4
    assert 3.9 < errors[0] / errors[1] < 4.1


_transported = jax.jit(transported)


def test_tables_of_the_zig_zag_are_the_law_of_its_paths():
    """Masses of place and velocity in cells at time 1, of simulated paths, in units of standard errors; at time 8 the law has forgotten its start."""
    process = ZigZag(standard_normal(1), 0.5, 8.0)
    tables = ZigZagTables(process, LINE, [8.0, 1.0], points=1601)
    simulated = process.simulate(jax.random.key(0), 10_000, LINE, 1.0)
    x, v = np.asarray(simulated.positions)[:, 0], np.asarray(simulated.velocities)[:, 0]
    grid, densities = np.asarray(tables.grid), np.exp(np.asarray(tables.log_densities))
    mixed = densities[1, np.asarray(tables.which)[:, 0]].T @ np.asarray(LINE.weights)
    cell = grid[1] - grid[0]
    for low, high in ((-4, -0.8), (-0.8, 0.1), (0.1, 1.1), (1.1, 4)):
        for index, sign in enumerate((1, -1)):
            mass = np.interp([low, high], grid + cell / 2, np.cumsum(mixed[:, index]) * cell)
            assert_mean((x > low) & (x < high) & (v == sign), mass[1] - mass[0])
    rested = densities[0, np.asarray(tables.which)[:, 0]].T @ np.asarray(LINE.weights)
    np.testing.assert_allclose(rested, stats.norm.pdf(grid)[:, None] / 2 * np.ones(2), atol=4e-3)
    place = grid[730:733].mean(keepdims=True) + 0.3 * cell
    ratio = float(at(tables, 1.0, place, np.ones(1))[0])
    assert ratio == pytest.approx(np.interp(place[0], grid, mixed[:, 1] / mixed[:, 0]), rel=1e-3)
    assert at(tables.log_joint, 1.0, place, -np.ones(1)) == pytest.approx(np.log(np.interp(place[0], grid, mixed[:, 1])), abs=1e-3)
    assert at(ReverseFlips(process, tables).rates, 1.0, place, np.ones(1))[0] == pytest.approx(ratio * (max(-place[0], 0) + 0.5), rel=1e-12)


def moments(refreshment, variance, mean, t, degree):
    """E x^a v^b, a + b = degree or less by an even number, of randomised HMC on N(0, 1): linear equations of moments."""
    powers = [(a, b) for total in range(degree % 2, degree + 1, 2) for a in range(total, -1, -1) for b in [total - a]]
    index = {power: i for i, power in enumerate(powers)}
    generator = np.zeros((len(powers), len(powers)))
    for (a, b), i in index.items():
        if a:
            generator[i, index[a - 1, b + 1]] += a
        if b:
            generator[i, index[a + 1, b - 1]] -= b
        generator[i, i] -= refreshment
        if b % 2 == 0:
            generator[i, index[a, 0]] += refreshment * stats.norm.moment(b)
    start = [stats.norm(mean, np.sqrt(variance)).moment(a) * stats.norm.moment(b) if a else stats.norm.moment(b) for a, b in powers]
    return dict(zip(powers, linalg.expm(generator * t) @ start, strict=True))


PROCESS = RandomisedHmc(standard_normal(1), 1.0, 4.0)
REFRESHED = RefreshedMixture(jax.random.key(0), PROCESS, LINE, 400)


def test_refreshed_moments():
    """The numbers of the theory for N(0, 4) at time 2, and those of a mixture."""
    exact = moments(1.0, 4.0, 0.0, 2.0, 4)
    np.testing.assert_allclose([exact[2, 0], exact[1, 1], exact[0, 2], exact[4, 0] / exact[2, 0] ** 2], [1.3879496, -0.0268553, 1.9182111, 3.1427440], atol=5e-8)
    for law, parts in ((Gaussian([0.0], [[4.0]]), [(1.0, 0.0, 4.0)]), (LINE, [(0.3, -1.0, 0.16), (0.7, 1.0, 0.09)])):
        found = RefreshedMixture(jax.random.key(1), PROCESS, law, 400).second_moments(2.0)
        truth = [sum(w * moments(1.0, s2, m, 2.0, 2)[power] for w, m, s2 in parts) for power in ((2, 0), (1, 1), (0, 2))]
        assert_within_errors(np.asarray(found.value)[:, 0], np.asarray(found.error)[:, 0], truth)


def test_refreshed_densities_and_rates():
    """The mixture over the paths again, in SciPy; its fourth moment against the moments' equations; and draws of v given x."""
    t, x, v = 2.0, np.array([0.4]), np.array([-0.7])
    C_, g = map(np.asarray, at(REFRESHED.turned, t))
    joint, place = np.zeros(len(g)), np.zeros(len(g))
    for w, m, s2 in ((0.3, -1.0, 0.16), (0.7, 1.0, 0.09)):
        S = 1 + C_**2 * (s2 - 1)
        for i in range(len(g)):
            turn = np.array([[np.cos(g[i]), np.sin(g[i])], [-np.sin(g[i]), np.cos(g[i])]])
            cov, mean = turn @ np.diag([S[i], 1]) @ turn.T, turn @ [C_[i] * m, 0]
            gap, inverse = np.array([x[0], v[0]]) - mean, np.linalg.inv(cov)
            joint[i] += w * np.exp(-gap @ inverse @ gap / 2) / (2 * np.pi * np.sqrt(np.linalg.det(cov)))
            place[i] += w * stats.norm(mean[0], np.sqrt(cov[0, 0])).pdf(x[0])
    found = REFRESHED.joint_density(t, x, v)
    assert float(found.value) == pytest.approx(joint.mean(), rel=1e-10)
    assert float(found.error) == pytest.approx(joint.std(ddof=1) / np.sqrt(len(g)), rel=1e-8)
    assert float(REFRESHED.density(t, x).value) == pytest.approx(place.mean(), rel=1e-10)
    reverse = ReverseRefreshments(PROCESS, REFRESHED)
    assert at(reverse.rate, t, x, v) == pytest.approx(stats.norm.pdf(v[0]) * place.mean() / joint.mean(), rel=1e-10)
    drawn = np.asarray(at(jax.vmap(lambda key: REFRESHED.draw(key, jnp.asarray(t), jnp.asarray(x))), jax.random.split(jax.random.key(2), 1000)))
    centre, second = [], []
    for w, m, s2 in ((0.3, -1.0, 0.16), (0.7, 1.0, 0.09)):
        S = 1 + C_**2 * (s2 - 1)
        spread = S * np.cos(g) ** 2 + np.sin(g) ** 2
        share = w * stats.norm(C_ * m * np.cos(g), np.sqrt(spread)).pdf(x[0])
        mean = -C_ * m * np.sin(g) + (1 - S) * np.sin(g) * np.cos(g) / spread * (x[0] - C_ * m * np.cos(g))
        centre.append(share * mean)
        second.append(share * (mean**2 + S / spread))
    assert_mean(drawn, np.sum(centre) / place.sum())
    assert_mean(drawn**2, np.sum(second) / place.sum())


def test_the_reverse_of_randomised_hmc_returns_the_data():
    start = jax.random.normal(jax.random.key(3), (2, 400, 1))
    sampler = JumpSampler(ReverseRefreshments(PROCESS, REFRESHED), 4 * np.linspace(1, 0, 31) ** 2, "DRD")
    ends = np.asarray(sampler.run(jax.random.key(4), start[0], start[1])[0])[:, 0]
    assert_mean(ends > 0, 0.3 * stats.norm.sf(1 / 0.4) + 0.7 * stats.norm.cdf(1 / 0.3))
    assert_mean(ends**2, 0.3 * 1.16 + 0.7 * 1.09)


def test_stationary_laws_are_kept_backwards():
    """Zig-zag and bouncy particle in the plane, from their stationary laws: second moments, fourth moments, and no correlation with velocities."""
    key = jax.random.key(5)
    x, v = np.asarray(jax.random.normal(key, (2, 4000, 2)))
    target, grid = standard_normal(2), 2 * np.linspace(1, 0, 41)
    for reverse, word, velocities in (
        (ReverseFlips(ZigZag(target, 0.5, 2.0), stationary_ratios), "DJD", np.sign(v)),
        (ReverseBounces(BouncyParticle(target, 1.0, 2.0)), "RDBDR", v),
    ):
        sampler = JumpSampler(reverse, grid, word)
        ends, last = map(np.asarray, sampler.run(key, x, velocities))
        assert sampler.evaluations == 40 * (1 if word == "DJD" else 3)
        assert_mean(ends**2, 1)
        assert_mean(ends**4, 3)
        assert_mean(np.stack([ends[:, 0] * ends[:, 1], ends[:, 0] * last[:, 0], last[:, 0] * last[:, 1]], axis=1), 0)
        assert np.mean(last**2) == pytest.approx(1, abs=5 * np.sqrt(2 / last.size))
    paths = np.asarray(sampler.paths(key, x, velocities))
    np.testing.assert_array_equal(paths[:, 0], x)
    np.testing.assert_array_equal(paths[:, -1], ends)


def test_pairs_of_ratio_matching():
    """The least loss and its minimiser, by numerical minimisation over both ratios."""
    p = np.array([0.3, 0.05])

    def loss(logs):
        G = 1 / (1 + np.exp(logs))
        return p[0] * (G[0] ** 2 + G[1] ** 2 - 2 * G[0]) + p[1] * (G[1] ** 2 + G[0] ** 2 - 2 * G[1])

    best = optimize.minimize(loss, np.zeros(2), tol=1e-14)
    np.testing.assert_allclose(pair_minimiser(p), np.exp(best.x), rtol=1e-5)
    assert at(pair_least_loss, p) == pytest.approx(best.fun, abs=1e-12)
    assert at(pair_loss, p, pair_minimiser(p)) == pytest.approx(-(0.09 + 0.0025) / 0.35, abs=1e-16)
    assert at(pair_loss, p, [0.5, 2.0]) == pytest.approx(loss(np.log([0.5, 2.0])), abs=1e-15)


class Wrong(eqx.Module):
    noised: object
    power: jax.Array

    def __call__(self, x, v):
        return self.noised.turned_ratios(x, v) ** self.power


def test_ratio_matching_under_the_telegraph_process():
    """Loss and minimum by the trapezoid rule over densities by hand, and over draws within standard errors."""
    noised = Telegraph(C, A, 1.0).marginal(Gaussian([1.0], [[0.16]]), T)
    x = np.linspace(-5, 6, 2001)
    p = smoothed_on(C, A, T, x - 1, 0.4)

    def by_hand(power):
        G = 1 / (1 + (p[::-1] / p) ** power)
        return np.trapezoid(np.sum(p * (G**2 + G[::-1] ** 2 - 2 * G), axis=0), x)

    least = least_loss_on_the_line(noised)
    assert float(least) == pytest.approx(-np.trapezoid(np.sum(p**2, axis=0) / np.sum(p, axis=0), x), rel=1e-9)
    draws = noised.sample_with_velocity(jax.random.key(7), 100)
    guess = Wrong(noised, jnp.asarray(0.5))
    assert float(loss_on_the_line(guess, noised)) == pytest.approx(by_hand(0.5), rel=1e-9)
    drawn = ratio_matching_loss(guess, *draws)
    assert_within_errors(drawn.value, drawn.error, by_hand(0.5))
    assert by_hand(0.5) > by_hand(1.0) == pytest.approx(float(least), rel=1e-9)
    drawn = least_loss(Wrong(noised, jnp.asarray(1.0)), *draws)
    assert_within_errors(drawn.value, drawn.error, float(least))


def flips(grid, word):
    return JumpSampler(ReverseFlips(Telegraph(C, A, 1.0), stationary_ratios), grid, word)


CORRELATED = Gaussian([0.0, 0.0], [[1.0, 0.5], [0.5, 1.0]])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: flips([1.0, 0.0], "DJ"), "`word`: got 'DJ'; expected a palindrome of the letters D, J"),
        (lambda: flips([1.0, 0.0], "DRD"), "`word`: got 'DRD'"),
        (lambda: flips([0.0, 1.0], "DJD"), "`grid`: got times from 0 to 1"),
        (lambda: flips([1.0], "DJD"), r"`grid`: got shape \(1,\)"),
        (lambda: flips([1.0, 0.0], "DJD").run(jax.random.key(0), [[1.0]], [1.0]), "`velocities`"),
        (lambda: RefreshedMixture(jax.random.key(0), RandomisedHmc(CORRELATED), CORRELATED), "`process`: got a target of another covariance than I"),
        (lambda: RefreshedMixture(jax.random.key(0), PROCESS, standard_normal(2)), "`law`: got dimension 2"),
        (lambda: RefreshedMixture(jax.random.key(0), PROCESS, LINE, 1), "`paths`: got 1"),
        (lambda: ZigZagTables(ZigZag(CORRELATED), CORRELATED, [1.0]), "`process`: got a target with correlated coordinates"),
        (lambda: ZigZagTables(ZigZag(standard_normal(1)), LINE, [1.0], points=21), "`points`: got cells of 0.8 for a standard deviation of 0.3"),
        (lambda: ZigZagTables(ZigZag(standard_normal(2)), LINE, [1.0]), "`law`: got dimension 1"),
        (lambda: pair_loss([0.1, 0.2, 0.3], [1.0, 1.0]), "`masses`: got shape"),
        (lambda: pair_loss([0.1, -0.2], [1.0, 1.0]), "`masses`: got -0.2"),
        (lambda: least_loss(stationary_ratios, [[1.0]], [[1.0]]), "`v`: got shapes"),
        (lambda: least_loss_on_the_line(Telegraph(C, A, 1.0).marginal(standard_normal(2), T)), "`noised`: got dimension 2"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build()
