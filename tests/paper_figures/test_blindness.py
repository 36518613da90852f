"""Blindness: green as it stands, red when an input moves, and its arrays again by SciPy's quadrature."""

import numpy as np
import pytest
from scipy import integrate, stats

from paper_figures.blindness import FIGURE

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption

W, V = 0.5, 0.2


def density(x, a, w, u=1.0):
    a = np.sqrt(u) * a
    return w * stats.norm.pdf(x, a) + (1 - w) * stats.norm.pdf(x, -a)


def score(x, a, w, u=1.0):
    a = np.sqrt(u) * a
    return (-(x - a) * w * stats.norm.pdf(x, a) - (x + a) * (1 - w) * stats.norm.pdf(x, -a)) / (w * stats.norm.pdf(x, a) + (1 - w) * stats.norm.pdf(x, -a))


def quad(f, a):
    return integrate.quad(f, -a - 12, a + 12, points=[-a, 0, a], epsrel=1e-11, epsabs=1e-16, limit=400)[0]


def fisher(a, u=1.0):
    return quad(lambda x: density(x, a, W, u) * (score(x, a, W, u) - score(x, a, V, u)) ** 2, a)


def kl(a):
    return quad(lambda x: density(x, a, W) * np.log(density(x, a, W) / density(x, a, V)), a)


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "other")


def test_printed_divergences_are_integrals(drawn):
    data = drawn(FIGURE).data
    np.testing.assert_allclose(data["printed fisher"], [fisher(a) for a in data["shown"]], rtol=1e-8)
    np.testing.assert_allclose(data["printed kl"], [kl(a) for a in data["shown"]], rtol=1e-9)
    np.testing.assert_allclose(data["printed integral"], data["printed kl"], rtol=1e-8)


def test_lines_are_right_to_their_width(drawn):
    data = drawn(FIGURE).data
    at = slice(None, None, 3)
    np.testing.assert_allclose(data["fisher"][at], [fisher(a) for a in data["separations"][at]], rtol=0.01)
    np.testing.assert_allclose(data["kl"][at], [kl(a) for a in data["separations"][at]], rtol=1e-4)
    assert np.all(data["fisher"] <= data["bound"])


def test_noised_divergences_and_their_area(drawn):
    data = drawn(FIGURE).data
    for a, row, total in zip(data["shown"], data["noised"], data["printed kl"], strict=True):
        at = range(0, len(row), 20)
        np.testing.assert_allclose(row[at], [fisher(a, u) / 2 for u in data["levels"][at]], rtol=1e-6, atol=1e-9)
        area = np.trapezoid(row, np.log(data["levels"]))
        assert area == pytest.approx(total, abs=row[0] * 1.1 + 1e-3)  # what lies below the first level is less than its value there
