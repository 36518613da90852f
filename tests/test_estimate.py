import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.estimate import closed_form, monte_carlo
from tests.helpers import assert_within_errors


def test_errors_add_and_the_least_certain_kind_wins():
    exact, bounded, sampled = closed_form(1.0), et.Estimate(jnp.asarray(2.0), jnp.asarray(0.1), "quadrature"), monte_carlo(jnp.asarray([3.0, 5.0]))
    assert (exact - bounded).kind == "quadrature"
    assert (bounded + sampled).kind == "monte_carlo"
    total = 2 * bounded - sampled + 1.0
    assert float(total) == pytest.approx(2 * 2 - 4 + 1)
    assert float(total.error) == pytest.approx(2 * 0.1 + 1.0)
    assert float(1.0 - bounded) == -1.0
    assert float((-3.0 * bounded).error) == pytest.approx(0.3)


def test_monte_carlo_errors_are_standard_errors():
    rng = np.random.default_rng(0)
    estimates = [monte_carlo(jnp.asarray(rng.exponential(2.0, 400))) for _ in range(200)]
    scores = np.array([(float(e) - 2.0) / float(e.error) for e in estimates])
    assert_within_errors(scores.std(ddof=1), 1 / np.sqrt(2 * 200), 1.0)  # standard error of a standard deviation of normal scores


@pytest.mark.parametrize("draws", [[], [1.0]])
def test_draws_that_tell_no_error_are_refused(draws):
    with pytest.raises(ValueError, match=f"`samples`: got {len(draws)}; expected at least 2"):
        monte_carlo(jnp.asarray(draws))


def test_reading():
    assert str(closed_form(0.125)) == "0.125 (closed_form)"
    assert "± 0.1 (quadrature)" in str(et.Estimate(jnp.asarray(2.0), jnp.asarray(0.1), "quadrature"))
