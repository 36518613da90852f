"""The exact law of a sampler is the law of its draws, for every scheme; changing a step changes both; densities of deterministic schemes integrate to one."""

import itertools

import equinox as eqx
import jax
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.samplers import EulerMaruyama, Heun, Sampler, uniform_grid
from tests.helpers import assert_mean, spd

VP, LINEAR = et.processes.VariancePreserving(), et.processes.LinearInterpolant()
RNG = np.random.default_rng(0)
MEMBERS = [et.Gaussian(RNG.normal(size=2), spd(RNG, 2)) for _ in range(2)]
MIXTURE = et.GaussianMixture([0.4, 0.6], [[-1.5], [1.0]], [[0.3], [0.5]])
GRID = uniform_grid(VP, 20)
SAMPLERS = {
    "euler-maruyama": Sampler(VP, et.MeanField([VP.score(g) for g in MEMBERS]), EulerMaruyama(), GRID),
    "heun": Sampler(VP, et.MeanField([VP.velocity(g) for g in MEMBERS]), Heun(), GRID),
}
START = et.Gaussian([0.3, -0.2], [[1.2, 0.3], [0.3, 0.8]])


@pytest.mark.parametrize("name", SAMPLERS)
def test_law_is_the_law_of_the_draws(name):
    """Mean and all second moments of 200,000 draws: five standard errors see a change of 1.6 % of a variance."""
    sampler = SAMPLERS[name]
    law, draws = sampler.law(START), np.asarray(sampler.sample(jax.random.key(1), 200_000, START))
    centred = draws - np.asarray(law.mean)
    assert_mean(draws, law.mean)
    assert_mean(centred[:, :, None] * centred[:, None, :], law.cov)


def test_law_of_euler_maruyama_is_its_recursion():
    """The variance recursion of the scheme for one member, which stands in this test only."""
    member, grid = et.Gaussian([0.7], 0.4), np.linspace(1.0, 0.0, 21)
    mean, variance = 0.0, 1.0
    for t, s in itertools.pairwise(grid):
        beta, h = 0.1 + 19.9 * t, t - s
        u = np.exp(-(0.1 * t + 19.9 * t**2 / 2))
        noised = 1 - u + u * 0.4
        factor = 1 + h * (beta / 2 - beta / noised)
        mean, variance = factor * mean + h * beta * np.sqrt(u) * 0.7 / noised, factor**2 * variance + beta * h
    law = Sampler(VP, VP.score(member), EulerMaruyama(), grid).law(et.standard_normal(1))
    np.testing.assert_allclose(law.mean, [mean], rtol=1e-12)
    np.testing.assert_allclose(law.cov, [[variance]], rtol=1e-12)


class _Louder(EulerMaruyama):
    """Euler-Maruyama with one coefficient off by 10 %."""

    def step(self, process, field, t, s, x, z):
        return super().step(process, field, t, s, x, 1.1 * z)


def test_changing_a_coefficient_of_the_step_changes_law_and_draws_alike():
    sampler = eqx.tree_at(lambda one: one.scheme, SAMPLERS["euler-maruyama"], _Louder())
    law, draws = sampler.law(START), np.asarray(sampler.sample(jax.random.key(1), 100_000, START))
    assert np.max(np.abs(law.cov - SAMPLERS["euler-maruyama"].law(START).cov)) > 0.01
    centred = draws - np.asarray(law.mean)
    assert_mean(centred[:, :, None] * centred[:, None, :], law.cov)


def test_log_prob_of_an_affine_flow_is_that_of_its_law():
    sampler, x = SAMPLERS["heun"], RNG.normal(size=(3, 2))
    np.testing.assert_allclose(sampler.log_prob(x), sampler.law(et.standard_normal(2)).log_prob(x), atol=1e-11)


def test_log_prob_of_a_mixture_flow_is_the_density_of_its_draws():
    sampler = Sampler(LINEAR, LINEAR.velocity(MIXTURE), Heun(), uniform_grid(LINEAR, 40))
    grid = np.linspace(-8, 8, 1601)[:, None]
    density = np.exp(sampler.log_prob(grid))
    assert density.sum() * 0.01 == pytest.approx(1.0, abs=1e-9)
    draws = np.asarray(sampler.sample(jax.random.key(2), 50_000, et.standard_normal(1)))
    for power in (1, 2, 3):
        assert_mean(draws**power, [(density * grid[:, 0] ** power).sum() * 0.01])
    assert np.max(np.abs(density - np.exp(MIXTURE.log_prob(grid)))) < 2e-3  # the discretisation error that is left


def test_steps_that_are_not_affine_are_refused_by_name():
    for field, scheme in ((VP.score(MIXTURE), EulerMaruyama()), (VP.velocity(MIXTURE), Heun())):
        with pytest.raises(ValueError, match=f"{type(scheme).__name__} with .*off its linearisation"):
            Sampler(VP, field, scheme, GRID).law(et.standard_normal(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sampler(VP, VP.score(MIXTURE), EulerMaruyama(), [0.0, 1.0]), "`grid`.*decreasing times"),
        (lambda: Sampler(VP, VP.score(MIXTURE), EulerMaruyama(), [2.0, 0.0]), "`grid`.*from 2"),
        (lambda: Sampler(VP, VP.score(MIXTURE), EulerMaruyama(), [1.0]), "`grid`.*at least two"),
        (lambda: SAMPLERS["euler-maruyama"].log_prob([0.0, 0.0]), "`scheme`.*EulerMaruyama.*deterministic"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()
