"""L2 distances and maximum mean discrepancies against integrals and double sums in NumPy."""

import numpy as np
import pytest

import ensembletheory as et
from tests.divergences.laws import law, line, pair, parts, pdf
from tests.divergences.test_bounded_and_chi_squared import P_ATOMS, Q_ATOMS


@pytest.mark.parametrize("column", ["GG", "GM", "MM"])
def test_l2_on_the_line(column):
    p, q = pair(column, 1)
    x = line(p, q)
    assert float(et.l2_squared(p, q)) == pytest.approx(np.trapezoid((pdf(p, x) - pdf(q, x)) ** 2, x), rel=1e-10)


def plain_overlap(m, S, n, T):
    C, z = np.asarray(S) + np.asarray(T), np.asarray(m) - np.asarray(n)
    return np.exp(-0.5 * z @ np.linalg.solve(C, z)) / np.sqrt(np.linalg.det(2 * np.pi * C))


def test_l2_of_gaussians_in_several_dimensions():
    p, q = pair("GG", 3)
    laws = [(1.0, p.mean, p.cov), (-1.0, q.mean, q.cov)]
    plain = sum(a * b * plain_overlap(m, S, n, T) for a, m, S in laws for b, n, T in laws)
    assert float(et.l2_squared(p, q)) == pytest.approx(plain, rel=1e-10)


def test_l2_of_near_equal_gaussians_keeps_its_digits():
    """int (p' e)^2 = e^2 / (4 sqrt pi s^3) for a shift by e."""
    p = et.Gaussian([0.3], 0.49)
    assert float(et.l2_squared(p, et.Gaussian([0.3 + 1e-6], 0.49))) == pytest.approx(1e-12 / (4 * np.sqrt(np.pi) * 0.7**3), rel=1e-8)


def kernel_mean(p, q, h):
    """E k(X, Y) on the line from the law of X - Y, component by component."""

    def atoms(given):
        if isinstance(given, et.FiniteLaw):
            return [(float(w), float(x[0]), 0.0) for w, x in zip(given.weights, given.points, strict=True)]
        return parts(given)

    return sum(a * b * h / np.sqrt(h**2 + s**2 + t**2) * np.exp(-((m - n) ** 2) / (2 * (h**2 + s**2 + t**2))) for a, m, s in atoms(p) for b, n, t in atoms(q))


@pytest.mark.parametrize(("p", "q"), [("G", "G"), ("G", "M"), ("M", "F"), ("F", "F")])
@pytest.mark.parametrize("h", [0.7, 2.0])
def test_mmd(p, q, h):
    p, q = (P_ATOMS if p == "F" else law(p, 1, 0)), (Q_ATOMS if q == "F" else law(q, 1, 1))
    plain = kernel_mean(p, p, h) - 2 * kernel_mean(p, q, h) + kernel_mean(q, q, h)
    assert float(et.mmd_squared(p, q, bandwidth=h)) == pytest.approx(plain, rel=1e-10)


def test_mmd_of_samples_is_a_double_sum():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(5, 2)) + 0.5
    gram = [[np.exp(-np.sum((a[:, None] - b[None]) ** 2, axis=-1) / (2 * 1.5**2)).mean() for b in (x, y)] for a in (x, y)]
    assert float(et.mmd_squared(et.FiniteLaw(x), et.FiniteLaw(y), bandwidth=1.5)) == pytest.approx(gram[0][0] - 2 * gram[0][1] + gram[1][1], rel=1e-12)
    with pytest.raises(ValueError, match="`bandwidth`.*-1"):
        et.mmd_squared(et.FiniteLaw(x), et.FiniteLaw(y), bandwidth=-1.0)
