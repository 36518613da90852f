"""The bias of RePaint: green as it stands, and its curves against closed forms and orders."""

import jax.numpy as jnp
import numpy as np
import pytest

from paper_figures.repaint_bias import FIGURE, _limits


@pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption
def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


@pytest.mark.verify
def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "correlations")


def test_curves_are_closed_where_they_can_be():
    rho, r = np.asarray(FIGURE.inputs["correlations"]), np.geomspace(1, 1000, 13)
    slopes, variances = map(np.asarray, _limits(jnp.asarray(rho), jnp.asarray(r)))
    np.testing.assert_allclose(slopes[:, 0], (1 - np.sqrt(1 - rho**2)) / rho**2, rtol=1e-10)
    np.testing.assert_allclose(variances[:, 0], np.arctanh(rho) / rho, rtol=1e-10)
    np.testing.assert_allclose(slopes[0], r / (r + 1), atol=2 * rho[0] ** 2)
    assert (np.diff(slopes, axis=1) > 0).all()
    assert (np.diff(variances, axis=1) < 0).all()


@pytest.mark.verify  # of the same drawing
def test_steps_only_help_who_asks_for_the_conditional(drawn):
    data = drawn(FIGURE).data
    assert data["w2_conditional"][1] < 0.6 * data["w2_conditional"][0]
    assert data["w2_replacement"][1] > data["w2_replacement"][0]
    assert (data["kl"] > data["kl_continuous"][None]).all()
