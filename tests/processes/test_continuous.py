"""Reverse dynamics in continuous time: moments integrated by SciPy, Bayes' posterior, the averaged score of one member, and the limits of churn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ensembletheory as et
from ensembletheory.processes import reverse_kernel
from tests.helpers import spd

VP, LINEAR = et.processes.VariancePreserving(), et.processes.LinearInterpolant()
RNG = np.random.default_rng(3)
DATA, START = et.Gaussian(RNG.normal(size=2), spd(RNG, 2)), et.Gaussian(RNG.normal(size=2), spd(RNG, 2))  # covariances that do not commute
ALONG_AXES = et.Gaussian([0.7, -0.2, 1.1], [0.4, 1.0, 3.0])


def schedule(name, t):
    """a, s^2 and (f, g^2), written out."""
    if name == "vp":
        u = np.exp(-(0.1 * t + 19.9 * t**2 / 2))
        return np.sqrt(u), 1 - u, -(0.1 + 19.9 * t) / 2, 0.1 + 19.9 * t
    return 1 - t, t**2, -1 / (1 - t), 2 * t / (1 - t)


def moments(name, data, start, s, t, e):
    """Mean and covariance of X_s by an adaptive solver of order 8, from the drift itself."""
    d, m, S = len(data.mean), np.asarray(data.mean), np.asarray(data.cov)

    def rate(time, y):
        a, noise, f, g2 = schedule(name, time)
        mean, cov = y[:d], y[d:].reshape(d, d)
        precision = np.linalg.inv(a**2 * S + noise * np.eye(d))
        drift = f * np.eye(d) + (1 + e) / 2 * g2 * precision
        return np.concatenate([drift @ mean - (1 + e) / 2 * g2 * precision @ (a * m), (drift @ cov + cov @ drift.T - e * g2 * np.eye(d)).ravel()])

    y = solve_ivp(rate, (t, s), np.concatenate([start.mean, np.ravel(start.cov)]), method="DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
    return y[:d], y[d:].reshape(d, d)


@pytest.mark.parametrize(("name", "process", "s", "t"), [("vp", VP, 0.0, 1.0), ("linear", LINEAR, 0.1, 0.8)])
@pytest.mark.parametrize("churn", [0.0, 0.6, 1.0])
def test_moments_solve_their_equations(name, process, s, t, churn):
    law = reverse_kernel(process, DATA, s, t, churn).push(START)
    mean, cov = moments(name, DATA, START, s, t, churn**2)
    np.testing.assert_allclose(law.mean, mean, rtol=1e-8)
    np.testing.assert_allclose(law.cov, cov, rtol=1e-8)


@pytest.mark.parametrize("churn", [0.0, 0.6, 1.0, np.inf])
def test_marginals_of_the_path_are_kept_and_axes_agree_with_matrices(churn):
    dense = et.Gaussian(ALONG_AXES.mean, np.asarray(ALONG_AXES.cov))
    kernels = [reverse_kernel(VP, law, 0.2, 0.9, churn) for law in (ALONG_AXES, dense)]
    starts = [VP.marginal(law, 0.9) for law in (ALONG_AXES, dense)]
    a2 = np.exp(-(0.1 * 0.2 + 19.9 * 0.2**2 / 2))
    for kernel, start in zip(kernels, starts, strict=True):
        law = kernel.push(start)
        np.testing.assert_allclose(law.mean, np.sqrt(a2) * np.asarray(ALONG_AXES.mean), rtol=1e-12)
        np.testing.assert_allclose(law.cov, a2 * np.asarray(ALONG_AXES.cov) + (1 - a2) * np.eye(3), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(jnp.diag(kernels[0].a), kernels[1].A, atol=1e-14)
    np.testing.assert_allclose(kernels[0].b, kernels[1].b, atol=1e-14)


def test_the_reverse_sde_is_the_posterior_of_the_noised_point():
    s, t = 0.1, 0.4
    posterior = VP.kernel(s, t, 2).invert(VP.marginal(DATA, s))
    kernel = reverse_kernel(VP, DATA, s, t)
    np.testing.assert_allclose(kernel.A, posterior.A, rtol=1e-9)
    np.testing.assert_allclose(kernel.b, posterior.b, rtol=1e-9)
    np.testing.assert_allclose(kernel.C.as_matrix(), posterior.C.as_matrix(), rtol=1e-9)


@pytest.mark.parametrize("churn", [0.0, 0.6, 1.0])
def test_from_standard_noise_it_is_the_averaged_score_of_one_member(churn):
    law = reverse_kernel(VP, ALONG_AXES, 0.0, 1.0, churn).push(et.standard_normal(3))
    sampled = et.mean_score_law([ALONG_AXES], VP, churn=churn)
    np.testing.assert_allclose(law.mean, sampled.mean, rtol=1e-9)
    np.testing.assert_allclose(law.cov, sampled.cov, rtol=1e-9)


def test_kernels_compose_and_a_step_of_no_length_stays():
    whole, first, second = (reverse_kernel(VP, DATA, s, t, 0.6) for s, t in ((0.1, 0.9), (0.4, 0.9), (0.1, 0.4)))
    through = second.after(first)
    np.testing.assert_allclose(through.A, whole.A, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(through.b, whole.b, rtol=1e-11)
    np.testing.assert_allclose(through.C.as_matrix(), whole.C.as_matrix(), rtol=1e-11, atol=1e-14)
    stay = reverse_kernel(VP, DATA, 0.4, 0.4, 0.6)
    np.testing.assert_allclose(stay.A, np.eye(2), atol=1e-15)
    np.testing.assert_allclose(stay.C.as_matrix(), np.zeros((2, 2)), atol=1e-15)


def test_the_flow_of_an_interpolant_starts_where_no_signal_is_left():
    """(1-D) The quantile map from N(0, 1) to N(0.7, 4), and the SDE's fresh draw."""
    data = et.Gaussian([0.7], [4.0])
    flow, sde = reverse_kernel(LINEAR, data, 0.0, 1.0, 0.0), reverse_kernel(LINEAR, data, 0.0, 1.0, 1.0)
    np.testing.assert_allclose([flow.a[0], flow.b[0], flow.C.variances[0]], [2.0, 0.7, 0.0], atol=1e-15)
    np.testing.assert_allclose([sde.a[0], sde.b[0], sde.C.variances[0]], [0.0, 0.7, 4.0], atol=1e-15)


def test_the_sde_is_never_farther_from_the_path_than_the_flow():
    """Proposition 4 of Pierret & Galerne for a start at N(0, I)."""
    spectrum = np.geomspace(1e-4, 300, 40)
    data = et.Gaussian(np.zeros(40), spectrum)

    @jax.jit
    def distances(t):
        return [et.w2(reverse_kernel(VP, data, t, 1.0, churn).push(et.Gaussian(jnp.zeros(40), jnp.ones(40))), VP.marginal(data, t)).value for churn in (1.0, 0.0)]

    for t in (0.0, 0.3, 0.9):
        sde, flow = distances(t)
        assert 0 < sde < flow


def test_singular_data_are_followed_to_the_end_where_their_law_has_no_density():
    data = et.laws.singular_gaussian([0.3, 0.7, 0.0], [0.0, 2.0, 1.0])
    late, whole = reverse_kernel(VP, data, 0.2, 1.0).push(et.standard_normal(3)), reverse_kernel(VP, data, 0.0, 1.0)
    near = et.mean_score_law([et.Gaussian([0.3, 0.7, 0.0], [1e-12, 2.0, 1.0])], VP)
    np.testing.assert_allclose(whole.b, near.mean, atol=1e-9)
    np.testing.assert_allclose(whole.a**2 + whole.C.variances, np.diagonal(near.cov), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose([whole.a[0], whole.b[0], whole.C.variances[0]], [0.0, 0.3, 0.0], atol=1e-15)
    mean, cov = moments("vp", data, et.standard_normal(3), 0.2, 1.0, 1.0)
    np.testing.assert_allclose(late.mean, mean, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(late.cov, cov, rtol=1e-8, atol=1e-12)
    with pytest.raises(ValueError, match="met without noise at time 0"):
        reverse_kernel(VP, data, 0.0, 0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reverse_kernel(VP, DATA, 0.5, 0.2), "`s`.*at most t"),
        (lambda: reverse_kernel(VP, DATA, 0.0, 1.0, -1.0), "`churn`.*-1"),
        (lambda: reverse_kernel(VP, DATA, 0.0, 1.5), "`t`.*1.5"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()


def test_laws_that_are_not_gaussian_are_refused():
    with pytest.raises(TypeError, match=r"`law`: got FiniteLaw; expected Gaussian"):
        reverse_kernel(VP, et.FiniteLaw([[0.0]], [1.0]), 0.0, 1.0)
