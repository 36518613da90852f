"""Densities on the line against Gaussian laws and against draws of the same sampler; a step that no formula knows, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.pooling import Alternating
from ensembletheory.samplers import AdaptiveLangevinCorrector, EulerMaruyama, Heun, Sampler, densities_on_the_line, density_on_the_line
from tests.helpers import assert_mean

OU = et.processes.OrnsteinUhlenbeck(horizon=2.0)
START = et.standard_normal(1)
GRID = np.concatenate([np.linspace(2.0, 0.1, 20), np.linspace(0.08, 0.0, 8)])
X = np.linspace(-8, 8, 321)
MIXTURE = et.GaussianMixture([0.7, 0.3], [[-2.0], [1.5]], [[0.3], [0.5]])


def test_of_gaussian_data_it_is_the_law_of_the_sampler():
    sampler = Sampler(OU, OU.score(et.Gaussian([0.5], 0.6)), EulerMaruyama(), GRID)
    law = sampler.law(START)
    normal = np.exp(-((X - float(law.mean[0])) ** 2) / (2 * float(law.cov[0, 0]))) / np.sqrt(2 * np.pi * float(law.cov[0, 0]))
    np.testing.assert_allclose(density_on_the_line(sampler, START, X), normal, atol=1e-9)


def test_of_mixtures_it_is_the_law_of_the_draws():
    sampler = Sampler(OU, OU.score(MIXTURE), EulerMaruyama(), GRID)
    density, dx = np.asarray(density_on_the_line(sampler, START, X)), X[1] - X[0]
    draws = np.asarray(sampler.sample(jax.random.key(0), 20_000, START))[:, 0]
    statistics = [np.cos, np.sin, lambda x: np.tanh(3 * x), lambda x: x**2]
    assert_mean(np.stack([f(draws) for f in statistics], 1), [dx * density @ f(X) for f in statistics])


def test_members_take_turns():
    """Two members whose steps alternate at random: the second moment of Gaussian members by NumPy's recursion."""
    variances, w = np.array([0.4, 2.0]), np.array([0.3, 0.7])
    scores = et.MeanField([OU.score(et.Gaussian([0.0], S)) for S in variances], w)
    alone, turns = Sampler(OU, scores.fields[0], EulerMaruyama(), GRID), Sampler(OU, scores, Alternating(EulerMaruyama()), GRID)
    first, density = np.asarray(densities_on_the_line([alone, turns], START, X))
    second = 1.0
    for t, s in zip(GRID[:-1], GRID[1:], strict=True):  # noqa: RUF007
        h, v = t - s, 1 + np.exp(-2 * t) * (variances - 1)
        second = w @ (1 + h - 2 * h / v) ** 2 * second + 2 * h
    np.testing.assert_allclose(first, density_on_the_line(alone, START, X), rtol=1e-12)
    assert (X[1] - X[0]) * density @ X**2 == pytest.approx(second, rel=1e-7)  # beyond the points there is less than 1e-9 of the mass


@pytest.mark.parametrize(
    ("scheme", "kind", "points", "message"),
    [
        (Heun(), "velocity", X, "`samplers`.*one draw"),
        (AdaptiveLangevinCorrector(EulerMaruyama()), "score", X, "`samplers`.*one draw"),
        (EulerMaruyama(), "score", X[:2], "`points`.*equally spaced"),
        (EulerMaruyama(), "score", X**3, "`points`.*equally spaced"),
        (EulerMaruyama(), "score", np.linspace(-8, 8, 41), "`points`.*noise of a step"),
        (EulerMaruyama(), "score", np.linspace(-2, 2, 321), "`points`.*mass"),
    ],
)
def test_bad_input_is_refused_with_a_reason(scheme, kind, points, message):
    sampler = Sampler(OU, getattr(OU, kind)(MIXTURE), scheme, jnp.asarray(GRID))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        density_on_the_line(sampler, START, points)
