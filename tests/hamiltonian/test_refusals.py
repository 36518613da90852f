"""What the exact laws of leapfrog refuse, and limits that are met without dividing by zero."""

import numpy as np
import pytest

from ensembletheory.hamiltonian import (
    OneStepPotential,
    chebyshev,
    discretised_divergence,
    effective_frequency,
    gaussian_encoder_gap,
    largest_step,
    leapfrog_law,
    leapfrog_matrix,
)
from ensembletheory.hamiltonian.leapfrog import leapfrog_variance
from ensembletheory.integration_cost import METHODS, divergences, evaluations_a_step, leading_error
from ensembletheory.integration_cost.methods import Method
from ensembletheory.laws import Gaussian
from ensembletheory.processes import QuadraticHamiltonian
from ensembletheory.samplers.splitting import Splitting

H = QuadraticHamiltonian(2.0, 3.0)
COUPLED = QuadraticHamiltonian(1.0, 4.0 * np.eye(2), coupling=[[0.0, 3.0], [-3.0, 0.0]])
TURN = METHODS["quarter_turn"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: leapfrog_law(H, 0), "`steps`: got 0; expected at least 1"),
        (lambda: leapfrog_law(H, -3), "`steps`: got -3; expected at least 1"),
        (lambda: leapfrog_law(H, 2.5), "`steps`: got numbers of type float64; expected integers"),
        (lambda: leapfrog_matrix(H, 0.1, 0), "`steps`: got 0"),
        (lambda: leapfrog_variance(1.0, 1.0, 0.1, np.array([2, 0])), "`steps`: got 0"),
        (lambda: chebyshev(0.1, 0), "`steps`: got 0"),
        (lambda: discretised_divergence(1.0, 0), "`steps`: got 0"),
        (lambda: effective_frequency(1.0, -3.0), "`step`: got 3 times"),
        (lambda: effective_frequency(1.0, 0.0), "`step`: got 0"),
        (lambda: largest_step(COUPLED), "`hamiltonian`.*coupled"),
        (lambda: QuadraticHamiltonian(np.eye(2), np.eye(2), mean=0.5), r"`mean`: got shape \(\); expected \(2,\)"),
        (lambda: gaussian_encoder_gap(OneStepPotential(Gaussian([0.0], 1.0), 0.01)), "`potential`: got c = step / mass = 0.01; expected at least 0.03"),
        (lambda: divergences(METHODS["scalar_mass"], [0.5, 2.0], 4), "`deviations`: got 2 modes of one horizon"),
        (lambda: leading_error(Method(TURN.model, TURN.scheme, 2), Gaussian([0.0], 4.0)), "Leapfrog of equal steps"),
    ],
)
def test_mistakes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_step_of_no_length_moves_nothing():
    np.testing.assert_allclose(leapfrog_matrix(H, 0.0, 3), np.eye(2), atol=1e-15)


@pytest.mark.parametrize(("kicks", "drifts", "evaluations"), [([0.0, 1.0, 0.0], [0.5, 0.5], 1), ([0.5, 0.5], [1.0], 1), ([0.25, 0.5, 0.25], [0.5, 0.5], 2)])
def test_gradients_of_a_step_are_counted_by_kicks(kicks, drifts, evaluations):
    assert evaluations_a_step(Method(TURN.model, Splitting(kicks, drifts))) == evaluations
