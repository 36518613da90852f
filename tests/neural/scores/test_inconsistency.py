"""Gains of inexact scores against closed forms of affine fields, which are scores of no laws, and against exact scores, for which the theorem holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from ensembletheory.fields import Field
from ensembletheory.laws import Gaussian, GaussianMixture
from ensembletheory.neural import inexact_gain, stack
from ensembletheory.pooling import averaged_flow
from ensembletheory.processes import VariancePreserving

PROCESS = VariancePreserving(1.0, 3.0)
GRID = np.linspace(1.0, 0.0, 25)
POINTS = np.linspace(-9.0, 9.0, 121)
NODES, SHARES = (part / 2 for part in np.polynomial.legendre.leggauss(40))


class Affine(Field):
    """The exact score of N(m, v), noised, less a x + b. If m = 0 and v = 1 the flow's velocity is (a x + b) du, u = int beta/2 dt = (t + t^2) / 2 from 0 to 1."""

    a: jax.Array
    b: jax.Array
    m: jax.Array
    v: jax.Array
    beta: jax.Array

    def __call__(self, t, x):
        """That score."""
        alpha = jnp.exp(-(self.beta[0] * t + (self.beta[1] - self.beta[0]) * t**2 / 2) / 2)
        return -(x - alpha * self.m) / (1 + alpha**2 * (self.v - 1)) - self.a * x - self.b


def affine(rates, offsets, means=(0.0, 0.0), variances=(1.0, 1.0), beta=(1.0, 3.0)):
    parts = zip(rates, offsets, means, variances, strict=True)
    return stack([Affine(*map(np.asarray, part), np.asarray(beta)) for part in parts])


def by_hand(rates, offsets, weights, mean, variance):
    """Gain, D, C, I and J. Lines (slope, offset) of x ~ N(mean, variance) have products of mean s s' E x^2 + (s o' + o s') E x + o o'."""
    a, b, w = map(np.asarray, (rates, offsets, weights))

    def flow(a, b, u):
        return np.exp(a * u), b * (np.expm1(a * u) / a if a else u)

    def product(f, g):
        return f[0] * g[0] * (mean**2 + variance) + (f[0] * g[1] + f[1] * g[0]) * mean + f[1] * g[1]

    def at(u):
        along = flow(w @ a, w @ b, u)
        scores = [(-(1 + r) * along[0], -(1 + r) * along[1] - o) for r, o in zip(a, b, strict=True)]
        own = [(-(scale**2) * along[0], -scale * (scale * along[1] + shift)) for scale, shift in (flow(r, o, 1 - u) for r, o in zip(a, b, strict=True))]
        scores, own = np.array(scores), np.array(own)
        apart, errors = scores - w @ scores, own - scores
        unshared = errors - w @ errors
        return [sum(w[k] * product(f[k], g[k]) for k in range(len(w))) for f, g in ((apart, apart), (apart, errors), (errors, errors), (unshared, unshared))]

    parts = SHARES @ [at(u) for u in NODES + 0.5]
    ends = [flow(r, o, 1.0) for r, o in (*zip(a, b, strict=True), (w @ a, w @ b))]
    *members, pooled = [np.log(end[0]) - product(end, end) / 2 for end in ends]
    return np.array([pooled - w @ members, *parts])


def measured(*arguments):
    """The result in NumPy, so that comparisons compile nothing."""
    return jax.tree.map(np.asarray, inexact_gain(*arguments))


def terms(result):
    every = result.gain, result.diversity, result.interaction, result.inconsistency, result.unshared
    return np.array([[term.value, term.error] for term in every]).T


def floor(result):
    D, J = result.diversity.value, result.unshared.value
    return D - np.sqrt(D * J)


BREAKING = ([1.5, -1.5], [0.0, 4.0], [0.5, 0.5], 0.0, 0.1)  # gain 1/2 [v cosh 3 + 8 (1 - e^(-3/2))^2 / 2.25 - v - 4]


@pytest.mark.parametrize(
    ("rates", "offsets", "weights", "mean", "variance"),
    [([0.5, -0.3], [0.4, -1.0], [0.3, 0.7], 0.5, 0.8), ([-0.5, 0.0], [2.0, 0.5], [0.8, 0.2], -0.7, 1.3), BREAKING],
)
def test_every_term_is_that_of_the_closed_form(rates, offsets, weights, mean, variance):
    truth = by_hand(rates, offsets, weights, mean, variance)
    result = measured(Gaussian([mean], variance), affine(rates, offsets), PROCESS, GRID, POINTS, weights)
    got, errors = terms(result)
    assert np.all(np.abs(got - truth) <= errors + 1e-9), (got, truth, errors)
    assert np.all(errors < 0.02 * (1 + np.abs(truth)))
    assert errors[0] < 1e-3  # steps of Runge-Kutta, while D and C are by the trapezoid rule
    assert abs(truth[0] - truth[1] - truth[2]) < 1e-9
    assert abs(got[0] - got[1] - got[2]) <= np.sum(errors[:3])
    np.testing.assert_allclose(np.trapezoid(result.rates, result.times, axis=1), got[1:], rtol=1e-9)


def test_the_theorem_is_broken_where_the_inconsistency_exceeds_the_diversity():
    """v cosh 3 and the rest by hand: 1/2 [0.1 (cosh 3 - 1) + 8 (0.7768698 / 1.5)^2 - 4] = -0.4738."""
    truth = by_hand(*BREAKING)
    result = measured(Gaussian([0.0], 0.1), affine(*BREAKING[:2]), PROCESS, GRID, POINTS, BREAKING[2])
    assert truth[0] == pytest.approx((0.1 * (np.cosh(3) - 1) + 8 * (-np.expm1(-1.5) / 1.5) ** 2 - 4) / 2, abs=1e-12)
    assert result.gain.value + result.gain.error < -0.4
    assert result.inconsistency.value >= result.unshared.value > result.diversity.value
    assert floor(result) <= result.gain.value


def test_an_error_that_members_share_does_no_harm():
    """Of two equal fields that are scores of no law nothing is left but the inconsistency; nor do members that differ break the bound by what they do not share."""
    normal, weights = Gaussian([0.3], 0.7), [0.3, 0.7]
    equal = measured(normal, affine([0.4, 0.4], [0.6, 0.6]), PROCESS, GRID, POINTS, weights)
    assert equal.inconsistency.value > 0.1
    for term in (equal.gain, equal.diversity, equal.interaction, equal.unshared):
        assert abs(term.value) < 1e-12
    apart = measured(normal, affine([0.4, 0.4], [0.6, 0.5]), PROCESS, GRID, POINTS, weights)
    assert apart.unshared.value < 1e-2 * apart.inconsistency.value
    assert floor(apart) > -1e-3


def test_exact_scores_gain_their_diversity():
    """Of noised Gaussians, whose averaged flow is solved for by SciPy; the horizon leaves exp(-10) of the variance and exp(-5) of the means."""
    process, weights, means, variances = VariancePreserving(1.0, 19.0), np.array([0.3, 0.7]), np.array([0.8, -0.5]), np.array([0.5, 1.6])

    def scores(u, line):
        """Slopes and offsets of the scores along x = slope x_0 + offset."""
        spread = 1 + np.exp(-2 * u) * (variances - 1)
        return -np.array([line[0] / spread, (line[1] - np.exp(-u) * means) / spread])

    def rate(u, state):
        slopes, offsets = scores(u, state[:2])
        slope, offset = weights @ slopes, weights @ offsets
        (a, b), mean, square = (slopes - slope, offsets - offset), 0.2, 0.9 + 0.2**2
        return [-state[0] - slope, -state[1] - offset, weights @ (a**2 * square + 2 * a * b * mean + b**2)]

    diversity = integrate.solve_ivp(rate, (0.0, 5.0), [1.0, 0.0, 0.0], rtol=1e-10, atol=1e-12).y[2, -1]
    fields = affine([0.0, 0.0], [0.0, 0.0], means, variances, beta=(1.0, 19.0))
    result = measured(Gaussian([0.2], 0.9), fields, process, GRID, POINTS, weights)
    assert result.inconsistency.value < 1e-3 * diversity
    assert abs(result.diversity.value - diversity) <= result.diversity.error
    assert abs(result.gain.value - diversity) <= result.gain.error + np.sqrt(diversity * result.inconsistency.value)
    assert result.gain.value > 10 * result.gain.error


@pytest.mark.verify  # compiles two programs of mixtures
def test_exact_scores_of_mixtures_gain_what_their_averaged_flow_is_known_to():
    process, weights = VariancePreserving(1.0, 19.0), [0.5, 0.2, 0.3]
    laws = [GaussianMixture([w, 1 - w], [[-1.0 + m], [1.0 + m]], [[0.5], [0.6]]) for w, m in ((0.7, -0.4), (0.3, 0.4), (0.4, 0.1))]
    target = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[0.5], [0.5]])
    x = np.linspace(-6.0, 6.0, 61)
    result = measured(target, stack([process.score(law) for law in laws]), process, GRID**2, x, weights)
    exact = averaged_flow(process, laws, x[:, None], weights, steps=64)
    diversity = 0.2 * np.exp(target.log_prob(x[:, None])) @ exact.diversity.value
    assert result.inconsistency.value < 1e-2 * result.diversity.value
    assert abs(result.diversity.value - diversity) <= result.diversity.error
    assert abs(result.gain.value - diversity) <= result.gain.error + np.sqrt(diversity * result.inconsistency.value)
    assert result.gain.value > 10 * result.gain.error


@pytest.mark.verify  # compiles for longer than all else here
def test_networks_gain_their_diversity_and_its_interaction(process, target, trained, untrained):
    """Whatever the weights of a network. Training need not lessen the inconsistency, so nothing is said of that."""
    grid, x = jnp.linspace(1.0, 0.2, 17) ** 3, np.linspace(-4.0, 4.0, 31)
    for model in (untrained, trained.model):
        result = measured(target, model, process, grid, x)
        (gain, diversity, interaction, *_), errors = terms(result)
        assert abs(gain - diversity - interaction) <= min(np.sum(errors[:3]), 0.02 * diversity)  # the errors of D and C nearly cancel
        assert abs(result.interaction.value) <= np.sqrt(result.diversity.value * result.unshared.value)
        assert floor(result) <= gain + np.sum(errors[:3])


def test_properties_are_sums_of_the_terms():
    result = inexact_gain(Gaussian([0.0], 0.1), affine(*BREAKING[:2]), PROCESS, GRID, POINTS, BREAKING[2])
    got, errors = terms(result)
    np.testing.assert_allclose([result.residual.value, result.residual.error], [got[0] - got[1] - got[2], np.sum(errors[:3])], atol=1e-12)
    np.testing.assert_allclose(result.floor, floor(jax.tree.map(np.asarray, result)), rtol=1e-12)


def test_bad_input_is_refused():
    fields, normal = affine([0.1, 0.2], [0.0, 0.0]), Gaussian([0.0], 1.0)
    for name, target, grid, points, weights in (
        ("target", Gaussian([0.0, 0.0], 1.0), GRID, POINTS, None),
        ("grid", normal, GRID[:-1], POINTS, None),
        ("grid", normal, GRID[::-1], POINTS, None),
        ("points", normal, GRID, POINTS[:-1], None),
        ("points", normal, GRID, POINTS**3, None),
        ("points", normal, GRID, POINTS / 9, None),
        ("weights", normal, GRID, POINTS, [1.0]),
    ):
        with pytest.raises(ValueError, match=f"`{name}`"):
            inexact_gain(target, fields, PROCESS, grid, points, weights)
    with pytest.raises(ValueError, match="`fields`: got fields of another process"):
        inexact_gain(normal, stack([VariancePreserving().score(normal)] * 2), PROCESS, GRID, POINTS)
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(RuntimeError, match="64-bit"):
            inexact_gain(normal, fields, PROCESS, GRID, POINTS)
    finally:
        jax.config.update("jax_enable_x64", True)
