"""Laws on grids: a mixture known only through its unnormalised log-density must give back all that is known of it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from jax.tree_util import Partial

import ensembletheory as et
from tests.helpers import assert_mean

LINE = et.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [[0.25], [0.09]])
PLANE = et.GaussianMixture([0.3, 0.7], [[-2.0, 0.0], [1.0, 0.5]], [[[0.25, 0.1], [0.1, 0.3]], [[0.09, 0.0], [0.0, 1.0]]])


def shifted(law, x):
    return law._log_prob(x) + 3.0


GRIDS = {name: et.GridLaw(Partial(shifted, law), *law.pieces()) for name, law in (("line", LINE), ("plane", PLANE))}
CASES = [pytest.param(GRIDS["line"], LINE, id="line"), pytest.param(GRIDS["plane"], PLANE, id="plane")]


@pytest.mark.parametrize(("grid", "law"), CASES)
def test_it_finds_the_constant_and_the_moments(grid, law):
    assert grid.log_normaliser.kind == "quadrature"
    assert abs(float(grid.log_normaliser) - 3.0) <= float(grid.log_normaliser.error) < 1e-9
    np.testing.assert_allclose(grid.mean, law.mean, atol=1e-12)
    np.testing.assert_allclose(grid.cov, law.cov, atol=1e-11)
    x = np.array([[-2.2, 0.4], [0.9, -1.0]])[:, : law.dim]
    np.testing.assert_allclose(grid.log_prob(x), law.log_prob(x), rtol=1e-11)
    np.testing.assert_allclose(grid.score(x), law.score(x), rtol=1e-11)
    np.testing.assert_allclose(grid.hessian(x), law.hessian(x), rtol=1e-9, atol=1e-11)


def test_entropy_is_that_of_the_mixture():
    ours, theirs = GRIDS["line"].entropy(), LINE.entropy()
    assert abs(float(ours) - float(theirs)) <= float(ours.error) + float(theirs.error) < 1e-8
    doubted = eqx.tree_at(lambda law: law.log_normaliser.error, GRIDS["line"], jnp.asarray(1e-3)).entropy()
    assert float(doubted) == float(ours)
    assert 1e-3 < float(doubted.error) < 1e-2  # what is not known of the constant is not known of the entropy


@pytest.mark.parametrize(("grid", "law"), CASES)
def test_draws_are_those_of_the_density(grid, law):
    draws = np.asarray(grid.sample(jax.random.key(0), 20_000))
    assert_mean(draws, law.mean)
    centred = draws - np.asarray(law.mean)
    assert_mean(centred[:, :, None] * centred[:, None, :], law.cov)
    for axis in range(law.dim):
        marginal = law.marginal([axis])
        norms = [scipy.stats.norm(m, np.sqrt(v)) for m, v in zip(np.asarray(marginal.means)[:, 0], np.asarray(marginal.covs)[:, 0, 0], strict=True)]
        result = scipy.stats.kstest(draws[:, axis], lambda x, norms=norms: sum(w * norm.cdf(x) for w, norm in zip(np.asarray(law.weights), norms, strict=True)))
        assert result.pvalue > 1e-4


def test_marginals_conditionals_and_pushes():
    grid, at, point = GRIDS["plane"], np.array([0.3]), np.array([0.4, -0.7])
    np.testing.assert_allclose(grid.marginal([1]).log_prob(at), PLANE.marginal([1]).log_prob(at), rtol=1e-9)
    np.testing.assert_allclose(grid.condition([1], [0.2]).log_prob(at), PLANE.condition([1], [0.2]).log_prob(at), rtol=1e-9)
    np.testing.assert_allclose(grid.marginal([1, 0]).log_prob(point), PLANE.log_prob(point[::-1]), rtol=1e-9)
    A, b = np.array([[1.0, 2.0]]), np.array([0.1])
    np.testing.assert_allclose(grid.push(A, b).log_prob(at), PLANE.push(A, b).log_prob(at), rtol=1e-8)


def peaked(x):
    return -(jnp.abs(x[0] / 0.03) ** 1.5) - 0.5 * x[0] ** 2  # a peak of width 0.03 whose second derivative is infinite


def test_panels_are_halved_until_they_see_a_feature_much_narrower_than_its_piece():
    law = et.GridLaw(Partial(peaked), [[0.0]], [[1.0]])
    density = lambda x: np.exp(-(np.abs(x / 0.03) ** 1.5) - 0.5 * x**2)  # noqa: E731
    mass, second = (2 * scipy.integrate.quad(lambda x, k=k: x**k * density(x), 0, 2, epsabs=0, epsrel=1e-12, limit=500)[0] for k in (0, 2))
    assert abs(float(law.log_normaliser) - np.log(mass)) <= float(law.log_normaliser.error) < 1e-8
    assert float(law.cov[0, 0]) == pytest.approx(second / mass, rel=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: et.GridLaw(Partial(shifted, LINE), np.zeros((1, 3)), np.ones((1, 3))), "one and two dimensions"),
        (lambda: et.GridLaw(Partial(shifted, LINE), [[0.0]], [[0.0]]), "`widths`.*positive"),
        (lambda: et.GridLaw(Partial(lambda x: 0.0 * x[0] - jnp.inf), [[0.0]], [[1.0]]), "`log_density`.*mass"),
        (lambda: GRIDS["plane"].condition([0, 1], [0.0, 0.0]), "`dims`"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()
