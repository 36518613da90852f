"""Paths of a sampler begin at draws of the start, follow the scheme's step, and end at the draws of `sample`."""

import jax
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.samplers import Euler, EulerMaruyama, Sampler
from tests.helpers import assert_mean

VP, LINEAR = et.processes.VariancePreserving(), et.processes.LinearInterpolant()
TARGET, START, GRID = et.Gaussian([0.7], 0.4), et.Gaussian([0.3], [[1.2]]), np.array([1.0, 0.7, 0.3, 0.1])


def test_ends_are_the_draws_of_sample_and_every_time_has_the_law_of_the_grid_so_far():
    sampler = Sampler(VP, VP.score(TARGET), EulerMaruyama(), GRID)
    paths = np.asarray(sampler.paths(jax.random.key(3), 50_000, START))
    assert paths.shape == (50_000, 4, 1)
    np.testing.assert_array_equal(paths[:, -1], sampler.sample(jax.random.key(3), 50_000, START))
    assert_mean((paths[:, 0] - 0.3) ** 2, [1.2])
    u = np.exp(-(0.1 * GRID + 19.9 * GRID**2 / 2))
    mean, variance = 0.3, 1.2
    for i in range(3):
        beta, noised, h = 0.1 + 19.9 * GRID[i], 1 + u[i] * (0.4 - 1), GRID[i] - GRID[i + 1]
        factor = 1 + h * (beta / 2 - beta / noised)
        mean, variance = factor * mean + h * beta * np.sqrt(u[i]) * 0.7 / noised, factor**2 * variance + beta * h
        assert_mean(paths[:, i + 1], [mean])
        assert_mean((paths[:, i + 1] - mean) ** 2, [variance])


def test_a_path_that_leaves_the_finite_numbers_names_its_step():
    atom = et.FiniteLaw([[0.5]], [1.0])
    sampler = Sampler(VP, VP.velocity(atom), Euler(), [1.0, 0.0, 0.0])
    with pytest.raises(FloatingPointError, match="Euler left the finite numbers at step .* from time 0 to 0"):
        sampler.paths(jax.random.key(0), 2, START)
