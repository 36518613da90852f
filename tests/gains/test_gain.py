"""Gains and their decompositions: the diversity term, computed on its own, is the gain."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ensembletheory as et
from tests.helpers import spd

P = et.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [[0.25], [0.09]])
MEMBERS = [et.Gaussian([-1.0], 0.5), et.Gaussian([0.5], 1.5), et.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[0.4], [0.2]])]
WEIGHTS = [0.2, 0.5, 0.3]


def test_parts_are_what_they_say():
    gain = et.gain(P, MEMBERS, weights=WEIGHTS)
    single = np.array([float(et.kl(P, q)) for q in MEMBERS])
    assert float(gain.average) == pytest.approx(single @ WEIGHTS, rel=1e-12)
    assert float(gain.best) == pytest.approx(single.min(), rel=1e-12)
    assert float(gain.ensemble) == pytest.approx(float(et.kl(P, et.linear_pool(MEMBERS, WEIGHTS))), rel=1e-12)
    assert float(gain.gain) == pytest.approx(float(gain.average) - float(gain.ensemble), rel=1e-12)
    assert abs(float(gain.gain) - float(gain.diversity)) <= float(gain.gain.error) + float(gain.diversity.error)
    assert gain.best.kind == "quadrature"
    assert "diversity" in str(gain)


@given(st.integers(0, 2**32 - 1))
def test_log_pool_gain_is_its_diversity_whatever_the_target(seed):
    rng = np.random.default_rng(seed)
    members, weights = [et.Gaussian(rng.normal(size=2), spd(rng, 2)) for _ in range(3)], rng.dirichlet(np.ones(3))
    for _ in range(2):
        gain = et.gain(et.Gaussian(rng.normal(size=2), spd(rng, 2)), members, et.log_pool, weights=weights)
        assert float(gain.gain) == pytest.approx(float(gain.diversity), rel=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_barycenter_gain_is_the_spread_where_w2_is_a_hilbert_distance(seed):
    rng = np.random.default_rng(seed)
    members, weights = [et.Gaussian(rng.normal(size=2), rng.uniform(0.1, 3, 2)) for _ in range(3)], rng.dirichlet(np.ones(3))
    gain = et.gain(et.Gaussian(rng.normal(size=2), rng.uniform(0.1, 3, 2)), members, et.w2_barycenter, et.w2_squared, weights)
    assert float(gain.gain) == pytest.approx(float(gain.diversity), rel=1e-9)


def test_no_diversity_is_claimed_where_no_identity_holds():
    turned = [et.Gaussian([0.0, 0.0], spd(np.random.default_rng(seed), 2)) for seed in (1, 2)]
    assert et.gain(et.standard_normal(2), turned, et.w2_barycenter, et.w2_squared).diversity is None
    rule = partial(et.mean_score_law, process=et.processes.VariancePreserving(), horizon=jnp.inf)
    assert et.gain(et.standard_normal(2), turned, rule).diversity is None


def test_monte_carlo_gain_is_paired():
    rng = np.random.default_rng(0)
    target = et.GaussianMixture([0.5, 0.5], rng.normal(size=(2, 3)), np.ones((2, 3)))
    members = [et.Gaussian(rng.normal(size=3), spd(rng, 3)) for _ in range(3)]
    gain = et.gain(target, members, key=jax.random.key(0), samples=20_000)
    assert gain.gain.kind == "monte_carlo"
    assert float(gain.gain) == pytest.approx(float(gain.diversity), rel=1e-9)  # the same draws answer both
    assert float(gain.diversity.error) < float(gain.gain.error)


def test_bad_input_is_refused_with_a_reason():
    with pytest.raises(ValueError, match="`members`.*empty"):
        et.gain(P, [])
    with pytest.raises(ValueError, match="`weights`.*sum"):
        et.gain(P, MEMBERS, weights=[0.2, 0.2, 0.2])
    with pytest.raises(ValueError, match="dimension"):
        et.gain(et.standard_normal(2), MEMBERS)


def test_32_bits_are_refused():
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(RuntimeError, match=r"gain: got 32-bit.*enable_x64\(\)"):
            et.gain(P, MEMBERS)
    finally:
        jax.config.update("jax_enable_x64", True)
