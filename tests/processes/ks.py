"""The test of Kolmogorov and Smirnov with a level and a power that hold for every n and every law, atoms included.

By the inequality of Dvoretzky, Kiefer, Wolfowitz and Massart P(sup |F_n - F| > c) <= 2 exp(-2 n c^2), so that c = sqrt(log(2 / level) / 2 n) has that level at most, and draws
of a law at the distance D > c from F are rejected with probability at least 1 - 2 exp(-2 n (D - c)^2).
"""

import numpy as np

LEVEL = 1e-4


def critical(n: int, level: float = LEVEL) -> float:
    return float(np.sqrt(np.log(2 / level) / (2 * n)))


def power(n: int, distance: float, level: float = LEVEL) -> float:
    return 1 - 2 * np.exp(-2 * n * max(distance - critical(n, level), 0.0) ** 2)


def distance(draws, cdf) -> float:
    """sup |F_n - F| over the finite numbers; `cdf` takes sorted draws."""
    draws = np.sort(np.asarray(draws))
    finite = draws[np.isfinite(draws)]
    F, below = cdf(finite), np.arange(len(finite)) / len(draws)
    after = max(abs(cdf(np.array([1e12]))[0] - len(finite) / len(draws)), 0.0)
    return float(max(np.max(abs(F - below)), np.max(abs(F - below - 1 / len(draws))), after))


def assert_ks(draws, cdf) -> None:
    found, bound = distance(draws, cdf), critical(len(draws))
    assert found <= bound, f"sup |F_n - F| = {found:.4f}, at level {LEVEL} at most {bound:.4f} of {len(draws)} draws"
