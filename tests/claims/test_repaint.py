"""RePaint's claim: its margin by SciPy's quadrature of two factors in place of an eigenbasis, at its stored counter-example and beside it."""

import numpy as np
import pytest
from scipy import integrate

from ensembletheory.claims import get
from tests.claims.margins import margin


def route(correlation, value, resamplings):
    rho, r = correlation, resamplings
    slope = r * rho * (1 - rho**2) ** (r / 2) * integrate.quad(lambda u: u**r * (1 - u**2 * rho**2) ** (-r / 2 - 1), 0, 1, epsabs=1e-13)[0]
    variance = (2 * r - 1) * (1 - rho**2) ** r * integrate.quad(lambda u: u ** (2 * r - 2) * (1 - u**2 * rho**2) ** -r, 0, 1, epsabs=1e-13)[0]
    ratio = (1 - rho**2) / variance
    return -(ratio - 1 - np.log(ratio) + ((rho - slope) * value) ** 2 / variance) / 2


@pytest.mark.parametrize("instance", [(0.5, 1.0, 1.0), (-0.8, 2.0, 3.0), (0.3, 1.5, 10.0)])
def test_the_margin_is_minus_the_divergence(instance):
    instance = dict(zip(("correlation", "value", "resamplings"), instance, strict=True))
    value, error = margin(get("repaint-exact"), instance)
    assert value == pytest.approx(route(**instance), rel=1e-9)
    assert value + error < -1e-4
