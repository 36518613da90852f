"""Song's Figure 2, solved: green as it stands, red when an input moves, quantiles, density, divergence and paths again by SciPy and mpmath."""

import mpmath
import numpy as np
import pytest
from scipy import integrate, optimize, stats

from paper_figures.song_fig2 import BOX, FIGURE

WEIGHTS, MEANS, STDS = np.array([0.3, 0.7]), np.array([-2.0, 1.0]), np.array([0.5, 0.3])


def at(t):
    a = np.exp(-(0.1 * t + 9.95 * t**2) / 2)
    return a * MEANS, np.sqrt(1 + a**2 * (STDS**2 - 1))


def density(t, x):
    means, stds = at(t)
    return stats.norm.pdf(np.asarray(x)[..., None], means, stds) @ WEIGHTS


def image(x):
    """F_0^{-1}(F_1(x)) to 30 digits."""
    mpmath.mp.dps = 30
    u = mpmath.exp(-(mpmath.mpf(1) / 10 + mpmath.mpf(995) / 100))
    parts = [(0.3, -2, 0.25), (0.7, 1, 0.09)]
    cdf = lambda y, law: sum(w * mpmath.ncdf((y - m) / mpmath.sqrt(v)) for w, m, v in law)  # noqa: E731
    noised = [(mpmath.mpf(str(w)), mpmath.sqrt(u) * m, 1 + u * (mpmath.mpf(str(v)) - 1)) for w, m, v in parts]
    clean = [(mpmath.mpf(str(w)), m, mpmath.mpf(str(v))) for w, m, v in parts]
    level = cdf(x, noised)
    return float(mpmath.findroot(lambda y: cdf(y, clean) - level, (-5, 4), solver="anderson"))


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    off = two_percent_off(FIGURE, "variances")
    assert sum("image" in name for name in off) == 5


def test_images_are_quantiles_to_thirty_digits(drawn):
    np.testing.assert_allclose(drawn(FIGURE).data["mapped"], [image(x) for x in FIGURE.inputs["mapped"]], rtol=1e-10)


def test_divergence_from_the_prior_is_its_integral(drawn):
    means, stds = at(1.0)

    def integrand(x):
        log_ratios = stats.norm.logpdf(x, means, stds) - stats.norm.logpdf(x)
        ratio = WEIGHTS @ np.expm1(log_ratios)  # p / q - 1, small
        return stats.norm.pdf(x) * ((1 + ratio) * np.log1p(ratio) - ratio)

    exact = integrate.quad(integrand, -9, 9, epsabs=1e-16, epsrel=1e-9, limit=200)[0]
    assert drawn(FIGURE).data["kl"] == pytest.approx(exact, rel=1e-5)


def test_the_shade_is_the_density(drawn):
    data = drawn(FIGURE).data
    x = np.linspace(-BOX, BOX, data["density"].shape[1])
    for i in (0, 30, -1):
        np.testing.assert_allclose(data["density"][i], density(data["density_times"][i], x), rtol=1e-9, atol=1e-300)


def test_paths_of_the_flow_keep_their_probability(drawn):
    data = drawn(FIGURE).data
    for i in (0, 100, -1):
        means, stds = at(data["times"][i])
        probability = stats.norm.cdf(data["flow"][:, i, None], means, stds) @ WEIGHTS
        started = stats.norm.cdf(data["flow"][:, 0, None], *at(1.0)) @ WEIGHTS
        np.testing.assert_allclose(probability, started, atol=1e-7)
        found = [optimize.brentq(lambda y, level=level: stats.norm.cdf(y, means, stds) @ WEIGHTS - level, -9, 9, xtol=1e-13) for level in started]  # noqa: B023
        np.testing.assert_allclose(data["quantiles"][:, i], found, atol=1e-9)


def test_increments_of_the_sdes_have_the_variance_of_their_noise(drawn):
    """Sum of (dx)^2 / (beta h) over a path is the number of steps, up to sqrt(2 / steps) and the drift's share."""
    data = drawn(FIGURE).data
    times = data["times"]
    for name, beta in (("forward", 0.1 + 19.9 * (times[:-1] + times[1:]) / 2), ("reverse", 0.1 + 19.9 * times[:-1])):
        h = -np.diff(times)
        if name == "forward":
            moved, exact = data[name][:, :-1] - data[name][:, 1:] * np.exp(-beta * h / 2), -np.expm1(-beta * h)
        else:
            score = np.stack([_score(t, x) for t, x in zip(times[:-1], data[name][:, :-1].T, strict=True)], axis=1)
            moved, exact = np.diff(data[name], axis=1) - h * beta * (data[name][:, :-1] / 2 + score), beta * h
        normal = moved / np.sqrt(exact)
        assert abs(normal.mean()) < 5 / np.sqrt(normal.size), name
        assert abs((normal**2).mean() - 1) < 5 * np.sqrt(2 / normal.size), name
        assert stats.kstest(normal.ravel(), "norm").pvalue > 1e-6, name


def _score(t, x):
    means, stds = at(t)
    parts = WEIGHTS * stats.norm.pdf(x[:, None], means, stds)
    return np.sum(parts * (means - x[:, None]) / stds**2, axis=1) / parts.sum(axis=1)
