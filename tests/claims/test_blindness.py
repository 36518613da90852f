"""The claims on what the score does not see: margins by quadrature in SciPy, the bound under Hypothesis, mutants violated by hand."""

import numpy as np
import pytest
from scipy import integrate
from scipy.special import xlogy
from scipy.stats import norm

from ensembletheory.claims import check, get, stored
from ensembletheory.claims.evaluation import stacked
from tests.claims import margins
from tests.claims.margins import evaluator

BLIND, RATE = get("blindness"), get("blindness-rate")


def margin(claim, a, w, v):
    return margins.margin(claim, {"separation": a, "weight": w, "other": v})


def density(x, a, w):
    return w * norm.pdf(x, a) + (1 - w) * norm.pdf(x, -a)


def score(x, a, w):
    return (-w * (x - a) * norm.pdf(x, a) - (1 - w) * (x + a) * norm.pdf(x, -a)) / density(x, a, w)


def quad(f, a):
    return integrate.quad(f, -a - 12, a + 12, points=[-a, 0, a], epsrel=1e-11, epsabs=1e-15, limit=400)[0]


def fisher(a, w, v):
    return quad(lambda x: density(x, a, w) * (score(x, a, w) - score(x, a, v)) ** 2, a)


def kl(a, w, v):
    return quad(lambda x: xlogy(density(x, a, w), density(x, a, w) / density(x, a, v)), a)


def bound(a, w, v):
    return np.sqrt(2 * np.pi) / 8 * a * (w - v) ** 2 * np.exp(-(a**2) / 2) / (np.sqrt(w * (1 - w)) * v * (1 - v))


@pytest.mark.parametrize(("a", "w", "v"), [(0.7, 0.3, 0.8), (2.0, 0.5, 0.2), (3.5, 0.9, 0.6)])
def test_margins_are_those_of_scipy(a, w, v):
    np.testing.assert_allclose(margin(BLIND, a, w, v)[0], 100 * fisher(a, w, v) - kl(a, w, v), rtol=1e-8)
    np.testing.assert_allclose(margin(RATE, a, w, v)[0], (bound(a, w, v) - fisher(a, w, v)) * np.exp(a**2 / 2), rtol=1e-6)


def test_the_bound_holds_on_random_instances_and_is_tight_for_equal_weights():
    values, errors = evaluator(RATE)(evaluator(RATE).instances(evaluator(RATE).draws(256, 0)))
    assert not np.any(RATE.violated(values, errors))
    tight, _ = evaluator(RATE)(stacked(list(RATE.equality())))
    np.testing.assert_allclose(tight, 0, atol=1e-12)


def test_the_bound_is_sharp_to_a_few_percent_for_near_weights_and_far_modes():
    assert 0.97 < fisher(5.0, 0.5, 0.52) / bound(5.0, 0.5, 0.52) < 1


@pytest.mark.parametrize("name", RATE.mutants)
def test_mutants_are_violated(name):
    mutant = RATE.mutated(name)
    assert mutant.violated(*margin(mutant, 5.0, 0.5, 0.52 if name == "smaller-constant" else 0.3))


def test_the_stored_counterexample_refutes_by_the_second_route_too():
    instance = stored.read_instance(stored.counterexample_path(BLIND))
    a, w, v = (float(instance[name]) for name in ("separation", "weight", "other"))
    assert 100 * fisher(a, w, v) - kl(a, w, v) < -0.01
    assert check("blindness").holds


def test_near_modes_do_not_refute():
    assert margin(BLIND, 1.0, 0.5, 0.2)[0] > 1
