"""SuperDiff against the score of the linear pool, steps written in NumPy, exact log-densities, and what And conserves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.pooling.superposition import And, Or, SuperDiff

UNIT, VP = et.processes.VariancePreserving(1.0, 1.0, 1.0), et.processes.VariancePreserving()
MEANS, COVS = np.array([[1.0, 0.5], [-1.0, 0.0]]), np.array([[[0.5, 0.2], [0.2, 1.0]], [[2.0, -0.5], [-0.5, 0.7]]])  # which do not commute
LAWS = [et.Gaussian(mean, cov) for mean, cov in zip(MEANS, COVS, strict=True)]
SCORES = [UNIT.score(law) for law in LAWS]
U = np.exp(-1.0)  # the share of the signal at the horizon
AT_START = [et.Gaussian(np.sqrt(U) * mean, U * cov + (1 - U) * np.eye(2)) for mean, cov in zip(MEANS, COVS, strict=True)]
BEGIN = AT_START[0]
COARSE, FINE = (np.concatenate([np.ones(256 - n), np.linspace(1.0, 0.0, n + 1)]) for n in (64, 256))  # of one length: one program
KEY, N = jax.random.key(3), 512
SOME, NONE = jnp.asarray(0.6), jnp.asarray(0.0)  # noise levels of one program


def sampled(rule, grid, churn=1.0, scores=SCORES):
    points, logs = SuperDiff(UNIT, scores, rule, grid, churn).sample(KEY, N, BEGIN, AT_START)
    return np.asarray(points), np.asarray(logs)


def densities(points):
    return np.stack([law.log_prob(points) for law in LAWS], axis=1)


@jax.jit
def drawn():
    """The first points, and the draws of all steps."""
    first, noise = jax.random.split(KEY)
    return BEGIN.sample(first, N), jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(noise, i), (N, 2)))(jnp.arange(256))


def numpy_scores(t, x):
    a2 = np.exp(-t)
    return [-np.linalg.solve(a2 * cov + (1 - a2) * np.eye(2), (x - np.sqrt(a2) * mean).T).T for mean, cov in zip(MEANS, COVS, strict=True)]


def noised_logs(t, x):
    """The log-densities of the noised members."""
    a2 = np.exp(-t)
    covs = a2 * COVS + (1 - a2) * np.eye(2)
    gaps = x - np.sqrt(a2) * MEANS[:, None]
    return -0.5 * (np.einsum("kni,kij,knj->nk", gaps, np.linalg.inv(covs), gaps) + np.linalg.slogdet(2 * np.pi * covs)[1])


def walked(kappa):
    """The points and the carried log-densities of the reverse SDE with the coefficients kappa(t, x, carried)."""
    x, draws = map(np.array, drawn())
    logs = np.stack([law.log_prob(x) for law in AT_START], axis=1)
    for z, t, s in zip(draws[192:], COARSE[192:-1], COARSE[193:], strict=True):
        scores, h = np.stack(numpy_scores(t, x), axis=1), t - s
        dx = h * (x / 2 + np.einsum("nk,nki->ni", kappa(t, x, logs), scores)) + np.sqrt(h) * z
        logs = logs + h * (-1 - np.einsum("ni,nki->nk", x, scores) / 2 - np.sum(scores**2, axis=2) / 2) + np.einsum("nki,ni->nk", scores, dx)
        x = x + dx
    return x, logs


def softmax(weights, logs):
    joint = weights * np.exp(logs - logs.max(axis=1, keepdims=True))
    return joint / joint.sum(axis=1, keepdims=True)


def test_or_with_exact_densities_takes_the_score_of_the_noised_linear_pool():
    weights = [0.3, 0.7]

    for found, expected in zip(sampled(Or(1.0, weights, LAWS), COARSE), walked(lambda t, x, logs: softmax(weights, noised_logs(t, x))), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-10)
    average = walked(lambda t, x, logs: np.broadcast_to(weights, logs.shape))[0]
    np.testing.assert_allclose(sampled(Or(0.0, weights, LAWS), COARSE)[0], average, atol=1e-11)


def test_or_follows_the_densities_it_carries():
    rule = Or(0.7, [0.3, 0.7])
    for found, expected in zip(sampled(rule, COARSE), walked(lambda t, x, logs: softmax([0.3, 0.7], 0.7 * logs)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize(("rule", "churn", "order"), [(Or(0.7, [0.3, 0.7]), 1.0, 0.5), (And(True), SOME, 0.5), (And(True), NONE, 1.0)], ids=["or", "and", "flow"])
def test_carried_log_densities_converge_to_the_exact_ones(rule, churn, order):
    """Root mean squares over 512 points, whose ratio is known to about 6 %: the slope to 0.09 at two standard errors."""
    errors = [np.sqrt(np.mean((logs - densities(points)) ** 2, axis=0)) for points, logs in (sampled(rule, grid, churn) for grid in (COARSE, FINE))]
    np.testing.assert_allclose(np.log(errors[0] / errors[1]) / np.log(4), order, atol=0.15)


def test_and_is_the_averaged_score_with_the_noise_along_the_difference_projected_out():
    points, logs = sampled(And(), COARSE)
    x, draws = map(np.array, drawn())
    begun = np.stack([law.log_prob(x) for law in AT_START], axis=1)
    for z, t, s in zip(draws[192:], COARSE[192:-1], COARSE[193:], strict=True):
        s1, s2 = numpy_scores(t, x)
        n = (s1 - s2) / np.linalg.norm(s1 - s2, axis=1, keepdims=True)
        x = x + (t - s) * (x / 2 + (s1 + s2) / 2) + np.sqrt(t - s) * (z - n * np.sum(n * z, axis=1, keepdims=True))
    np.testing.assert_allclose(points, x, atol=1e-10)
    np.testing.assert_allclose(logs[:, 0] - logs[:, 1], begun[:, 0] - begun[:, 1], atol=1e-10)


class Learned(et.Field):
    """A field that knows no law and no process, as a network does."""

    hidden: jax.Array
    out: jax.Array

    def __call__(self, t, x):
        return self.out @ jnp.tanh(self.hidden @ jnp.append(x, t)) - x


def test_one_step_of_and_solves_its_equation_for_fields_that_know_no_law():
    """Kappa from equal changes of the log-densities; for the flow this is the formula with the divergences."""
    t, h, x, z, logs = 0.8, 0.3, np.array([0.4, -1.1]), np.array([0.7, 0.2]), np.array([-1.0, -3.0])
    rng = np.random.default_rng(0)
    parts = [(rng.normal(size=(5, 3)), rng.normal(size=(2, 5))) for _ in range(2)]
    s1, s2 = (out @ np.tanh(hidden @ [*x, t]) - x for hidden, out in parts)
    div1, div2 = (np.sum((1 - np.tanh(hidden @ [*x, t]) ** 2) * np.sum(hidden[:, :2] * out.T, axis=1)) - 2 for hidden, out in parts)

    def changes(kappa, churn):
        dx = h * (x / 2 + (1 + churn**2) / 2 * (kappa * s1 + (1 - kappa) * s2)) + churn * np.sqrt(h) * z
        rates = [-1 - x @ s / 2 - (s @ s) / 2 - (1 - churn**2) / 2 * div for s, div in ((s1, div1), (s2, div2))]
        return dx, np.array([h * rate + s @ dx for rate, s in zip(rates, (s1, s2), strict=True)])

    def solved(churn):
        gaps = [np.subtract(*changes(kappa, churn)[1]) for kappa in (0.0, 1.0)]
        return gaps[0] / (gaps[0] - gaps[1])

    assert solved(0.0) == pytest.approx((div1 - div2 + s1 @ (s1 - s2)) / ((s1 - s2) @ (s1 - s2)), rel=1e-12)
    fields = [Learned(*map(jnp.asarray, part)) for part in parts]
    moved, changed = eqx.filter_jit(SuperDiff(UNIT, fields, And(), [t, t - h], 0.6)._step)(*map(jnp.asarray, (t, t - h, x, logs, z)))
    dx, change = changes(solved(0.6), 0.6)
    np.testing.assert_allclose(moved, x + dx, atol=1e-12)
    np.testing.assert_allclose(changed, logs + change, atol=1e-12)


def test_and_with_noise_drifts_off_equal_densities_unless_curvatures_are_accounted_for():
    """The plain rule holds the carried difference while the true one moves, whatever the step; with the term of curvatures the drift heals with the step."""

    def drift(rule, grid, churn):
        points, logs = sampled(rule, grid, churn)
        return np.std(np.subtract(*densities(points).T) - np.subtract(*logs.T))

    assert drift(And(), FINE, 1.0) > 0.9 * drift(And(), COARSE, 1.0) > 0.1
    assert drift(And(True), FINE, SOME) < 0.65 * drift(And(True), COARSE, SOME) < 0.05


def test_equal_scores_leave_kappa_free_and_nothing_is_lost():
    points, logs = sampled(And(), COARSE, scores=[SCORES[0]] * 2)
    np.testing.assert_allclose(points, walked(lambda t, x, logs: np.broadcast_to([1.0, 0.0], logs.shape))[0], atol=1e-11)
    assert np.all(np.isfinite(logs))
    assert all(np.all(np.isfinite(part)) for part in sampled(And(True), COARSE, SOME, [SCORES[0]] * 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SuperDiff(UNIT, [], Or(), COARSE), "`fields`.*empty"),
        (lambda: SuperDiff(UNIT, [SCORES[0], UNIT.velocity(LAWS[1])], Or(), COARSE), "`fields`.*kinds"),
        (lambda: SuperDiff(UNIT, [UNIT.velocity(LAWS[1])] * 2, Or(), COARSE), "`field`.*velocity"),
        (lambda: SuperDiff(UNIT, [SCORES[0], VP.score(LAWS[1])], Or(), COARSE), "`fields`.*another"),
        (lambda: SuperDiff(VP, SCORES, Or(), COARSE), "`field`.*another"),
        (lambda: SuperDiff(UNIT, SCORES, Or(), COARSE[::-1]), "`grid`.*decreasing"),
        (lambda: SuperDiff(UNIT, SCORES, Or(), COARSE, -1.0), "`churn`.*>= 0"),
        (lambda: Or(1.0, [0.4, 0.4]), "`weights`.*sum"),
        (lambda: Or(weights=1.0), r"`weights`.*shape \(\)"),
        (lambda: Or([1.0, 2.0]), "`temperature`.*one number"),
        (lambda: SuperDiff(UNIT, SCORES, Or(1.0, [0.2, 0.3, 0.5]), COARSE).sample(KEY, N, BEGIN), r"`weights`.*\(2,\)"),
        (lambda: SuperDiff(UNIT, SCORES, Or(laws=LAWS[:1]), COARSE).sample(KEY, N, BEGIN), "`laws`.*2 of dimension 2"),
        (lambda: SuperDiff(UNIT, SCORES * 2, And(), COARSE).sample(KEY, N, BEGIN), "`fields`.*4 scores"),
        (lambda: SuperDiff(UNIT, SCORES, And(), COARSE).sample(KEY, N, et.standard_normal(3)), r"`fields\[0\]`.*\(3,\)"),
        (lambda: SuperDiff(UNIT, SCORES, And(), COARSE).sample(KEY, N, BEGIN, AT_START[:1]), "`at_start`.*2 of dimension 2"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()


def test_a_step_that_leaves_the_finite_numbers_is_named():
    far = [UNIT.score(et.Gaussian([1e200, 0.0], cov)) for cov in COVS]
    with pytest.raises(FloatingPointError, match="step 0, from time 1 to"):
        sampled(And(), COARSE, scores=far)
