"""What randomised HMC remembers: green as it stands, red when an input moves, and its arrays again from equations of moments, roots of polynomials and a plain simulation."""

import numpy as np
from scipy import integrate, stats

from paper_figures.rhmc_variance import FIGURE
from tests.helpers import assert_within_errors


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "deviation")


def moments(rate, times):
    """E x^2 and E x^4 by the closed equations of E x^a v^b for a + b = 2 and 4: a' brings b, and a refreshment replaces v^b by its mean under N(0, 1)."""
    means = {0: 1.0, 1: 0.0, 2: 1.0, 3: 0.0, 4: 3.0}

    def rates(_, y):
        lower, m = {0: 1.0, 1: 0.0, 2: y[2], 3: 0.0}, y[3:]  # E x^k of even order, k = 0 and 2 known from the second moments
        second, fourth = y[:3][::-1], m
        lower[2] = second[0]
        out2 = [(2 - b) * (second[b + 1] if b < 2 else 0) - b * (second[b - 1] if b else 0) + rate * (means[b] * [second[0], 0, 1][b] - second[b]) for b in range(3)]
        x_part = [fourth[0], 0.0, second[0], 0.0, 1.0]
        out4 = [(4 - b) * (fourth[b + 1] if b < 4 else 0) - b * (fourth[b - 1] if b else 0) + rate * (means[b] * x_part[b] - fourth[b]) for b in range(5)]
        return [*out2[::-1], *out4]

    begun = [1.0, 0.0, 4.0, 48.0, 0.0, 4.0, 0.0, 3.0]
    found = integrate.solve_ivp(rates, (0, times[-1]), begun, t_eval=times, rtol=1e-10, atol=1e-11).y
    return found[2], found[3]


def test_variance_and_kurtosis_solve_the_equations_of_moments(drawn):
    data = drawn(FIGURE).data
    for rate, variances, kurtoses in zip(FIGURE.inputs["refreshments"], data["variances"], data["kurtoses"], strict=True):
        second, fourth = moments(rate, data["times"])
        np.testing.assert_allclose(variances, second, rtol=1e-7)
        np.testing.assert_allclose(kurtoses, fourth / second**2, rtol=1e-7)


def test_langevin_solves_its_own(drawn):
    data = drawn(FIGURE).data
    A = np.array([[0, 2, 0], [-1, -2, 1], [0, -2, -4]])  # of E x^2, E x v, E v^2, less those of N(0, I), at the friction 2
    found = integrate.solve_ivp(lambda _, y: A @ y, (0, 8), [3.0, 0.0, 0.0], t_eval=data["times"], rtol=1e-10, atol=1e-12).y[0]
    np.testing.assert_allclose(data["langevin"] - 1, found, atol=1e-8)


def test_rates_are_those_of_the_moments(drawn):
    """Of means: x'' + rate x' + x = 0; of variances: the roots of a cubic."""
    data = drawn(FIGURE).data
    for rate, first, second in list(zip(data["rates"], data["forgotten"][0], data["forgotten"][1], strict=True))[::10]:
        np.testing.assert_allclose(first, -max(np.roots([1, rate, 1]).real), rtol=1e-6)
        np.testing.assert_allclose(second, rate - max(np.roots([1, -rate, 4, -2 * rate]).real), rtol=1e-8)


def test_dots_agree_with_a_plain_simulation(drawn):
    """Products of cosines of gaps between sorted uniform times."""
    data, rng = drawn(FIGURE).data, np.random.default_rng(8)
    for t, (variance, error), (kurtosis, kurtosis_error) in zip(data["simulated"], data["simulated_variances"].T, data["simulated_kurtoses"].T, strict=True):
        n = 20_000
        counts = stats.poisson.rvs(t, size=n, random_state=rng)
        times = np.sort(np.where(np.arange(40) < counts[:, None], rng.uniform(0, t, size=(n, 40)), t), axis=1)
        gaps = np.diff(np.concatenate([np.zeros((n, 1)), times, np.full((n, 1), t)], axis=1), axis=1)
        conditional = 1 + 3 * np.prod(np.cos(gaps) ** 2, axis=1)
        assert_within_errors(variance, np.hypot(error, conditional.std() / n**0.5), conditional.mean())
        assert_within_errors(
            kurtosis, np.hypot(kurtosis_error, 9 * np.std(conditional**2) / n**0.5 / conditional.mean() ** 2), 3 * np.mean(conditional**2) / conditional.mean() ** 2
        )
