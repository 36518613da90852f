"""Ensembles of inexact scores: moments by an ODE solver, expectations by SciPy's quadrature, parting points by looking at the curves; other laws of errors by enumeration."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, stats

import ensembletheory as et
from ensembletheory.gains import ScoreErrors, ensemble_quality, flow_quality, law_of_wrong_score, noise_injection, parting_bias, parting_size
from ensembletheory.gains.score_errors import clock
from ensembletheory.pooling.field_rules import RelativeNoise, WeightedSum

VP = et.processes.VariancePreserving()
S = np.array([0.5, 3.0])
TARGET = et.Gaussian([0.3, -1.0], S)
LINE = et.Gaussian([0.3], [0.5])
LAMBDA = np.log(1 + np.expm1(10.05) / 0.5)
SIZES = np.array([1.0, 2.0, 3.5, 16.0])


def beta(t):
    return 0.1 + 19.9 * t


def noised(t, variance):
    u = np.exp(-0.1 * t - 9.95 * t**2)
    return u, 1 + u * (variance - 1)


def sampled(c, reverse, start, variance, profile=lambda t: 1.0):
    """The mean and the variance at time 0 of the reverse dynamics with the score (1 + c profile(t)) times that of N(start, variance), from the noised law."""
    e = float(reverse == "sde")

    def rates(t, moments):
        u, v = noised(t, variance)
        pull = (1 + e) / 2 * beta(t) * (1 + c * profile(t)) / v
        mean, cov = moments
        return [-beta(t) / 2 * mean + pull * (mean - np.sqrt(u) * start), (-beta(t) + 2 * pull) * cov - e * beta(t)]

    u, v = noised(1.0, variance)
    return integrate.solve_ivp(rates, (1.0, 0.0), [np.sqrt(u) * start, v], method="DOP853", rtol=1e-11, atol=1e-13).y[:, -1]


@pytest.mark.parametrize("reverse", ["ode", "sde"])
def test_law_of_a_wrong_score_solves_the_equations_of_its_moments(reverse):
    errors = np.array([0.15, -0.08])
    law = law_of_wrong_score(TARGET, VP, errors, reverse)
    for i in range(2):
        mean, variance = sampled(errors[i], reverse, float(TARGET.mean[i]), S[i])
        assert_allclose(law.mean[i], mean, rtol=1e-8)
        assert_allclose(law.cov[i, i], variance, rtol=1e-8)


def test_variances_of_the_table():
    """Variances 4 and 1/4, errors of 0.1 and -0.1, begun at N(0, 1), which for the flow scales them by the variance of the noised target."""
    target, noise = et.Gaussian([0.0, 0.0], [4.0, 0.25]), noised(1.0, np.array([4.0, 0.25]))[1]
    tables = {"ode": [[1.68165982, 0.07966793], [9.51194456, 0.78455722]], "sde": [[3.33335367, 0.20833338], [4.99902254, 0.31249336]]}
    for reverse, rows in tables.items():
        for c, row in zip((0.1, -0.1), rows, strict=True):
            variances = law_of_wrong_score(target, VP, [c, c], reverse).covariance.diagonal()
            assert_allclose(variances, np.array(row) * (noise if reverse == "ode" else 1), rtol=2e-7)


def test_errors_that_average_to_zero_along_the_clock_are_not_seen_by_the_flow():
    total = np.log(noised(1.0, 0.5)[1] / (noised(1.0, 0.5)[0] * 0.5))

    def wave(t):
        u, v = noised(t, 0.5)
        return np.cos(2 * np.pi * np.log(v / (u * 0.5)) / total)

    assert_allclose(sampled(0.3, "ode", 0.3, 0.5, wave), [0.3, 0.5], rtol=1e-8)


@pytest.mark.parametrize("reverse", ["ode", "sde"])
def test_expectations_over_normal_errors(reverse):
    """Over the law of the members' mean, by SciPy; the ratio R of the SDE solves its linear equation, by its integrating factor."""
    bias, spread, correlation = np.array([0.2, -0.05]), np.array([0.1, 0.06]), 0.3
    quality = ensemble_quality(TARGET, VP, ScoreErrors(bias, spread, correlation), SIZES, reverse)
    lam = [integrate.quad(lambda t, s=s: beta(t) / noised(t, s)[1], 0, 1, epsrel=1e-12, points=[1e-2])[0] for s in S]
    assert_allclose(clock(TARGET, VP), lam, rtol=1e-10)
    for K, loss, kl, frechet in zip(SIZES, quality.loss.value, quality.kl.value, quality.frechet_squared.value, strict=True):
        variance = spread**2 * (correlation + (1 - correlation) / K)
        assert_allclose(loss, np.sum(np.array(lam) * (bias**2 + variance)) / 2, rtol=1e-10)
        expected = [[_mean(f, bias[i], variance[i], lam[i], reverse) for i in range(2)] for f in (lambda R: (1 / R - 1 + np.log(R)) / 2, lambda R: (np.sqrt(R) - 1) ** 2)]
        assert_allclose(kl, np.sum(expected[0]), rtol=1e-7)
        assert_allclose(frechet, S @ expected[1], rtol=1e-7)
    assert np.all(np.asarray(quality.kl.error) < 1e-9)


def _mean(f, b, variance, lam, reverse):
    def ratio(c):
        if reverse == "ode":
            return np.exp(-c * lam)
        return np.exp(-(1 + 2 * c) * lam) + (1 - np.exp(-(1 + 2 * c) * lam)) / (1 + 2 * c)

    sd = np.sqrt(variance)
    return integrate.quad(lambda c: stats.norm.pdf(c, b, sd) * f(ratio(c)), b - 14 * sd, b + 14 * sd, epsrel=1e-11, limit=200)[0]


def test_loss_is_squared_bias_plus_the_variance_of_the_mean():
    """The table of exchangeable members: bias 1/2, variance 1, correlation 0.3."""
    quality = ensemble_quality(LINE, VP, ScoreErrors(0.5, 1.0, 0.3), np.array([1.0, 2.0, 5.0, 100.0]))
    assert_allclose(2 * quality.loss.value / LAMBDA, [1.25, 0.9, 0.69, 0.557], rtol=1e-12)
    covariance = 0.3 * np.ones((5, 5)) + 0.7 * np.eye(5)
    assert_allclose(ScoreErrors(0.5, 1.0, 0.3).variance(5.0), np.full(5, 0.2) @ covariance @ np.full(5, 0.2), rtol=1e-14)


def test_likelihood_improves_for_ever_and_the_frechet_distance_up_to_the_parting_size():
    errors = ScoreErrors(0.15, 0.1, 0.05)
    turn = np.asarray(parting_size(LINE, VP, errors))[0]
    assert 2 < turn < 10
    quality = ensemble_quality(LINE, VP, errors, turn * np.array([0.5, 0.999, 1.001, 20.0]))
    assert np.all(np.diff(quality.kl.value) < 0)
    assert np.all(np.diff(quality.loss.value) < 0)
    assert np.diff(quality.frechet_squared.value)[0] < 0 < np.diff(quality.frechet_squared.value)[2]
    assert_allclose(np.diff(quality.frechet_squared.value)[1], 0, atol=1e-11)
    assert parting_size(LINE, VP, ScoreErrors(0.9999 * 2 * np.log(2) / LAMBDA, 0.1)) == np.inf
    assert parting_size(LINE, VP, ScoreErrors(0.15, 0.1, 0.9)) == np.inf
    assert parting_size(LINE, VP, ScoreErrors(0.5, 0.1)) < 1


@pytest.mark.parametrize(("reverse", "share"), [("ode", 0.5), ("sde", 0.75)])
def test_they_part_where_the_frechet_distance_turns_concave(reverse, share):
    at = np.asarray(parting_bias(LINE, VP, reverse))[0]
    assert_allclose(_share(at, reverse), share, rtol=1e-6)
    for centre, sign in ((at - 0.01, 1), (at + 0.01, -1)):
        low, middle, high = (_distances(c, reverse) for c in (centre - 3e-3, centre, centre + 3e-3))
        kl, frechet = low + high - 2 * middle
        assert kl > 0
        assert sign * frechet > 0


def _share(c, reverse):
    """The sampled standard deviation over the target's."""
    return np.sqrt(np.asarray(law_of_wrong_score(LINE, VP, c, reverse).covariance.diagonal())[0] / 0.5)


def _distances(c, reverse="ode"):
    share = _share(c, reverse)
    return np.array([(share**-2 - 1) / 2 + np.log(share), 0.5 * (share - 1) ** 2])


@pytest.mark.parametrize(("values", "improves"), [((0.0, 0.1), True), ((0.15, 0.3), False)])
def test_errors_of_any_law_part_beyond_the_same_point(values, improves):
    """Two equally likely errors, all on one side of 2 log(2) / Lambda = 0.121: the number of members with the larger is binomial."""
    distances = [[np.array([_distances(values[0] + (values[1] - values[0]) * j / K) for j in range(K + 1)]), stats.binom.pmf(range(K + 1), K, 0.5)] for K in (1, 2, 4)]
    kl, frechet = np.array([mass @ at for at, mass in distances]).T
    assert np.all(np.diff(kl) < 0)
    assert np.all(np.diff(frechet) < 0) == improves
    assert np.all(np.diff(frechet) > 0) != improves


def test_noise_injection_gives_two_normal_halves():
    eta, lam = 0.12, LAMBDA
    low, high = np.sqrt(0.5) * np.exp(-eta * lam / 2), np.sqrt(0.5) * np.exp(eta * lam / 2)

    def density(x):
        return stats.norm.pdf(x - 0.3, 0, low if x < 0.3 else high)

    def over(f):
        return integrate.quad(f, 0.3 - 12 * low, 0.3, epsrel=1e-11)[0] + integrate.quad(f, 0.3, 0.3 + 12 * high, epsrel=1e-11)[0]

    mean = over(lambda x: x * density(x))
    deviation = np.sqrt(over(lambda x: (x - mean) ** 2 * density(x)))
    p = stats.norm(0.3, np.sqrt(0.5))
    quality = noise_injection(LINE, VP, [eta, 0.2])
    assert_allclose(quality.kl.value[0], over(lambda x: p.pdf(x) * (p.logpdf(x) - np.log(density(x)))), rtol=1e-6)
    assert_allclose(quality.frechet_squared.value[0], (mean - 0.3) ** 2 + (deviation - np.sqrt(0.5)) ** 2, rtol=1e-8)
    assert_allclose(quality.loss.value[0], eta**2 * lam / 2, rtol=1e-13)


def test_noise_of_several_members_is_a_walk_of_signs():
    quality, y = noise_injection(LINE, VP, [0.05, 0.2], K=3), np.array([0.05, 0.2]) * LAMBDA
    one, third = noise_injection(LINE, VP, [0.05, 0.2]), noise_injection(LINE, VP, np.array([0.05, 0.2]) / 3)
    assert_allclose(quality.kl.value, (np.cosh(y / 3) ** 3 - 1) / 2, rtol=1e-10)
    for name in ("loss", "kl", "frechet_squared"):
        assert_allclose(getattr(quality, name).value, getattr(one, name).value / 4 + 3 * getattr(third, name).value / 4, rtol=1e-10)


MODES = np.array([[-1.8], [-0.6], [0.6], [1.8]])
POINTS = np.linspace(-8.2, 8.9, 801)


def four_modes(eps):
    """Mixtures with the same mean and variance for every eps."""
    return et.GaussianMixture(0.25 + eps * np.array([-1.0, 3.0, -3.0, 1.0]), MODES, np.full((4, 1), 0.04))


@pytest.mark.parametrize("case", ["smooth", "kink", "mixture", "missing"])
def test_flow_quality(case):
    """A smooth wrong score by its closed form; one with a kink, where the density jumps, within the error; the score of another law by their divergence."""
    normal = et.GaussianMixture(np.full(4, 0.25), np.full((4, 1), 0.3), np.full((4, 1), 0.5))
    target, law = (four_modes(0.0), four_modes(1 / 16)) if case == "mixture" else (normal, normal)
    factor, size = {"smooth": (1.12, 0.0), "kink": (1.0, 0.12)}.get(case, (1.0, 0.0))
    score = RelativeNoise(WeightedSum([VP.score(law)], [factor]), [-2.0], size)
    if case == "missing":
        with pytest.raises(ValueError, match="points.*mass"):
            flow_quality(target, VP, score, POINTS / 10)
        return
    found = flow_quality(target, VP, score, POINTS)
    got = np.array([found.loss.value, found.kl.value, found.frechet_squared.value])
    if case == "smooth":
        assert_allclose(got, [0.12**2 * LAMBDA / 2, *_distances(0.12)], rtol=2e-6)
    elif case == "kink":
        exact = noise_injection(LINE, VP, [0.12, 0.2])
        assert_allclose(got[0], np.asarray(exact.loss.value)[0], rtol=1e-9)
        for estimate, truths in ((found.kl, exact.kl), (found.frechet_squared, exact.frechet_squared)):
            truth = np.asarray(truths.value)[0]
            assert abs(float(estimate) - truth) <= 1.1 * float(estimate.error) <= 0.1 * truth
    else:  # first and second moments agree, so that the noised laws at the horizon do to 1e-7; the loss is the divergence by de Bruijn's identity
        divergence = float(et.kl(target, law))
        assert_allclose(got, [divergence, divergence, 0.0], rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ScoreErrors(0.1, -0.1), "spread.*standard deviation >= 0"),
        (lambda: ScoreErrors(0.1, 0.1, 1.2), "correlation.*within"),
        (lambda: ScoreErrors([0.1, 0.2], [0.1, 0.1, 0.1]), "shapes"),
        (lambda: ensemble_quality(LINE, VP, ScoreErrors(0.1, 0.1), 0.5), "K.*>= 1"),
        (lambda: ensemble_quality(LINE, VP, ScoreErrors(0.1, 0.1), 1.0, "flow"), "reverse.*'ode' or 'sde'"),
        (lambda: ensemble_quality(LINE, VP, ScoreErrors([0.1, 0.2], 0.1)), "errors.*one number"),
        (lambda: parting_bias(LINE, et.processes.LinearInterpolant()), "process.*infinite noise level"),
        (lambda: parting_bias(et.Gaussian([0.0, 0.0], [[1.0, 0.5], [0.5, 1.0]]), VP), "target.*diagonal"),
        (lambda: noise_injection(TARGET, VP, 0.1), "target.*line"),
        (lambda: noise_injection(LINE, VP, -0.1), "size.*>= 0"),
        (lambda: noise_injection(LINE, VP, 0.1, K=0), "K.*>= 1"),
        (lambda: flow_quality(TARGET, VP, VP.score(TARGET), np.linspace(-5, 5, 11)), "target.*line"),
        (lambda: flow_quality(LINE, VP, VP.score(LINE), np.linspace(-5, 5, 10)), "points.*odd"),
        (lambda: flow_quality(LINE, VP, VP.score(LINE), np.linspace(0, 2, 11) ** 2), "points.*evenly"),
    ],
)
def test_wrong_arguments_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_laws_that_are_not_gaussian_are_refused():
    with pytest.raises(TypeError, match="expected Gaussian"):
        parting_bias(et.GaussianMixture([1.0], [[0.0]], [[1.0]]), VP)
