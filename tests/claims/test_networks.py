"""The claims on averages of weights: margins by NumPy, mutants violated and the refutation done by hand."""

import numpy as np
import pytest

from ensembletheory.claims import get
from ensembletheory.claims.stored import counterexample_path, read_instance
from tests.claims.margins import all_mutants, assert_violated_as_said, evaluator, margin

IDS = ("averaged-weights-gap", "matched-weights-gain")
CLOSE = {"incoming": [0.05, 0.0], "outgoing": [-1.0, 0.0], "other_incoming": [0.15, 0.0], "other_outgoing": [1.0, 0.0], "t": 0.5, "x": 1.0}
TURNED = {"incoming": [1.0, 0.0], "outgoing": [1.0, 0.0], "other_incoming": [-1.0, 0.0], "other_outgoing": [1.0, 0.0], "t": 0.5, "x": 1.0}
MUTANTS = {("averaged-weights-gap", "smaller-constant"): CLOSE, ("averaged-weights-gap", "kinks"): TURNED}


def gap(instance, activation=np.tanh):
    """By one unit after the other."""
    t, x, total = float(instance["t"]), float(instance["x"]), 0.0
    for w, v, w2, v2 in zip(*(instance[name] for name in ("incoming", "outgoing", "other_incoming", "other_outgoing")), strict=True):
        total += ((1 - t) * v + t * v2) * activation(((1 - t) * w + t * w2) * x) - (1 - t) * v * activation(w * x) - t * v2 * activation(w2 * x)
    return abs(total)


def allowed(instance, constant=0.5, bend=0.7698003589195):
    """With the largest |tanh''|, 0.7698 at tanh^2 = 1/3."""
    t, x, total = float(instance["t"]), float(instance["x"]), 0.0
    for w, v, w2, v2 in zip(*(instance[name] for name in ("incoming", "outgoing", "other_incoming", "other_outgoing")), strict=True):
        total += 2 * abs((v2 - v) * (w2 - w) * x) + bend * max(abs(v), abs(v2)) * ((w2 - w) * x) ** 2
    return constant * t * (1 - t) * total


def gain(instance):
    """With the better of both signs of the second unit, by trying them."""
    (w, v), (w2, v2), y = instance["first"], instance["second"], float(instance["target"])
    near = min((1, -1), key=lambda sign: (w - sign * w2) ** 2 + (v - sign * v2) ** 2)
    losses = [(b * np.tanh(a) - y) ** 2 for a, b in ((w, v), (w2, v2), ((w + near * w2) / 2, (v + near * v2) / 2))]
    return (losses[0] + losses[1]) / 2 - losses[2]


ROUTES = {"averaged-weights-gap": lambda instance: allowed(instance) - gap(instance), "matched-weights-gain": gain}
FALSE = {
    "smaller-constant": lambda instance: allowed(instance, constant=0.4) - gap(instance),
    "kinks": lambda instance: allowed(instance, bend=0.0) - gap(instance, lambda z: np.maximum(z, 0)),
}


@pytest.mark.parametrize("id", IDS)
def test_margins_agree_with_a_second_route(id):
    run = evaluator(get(id))
    instances = run.instances(run.draws(64, 0))
    values, _ = run(instances)
    for i in range(64):
        instance = {name: np.asarray(part[i]) for name, part in instances.items()}
        assert values[i] == pytest.approx(ROUTES[id](instance), rel=1e-9, abs=1e-12)
        assert id == "matched-weights-gain" or values[i] >= -1e-12


def test_the_largest_second_derivative_of_tanh_is_the_constant():
    x = np.linspace(-3, 3, 600_001)
    assert np.max(np.abs(2 * np.tanh(x) * (1 - np.tanh(x) ** 2))) == pytest.approx(4 / (3 * np.sqrt(3)), rel=1e-9)


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated(id, name):
    assert_violated_as_said(id, name, MUTANTS[id, name], FALSE[name], 1e-9)


def test_every_mutant_is_there():
    assert set(MUTANTS) == all_mutants(IDS)


def test_the_stored_refutation_by_hand():
    """Two units that are both the function 0, and their average v = w = 1/2."""
    instance = read_instance(counterexample_path(get("matched-weights-gain")))
    assert {name: np.asarray(value).tolist() for name, value in instance.items()} == {"first": [1, 0], "second": [0, 1], "target": 0}
    assert margin(get("matched-weights-gain"), instance)[0] == pytest.approx(-((np.tanh(0.5) / 2) ** 2), rel=1e-12)
