"""Pierret & Galerne's recursions for the variance along an eigenvector (table of section 1.2 of their paper), in NumPy; they stand in tests only."""

import itertools

import numpy as np

LOW, HIGH = 0.05, 10.0  # half of Song's: the paper writes dx = -beta x dt + sqrt(2 beta) dw


def beta(t):
    return LOW + (HIGH - LOW) * t


def integral(t):
    return LOW * t + (HIGH - LOW) * t**2 / 2


def noised(values, t):
    return np.exp(-2 * integral(t)) * values - np.expm1(-2 * integral(t))


def em(values, s, q, v):
    return (1 + (s - q) * beta(s) * (1 - 2 / noised(values, s))) ** 2 * v + 2 * (s - q) * beta(s)


def ei(values, s, q, v):
    g = integral(s) - integral(q)
    return (1 + np.expm1(g) * (1 - 2 / noised(values, s))) ** 2 * v + np.expm1(2 * g)


def ddpm(values, s, q, v):
    b = 2 * (s - q) * beta(s)
    return (1 - b / noised(values, s)) ** 2 / (1 - b) * v + b


def rate(values, t):
    return beta(t) * (1 - 1 / noised(values, t))


def euler(values, s, q, v):
    return (1 + (s - q) * rate(values, s)) ** 2 * v


def heun(values, s, q, v):
    h, first = s - q, rate(values, s)
    return (1 + h / 2 * (first + rate(values, q) * (1 + h * first))) ** 2 * v


def rk4(values, s, q, v):
    h, first, middle = s - q, rate(values, s), rate(values, (s + q) / 2)
    second = middle * (1 + h * first / 2)
    third = middle * (1 + h * second / 2)
    return (1 + h * (first + 2 * second + 2 * third + rate(values, q) * (1 + h * third)) / 6) ** 2 * v


STEPS = {"EM": em, "EI": ei, "DDPM": ddpm, "Euler": euler, "Heun": heun, "RK4": rk4}
EVALUATIONS = {"Heun": 2, "RK4": 4}


def times(nodes, truncation):
    return 1 - (1 - truncation) * np.arange(nodes) / (nodes - 1)


def along(name, values, nodes, truncation, start):
    """The variances at each node."""
    yield start
    for s, q in itertools.pairwise(times(nodes, truncation)):
        start = STEPS[name](values, s, max(q, truncation), start)
        yield start


def continuous(name, values, t, start):
    """Propositions 2 and 3: variances at time t from those of `start` at time 1."""
    C, last = noised(values, t), noised(values, 1.0)
    if name == "ODE":
        return C / last * start
    factor = np.exp(-(integral(1.0) - integral(t))) * C / last
    return C - factor**2 * last + factor**2 * start


def w2(v, values):
    return np.sqrt(np.sum((np.sqrt(v) - np.sqrt(values)) ** 2))
