import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import ensembletheory as et
from tests.helpers import assert_mean

POINTS, WEIGHTS = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [2.0, -1.0]]), np.array([0.2, 0.5, 0.1, 0.2])
LAW = et.FiniteLaw(POINTS, WEIGHTS)


def test_masses_and_entropy_count_a_repeated_point_once():
    np.testing.assert_allclose(
        LAW.log_prob([[0.0, 1.0], [1.0, 1.0], [2.0, -1.0], [2.0, 0.0]]), np.log([0.3, 0.5, 0.2, 0.0], where=[True] * 3 + [False], out=np.full(4, -np.inf))
    )
    assert float(LAW.entropy()) == pytest.approx(scipy.stats.entropy([0.3, 0.5, 0.2]))
    assert LAW.entropy().kind == "closed_form"
    assert float(et.FiniteLaw(np.arange(4.0)[:, None], [0.5, 0.5, 0.0, 0.0]).entropy()) == pytest.approx(np.log(2))


def test_moments_and_draws():
    np.testing.assert_allclose(LAW.mean, WEIGHTS @ POINTS)
    np.testing.assert_allclose(LAW.cov, np.cov(POINTS.T, aweights=WEIGHTS, ddof=0))
    draws = np.asarray(LAW.sample(jax.random.key(0), 20_000))
    assert_mean(np.all(draws == [0.0, 1.0], axis=1), 0.3)
    assert_mean(draws, WEIGHTS @ POINTS)


def test_marginal_conditional_and_push():
    np.testing.assert_allclose(LAW.marginal([1]).log_prob([[1.0], [-1.0]]), np.log([0.8, 0.2]))
    np.testing.assert_allclose(LAW.condition([1], [1.0]).log_prob([[0.0], [1.0]]), np.log([0.375, 0.625]))
    np.testing.assert_allclose(LAW.push([[1.0, 1.0]], [0.5]).log_prob([[1.5], [2.5]]), np.log([0.5, 0.5]))


def test_expectation_under_it_is_a_sum_and_pools_mix_it():
    pool = et.linear_pool([LAW, et.FiniteLaw([[5.0, 5.0]])], [0.25, 0.75])
    np.testing.assert_allclose(pool.log_prob([[5.0, 5.0], [1.0, 1.0]]), np.log([0.75, 0.125]))
    slope = jax.grad(lambda w: et.FiniteLaw(POINTS, jnp.stack([w, 0.8 - w, 0.1, 0.1])).entropy().value)(0.2)
    assert float(slope) == pytest.approx(np.log(0.6 / 0.3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LAW.score([0.0, 1.0]), TypeError, "score.*no.*density|score.*has none"),
        (lambda: LAW.hessian([0.0, 1.0]), TypeError, "Hessian"),
        (lambda: LAW.pieces(), TypeError, "density"),
        (lambda: LAW.condition([1], [3.0]), ValueError, "`values`.*positive weight"),
        (lambda: LAW.condition([0, 1], [0.0, 1.0]), ValueError, "`dims`.*left free"),
        (lambda: et.FiniteLaw([1.0, 2.0]), ValueError, r"`points`.*\(n, d\)"),
        (lambda: et.FiniteLaw(POINTS, [0.5, 0.5]), ValueError, "`weights`"),
        (lambda: et.log_pool([LAW, LAW]), TypeError, r"`members\[0\]`.*FiniteLaw"),
    ],
)
def test_what_has_no_answer_is_refused(call, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        call()
