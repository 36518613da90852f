"""Event times: against roots of integrals by SciPy for all signs of rate and slope, and by tests of Kolmogorov and Smirnov whose level and power are known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize

from ensembletheory.processes.pdmp import event_time, hazard, survival
from ensembletheory.processes.pdmp.event_times import spent, wait
from tests.processes.ks import assert_ks, critical, distance, power

# where the line begins and how it grows, and what is added: both signs of each, the line that touches 0, none at all
RATES = [(0.7, 1.3, 0.0), (-0.7, 1.3, 0.0), (0.0, 1.3, 0.0), (1.5, -0.6, 0.0), (0.8, -0.6, 0.0), (0.9, 0.0, 0.0), (-0.9, 0.0, 0.0), (-0.3, -0.5, 0.0), (0.0, -1.0, 0.0)]
ADDED = [(a, b, 0.4) for a, b, _ in RATES]
CASES = RATES + ADDED


def plain_rate(s, a, b, c):
    return np.maximum(a + b * s, 0) + c


def plain_hazard(s, a, b, c):
    """By quadrature of the rate, split where the line changes sign."""
    ends = [0.0, *([min(-a / b, s)] if b and -a / b > 0 else []), s]
    return sum(integrate.quad(plain_rate, low, high, args=(a, b, c), epsabs=1e-13)[0] for low, high in itertools.pairwise(ends))


def plain_time(energy, a, b, c):
    """By bisection; inf where the hazard of 1e6 units of time is not enough."""
    return optimize.brentq(lambda s: plain_hazard(s, a, b, c) - energy, 0, 1e6, xtol=1e-17, rtol=1e-15) if plain_hazard(1e6, a, b, c) > energy else np.inf


TABLE = np.array(CASES)[:, :, None]
ENERGIES, TIMES = np.array([1e-6, 0.05, 0.3, 0.9, 2.5]), np.array([0.0, 0.2, 0.6, 1.7, 4.0])


def test_event_times_are_where_the_hazard_reaches_the_energy():
    found = event_time(TABLE[:, 0], TABLE[:, 1], ENERGIES, TABLE[:, 2])
    np.testing.assert_allclose(found, [[plain_time(energy, *case) for energy in ENERGIES] for case in CASES], rtol=1e-9)
    assert np.sum(np.isinf(found)) == 18
    bare = jax.jit(wait)(*np.broadcast_arrays(TABLE[:9, 0], TABLE[:9, 1], ENERGIES))
    np.testing.assert_allclose(bare, found[:9], rtol=1e-14)


def test_hazard_is_the_integral_of_the_rate():
    found = hazard(TABLE[:, 0], TABLE[:, 1], TIMES, TABLE[:, 2])
    plain = np.array([[plain_hazard(s, *case) for s in TIMES] for case in CASES])
    np.testing.assert_allclose(found, plain, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(survival(TABLE[:, 0], TABLE[:, 1], TIMES, TABLE[:, 2]), np.exp(-plain), rtol=1e-12)


def test_little_slopes_do_not_cancel():
    """For beta -> 0 the time tends to E / alpha; the difference of roots would be left with no digit."""
    found = event_time([0.8, 0.8, 0.8, -1e-9, 1e-200], [1e-14, -1e-14, 1e-300, 1e-3, 0.0], [0.3, 0.3, 0.3, 1e-12, 0.3])
    np.testing.assert_allclose(found, [0.375, 0.375, 0.375, 1e-6 + np.sqrt(2e-9), 3e199], rtol=1e-13)
    np.testing.assert_allclose(hazard([1e-200, -1e-200], [0.0, 1e-200], [3e199, 3.0]), [0.3, 2e-200], rtol=1e-13)


def test_event_times_and_hazards_can_be_differentiated():
    """Where the clock rings and nothing is on an edge: by central differences of the second route."""
    inside = [(*case[:2], 0.3, case[2]) for case in CASES if 0 not in case[:2] and np.isfinite(plain_time(0.3, *case))]
    points, steps = np.array(inside), 1e-6 * np.eye(4)[:3]
    slopes = jax.jit(jax.vmap(jax.grad(lambda p: wait(p[0], p[1], p[2], p[3]))))(points)
    plain = [[(plain_time(up[2], *up[:2], up[3]) - plain_time(down[2], *down[:2], down[3])) / 2e-6 for up, down in zip(p + steps, p - steps, strict=True)] for p in points]
    np.testing.assert_allclose(slopes[:, :3], plain, rtol=1e-5, atol=1e-6)
    assert len(points) == 9
    assert jax.jit(jax.grad(lambda s: spent(jnp.asarray(-0.3), jnp.asarray(0.5), s)))(2.0) == pytest.approx(0.7)


N = 20_000


def cdf_of(a, b, c):
    """1 - exp(-hazard), with the hazard interpolated from the trapezoid rule on a fine grid."""
    grid = np.append(np.linspace(0, 30, 300_001), np.finfo(float).max)
    rate = plain_rate(grid[:-1], a, b, c)
    total = np.append(0, np.cumsum((rate[1:] + rate[:-1]) / 2 * 1e-4))
    return lambda s: -np.expm1(-np.interp(np.minimum(s, 30.0), grid[:-1], total))


MISTAKES = {"no positive part": lambda a, b, c: (abs(a), b, c), "no slope": lambda a, b, c: (a, 0.0, c), "twice the slope": lambda a, b, c: (a, 2 * b, c)}


@pytest.mark.parametrize("case", [(-0.7, 1.3, 0.0), (1.5, -0.6, 0.0), (0.8, -0.6, 0.4)], ids=["grows", "dies", "refreshed"])
def test_survival_by_kolmogorov_and_smirnov(case):
    """At level 1e-4, with a power of at least 0.9999 against the mistakes above that change the law at all."""
    a, b, c = case
    energies = np.random.default_rng(5).exponential(size=N)
    draws = np.asarray(event_time(a, b, energies, c))
    assert_ks(draws, cdf_of(*case))
    s = np.linspace(0, 30, 3001)
    for mistake in MISTAKES.values():
        other = mistake(*case)
        gap = np.max(abs(cdf_of(*case)(s) - cdf_of(*other)(s)))
        if other != case:
            assert power(N, gap) > 0.9999
            assert distance(draws, cdf_of(*other)) > critical(N)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="`constant`: got -0.1; expected rates >= 0"):
        event_time(1.0, 1.0, 1.0, -0.1)
    with pytest.raises(ValueError, match="`energy`: got 0; expected positive"):
        event_time(1.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="`s`: got -1"):
        hazard(1.0, 1.0, -1.0)
    with pytest.raises(ValueError, match="`alpha`"):
        event_time(np.nan, 1.0, 1.0)
