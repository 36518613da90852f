"""The soft-uniform law against its formula, adaptive quadrature and the convolution that it is."""

import jax
import numpy as np
import pytest
from scipy import integrate
from scipy.special import expit

from ensembletheory.laws import SoftUniform
from tests.helpers import assert_mean

WIDTHS, SHARPNESS, MEAN = np.array([2.0, 0.5]), np.array([3.0, 20.0]), np.array([1.0, -0.5])
LAW = SoftUniform(WIDTHS, SHARPNESS, MEAN)


def density(x, i):
    y = x - MEAN[i]
    return (expit(SHARPNESS[i] * (y + WIDTHS[i] / 2)) - expit(SHARPNESS[i] * (y - WIDTHS[i] / 2))) / WIDTHS[i]


def integral(f, i):
    edges = MEAN[i] + WIDTHS[i] / 2 * np.array([-1, 1])
    reach = 45 / SHARPNESS[i]
    return integrate.quad(f, edges[0] - reach, edges[1] + reach, points=list(edges), epsabs=1e-13, limit=200)[0]


def test_density_score_and_mass():
    points = np.array([[0.0, -0.5], [2.2, -0.3], [1.0, -0.9], [-1.5, 0.1]])
    exact = sum(np.log(density(points[:, i], i)) for i in range(2))
    np.testing.assert_allclose(LAW.log_prob(points), exact, rtol=1e-9)
    e = 1e-6
    slopes = np.stack([(np.log(density(points[:, i] + e, i)) - np.log(density(points[:, i] - e, i))) / (2 * e) for i in range(2)], axis=1)
    np.testing.assert_allclose(LAW.score(points), slopes, rtol=1e-6, atol=1e-6)
    assert integral(lambda x: density(x, 0), 0) == pytest.approx(1, abs=1e-12)


def test_far_tails_keep_their_digits():
    """Far out the density is e^{-b |x|} (e^{ab/2} - e^{-ab/2}) / a, where the difference of the edges would round to 0."""
    far = LAW.log_prob(MEAN + np.array([40.0, 5.0]))
    exact = np.sum(-SHARPNESS * [40.0, 5.0] + np.log(2 * np.sinh(WIDTHS * SHARPNESS / 2) / WIDTHS))
    assert far == pytest.approx(exact, rel=1e-13)


def test_moments_and_entropy():
    for i in range(2):
        assert LAW.cov[i, i] == pytest.approx(integral(lambda x: (x - MEAN[i]) ** 2 * density(x, i), i), rel=1e-10)  # noqa: B023
    entropy = LAW.entropy()
    exact = sum(integral(lambda x: -density(x, i) * np.log(max(density(x, i), 1e-300)), i) for i in range(2))  # noqa: B023
    assert abs(entropy.value - exact) < entropy.error + 1e-9
    assert entropy.kind == "quadrature"


def test_draws():
    x = np.asarray(LAW.sample(jax.random.key(0), 20_000))
    assert_mean(x, MEAN)
    assert_mean((x - MEAN) ** 2, np.diag(LAW.cov))
    assert_mean(np.cos(x), [integral(lambda y: np.cos(y) * density(y, i), i) for i in range(2)])  # noqa: B023


def test_parts_and_images():
    assert LAW.marginal([1]).widths == WIDTHS[1]
    assert LAW.condition([0], [5.0]).mean == MEAN[1]
    pushed = LAW.push(np.diag([2.0, -0.5]), np.array([0.0, 1.0]))
    x = np.array([1.3, -0.4])
    assert pushed.log_prob(np.array([2.0, -0.5]) * x + np.array([0.0, 1.0])) == pytest.approx(float(LAW.log_prob(x)), rel=1e-12)  # |det| = 1


def test_refusals():
    with pytest.raises(ValueError, match="`widths`: got -1; expected positive numbers"):
        SoftUniform([-1.0, 1.0], 1.0)
    with pytest.raises(ValueError, match="`sharpness`: got 0"):
        SoftUniform([1.0], 0.0)
    with pytest.raises(ValueError, match="`sharpness`: got shape"):
        SoftUniform([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="`A`: got a 2 x 2 matrix that mixes"):
        LAW.push(np.array([[1.0, 1.0], [0.0, 1.0]]), np.zeros(2))
    with pytest.raises(ValueError, match="`dims`: got all coordinates"):
        LAW.condition([0, 1], [0.0, 0.0])
