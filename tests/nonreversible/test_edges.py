"""Where rounding or a degenerate process would give NaN or a wrong number: isotropic targets, starts without a density, directions that are never forgotten."""

import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.laws.gaussian import singular_gaussian
from ensembletheory.nonreversible import fastest_skew, gap, kl_decay, step_limit, time_to
from ensembletheory.processes import SkewOrnsteinUhlenbeck
from tests.helpers import spd

FORGETS_ONE = SkewOrnsteinUhlenbeck(et.standard_normal(2), np.zeros((2, 2)), np.diag([1.0, 0.0]))
START = et.Gaussian([1.0, 2.0], 0.5)


@pytest.mark.parametrize("seed", range(12))
def test_targets_that_are_isotropic_up_to_rounding_have_an_optimum(seed):
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(5, 5)))[0]
    target = et.Gaussian(np.zeros(5), (lambda S: (S + S.T) / 2)(Q @ (2.0 * np.eye(5)) @ Q.T))
    J = fastest_skew(target).skew
    assert np.all(np.isfinite(J))
    assert float(gap(SkewOrnsteinUhlenbeck(target, J))) == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_start_without_a_density_is_infinitely_far_at_first_and_not_later(seed):
    rng = np.random.default_rng(seed)
    cov = spd(rng, 3)
    process, point = SkewOrnsteinUhlenbeck(et.Gaussian(np.zeros(3), cov), np.zeros((3, 3))), singular_gaussian([1.0, -2.0, 0.5], np.zeros((3, 3)))
    first, later = np.asarray(kl_decay(process, point, [0.0, 0.7]).value)
    assert first == np.inf
    eigenvalues, Q = np.linalg.eigh(np.linalg.inv(cov))
    memory = np.exp(-2 * 0.7 * eigenvalues)
    moved = Q.T @ np.array([1.0, -2.0, 0.5])
    assert later == pytest.approx(0.5 * np.sum(memory * moved**2 * eigenvalues - memory - np.log1p(-memory)), rel=1e-9)
    assert float(time_to(process, point, 1e-3)) > 0.7


def test_what_is_never_forgotten_is_refused():
    assert float(step_limit(FORGETS_ONE)) == 0.0
    with pytest.raises(ValueError, match="`tolerance`: got 0.001, which is not met within a time of 4e"):
        time_to(FORGETS_ONE, START, 1e-3)
    with pytest.raises(ValueError, match="`times`: got 3e"):
        kl_decay(FORGETS_ONE, START, jnp.array([3e8]))
