"""Coverage of imputed tables: green as it stands, red when the level moves, and its exact numbers again from closed forms."""

import numpy as np
from scipy import stats

from paper_figures.rubin_coverage import FIGURE


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_exact_coverages_from_student_and_the_limit(drawn):
    data = drawn(FIGURE).data
    n1 = np.round(50 * (1 - data["share"]))
    filled = 2 * stats.t.cdf(stats.t.ppf(0.975, 49) * np.sqrt((n1 - 1) * n1 / (49 * 50)), n1 - 1) - 1
    np.testing.assert_allclose(data["filled"], filled, rtol=1e-9)
    np.testing.assert_allclose(data["improper_limit"], 2 * stats.norm.cdf(stats.norm.ppf(0.975) * np.sqrt(1 - data["share"] ** 2)) - 1, rtol=1e-9)
    np.testing.assert_allclose(data["limits"], [0.95, data["improper_limit"][np.argmin(np.abs(data["share"] - 0.5))]], rtol=1e-9)
    assert (np.abs(data["copies_proper"] - 0.95) < 0.05 / data["numbers"] ** 0.5).all()
