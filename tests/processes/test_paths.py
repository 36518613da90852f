"""Processes by their equations: marginals, the Fokker-Planck and continuity equations by autodiff, conversions, both ends of time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from tests.helpers import assert_mean, spd

VP, LINEAR = et.processes.VariancePreserving(), et.processes.LinearInterpolant()
PROCESSES = {"vp": VP, "linear": LINEAR}
RNG = np.random.default_rng(0)
GAUSSIAN = et.Gaussian(RNG.normal(size=2), spd(RNG, 2))
MIXTURE = et.GaussianMixture([0.3, 0.7], RNG.normal(size=(2, 2)), np.stack([spd(RNG, 2), spd(RNG, 2)]))
LAWS = {"gaussian": GAUSSIAN, "mixture": MIXTURE}
X = jnp.asarray([0.4, -0.7])


@pytest.fixture(params=PROCESSES)
def process(request):
    return PROCESSES[request.param]


@pytest.fixture(params=LAWS)
def law(request):
    return LAWS[request.param]


def log_density(process, law):
    return jax.jit(lambda t, x: process.marginal(law, t)._log_prob(x))


def test_the_continuity_and_fokker_planck_equations_hold(process, law):
    log_p, t = log_density(process, law), jnp.asarray(0.4)
    rate, score = jax.grad(log_p)(t, X), jax.grad(log_p, argnums=1)(t, X)
    hessian = jax.hessian(log_p, argnums=1)(t, X)
    velocity = process.velocity(law)
    divergence = jnp.trace(jax.jacfwd(velocity, argnums=1)(t, X))
    np.testing.assert_allclose(rate, -divergence - velocity(t, X) @ score, rtol=1e-9)
    f, g2 = process.signal_rate(t), process.diffusion(t)
    fokker_planck = -2 * f - f * X @ score + g2 / 2 * (jnp.trace(hessian) + score @ score)
    np.testing.assert_allclose(rate, fokker_planck, rtol=1e-9)
    np.testing.assert_allclose(process.score(law)(t, X), score, rtol=1e-10)


def test_velocity_denoiser_and_score_convert_into_one_another(process, law):
    t = jnp.asarray(0.4)
    score, denoised = process.score(law)(t, X), process.denoiser(law)(t, X)
    np.testing.assert_allclose(process.a(t) * denoised, X + process.noise_variance(t) * score, rtol=1e-10)  # Tweedie
    np.testing.assert_allclose(process.velocity(law)(t, X), et.processes.convert(process, process.score(law), "velocity")(t, X), rtol=1e-9)


def test_both_ends_of_time(law):
    start, end = jnp.asarray(0.0), jnp.asarray(1.0)
    np.testing.assert_allclose(LINEAR.velocity(law)(end, X), X - law.mean, atol=1e-12)  # all noise: E[Z - X_0 | Z = x]
    np.testing.assert_allclose(LINEAR.velocity(law)(start, X), -X, atol=1e-12)  # all data: E[Z - x]
    np.testing.assert_allclose(VP.velocity(law)(start, X), -VP.beta_min / 2 * (X + law.score(X)), rtol=1e-10)
    for process in (VP, LINEAR):
        np.testing.assert_allclose(process.marginal(law, 0.0).cov, law.cov, atol=1e-14)


def test_variance_preserving_is_its_differential_equation():
    t = jnp.asarray(0.37)
    beta = 0.1 + 19.9 * 0.37
    np.testing.assert_allclose(VP.signal_rate(t), -beta / 2, rtol=1e-12)
    np.testing.assert_allclose(VP.diffusion(t), beta, rtol=1e-12)
    np.testing.assert_allclose(VP.a(t) ** 2 + VP.noise_variance(t), 1.0, rtol=1e-14)
    assert float(VP.a(jnp.asarray(1.0)) ** 2) == pytest.approx(np.exp(-(0.1 + 9.95)), rel=1e-12)


def test_noised_samples_have_the_marginal_law(process):
    t = 0.3
    key_x, key_z = jax.random.split(jax.random.key(0))
    x0, z = np.asarray(MIXTURE.sample(key_x, 100_000)), np.asarray(jax.random.normal(key_z, (100_000, 2)))
    xt = float(process.a(jnp.asarray(t))) * x0 + float(process.noise_variance(jnp.asarray(t))) ** 0.5 * z
    marginal = process.marginal(MIXTURE, t)
    centred = xt - np.asarray(marginal.mean)
    assert_mean(xt, marginal.mean)
    assert_mean(centred[:, :, None] * centred[:, None, :], marginal.cov)


def test_kernels_compose_in_time(process):
    early, late, whole = process.kernel(0.1, 0.4, 2), process.kernel(0.4, 0.8, 2), process.kernel(0.1, 0.8, 2)
    composed = late.after(early)
    np.testing.assert_allclose(composed.A, whole.A, atol=1e-14)
    np.testing.assert_allclose(composed.C.as_matrix(), whole.C.as_matrix(), atol=1e-14)


def test_mean_field_is_the_weighted_average():
    fields = [VP.score(GAUSSIAN), VP.score(MIXTURE)]
    average = et.MeanField(fields, [0.3, 0.7])(jnp.asarray(0.2), X)
    np.testing.assert_allclose(average, 0.3 * fields[0](jnp.asarray(0.2), X) + 0.7 * fields[1](jnp.asarray(0.2), X), rtol=1e-13)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VP.marginal(GAUSSIAN, 1.5), "`t`.*1.5.*from 0"),
        (lambda: VP.kernel(0.5, 0.2), "`s`.*0.5.*at most t = 0.2"),
        (lambda: et.processes.VariancePreserving(beta_max=-1.0), "`beta_min, beta_max, horizon`.*-1"),
        (lambda: et.MeanField([]), "`fields`.*empty"),
        (lambda: et.MeanField([VP.score(GAUSSIAN)], [0.5]), "`weights`.*sum 0.5"),
        (lambda: VP.kernel(0.0, 0.5).push(GAUSSIAN), "`law`.*dimension 2.*dimension 1"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()
