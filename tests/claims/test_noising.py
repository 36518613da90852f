"""Claims about added noise: quadrature and closed forms in NumPy and SciPy, mutants violated by hand, and the cure of blindness to its digits."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from scipy.special import logsumexp
from scipy.stats import norm

from ensembletheory.divergences import fisher_divergence, kl
from ensembletheory.laws import GaussianMixture
from ensembletheory.processes import VariancePreserving
from tests.claims.margins import all_mutants, assert_violated_as_said


def signal2(t, rates):
    return np.exp(-(rates[0] * t + (rates[1] - rates[0]) * t**2 / 2))


def beta(t, rates):
    return rates[0] + (rates[1] - rates[0]) * t


def noised(law, u):
    """Weights, means and variances of a mixture where a^2 = u."""
    w, m, S = map(np.asarray, law)
    return w, np.sqrt(u) * m, 1 + u * (S - 1)


def log_terms(x, law):
    w, m, S = law
    return np.log(w)[:, None] - 0.5 * np.log(2 * np.pi * S)[:, None] - (x[None, :] - m[:, None]) ** 2 / (2 * S)[:, None]


def log_density(x, law):
    return logsumexp(log_terms(x, law), axis=0)


def score(x, law):
    terms = log_terms(x, law)
    return np.sum(np.exp(terms - logsumexp(terms, axis=0)) * (law[1][:, None] - x[None, :]) / law[2][:, None], axis=0)


X = np.linspace(-40, 40, 40_001)


def mean(values, law):
    """E f by the trapezoid rule, which is exact to rounding for densities wide against the grid."""
    return np.trapezoid(np.exp(log_density(X, law)) * values, X)


def plain_kl(p, q):
    return mean(log_density(X, p) - log_density(X, q), p)


def plain_fisher(p, q):
    return mean((score(X, p) - score(X, q)) ** 2, p)


def posterior_moments(law, u):
    """E Sigma and E Sigma^2 of a mixture on the line observed where a^2 = u."""
    _, m, S = map(np.asarray, law)
    seen = noised(law, u)
    terms = log_terms(X, seen)
    r = np.exp(terms - logsumexp(terms, axis=0))
    centres = m[:, None] + (np.sqrt(u) * S / seen[2])[:, None] * (X[None, :] - seen[1][:, None])
    variance = np.sum(r * ((S * (1 - u) / seen[2])[:, None] + centres**2), axis=0) - np.sum(r * centres, axis=0) ** 2
    return mean(variance, seen), mean(variance**2, seen)


def law_of(instance, prefix=""):
    return tuple(np.asarray(instance[prefix + name], dtype=float) for name in ("weights", "means", "variances"))


def localised(instance, factor, squared_mean):
    """The margin, with the rate of E Sigma replaced by E Sigma^2 over the scale, and Sigma in the plane by its precision."""
    u = signal2(instance["time"], instance["rates"])
    first, second = posterior_moments(law_of(instance), u)
    Sigma = np.linalg.inv(np.linalg.inv(instance["cov"]) + u / (1 - u) * np.eye(2))
    off = abs(factor * second - (first**2 if squared_mean else second)) / (1 + second)
    return -off - abs(factor - 1) * np.max(abs(Sigma @ Sigma)) / (1 + np.max(abs(Sigma)) ** 2)


STANDARD = (np.ones(1), np.zeros(1), np.ones(1))


def decayed(instance, rate, target, centred):
    w, m, S = law_of(instance)
    law, g = (w, np.zeros(2) if centred else m, S), (np.ones(1), np.zeros(1), np.full(1, target))
    return np.exp(-rate * instance["time"]) * plain_kl(law, g) - plain_kl(noised(law, np.exp(-2 * instance["time"])), g)


def gaussian_kl(m, S, n, R):
    return 0.5 * (np.trace(np.linalg.solve(R, S)) - len(m) + np.log(np.linalg.det(R) / np.linalg.det(S)) + (m - n) @ np.linalg.solve(R, m - n))


def ends(instance):
    """KL at both ends of time."""
    u = signal2(1.0, instance["rates"])
    both = [(instance[prefix + "mean"], instance[prefix + "cov"]) for prefix in ("", "other_")]
    (m, S), (n, R) = both
    (a, C), (b, D) = ((np.sqrt(u) * mean, u * cov + (1 - u) * np.eye(2)) for mean, cov in both)
    return gaussian_kl(m, S, n, R), gaussian_kl(a, C, b, D)


def without_the_end(instance):
    whole, last = ends(instance)
    return -last / (1 + whole)


def without_the_half(instance):
    whole, last = ends(instance)
    return -(whole - last) / (1 + whole)


def other_way_round(instance):
    u, half = signal2(instance["time"], instance["rates"]), beta(instance["time"], instance["rates"]) / 2
    p, q = (noised(law_of(instance, prefix), u) for prefix in ("", "other_"))
    return -half * abs(plain_fisher(p, q) - plain_fisher(q, p)) / (1 + half * plain_fisher(q, p))


MODES = {"weights": np.array([0.3, 0.7]), "means": np.array([-2.0, 1.0]), "variances": np.array([0.25, 0.5])}
OTHERS = {"other_weights": np.array([0.6, 0.4]), "other_means": np.array([0.0, 2.0]), "other_variances": np.array([2.0, 0.5])}
RATES = {"rates": np.array([0.5, 3.0])}
LOCALISED = MODES | RATES | {"cov": np.array([[4.0, 1.0], [1.0, 0.5]]), "time": 0.4}
PAIR = RATES | {
    "mean": np.array([1.0, 0.0]),
    "cov": np.array([[1.0, 0.5], [0.5, 2.0]]),
    "other_mean": np.array([-0.5, 1.0]),
    "other_cov": np.array([[2.0, 0.0], [0.0, 0.5]]),
}
SHIFTED = {"weights": np.array([0.25, 0.75]), "means": np.array([1.0, 1.0]), "variances": np.array([1.0, 1.0]), "time": 1.0}
CENTRED = SHIFTED | {"means": np.array([0.0, 0.0]), "variances": np.array([4.0, 4.0])}
MUTANTS = {
    ("stochastic-localisation", "twice"): (LOCALISED, lambda instance: localised(instance, 2.0, False)),
    ("stochastic-localisation", "square-of-the-mean"): (LOCALISED, lambda instance: localised(instance, 1.0, True)),
    ("kl-decay-along-ou", "faster"): (SHIFTED, lambda instance: decayed(instance, 2.1, 1.0, False)),
    ("kl-decay-along-ou", "centred"): (CENTRED, lambda instance: decayed(instance, 4.0, 1.0, True)),
    ("kl-decay-along-ou", "wider-target"): (CENTRED | {"variances": np.array([2.0, 2.0])}, lambda instance: decayed(instance, 2.0, 2.0, False)),
    ("de-bruijn", "without-the-end"): (PAIR, without_the_end),
    ("de-bruijn", "without-the-half"): (PAIR, without_the_half),
    ("de-bruijn-rate", "other-way-round"): (MODES | OTHERS | RATES | {"time": 0.3}, other_way_round),
}


def test_every_mutant_is_here():
    assert set(MUTANTS) == all_mutants({id for id, _ in MUTANTS})


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated_by_as_much_as_the_second_route_says(id, name):
    """The margin of an identity is 0 by either route; that of its mutants tells whether it computes what it says."""
    assert_violated_as_said(id, name, *MUTANTS[id, name], rel=1e-7)


def test_localisation_by_differences():
    """The slope of E Sigma in 1/s^2, by central differences of the trapezoid rule, is -E Sigma^2."""
    law, u, step = law_of(MODES), 0.4, 1e-4
    low, high = (1 / (1 + 1 / (u / (1 - u) + sign * step)) for sign in (-1, 1))  # a^2 where a^2 / s^2 is off by one step
    slope = (posterior_moments(law, high)[0] - posterior_moments(law, low)[0]) / (2 * step)
    assert slope == pytest.approx(-posterior_moments(law, u)[1], rel=1e-6)


@pytest.mark.parametrize(("t", "after", "bound"), [(1.0, 0.0326264, 0.1091957), (2.0, 7.28233e-4, 0.0147780)])
def test_decay_of_a_centred_gaussian(t, after, bound):
    """Of N(0, 4): below e^{-2t} of its first KL, above e^{-4t}, at which rate it falls in the end."""
    law = (np.ones(1), np.zeros(1), np.full(1, 4.0))
    first, found = plain_kl(law, STANDARD), plain_kl(noised(law, np.exp(-2 * t)), STANDARD)
    assert found == pytest.approx(after, rel=2e-6)
    assert np.exp(-2 * t) * first == pytest.approx(bound, abs=5e-8)
    assert np.exp(-4 * t) * first < found < np.exp(-2 * t) * first


VP = (0.1, 20.0)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(32)
EDGES = np.array([0.0, 0.2, 0.5, 1.0])
TIMES = np.concatenate([a + (b - a) * (NODES + 1) / 2 for a, b in pairwise(EDGES)])
STEPS = np.concatenate([(b - a) * WEIGHTS / 2 for a, b in pairwise(EDGES)])


def modes(m, weight):
    return np.array([weight, 1 - weight]), np.array([m, -m]), np.ones(2)


@pytest.fixture(scope="module")
def cured():
    """Fisher divergences at the given times with their errors, and KL at the last and at the first time, of two weights of N(m, 1) and N(-m, 1)."""
    path = VariancePreserving(*VP)

    def pair(m, t):
        return [path.marginal(GaussianMixture(jnp.asarray([w, 1 - w]), jnp.stack([m, -m])[:, None], jnp.ones((2, 1))), t) for w in (0.5, 0.2)]

    fishers = jax.jit(jax.vmap(lambda m, t: fisher_divergence(*pair(m, t)), (None, 0)))
    kls = jax.jit(jax.vmap(lambda m, t: kl(*pair(m, t)).value, (None, 0)))

    def computed(m):
        found = fishers(jnp.asarray(m), jnp.asarray(TIMES))
        return np.asarray(found.value), np.asarray(found.error), np.asarray(kls(jnp.asarray(m), jnp.asarray([1.0, 0.0])))

    return computed


@pytest.mark.parametrize(("m", "recovered", "left", "blind"), [(4.0, 0.2229948247, 1.2434e-4, 4.114145e-4), (6.0, 0.2228639072, 2.7964e-4, 2.835358e-8)])
def test_diffusion_cures_blindness(cured, m, recovered, left, blind):
    """The Fisher divergence of the data sees nothing of weights .5 and .2 of modes at m and -m; that of all noise levels recovers log(5/2)/2 + log(5/8)/2 = 0.22314."""
    fishers, _, (last, first) = cured(m)
    found = STEPS @ (beta(TIMES, VP) / 2 * fishers)
    assert found == pytest.approx(recovered, abs=5e-11)
    assert last == pytest.approx(left, rel=5e-5)
    assert found + last == pytest.approx(first, abs=1e-10)
    assert plain_fisher(modes(m, 0.5), modes(m, 0.2)) == pytest.approx(blind, rel=2e-7)


@pytest.mark.parametrize("m", [4.0, 6.0])
def test_the_cure_by_the_second_route(cured, m):
    fishers, errors, (last, first) = cured(m)
    some = slice(None, None, 12)
    plain = [plain_fisher(noised(modes(m, 0.5), signal2(t, VP)), noised(modes(m, 0.2), signal2(t, VP))) for t in TIMES[some]]
    assert np.all(abs(fishers[some] - plain) <= errors[some] + 1e-10 * np.asarray(plain))
    assert np.max(errors) < 1e-5  # 16 points against 8, which are many digits worse
    assert plain_kl(modes(m, 0.5), modes(m, 0.2)) == pytest.approx(first, abs=1e-12)
    u = signal2(1.0, VP)
    assert plain_kl(noised(modes(m, 0.5), u), noised(modes(m, 0.2), u)) == pytest.approx(last, rel=1e-9)


def test_the_trapezoid_rule_agrees_with_adaptive_quadrature():
    law = law_of(MODES)
    found = integrate.quad(lambda x: np.exp(log_density(np.array([x]), law)[0]) * norm.logpdf(x), -12, 12, epsabs=1e-13, limit=200, points=[-2.0, 1.0])[0]
    assert mean(norm.logpdf(X), law) == pytest.approx(found, abs=1e-12)
