"""Gradients of every closed form are finite differences, also at equal laws, where all that are smooth there vanish."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.divergences import bounds
from tests.divergences.laws import law
from tests.helpers import spd

DIRECTION = jnp.asarray(spd(np.random.default_rng(3), 3))
BASES = {"G1": law("G", 1, 0), "G3": law("G", 3, 0), "M2": law("M", 2, 0)}


def gaussian(t, d):
    base = BASES[f"G{d}"]
    return et.Gaussian(base.mean + 0.3 * t, base.cov + t * DIRECTION[:d, :d])


def mixture(t):
    base = BASES["M2"]
    return et.GaussianMixture(base.weights, base.means + 0.3 * t, base.covs + t * DIRECTION[None, :2, :2])


def finite(t, which=0):
    points, weights = ([0.0, 1.0, 2.5], [0.2, 0.5, 0.3]) if which == 0 else ([0.3, 1.2, 2.0], [0.4, 0.4, 0.2])
    tilt = jnp.asarray([1.0, -0.4, -0.6])
    return et.FiniteLaw(jnp.asarray(points)[:, None] * (1 + t), jnp.asarray(weights) + t * tilt)


def same_places(law):
    return et.FiniteLaw(jnp.asarray([[0.0], [1.0], [2.5]]), law.weights)


def wide(d):
    return et.Gaussian(np.full(d, 0.2), 4.0 * np.eye(d) + 0.3 * spd(np.random.default_rng(8), d))


def chernoff(p, q):
    return bounds.kolchinsky_tracey_diversity([p, q], [0.3, 0.7])[0]


SMOOTH = {"kl": et.kl, "w2_squared": et.w2_squared, "fisher": et.fisher_divergence, "hellinger": et.hellinger_squared, "chi_squared": et.chi_squared, "l2": et.l2_squared}
SMOOTH |= {"mmd": et.mmd_squared, "hershey_olsen": bounds.hershey_olsen, "kolchinsky_tracey": chernoff}
ON_ATOMS = (et.kl, et.chi_squared, et.hellinger_squared, et.jensen_shannon, et.total_variation)
ROUGH = {"w1": et.w1, "total_variation": et.total_variation}

CASES = {
    **{f"{name}-{d}": (f, lambda t, d=d: gaussian(t, d), lambda d=d: wide(d)) for name, f in SMOOTH.items() for d in (1, 3)},
    **{f"{name}-1": (f, lambda t: gaussian(t, 1), lambda: wide(1)) for name, f in ROUGH.items()},
    **{f"mixture-{f.__name__}": (f, mixture, lambda: wide(2)) for f in (et.chi_squared, et.l2_squared, et.mmd_squared)},
    **{f"finite-{f.__name__}": (f, lambda t: finite(t), lambda: finite(0.0, 1)) for f in (et.w1, et.w2_squared, et.mmd_squared)},
    **{f"atoms-{f.__name__}": (f, lambda t: same_places(finite(t)), lambda: same_places(finite(0.0, 1))) for f in ON_ATOMS},
    **{f"cells-{f.__name__}": (f, lambda t: finite(t), lambda: wide(1)) for f in (et.w1, et.w2_squared)},
}


@cache
def value_and_slope(name):
    """Of the divergence from the moving law to another one, and whether it is a closed form."""
    divergence, moving, fixed = CASES[name]
    kind = eqx.filter_eval_shape(lambda t: divergence(moving(t), fixed()), 0.0).kind
    return jax.jit(jax.value_and_grad(lambda t, other: divergence(moving(t), other).value)), kind


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_finite_differences(name):
    at, kind = value_and_slope(name)
    step, other = 1e-5, CASES[name][2]()
    (above, _), (below, _), (_, slope) = (at(t, other) for t in (step, -step, 0.0))
    assert kind == "closed_form"
    assert float(slope) == pytest.approx((float(above) - float(below)) / (2 * step), rel=2e-7, abs=1e-9)


@pytest.mark.parametrize("name", [f"{name}-{d}" for name in SMOOTH for d in (1, 3)])
def test_gradients_vanish_at_equal_laws(name):
    assert abs(float(value_and_slope(name)[0](0.0, CASES[name][1](0.0))[1])) < 1e-10
