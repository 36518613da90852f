"""Expected gains of fits: green as it stands, red when an input moves, and its exact curves again from SciPy."""

import numpy as np
import pytest
from scipy import integrate, stats

from paper_figures.mle_ensembles import FIGURE

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_another_sample_size_turns_the_caption_red(drawn):
    data = dict(drawn(FIGURE).data)
    assert all(number.holds for number in FIGURE.caption(data).numbers)
    data["average_limit"] = data["average_limit"] * 1.02
    data["simulated_linear_kl"] = data["simulated_linear_kl"] * 1.2
    off = [number.name for number in FIGURE.caption(data).numbers if not number.holds]
    assert off == ["average", "linear4", "linear32"]


def test_curves_are_expectations_over_chi_squared(drawn):
    data = drawn(FIGURE).data

    def expected(dof, total):
        def integrand(x):
            return stats.chi2.pdf(x, dof) * ((1 + 1 / total) * total / x - 1 + np.log(x / total)) / 2

        return sum(integrate.quad(integrand, a, b, limit=200)[0] for a, b in ((0, dof), (dof, np.inf)))

    np.testing.assert_allclose(data["fits"], [expected(n - 1, n) for n in data["numbers"]], rtol=1e-7)
    few = data["sizes"] <= 12
    np.testing.assert_allclose(data["average_by_size"][few], [expected(11 * K, 12 * K) for K in data["sizes"][few]], rtol=1e-6)
    n = data["numbers"]
    np.testing.assert_allclose(data["log_limits"], (3 / (n - 3) + np.log((n - 3) / n)) / 2, rtol=1e-12)
    np.testing.assert_allclose(data["average_limits"], (1 / (n - 1) + np.log((n - 1) / n)) / 2, rtol=1e-11)
    a = (n - 3) / n
    shrunk = data["fits"] + ((1 + 1 / n) * n / (n - 3) * (1 / a - 1) + np.log(a)) / 2
    np.testing.assert_allclose(data["bootstrap_log"], shrunk, rtol=1e-10)


def test_the_linear_pool_is_ahead_for_few_members_and_behind_for_many(drawn):
    data = drawn(FIGURE).data
    average = {int(K): value for K, value in zip(data["sizes"], data["average_by_size"], strict=True)}
    lead = [(average[int(K)] - value) / error for K, value, error in zip(data["simulated_sizes"], data["simulated_linear_kl"], data["simulated_linear_error"], strict=True)]
    assert lead[0] > 5
    assert lead[-1] < -3
    assert data["crossing"] == pytest.approx(7.99, abs=0.01)
