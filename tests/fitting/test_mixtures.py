"""Every likelihood here is written again with SciPy or explicit inverses, row by row or mask by mask, from the definition."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.mixture import GaussianMixture as Peer

from ensembletheory.fitting import NotConverged, fit_mixture, mixture_em
from ensembletheory.fitting.mixture_em import MixtureParameters, start
from ensembletheory.fitting.rows import Rows, blocks, read_table
from tests.fitting.rows import as_rows, holes

EPS = np.finfo(float).eps
step, ascend = eqx.filter_jit(mixture_em.step), eqx.filter_jit(mixture_em.ascend)


def draw(seed, n=60, d=3, gap=3.0):
    """Two clusters with correlated coordinates."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) + 2 * np.eye(d)
    return rng.normal(size=(n, d)) @ mix.T + gap * (np.arange(n) % 2)[:, None]


def whole(rows):
    return blocks(rows, rows.values.shape[0])


def parameters_of(seed, K=2, d=3):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(K, d, d))
    covs = roots @ roots.swapaxes(1, 2) + 2 * np.eye(d)
    return MixtureParameters(jnp.asarray(rng.dirichlet(np.ones(K) * 5)), jnp.asarray(rng.normal(size=(K, d))), jnp.asarray(covs))


def loop_objective(parameters, X, weights, ridge):
    """Row by row with scipy.stats; per unit of weight, penalised."""
    total = 0.0
    for x, w in zip(X, weights, strict=True):
        o = ~np.isnan(x)
        densities = [pi * stats.multivariate_normal.pdf(x[o], m[o], S[np.ix_(o, o)]) for pi, m, S in zip(parameters.weights, parameters.means, parameters.covs, strict=True)]
        total += w * np.log(sum(densities))
    return total / weights.sum() - ridge / 2 * sum(np.trace(np.linalg.inv(S)) for S in parameters.covs)


def assert_same(one, two, rtol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol), one, two)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_objective_is_the_penalised_observed_data_log_likelihood(share):
    X, weights, parameters = holes(1, draw(0), share), np.random.default_rng(2).integers(0, 4, 60).astype(float), parameters_of(3)
    objective, _ = step(parameters, whole(as_rows(X, weights)), jnp.asarray(0.1))
    # Sums of 60 terms of size 10: rounding below 60 * 10 * eps; 1e-12 leaves a factor of 10.
    assert float(objective) == pytest.approx(loop_objective(parameters, X, weights, 0.1), rel=1e-12)


def test_complete_data_follows_scikit_learn_iterate_by_iterate():
    X, begin, steps = draw(4, n=60), parameters_of(5), 12
    peer = Peer(2, tol=0, reg_covar=0, max_iter=steps, weights_init=begin.weights, means_init=begin.means, precisions_init=np.linalg.inv(begin.covs), random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it did not converge, as asked
        peer.fit(X)
    end = ascend(begin, whole(as_rows(X)), jnp.asarray(0.0), jnp.asarray(1e-300), jnp.asarray(steps))
    assert int(end.iterations) == steps
    # Rounding of 12 steps, each with factorisations of condition number below 1e3.
    assert_same(end.parameters, MixtureParameters(*map(jnp.asarray, (peer.weights_, peer.means_, peer.covariances_))), 1e-10)


@given(seed=st.integers(0, 2**16), share=st.floats(0.1, 0.6), ridge=st.sampled_from([1e-6, 1e-3]), scale=st.floats(0.1, 10))
def test_no_step_lowers_the_objective(seed, share, ridge, scale):
    rows = as_rows(holes(seed, scale * draw(seed, n=30), share), np.random.default_rng(seed).integers(0, 3, 30) + 0.0)
    path = objectives(rows, jnp.asarray(ridge), jax.random.key(seed))
    assert np.all(np.diff(path) >= -100 * EPS * (1 + np.abs(path[1:])))
    assert path[-1] > path[0]


@jax.jit
def objectives(rows, ridge, key):
    cut = blocks(rows, 30)

    def body(parameters, _):
        objective, following = mixture_em.step(parameters, cut, ridge)
        return following, objective

    return jax.lax.scan(body, start(key, rows, 2, ridge), length=20)[1]


def masked_objective(free, X, ridge, variances):
    """In free coordinates (logits, means, Cholesky factors), mask by mask with explicit inverses; per row, penalised in the units of the columns."""
    logits, means, roots = free
    log_weights, covs = logits - np.logaddexp.reduce(logits), roots @ roots.swapaxes(1, 2)
    seen, total = ~np.isnan(X), 0.0
    for mask in np.unique(seen, axis=0):
        block, o = X[(seen == mask).all(axis=1)][:, mask], np.flatnonzero(mask)
        part = covs[:, o][:, :, o]
        gaps = block[:, None, :] - means[None, :, o]
        squared = np.einsum("nki,kij,nkj->nk", gaps, np.linalg.inv(part), gaps)
        total += np.sum(np.logaddexp.reduce(log_weights - 0.5 * (np.linalg.slogdet(2 * np.pi * part)[1] + squared), axis=1))
    return total / len(X) - ridge / 2 * sum(np.diagonal(np.linalg.inv(S)) @ variances for S in covs)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_converged_fit_is_a_stationary_point(share):
    X, ridge = holes(6, draw(7) * np.array([1.0, 5.0, 0.2])[None, :] + 4.0, share), 1e-2
    law = fit_mixture(jax.random.key(0), X, 2, ridge=ridge, tolerance=1e-14)
    spread, small = np.nanstd(X, axis=0), 1e-4
    free = [np.log(law.weights), np.asarray(law.means), np.linalg.cholesky(law.covs)]
    units = [np.ones(2), np.broadcast_to(spread, (2, 3)), np.tril(np.broadcast_to(spread[:, None], (2, 3, 3)))]
    # A step gains at least half of g^T A g, with A the inverse information of complete data (order 1 in units of the spread): |g| < sqrt(2 * 1e-14 * 10) < 1e-6.
    # Central differences add 1e-8 / 6 of third derivatives of order 10, and rounding of 1e-15 / 1e-4.
    for i, unit in enumerate(units):
        for at in zip(*np.nonzero(unit), strict=True):
            moved = [[part.copy() for part in free] for _ in range(2)]
            for sign, parts in zip((1, -1), moved, strict=True):
                parts[i][at] += sign * small * unit[at]
            above, below = (masked_objective(parts, X, ridge, spread**2) for parts in moved)
            assert abs(above - below) / (2 * small) < 2e-6


def test_separated_clusters_are_found_whatever_the_key():
    rng = np.random.default_rng(8)
    sizes, centres = (20, 25, 15), np.array([[0.0, 0.0], [60.0, 0.0], [0.0, 80.0]])
    parts = [rng.normal(size=(n, 2)) @ rng.normal(size=(2, 2)) + c for n, c in zip(sizes, centres, strict=True)]
    X, ridge = np.concatenate(parts), 1e-5
    for seed in range(3):
        law = fit_mixture(jax.random.key(seed), X, 3, ridge=ridge)
        order = [int(np.argmin(np.sum((np.asarray(law.means) - c) ** 2, axis=1))) for c in centres]
        for k, part in zip(order, parts, strict=True):
            expected = np.cov(part.T, bias=True) + ridge * 60 / len(part) * np.diag(X.var(axis=0))
            # Responsibilities differ from 0 and 1 by less than exp(-50^2 / 20).
            np.testing.assert_allclose(law.weights[k], len(part) / 60, rtol=1e-12)
            np.testing.assert_allclose(law.means[k], part.mean(axis=0), rtol=1e-11, atol=1e-11)
            np.testing.assert_allclose(law.covs[k], expected, rtol=1e-9, atol=1e-9)


def test_the_best_of_the_starts_goes_on():
    rows, ridge, tolerance, starts = as_rows(draw(29, n=60, gap=1.0)), jnp.asarray(1e-4), jnp.asarray(1e-9), 6
    key = jax.random.key(2)
    end = eqx.filter_jit(mixture_em.fit)(key, rows, 3, starts, ridge, tolerance, jnp.asarray(1))
    begin = jax.jit(lambda key: start(key, rows, 3, ridge))
    trials = [ascend(begin(k), whole(rows), ridge, tolerance, jnp.asarray(10)) for k in jax.random.split(key, starts)]
    reached = [float(trial.objective) for trial in trials]
    assert max(reached) - min(reached) > 1e-3  # the starts differ, so the choice matters
    assert float(end.objective) == pytest.approx(float(step(trials[int(np.argmax(reached))].parameters, whole(rows), ridge)[0]), rel=1e-10)


def test_one_component_is_the_weighted_mean_and_covariance():
    X, weights, ridge = draw(9), np.random.default_rng(10).random(60), 1e-3
    law = fit_mixture(jax.random.key(0), X, 1, weights=weights, ridge=ridge)
    mean = np.average(X, axis=0, weights=weights)
    cov = np.cov(X.T, aweights=weights, bias=True)
    np.testing.assert_allclose(law.means[0], mean, rtol=1e-12)
    np.testing.assert_allclose(law.covs[0], cov + ridge * np.diag(np.diagonal(cov)), rtol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_weight_counts_copies(share):
    X, counts, begin = holes(11, draw(12), share), np.random.default_rng(13).permutation(np.repeat([0, 1, 2], 20)), parameters_of(14)
    repeated = np.repeat(X, counts, axis=0)
    ends = [ascend(begin, whole(rows), jnp.asarray(1e-3), jnp.asarray(1e-300), jnp.asarray(10)) for rows in (as_rows(X, counts + 0.0), as_rows(repeated))]
    assert_same(ends[0], ends[1], 1e-10)
    weighted, plain = read_table(X, counts), read_table(repeated, None)
    np.testing.assert_allclose(weighted.location(), plain.location(), rtol=1e-13)
    np.testing.assert_allclose(weighted.scale(), plain.scale(), rtol=1e-13)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_order_and_blocks_of_rows_do_not_matter(share):
    X, begin = holes(15, draw(16), share), parameters_of(17)
    shuffled = np.random.default_rng(18).permutation(X)
    one, two, three = (step(begin, cut, jnp.asarray(1e-3)) for cut in (whole(as_rows(X)), whole(as_rows(shuffled)), blocks(as_rows(X), 16)))
    assert_same(one, two, 1e-11)
    assert_same(one, three, 1e-11)  # 60 rows fill 3 blocks of 16 and leave 4 of the last one of weight 0


def test_complete_rows_take_either_route():
    rows, begin = as_rows(draw(19)), parameters_of(20)
    masked = Rows(rows.values, jnp.ones(rows.values.shape, bool), rows.weights)
    assert_same(step(begin, whole(rows), jnp.asarray(1e-3)), step(begin, whole(masked), jnp.asarray(1e-3)), 1e-11)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_rescaling_columns_rescales_the_fit(share):
    X, scale, shift = holes(21, draw(22), share), np.array([1e-4, 1.0, 1e5]), np.array([3.0, -1.0, 2e5])
    law, moved = (fit_mixture(jax.random.key(1), Z, 2, ridge=1e-3) for Z in (X, X * scale[None, :] + shift[None, :]))
    # The inputs differ by rounding, which the number of iterations of EM cannot amplify beyond 1e4.
    np.testing.assert_allclose(moved.weights, law.weights, rtol=1e-9)
    np.testing.assert_allclose(moved.means, law.means * scale[None, :] + shift[None, :], rtol=1e-9)
    np.testing.assert_allclose(moved.covs, law.covs * (scale[:, None] * scale[None, :])[None], rtol=1e-8, atol=1e-20)


def test_one_column_against_scikit_learn():
    x = np.concatenate([np.random.default_rng(23).normal(0, 1, 40), np.random.default_rng(24).normal(7, 0.5, 20)])[:, None]
    law = fit_mixture(jax.random.key(0), x.tolist(), 2, ridge=0.0, tolerance=1e-14)
    peer = Peer(2, reg_covar=0, tol=1e-14, max_iter=1000, random_state=0).fit(x)
    # Both have gained less than 1e-14 (1 + |l|) in their last step, of a geometric series with ratio below 1/2.
    assert float(law.log_prob(x).mean()) == pytest.approx(peer.score(x), abs=1e-12)
    np.testing.assert_allclose(np.sort(law.means[:, 0]), np.sort(peer.means_[:, 0]), rtol=1e-5)


def test_the_ridge_bounds_a_component_on_one_row():
    x = np.concatenate([np.random.default_rng(25).normal(size=59), [1000.0]])[:, None]
    with pytest.raises(ValueError, match=r"not finite for a mixture of 2 components; expected .* Raise `ridge`"):
        fit_mixture(jax.random.key(0), x, 2, ridge=0.0)
    lone = int(jnp.argmax((law := fit_mixture(jax.random.key(0), x, 2, ridge=1e-6)).means[:, 0]))
    assert float(law.covs[lone, 0, 0]) == pytest.approx(1e-6 * 60 * x.var(), rel=1e-6)


def test_a_fit_that_still_climbs_is_reported():
    with pytest.warns(NotConverged, match="a mixture of 2 components: 1 of 1 fits still climbed after 3 iterations"):
        fit_mixture(jax.random.key(0), draw(26), 2, max_iterations=3)


def test_32_bits():
    X = holes(27, draw(28), 0.2)
    reference = fit_mixture(jax.random.key(3), X, 2, ridge=1e-3)
    with jax.enable_x64(False):
        law = fit_mixture(jax.random.key(3), X, 2, ridge=1e-3)
        assert law.means.dtype == jnp.float32
        value = float(np.mean(law.log_prob(draw(28))))
    # The climb stops when a step gains 3.5e-4 (1 + |l|) with |l| < 10; steps shrink, so that what is left is of the order of ten steps.
    assert value == pytest.approx(float(jnp.mean(reference.log_prob(draw(28)))), abs=4e-2)


@pytest.mark.parametrize(
    ("X", "arguments", "message"),
    [
        (np.zeros(5), {}, r"`X`: got shape \(5,\); expected \(n, d\)"),
        (np.zeros((0, 2)), {}, r"`X`: got shape \(0, 2\)"),
        ([[1.0, 2.0], [3.0]], {}, "`X`: got list .* expected numbers in a regular table"),
        ([["a"], ["b"]], {}, "`X`: got list"),
        ([[1.0], [np.inf], [2.0]], {}, "`X`: got 1 infinite values"),
        ([[1.0, np.nan], [2.0, np.nan]], {}, r"`X`: got 1 columns without any \(index 1\)"),
        ([[1.0, 2.0], [np.nan, np.nan], [0.0, 1.0]], {}, r"`X`: got 1 rows without any \(index 1\)"),
        ([[0.1, 2.0], [0.1, 1.0], [0.1, 5.0]], {}, r"`X`: got 1 constant columns \(index 0\).* Drop constant columns"),
        ([[0.0], [1.0], [1.0], [0.0]], {"K": 3}, "`K`: got 3 components for 2 distinct rows .* expected at most 2"),
        ([[0.0], [1.0], [2.0]], {"K": 3, "weights": [1.0, 1.0, 0.0]}, "`K`: got 3 components for 2 distinct rows"),
        ([[0.0], [1.0]], {"K": 0}, "`K`: got 0; expected a whole number >= 1"),
        ([[0.0], [1.0]], {"starts": 0}, "`starts`: got 0"),
        ([[0.0], [1.0]], {"max_iterations": 0}, "`max_iterations`: got 0"),
        ([[0.0], [1.0]], {"ridge": -1e-3}, "`ridge`: got -0.001"),
        ([[0.0], [1.0]], {"ridge": float("nan")}, "`ridge`: got nan"),
        ([[0.0], [1.0]], {"tolerance": 0.0}, "`tolerance`: got 0.0; expected a positive number"),
        ([[0.0], [1.0]], {"weights": [1.0]}, r"`weights`: got shape \(1,\); expected \(2,\)"),
        ([[0.0], [1.0]], {"weights": [1.0, -1.0]}, "`weights`: got smallest -1"),
        ([[0.0], [1.0]], {"weights": [0.0, 0.0]}, "`weights`: got smallest 0, sum 0"),
        ([[0.0], [1.0]], {"weights": [1.0, np.nan]}, "`weights`: got 1 NaN"),
    ],
)
def test_bad_input_is_refused_by_name(X, arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_mixture(jax.random.key(0), X, arguments.pop("K", 1), **arguments)


def test_traced_rows_are_refused():
    with pytest.raises(ValueError, match="`X`: got an array traced by jit"):
        jax.jit(lambda X: fit_mixture(jax.random.key(0), X, 1).means)(jnp.zeros((4, 2)))
