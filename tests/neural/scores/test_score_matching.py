from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from ensembletheory.fields import MeanField
from ensembletheory.laws import Gaussian
from ensembletheory.neural import (
    FlowMatching,
    KacMatching,
    MaximumLikelihood,
    RatioMatching,
    Recipe,
    ScoreMatching,
    ScoreNetwork,
    denoising_loss,
    floor,
    member,
    member_errors,
    score_error,
    stack,
    train_ensemble,
)
from ensembletheory.neural.scores.score_matching import floor_at
from ensembletheory.processes import EdmPath, LinearInterpolant, SubVariancePreserving, Telegraph, VarianceExploding, VariancePreserving

SAMPLES = 8192
Z = 5.0  # two-sided error level 6e-7 an assertion


@pytest.mark.parametrize("process", [VariancePreserving(), LinearInterpolant()])
@pytest.mark.parametrize("variances", [[0.3], [0.3, 2.0]])
def test_the_floor_of_a_gaussian_is_its_closed_form(process, variances):
    """At one time sum_i [1 - s^2 / (a^2 S_i + s^2)], integrated over the times by SciPy."""

    def at(t):
        u, noise = float(process.a(jnp.asarray(t))) ** 2, float(process.noise_variance(jnp.asarray(t)))
        return sum(u * S / (u * S + noise) for S in variances)

    start = 1e-3
    truth, error = quad(at, start, 1.0, epsabs=1e-11, epsrel=1e-11, limit=200)
    computed = floor(ScoreMatching(process, Gaussian(np.zeros(len(variances)), variances), start=start))
    assert abs(computed.value - truth / (1 - start)) <= computed.error + error
    assert computed.error < 1e-6


def test_the_floor_of_a_mixture_is_the_rate_at_which_noise_destroys_information(process, target):
    """d/dt I(X_0; X_t) = -(g^2 / 2 s^2) floor_at(t) (the I-MMSE relation), with I = h(X_t) - log(2 pi e s_t^2) / 2 from entropies."""

    def information(t):
        noise = process.noise_variance(jnp.asarray(t))
        return float(process.marginal(target, t).entropy() - 0.5 * jnp.log(2 * np.pi * np.e * noise))

    rate = jax.jit(lambda t: process.diffusion(t) / (2 * process.noise_variance(t)) * floor_at(process, target, t).value)
    lost, error = quad(lambda t: float(rate(jnp.asarray(t))), 0.05, 0.9, epsabs=1e-10)
    assert lost == pytest.approx(information(0.05) - information(0.9), abs=1e-9 + error)
    assert lost > 0.5


def test_the_exact_score_has_no_error_and_its_loss_is_the_floor(process, target, objective):
    exact = process.score(target)
    assert score_error(jax.random.key(3), exact, objective, SAMPLES).value == 0
    loss, lowest = denoising_loss(jax.random.key(3), exact, objective, SAMPLES), floor(objective)
    assert abs(loss.value - lowest.value) <= Z * loss.error + lowest.error
    assert loss.error < 0.05 * lowest.value


def test_denoising_and_explicit_losses_differ_by_the_floor(objective, trained, process):
    """Of two fields far apart: the difference of denoising losses is that of the explicit errors."""
    near, far = member(trained.model, 0), process.score(Gaussian([2.0], 0.5))
    denoising = [denoising_loss(jax.random.key(4), field, objective, SAMPLES) for field in (far, near)]
    explicit = [score_error(jax.random.key(5), field, objective, SAMPLES) for field in (far, near)]
    difference, reference = denoising[0] - denoising[1], explicit[0] - explicit[1]
    assert abs(difference.value - reference.value) <= Z * (difference.error + reference.error)
    assert reference.value > 2 * Z * (difference.error + reference.error)  # so that the comparison can fail
    for loss, error in zip(denoising, explicit, strict=True):
        assert abs(loss.value - error.value - floor(objective).value) <= Z * (loss.error + error.error)


def test_the_loss_of_training_is_an_unbiased_estimate(objective, trained):
    field = member(trained.model, 1)
    batches = jax.jit(jax.vmap(lambda key: objective(field, key)))(jax.random.split(jax.random.key(6), 64))
    reference = denoising_loss(jax.random.key(7), field, objective, SAMPLES)
    error = np.hypot(np.std(batches, ddof=1) / 8, reference.error)
    assert abs(np.mean(batches) - reference.value) <= Z * error


def test_the_mean_score_errs_by_the_average_less_the_ambiguity(objective, trained):
    """Krogh-Vedelsby, each side computed by itself on the same draws."""
    key, weights = jax.random.key(8), np.array([0.5, 0.2, 0.3])
    errors = np.asarray(member_errors(key, trained.model, objective, SAMPLES))
    ensemble = score_error(key, MeanField(trained.model, weights), objective, SAMPLES).value
    members = np.array([score_error(key, member(trained.model, k), objective, SAMPLES).value for k in range(3)])
    np.testing.assert_allclose(np.mean(np.sum(errors**2, axis=2), axis=0), members, rtol=1e-12)
    centred = errors - np.einsum("k,nkd->nd", weights, errors)[:, None, :]
    ambiguity = weights @ np.mean(np.sum(centred**2, axis=2), axis=0)
    np.testing.assert_allclose(ensemble, weights @ members - ambiguity, rtol=1e-12)
    assert ambiguity > 0
    assert ensemble < weights @ members


def test_over_all_subsets_the_error_is_a_constant_plus_a_multiple_of_one_over_k(objective, trained):
    key = jax.random.key(9)
    errors = np.asarray(member_errors(key, trained.model, objective, SAMPLES))
    G = np.einsum("nkd,nld->kl", errors, errors) / SAMPLES
    A = G[~np.eye(3, dtype=bool)].mean()
    B = np.trace(G) / 3 - A
    for k in (1, 2, 3):
        subsets = [np.isin(np.arange(3), chosen) / k for chosen in combinations(range(3), k)]
        losses = [score_error(key, MeanField(trained.model, weights), objective, SAMPLES).value for weights in subsets]
        np.testing.assert_allclose(np.mean(losses), A + B / k, rtol=1e-12)


def test_training_halves_the_error_at_least_twice(objective, trained, untrained):
    """Of three members, begun and trained from keys of their own; the draws are not those of training."""
    for k in range(3):
        before = score_error(jax.random.key(10), member(untrained, k), objective, SAMPLES)
        for after in (trained.model, trained.average):
            error = score_error(jax.random.key(11), member(after, k), objective, SAMPLES)
            print(f"member {k}: {before} before, {error} after")
            assert error.value + Z * error.error < (before.value - Z * before.error) / 4


# Weightings of the times.

START = 0.01
WRONG = Gaussian([0.4], 0.9)
GAUSSIAN = Gaussian([-0.3], 0.36)


def _of_preserving(t):
    """a^2, exp(-I) and b of Song's schedule."""
    return np.exp(-0.1 * t - 9.95 * t**2), 0.1 + 19.9 * t


def _of_exploding(t):
    grown = (20.0 / 0.05) ** (2 * t)
    return 1.0, 0.05**2 * (grown - 1), 2 * np.log(20.0 / 0.05) * 0.05**2 * grown


COEFFICIENTS = [  # process, and a^2, s^2 and g^2 as published
    (VariancePreserving(), lambda t: (_of_preserving(t)[0], 1 - _of_preserving(t)[0], _of_preserving(t)[1])),
    (SubVariancePreserving(), lambda t: (_of_preserving(t)[0], (1 - _of_preserving(t)[0]) ** 2, _of_preserving(t)[1] * (1 - _of_preserving(t)[0] ** 2))),
    (VarianceExploding(0.05, 20.0), _of_exploding),
]


@pytest.mark.parametrize(("process", "coefficients"), COEFFICIENTS)
def test_the_likelihood_weighting_bounds_the_divergence_of_the_reverse_sde(process, coefficients):
    """(horizon - start) times the error is the integral of g^2 E |s - s*|^2, of Song's bound: for Gaussians in closed form at each time, by SciPy over the times."""

    def at(t):
        a2, noise, rate = coefficients(t)
        v, w = a2 * 0.36 + noise, a2 * 0.9 + noise
        slope, offset = 1 / v - 1 / w, -(a2**0.5) * 0.7 / w  # s - s* = slope (x - mean) - offset, up to the sign of the offset
        return rate * (slope**2 * v + offset**2)

    truth, _ = quad(at, START, 1.0, points=[0.02, 0.05, 0.2], limit=200)
    objective, wrong = ScoreMatching(process, GAUSSIAN, start=START, weighting="likelihood"), process.score(WRONG)
    error, loss = score_error(jax.random.key(12), wrong, objective, SAMPLES), denoising_loss(jax.random.key(13), wrong, objective, SAMPLES)
    assert abs((1 - START) * error.value - truth) <= Z * (1 - START) * error.error
    assert error.error < 0.05 * error.value
    assert abs(loss.value - floor(objective).value - error.value) <= Z * (loss.error + error.error)


def test_the_weighting_of_edm_is_the_published_one():
    """E of (sigma^2 + c^2) / (sigma c)^2 |D - X_0|^2 over log sigma ~ N(-1.2, 1.2^2), c = 0.5, for the denoiser of another variance, by SciPy over the levels of the path."""
    c2, other, last = 0.25, 0.6, 40.0
    process, law = EdmPath(last), Gaussian([0.0], c2)

    def at(level):
        k = other / (other + level**2)
        error = (1 - k) ** 2 * c2 + k**2 * level**2
        return stats.norm.pdf(np.log(level), -1.2, 1.2) / level * (level**2 + c2) / (level**2 * c2) * error

    truth, _ = quad(at, START, last, points=[0.1, 0.5, 2.0], limit=200)
    loss = denoising_loss(jax.random.key(14), process.score(Gaussian([0.0], other)), ScoreMatching(process, law, start=START, weighting="edm"), SAMPLES)
    assert abs(loss.value - truth) <= Z * loss.error
    assert loss.error < 0.05 * truth


@pytest.mark.parametrize("weighting", ["likelihood", "edm"])
def test_batches_of_a_weighted_loss_are_unbiased_and_even(process, weighting):
    """Times in proportion to the weight: no batch is ruled by few draws."""
    objective, field = ScoreMatching(process, GAUSSIAN, 128, START, weighting), process.score(WRONG)
    batches = jax.jit(jax.vmap(lambda key: objective(field, key)))(jax.random.split(jax.random.key(15), 64))
    reference = denoising_loss(jax.random.key(16), field, objective, SAMPLES)
    assert abs(np.mean(batches) - reference.value) <= Z * np.hypot(np.std(batches, ddof=1) / 8, reference.error)
    assert np.std(batches, ddof=1) < 0.25 * np.mean(batches)


def test_batches_of_none_are_refused(process, target):
    for build in (ScoreMatching, FlowMatching):
        with pytest.raises(ValueError, match="`batch`: got 0; expected a whole number >= 1"):
            build(process, target, batch=0)
    for build in (MaximumLikelihood, partial(KacMatching, Telegraph(1.0, 1.0)), partial(RatioMatching, Telegraph(1.0, 1.0))):
        with pytest.raises(ValueError, match="`batch`: got 0; expected a whole number >= 1"):
            build(target, batch=0)


def test_a_weighting_that_is_not_known_or_not_finite_is_refused(process, target):
    with pytest.raises(ValueError, match="`weighting`: got 'song'; expected 'noise', 'likelihood' or 'edm'"):
        ScoreMatching(process, target, weighting="song")
    with pytest.raises(ValueError, match="`weighting`: got 'likelihood' on LinearInterpolant, where it is not finite"):
        ScoreMatching(LinearInterpolant(), target, weighting="likelihood")


@pytest.mark.parametrize("start", [0.0, 1.0, -0.1, float("nan")])
def test_a_start_outside_the_path_is_refused(process, target, start):
    with pytest.raises(ValueError, match=r"`start`: got .*; expected a time in \(0, 1\)"):
        ScoreMatching(process, target, start=start)


def test_fields_of_another_kind_process_or_dimension_are_refused(process, target, objective):
    cases = [
        (process.denoiser(target), "got a denoiser; expected a score"),
        (VariancePreserving(0.1, 5.0).score(target), "got a field of another process"),
        (process.score(Gaussian([0.0, 0.0], 1.0)), "(?s:.*); expected vectors of shape"),
    ]
    for field, message in cases:
        for measure in (denoising_loss, score_error):
            with pytest.raises(ValueError, match=f"`field`: {message}"):
                measure(jax.random.key(0), field, objective, SAMPLES)
        with pytest.raises(ValueError, match=f"`fields`: {message}"):
            member_errors(jax.random.key(0), stack([field, field]), objective, SAMPLES)


def test_one_draw_is_refused(process, target, objective):
    with pytest.raises(ValueError, match="`samples`: got 1; expected at least 2"):
        denoising_loss(jax.random.key(0), process.score(target), objective, 1)


@pytest.mark.verify
@pytest.mark.parametrize("process", [SubVariancePreserving(), VarianceExploding(0.05, 20.0)])
def test_networks_learn_the_scores_of_other_paths(process, target):
    """All three members bring the error of the network that says zero, whose score is that of the matched Gaussian, below a quarter."""
    objective, recipe = ScoreMatching(process, target, 128, START), Recipe(steps=400, learning_rate=1e-2, chunk=200, ema_decay=0.98)
    trained = train_ensemble(jax.random.key(1), lambda key: ScoreNetwork(key, process, target, 32, 3), [objective] * 3, recipe).average
    gaussian = score_error(jax.random.key(2), process.score(Gaussian(target.mean, target.cov)), objective, SAMPLES).value
    assert all(score_error(jax.random.key(2), member(trained, k), objective, SAMPLES).value < gaussian / 4 for k in range(3))
