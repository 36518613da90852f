"""The study of learned beside exact gains: its grid, and what must hold of a cell whatever the networks."""

import jax
import numpy as np
import pytest
from scipy import integrate, stats

from ensembletheory.fitting import bootstrap_mixtures
from simulations.catalogue import find
from simulations.network_ensembles import TARGETS, _target, grid, simulate, study

CELL = {"target": "two modes", "repetition": 0, "sample": 60, "ensemble": 2, "steps": 150, "draws": 4096}
HORIZON_AND_STEPS = 0.02  # nats: at t = 1e-3 and with 24 steps of Heun's method the law of an exact score is not quite its own


def test_the_grid_and_its_name():
    assert find("network-ensembles") is study
    cells = grid(list(TARGETS), 3, 60, 8, 1000, 4096)
    assert len(cells) == 9
    assert len({tuple(cell.items()) for cell in cells}) == 9
    with pytest.raises(ValueError, match="`target`: got 'three modes'"):
        simulate({**CELL, "target": "three modes"}, jax.random.key(0))


@pytest.mark.verify  # trains networks
def test_a_cell():
    """One member gains nothing; the exact members' divergences by adaptive quadrature up to the horizon's shift and errors; exact scores do not lose."""
    key = study.key(CELL)
    one, two = simulate(CELL, key)
    assert (one["members"], two["members"]) == (1, 2)
    np.testing.assert_allclose([one["gain"], one["exact_gain"]], 0, atol=1e-9)
    assert two["exact_gain"] > -5 * two["exact_gain_error"]
    assert two["gain_error"] > 0
    data_key, fit_key, *_ = jax.random.split(key, 4)
    laws = bootstrap_mixtures(fit_key, _target("two modes").sample(data_key, 60), 2, 2, ridge=0.03)

    def log_density(weights, means, variances, x):
        return np.log(sum(w * stats.norm.pdf(x, m, np.sqrt(v)) for w, m, v in zip(weights, means, variances, strict=True)))

    def divergence(law):
        other = [np.asarray(part).ravel() for part in (law.weights, law.components.mean, jax.vmap(lambda c: c.cov)(law.components))]
        p = TARGETS["two modes"]
        return integrate.quad(lambda x: np.exp(log_density(*p, x)) * (log_density(*p, x) - log_density(*other, x)), -8, 8, points=[-1.5, 1.0], limit=400)[0]

    exact = np.mean([divergence(law) for law in laws])
    assert 0 < two["exact_average_error"] < exact
    assert two["average_error"] > 0
    assert abs(two["exact_average"] - exact) <= HORIZON_AND_STEPS + 5 * two["exact_average_error"]


def test_the_numbers_depend_on_samplers_processes_and_networks():
    for module in ("ensembletheory.samplers.heun", "ensembletheory.samplers.sampler", "ensembletheory.processes.path", "ensembletheory.neural.perceptron"):
        assert module in study.uses
