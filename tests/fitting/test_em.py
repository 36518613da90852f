import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembletheory.fitting.em import Climb, NotConverged, climb, default_tolerance, report


def halving(x):
    """Climbs -x^2 by halving x: the gain of a step from x is 3/4 of what a step ago it was 4 times."""
    return -(x**2), x / 2


def test_stops_at_the_first_small_gain():
    end = climb(halving, jnp.asarray(1.0), jnp.asarray(1e-6), jnp.asarray(100))
    # Objectives are -4^-t; the gain 3 * 4^-t falls to 1e-6 at t = 11, which is the twelfth step.
    assert bool(end.converged)
    assert int(end.iterations) == 12
    assert float(end.objective) == -(4.0**-11)
    assert float(end.parameters) == 2.0**-12


def test_stops_at_the_largest_number_of_iterations():
    end = climb(halving, jnp.asarray(1.0), jnp.asarray(1e-6), jnp.asarray(5))
    assert not bool(end.converged)
    assert int(end.iterations) == 5


def test_the_rule_is_relative():
    def far(x):
        return -(x**2) - 1e6, x / 2

    # Gains 3 * 4^-t fall to 1e-6 (1 + 1e6 + ..) = 1.0 at t = 1.
    assert int(climb(far, jnp.asarray(1.0), jnp.asarray(1e-6), jnp.asarray(100)).iterations) == 2


def test_nan_ends_the_climb_without_convergence():
    end = climb(lambda x: (jnp.where(x > 2.5, jnp.nan, x), x + 1), jnp.asarray(0.0), jnp.asarray(1e-6), jnp.asarray(100))
    assert not bool(end.converged)
    assert int(end.iterations) == 4
    with pytest.raises(ValueError, match="`X`: got a log-likelihood that is not finite for a toy"):
        report(end, "a toy", "Mend it.")


def test_batched_climbs_stop_each_at_its_own_step():
    ends = jax.vmap(lambda x: climb(halving, x, jnp.asarray(1e-6), jnp.asarray(100)))(jnp.asarray([1.0, 2.0**-4]))
    np.testing.assert_array_equal(ends.iterations, [12, 8])


def test_fits_that_still_climb_are_reported():
    ends = Climb(jnp.zeros(3), jnp.zeros(3), jnp.asarray([4, 7, 7]), jnp.asarray([True, False, False]))
    with pytest.warns(NotConverged, match="2 of 3 fits still climbed after 7 iterations"):
        report(ends, "toys", "Mend them.")


def test_tolerance_follows_the_precision():
    assert default_tolerance() == 2.0**-26
    with jax.enable_x64(False):
        assert default_tolerance() == pytest.approx(2.0**-11.5)
