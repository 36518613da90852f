"""Claims about the telegraph process: unscaled Bessel functions, quadrature and finite differences in SciPy and NumPy, and mutants violated by hand."""

import numpy as np
import pytest
from scipy import integrate

from ensembletheory.claims import get
from tests.claims.margins import all_mutants, assert_violated_as_said, margin
from tests.laws.kac_by_hand import parts, smoothed_on

IDS = ["kac-law", "kac-velocity-bounded", "reverse-flux-balance", "ratio-matching-minimum"]
LAW = {"speed": 3.0, "rate": 9.0, "time": 0.7, "place": 3 / 7}
POINTS = {"points": [0.0, -0.5, 0.5], "weights": [0.2, 0.5, 0.3], "deviation": 0.5, "speed": 2.0, "rate": 3.0, "time": 0.5}
DATA = {"weights": [0.3, 0.7], "means": [-1.0, 1.0], "variances": [0.25, 0.5], "speed": 3.0, "rate": 4.0, "time": 0.6, "place": 0.4}
PAIR = {"masses": [0.3, 0.05], "guess": [0.5, 4.0]}


def of_law(instance):
    return instance["speed"], instance["rate"], instance["time"]


def mass_defect(instance):
    c, a, t = of_law(instance)
    return -abs(integrate.quad(lambda x: sum(parts(c, a, t, x)), -c * t, c * t, epsabs=1e-12)[0] - 1)


def variance_defect(instance):
    c, a, t = of_law(instance)
    second = integrate.quad(lambda x: x**2 * sum(parts(c, a, t, x)), -c * t, c * t, epsabs=1e-12)[0] + np.exp(-a * t) * (c * t) ** 2
    return -abs(second / (c**2 * t / a) - 1)


def differences(function, at, h):
    """First and second derivatives by central differences, extrapolated once."""
    first, second = (
        [(function(at + k) - function(at - k)) / (2 * k) for k in (h, h / 2)],
        [(function(at + k) - 2 * function(at) + function(at - k)) / k**2 for k in (h, h / 2)],
    )
    return tuple((4 * fine - coarse) / 3 for coarse, fine in (first, second))


def damping_defect(instance):
    """Half the damping is missing: a |p_t| over the scale of the terms that are left."""
    c, a, t = of_law(instance)
    x = instance["place"] * c * t
    p_t, p_tt = differences(lambda s: sum(parts(c, a, s, x)), t, 1e-2)
    p_xx = differences(lambda y: sum(parts(c, a, t, y)), x, 1e-2)[1]
    return -abs(p_tt + a * p_t - c**2 * p_xx) / (abs(p_tt) + a * abs(p_t) + c**2 * abs(p_xx))


def room(instance, share):
    """Of points, at a place where only two of the cones reach, and of the same points smoothed."""
    (c, a, t), x = of_law(instance), instance["place"]
    reached = [(w, np.array(parts(c, a, t, x - p))) for w, p in zip(instance["weights"], instance["points"], strict=True) if abs(x - p) < c * t]
    smooth = sum(w * smoothed_on(c, a, t, [x - p], instance["deviation"])[:, 0] for w, p in zip(instance["weights"], instance["points"], strict=True))
    speeds = [c * abs(p[0] - p[1]) / sum(p) for p in (sum(w * p for w, p in reached), smooth)]
    return share * c - max(speeds)


def diffusive_room(instance):
    (c, a, t), x = of_law(instance), instance["place"]
    p = np.array(instance["points"])
    r = np.array(instance["weights"]) * np.exp(-((x - p) ** 2) * a / (2 * c**2 * t))
    return c - abs(r @ (x - p) / r.sum()) / (2 * t)


def densities(instance, t, x):
    c, a, _ = of_law(instance)
    components = zip(instance["weights"], instance["means"], np.sqrt(instance["variances"]), strict=True)
    return sum(w * smoothed_on(c, a, t, [x - m], s)[:, 0] for w, m, s in components)


def imbalance(instance, rates):
    """With l_+- as given, out of densities by hand and finite differences."""
    (c, a, t), x = of_law(instance), instance["place"]
    p = densities(instance, t, x)
    p_t, p_x = differences(lambda s: densities(instance, s, x), t, 1e-2)[0], differences(lambda y: densities(instance, t, y), x, 1e-2)[0]
    leaving = a * rates(p) * p
    drifted = c * np.array([1, -1]) * p_x
    return -np.max(np.abs(-p_t - drifted + leaving - leaving[::-1]) / (np.abs(p_t) + np.abs(drifted) + a * p.sum()))


def loss(instance, turned=1.0):
    p, G = np.array(instance["masses"]), 1 / (1 + np.array(instance["guess"]))
    return p[0] * (G[0] ** 2 + turned * G[1] ** 2 - 2 * G[0]) + p[1] * (G[1] ** 2 + turned * G[0] ** 2 - 2 * G[1])


def least(instance):
    p = np.array(instance["masses"])
    return -(p @ p) / p.sum()


MUTANTS = {
    ("kac-law", "no-atoms"): (LAW, mass_defect),
    ("kac-law", "diffusive-variance"): (LAW, variance_defect),
    ("kac-law", "half-the-damping"): (LAW, damping_defect),
    ("kac-velocity-bounded", "nine-tenths"): (POINTS | {"place": 1.0}, lambda instance: -0.1 * instance["speed"]),  # on the light cone
    ("kac-velocity-bounded", "diffusion"): (POINTS | {"place": 4.0}, diffusive_room),
    ("reverse-flux-balance", "forward-rates"): (DATA, lambda instance: imbalance(instance, lambda p: 1.0)),
    ("reverse-flux-balance", "inverted-ratios"): (DATA, lambda instance: imbalance(instance, lambda p: p / p[::-1])),
    ("ratio-matching-minimum", "own-square-only"): (PAIR, lambda instance: loss(instance, 0.0) - least(instance)),
    ("ratio-matching-minimum", "smaller-minimum"): (PAIR | {"guess": [1 / 6, 6.0]}, lambda instance: 0.1 * least(instance)),
}


def test_every_mutant_is_listed():
    assert set(MUTANTS) == all_mutants(IDS)


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated_by_what_a_second_route_says(id, name):
    instance, route = MUTANTS[id, name]
    assert_violated_as_said(id, name, instance, route, rel=1e-5)


def test_margins_by_hand():
    """Of the bounds, away from equality; of the equations, by finite differences."""
    inside = POINTS | {"place": 0.8}
    assert margin(get("kac-velocity-bounded"), inside)[0] == pytest.approx(room(inside, 1.0), rel=1e-9)
    assert margin(get("ratio-matching-minimum"), PAIR)[0] == pytest.approx(loss(PAIR) - least(PAIR), rel=1e-12)
    assert abs(imbalance(DATA, lambda p: p[::-1] / p)) < 1e-6
