"""The telegraph process a second time, in NumPy, SciPy and mpmath: unscaled Bessel functions, adaptive quadrature, and one branch for each velocity."""

import mpmath
import numpy as np
from scipy.special import iv


def parts(c, a, t, x):
    """The densities with velocity +c and -c between the atoms."""
    b, r = a / c, np.sqrt((c * t) ** 2 - np.asarray(x) ** 2)
    shared = a / (4 * c) * np.exp(-a * t)
    return [shared * (iv(0, b * r) + np.sqrt((c * t + sign * x) / (c * t - sign * x)) * iv(1, b * r)) for sign in (1, -1)]


def smoothed(c, a, t, x, s):
    """The same with the atoms, convolved with N(0, s^2)."""
    with mpmath.workdps(22):
        c, a, t, x, s = map(mpmath.mpf, (c, a, t, x, s))
        end, wide = c * t, c * mpmath.sqrt(t / a)

        def normal(y):
            return mpmath.exp(-(y**2) / (2 * s**2)) / (s * mpmath.sqrt(2 * mpmath.pi))

        def kernel(y, sign):
            z2 = (a / c) ** 2 * (end**2 - y**2)
            first = mpmath.hyp0f1(2, z2 / 4) / 2
            return a / (4 * c) * mpmath.exp(-a * t) * (mpmath.hyp0f1(1, z2 / 4) + (end + sign * y) * a / c * first)

        marks = [x + k * s for k in (-9, -3, 3, 9)] + [k * wide for k in (-6, 0, 6)]
        breaks = sorted({-end, end, *(min(max(mark, -end), end) for mark in marks)})
        scale = 1 / max(kernel(end * k / 10, 1) * normal(x - end * k / 10) for k in range(-10, 11))  # quadrature stops at an absolute error
        integrals = [mpmath.quad(lambda y: scale * kernel(y, sign) * normal(x - y), breaks) / scale for sign in (1, -1)]  # noqa: B023
        return [mpmath.exp(-a * t) / 2 * normal(x - sign * end) + integral for sign, integral in zip((1, -1), integrals, strict=True)]


def smoothed_on(c, a, t, x, s):
    """The same at many points, by 400 nodes on the whole cone: for s above a tenth of it."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    y = c * t * nodes
    gaps = (np.asarray(x)[:, None] - y[None, :]) / s
    spread = [c * t * np.exp(-(gaps**2) / 2) @ (weights * part) for part in parts(c, a, t, y)]
    atoms = [np.exp(-a * t) / 2 * np.exp(-(((np.asarray(x) - sign * c * t) / s) ** 2) / 2) for sign in (1, -1)]
    return np.stack([atom + part for atom, part in zip(atoms, spread, strict=True)]) / (s * np.sqrt(2 * np.pi))
