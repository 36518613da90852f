"""Forests as fields: against scikit-learn's predictions, leaves against quadrature and draws, rules against NumPy on the trees, completed rows against what they must keep."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.base import clone
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils.estimator_checks import check_estimator

import ensembletheory as et
from ensembletheory.estimators.forests import RULES, ForestDiffusionImputer, ForestFlow, fit_forest, leaf_means
from ensembletheory.estimators.forests.leaves import boxes
from ensembletheory.estimators.forests.rules import denoiser
from ensembletheory.estimators.forests.training import Level, grown
from ensembletheory.estimators.forests.trees import nodes_of, stacked
from ensembletheory.fields import FieldStack
from tests.helpers import assert_mean

VP = et.processes.VariancePreserving(0.1, 8.0)
TIMES = np.array([0.2, 0.6, 1.0])
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 1)) * [[1.0, -1.0, 0.5]] + 0.3 * RNG.normal(size=(24, 3))
HOLES = np.where(RNG.random(X.shape) < 0.3, np.nan, X)
HOLES[0] = [0.4, np.nan, np.nan]
POINTS = RNG.normal(size=(40, 3))
K = 4
LEVEL = Level(a=0.8, s=0.6, alpha=0.0, c=0.6)
EXPECTED_FAILED_CHECKS: dict[str, str] = {}  # scikit-learn's checks that do not apply, with reasons: none
NEEDS_PANDAS = {"check_sample_weights_pandas_series", "check_array_api_input"}


@pytest.fixture(scope="module")
def forest():
    """Regressors of all times and members, with NaN among what they were fitted to, and the stack of their fields."""
    regressors = [[DecisionTreeRegressor(min_samples_leaf=k + 1, random_state=l).fit(HOLES + 0.1 * l, RNG.normal(size=(24, 3))) for l in range(3)] for k in range(K)]
    return regressors, stacked(VP, "noise", TIMES, [[nodes_of(tree.tree_) for tree in member] for member in regressors])


@pytest.fixture(scope="module")
def evaluated():
    return jax.jit(lambda field, t, points: field.batch(t, points))


def noises(regressors, level, points):
    """scikit-learn's predictions of all members (K, n, d)."""
    return np.stack([member[level].predict(points) for member in regressors])


def test_trees_are_those_of_scikit_learn_to_the_last_bit(forest, evaluated):
    regressors, field = forest
    for level, t in enumerate([0.1, 0.55, 0.95]):  # the nearest level answers
        expected = noises(regressors, level, POINTS)
        for k, member in enumerate(FieldStack(field)):
            np.testing.assert_array_equal(evaluated(member, jnp.asarray(t), jnp.asarray(POINTS)), expected[k])
    holed = np.where(np.arange(40)[:, None] == 7, np.nan, POINTS)
    assert np.isnan(evaluated(FieldStack(field)[0], jnp.asarray(0.2), jnp.asarray(holed))).all(axis=1).tolist() == [i == 7 for i in range(40)]


def test_rules_combine_scores_by_their_formulas(forest, evaluated):
    """At every point, from scikit-learn's predictions, through the denoiser (x + s^2 score) / a."""
    regressors, field = forest
    t, decay = TIMES[1], np.exp(-0.5 * (0.1 * TIMES[1] + 7.9 * TIMES[1] ** 2 / 2))
    s = np.sqrt(1 - decay**2)
    scores = -noises(regressors, 1, POINTS) / s
    deviation = {time: np.sqrt(1 - np.exp(-(0.1 * time + 7.9 * time**2 / 2))) for time in TIMES}
    offset = 1 + max(np.abs(member[level].tree_.value).max() / deviation[time] for member in regressors for level, time in enumerate(TIMES))
    largest = np.abs(scores).argmax(axis=0)
    mean = scores.mean(axis=0)
    expected = {
        "mean": mean,
        "median": np.median(scores, axis=0),
        "dominant": np.take_along_axis(scores, largest[None], axis=0)[0],
        "geometric": np.exp(np.log(scores + offset).mean(axis=0)) - offset,
        "sum": scores.sum(axis=0),
        "disturbed": mean + 0.2 * np.linalg.norm(mean, axis=1, keepdims=True) / np.sqrt(3),
    }
    for rule, score in expected.items():
        found = evaluated(denoiser(rule, field), jnp.asarray(t), jnp.asarray(POINTS))
        np.testing.assert_allclose(found, (POINTS + s**2 * score) / decay, rtol=1e-9, atol=1e-9, err_msg=rule)


def test_leaf_means_are_averages_of_the_exact_noise_prediction():
    """On the line, by quadrature over each box of the density of the noised rows and of their noise prediction."""
    rows, level = np.array([[-1.0], [0.2], [1.5]]), Level(a=0.8, s=0.6, alpha=0.3, c=-0.5)
    tree = grown(np.random.default_rng(1), rows, level, 6, DecisionTreeRegressor(max_leaf_nodes=4), False)
    parts, found = boxes(tree), leaf_means(tree, rows, *level)

    def density(x, i):
        return stats.norm.pdf(x, level.a * rows[i, 0], level.s) / 3

    def target(x, i):
        return density(x, i) * (level.alpha * rows[i, 0] + level.c / level.s * (x - level.a * rows[i, 0]) / level.s)

    for low, high, probability, mean in zip(parts.lower[:, 0], parts.upper[:, 0], found.probability, found.mean[:, 0], strict=True):
        ends = max(low, -8.0), min(high, 8.0)
        mass, total = (sum(integrate.quad(f, *ends, args=(i,))[0] for i in range(3)) for f in (density, target))
        np.testing.assert_allclose([probability, mean], [mass, total / mass], rtol=1e-8)
    assert len(parts.lower) == 4


@pytest.mark.parametrize("rows", [X, HOLES], ids=["whole", "holes"])
def test_leaf_means_are_what_duplicates_tend_to(rows):
    tree = grown(np.random.default_rng(2), rows, LEVEL, 10, DecisionTreeRegressor(max_leaf_nodes=6), False)
    parts, found = boxes(tree), leaf_means(tree, rows, *LEVEL)
    rng = np.random.default_rng(3)
    chosen, noise = rng.integers(len(rows), size=100_000), rng.normal(size=(100_000, 3))
    points = LEVEL.a * rows[chosen] + LEVEL.s * noise
    inside = ((points[:, None] > parts.lower) & (points[:, None] <= parts.upper)) | (np.isnan(points)[:, None] & parts.takes_missing)
    leaf = inside.all(axis=2)
    assert (leaf.sum(axis=1) == 1).all()
    assert_mean(leaf.astype(float), found.probability)
    for draws, mean in zip(leaf.T, found.mean, strict=True):
        for j in range(3):
            assert_mean(noise[draws & ~np.isnan(points[:, j]), j], mean[j])


def test_leaves_far_in_a_tail_keep_their_digits():
    """The box (9, 9.5] of one row at 0: a difference of probabilities of 1e-19, by mpmath's quadrature elsewhere: mean 9.1085..., as by SciPy's truncated normal."""
    tree = grown(np.random.default_rng(0), np.zeros((1, 1)), Level(1.0, 1.0, 0.0, 1.0), 4, DecisionTreeRegressor(max_leaf_nodes=3), False)
    inner = np.flatnonzero(~tree.is_leaf)
    tree.threshold[inner] = np.sort(tree.threshold[inner]) * 0 + ([9.0, 9.5] if tree.left[0] + 1 in inner else [9.5, 9.0])
    found = leaf_means(tree, np.zeros((1, 1)), *Level(1.0, 1.0, 0.0, 1.0))
    middle = np.argsort(boxes(tree).upper[:, 0])[1]
    assert found.mean[middle, 0] == pytest.approx(stats.truncnorm.mean(9.0, 9.5), rel=1e-6)
    assert found.probability[middle] == pytest.approx(stats.norm.sf(9.0) - stats.norm.sf(9.5), rel=1e-10)


def test_a_tree_grown_to_purity_is_the_nearest_neighbour_on_the_line():
    rng, rows = np.random.default_rng(4), RNG.normal(size=(9, 1))
    tree = grown(rng, rows, LEVEL, 5, DecisionTreeRegressor(), False)
    rng = np.random.default_rng(4)
    points = LEVEL.a * np.tile(rows, (5, 1)) + LEVEL.s * (noise := rng.normal(size=(45, 1)))
    where = rng.normal(size=200)
    nearest = noise[np.abs(where[:, None] - points[:, 0]).argmin(axis=1), 0]
    parts, leaf = boxes(tree), np.flatnonzero(tree.is_leaf)
    found = [tree.value[leaf[(x > parts.lower[:, 0]) & (x <= parts.upper[:, 0])], 0].item() for x in where]
    np.testing.assert_allclose(found, nearest, rtol=1e-12)


def test_values_of_leaves_are_means_of_observed_targets():
    """With a hole no leaf counts what is missing; where all is missing the nearest ancestor answers."""
    rows = np.array([[0.0, 1.0], [0.1, 3.0], [5.0, np.nan]])
    tree = grown(np.random.default_rng(5), rows, Level(a=1.0, s=1e-3, alpha=1.0, c=0.0), 7, DecisionTreeRegressor(max_leaf_nodes=2), False)
    left, right = np.sort(tree.value[tree.is_leaf, 0]), tree.value[tree.is_leaf, 1]
    np.testing.assert_allclose(left, [0.05, 5.0])
    np.testing.assert_allclose(right, [2.0, 2.0])


def test_exact_leaves_replace_the_values_only():
    plain, exact = (fit_forest(jax.random.key(0), HOLES, VP, TIMES, trees=2, duplicates=3, exact_leaves=leaves) for leaves in (False, True))
    np.testing.assert_array_equal(plain.threshold, exact.threshold)
    assert np.abs(plain.value - exact.value).max() > 0.01


FITTED = ForestDiffusionImputer(trees=2, levels=3, duplicates=4, resamplings=2, draws=3, random_state=0)


@pytest.fixture(scope="module")
def fitted():
    return clone(FITTED).fit(HOLES)


def test_completed_rows_keep_what_is_observed_and_repeat(fitted):
    draws, seen = fitted.sample(3), ~np.isnan(HOLES)
    assert draws.shape == (3, 24, 3)
    assert np.isfinite(draws).all()
    np.testing.assert_array_equal(draws[:, seen], np.broadcast_to(HOLES[seen], (3, seen.sum())))
    assert (draws.std(axis=0)[~seen] > 0).all()
    assert np.isfinite(fitted.transform(HOLES)).all()
    np.testing.assert_array_equal(fitted.sample(3), draws)


def test_equal_members_make_all_means_one(fitted):
    """Mean, median, largest and geometric mean of a member and its copy are that member's; with one noise so are their runs."""
    model = fitted.model_
    twins = model._replace(model=jax.tree.map(lambda array: jnp.asarray(np.repeat(array[:1], 2, axis=0)), model.model))
    try:
        fitted.model_ = twins
        draws = {rule: clone_with(fitted, rule).sample(3) for rule in ("mean", "median", "dominant", "geometric", "sum", "deviation")}
    finally:
        fitted.model_ = model
    for rule in ("median", "dominant", "geometric"):
        np.testing.assert_allclose(draws[rule], draws["mean"], rtol=1e-6, atol=1e-6)
    assert np.abs(draws["sum"] - draws["mean"]).max() > 0.1
    assert np.abs(draws["deviation"] - draws["mean"]).max() > 0.01


def clone_with(fitted, rule):
    other = clone(fitted).set_params(rule=rule)
    other.__dict__ |= {name: value for name, value in fitted.__dict__.items() if name.endswith("_")}
    return other


def test_runs_are_routed_or_averaged(fitted):
    """Each completed row of "routed" is that of one member's run; "samples" is their mean: both by the same keys."""
    means = clone_with(fitted, "samples").sample(3)
    routed = clone_with(fitted, "routed").sample(3)
    other = 2 * means - routed  # the run of the other member
    assert np.isfinite(other).all()
    assert not np.allclose(routed, means)
    seen = ~np.isnan(HOLES)
    np.testing.assert_allclose(other[:, seen], np.broadcast_to(HOLES[seen], (3, seen.sum())))


@pytest.mark.verify
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_completes_rows(fitted, rule):
    draws = clone_with(fitted, rule).sample(3)
    assert np.isfinite(draws).all()
    assert np.abs(draws).max() < 30


def test_the_flow_draws_constant_columns_as_they_are():
    table = np.where(np.arange(3) == 1, 0.1, HOLES)
    drawn = ForestFlow(trees=2, levels=3, duplicates=2, random_state=0).fit(table).sample(5)
    np.testing.assert_array_equal(drawn[:, 1], 0.1)
    assert np.isfinite(drawn).all()
    assert (drawn[:, [0, 2]].std(axis=0) > 0).all()
    np.testing.assert_array_equal(ForestFlow().fit([[1.0, np.nan], [1.0, 2.0]]).sample(3), [[1.0, 2.0]] * 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clone(FITTED).set_params(rule="largest").fit(X), "`rule`: got 'largest'"),
        (lambda: clone(FITTED).set_params(resamplings=0).fit(X), "`resamplings`: got 0"),
        (lambda: clone(FITTED).set_params(draws=0).fit(X), "`draws`: got 0"),
        (lambda: denoiser("largest", fit_forest(jax.random.key(0), X, VP, TIMES, trees=1, duplicates=1)), "`rule`: got 'largest'; expected one of mean, median"),
        (lambda: fit_forest(jax.random.key(0), X, VP, [0.0, 1.0]), "`times`: got 0, at which there is no noise"),
        (lambda: fit_forest(jax.random.key(0), X * [1.0, np.nan, 1.0], VP, TIMES), "`X`: got a column wholly missing"),
        (lambda: fit_forest(jax.random.key(0), X, VP, TIMES, trees=0), "`trees`: got 0"),
        (lambda: stacked(VP, "noise", TIMES, []), "`members`: got an empty list"),
        (lambda: stacked(VP, "noise", TIMES, [[]]), "`levels`: got 0 trees for 3 times"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.verify
@pytest.mark.parametrize("estimator", [FITTED, ForestFlow(trees=2, levels=3, duplicates=3, random_state=0)], ids=["imputer", "flow"])
def test_the_checks_of_scikit_learn_pass(estimator):
    results = check_estimator(clone(estimator), expected_failed_checks=EXPECTED_FAILED_CHECKS, on_skip=None)
    assert sum(result["status"] == "passed" for result in results) >= 35
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= NEEDS_PANDAS


@pytest.mark.verify
def test_the_flow_samples_the_rows():
    """Exact leaves of fine trees: means and standard deviations of draws near those of the rows, on which they were trained."""
    flow = ForestFlow(trees=20, levels=30, duplicates=100, tree=DecisionTreeRegressor(min_samples_leaf=3), random_state=0).fit(X)
    draws = flow.sample(4000)
    assert np.abs((draws.mean(axis=0) - X.mean(axis=0)) / X.std(axis=0)).max() < 0.1
    assert np.abs(draws.std(axis=0) / X.std(axis=0) - 1).max() < 0.1


@pytest.mark.verify
def test_trees_grown_to_purity_have_twice_the_least_loss_and_their_means_one_plus_one_over_m():
    """Dense duplicates on the line: E|Z - T|^2 = 2 E Var(Z | X_t), and (1 + 1/M) E Var(Z | X_t) for the average of M."""
    rng, rows = np.random.default_rng(6), np.array([[-1.0], [0.3], [0.9]])
    noise = rng.normal(size=20_000)
    points = LEVEL.a * rows[rng.integers(3, size=20_000), 0] + LEVEL.s * noise
    log_weights = -((points[:, None] - LEVEL.a * rows[:, 0]) ** 2) / (2 * LEVEL.s**2)
    weights = np.exp(log_weights) / np.exp(log_weights).sum(axis=1, keepdims=True)
    exact = (weights * (points[:, None] - LEVEL.a * rows[:, 0]) / LEVEL.s).sum(axis=1)
    trees = [grown(rng, rows, LEVEL, 20_000, DecisionTreeRegressor(), False) for _ in range(8)]
    values = np.stack([partial(_at, tree)(points) for tree in trees])
    for M in (1, 2, 8):
        excess = (values[:M].mean(axis=0) - exact) ** 2 - ((noise - exact) ** 2) / M
        assert_mean(excess, 0.0)


def _at(tree, points):
    ends, leaf = boxes(tree).upper[:, 0], np.flatnonzero(tree.is_leaf)
    order = np.argsort(ends)
    return tree.value[leaf[order][np.searchsorted(ends[order], points)], 0]
