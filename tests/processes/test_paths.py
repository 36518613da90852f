"""Processes by their equations: their SDEs' moments, the Fokker-Planck and continuity equations by autodiff, conversions, both ends of time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from tests.helpers import assert_mean, spd
from tests.processes.by_hand import noised_fields, solved

P = et.processes
RNG = np.random.default_rng(0)
GAUSSIAN = et.Gaussian(RNG.normal(size=2), spd(RNG, 2))
WEIGHTS, MEANS, COVS = np.array([0.3, 0.7]), RNG.normal(size=(2, 2)), np.stack([spd(RNG, 2), spd(RNG, 2)])
MIXTURE = et.GaussianMixture(WEIGHTS, MEANS, COVS)
X = jnp.asarray([0.4, -0.7])
SHARES = np.array([0.1, 0.45, 0.8])
KINDS = ("score", "velocity", "denoiser", "noise")
DRIFT, NOISE = np.array([[-0.6, 2.0], [-0.3, 0.1]]), np.array([[0.5, 0.2, -0.4], [0.0, 0.7, 0.3]])
BETAS = np.array([0.05, 0.1, 0.4, 0.3])
PATHS = {
    "variance preserving": P.VariancePreserving(),
    "sub-variance-preserving": P.SubVariancePreserving(0.2, 8.0, 2.0),
    "variance exploding": P.VarianceExploding(0.05, 20.0, 0.7),
    "Ornstein-Uhlenbeck": P.OrnsteinUhlenbeck(0.7, 3.0),
    "EDM": P.EdmPath(5.0),
    "cosine": P.CosineVariancePreserving(0.02, 2.0),
    "EDM, variance preserving": P.EdmVariancePreserving(0.05, 10.0, 4.0, 2.0),
    "discrete": P.DiscreteVariancePreserving(BETAS),
    "linear": P.LinearInterpolant(),
    "optimal transport": P.OptimalTransportPath(0.1),
    "variance-exploding path": P.VarianceExplodingPath(0.05, 20.0, 0.7),
    "trigonometric": P.TrigonometricInterpolant(),
    "general": P.Interpolant(lambda t: 1 - (t / 2) ** 2, lambda t: t / 2 * (2 - t / 2), 2.0),
}
INHERITED = "signal_rate diffusion drift spread disturbance kernel marginal score denoiser noise velocity hessian readout".split()


@eqx.filter_jit
def jets(process, times):
    """The coefficients of a path and their rates, at several times."""

    def at(t):
        (a, s2), (da, ds2) = jax.jvp(lambda t: (process.a(t), process.noise_variance(t)), (t,), (jnp.ones_like(t),))
        return {"t": t, "a": a, "da": da, "s2": s2, "ds2": ds2, "f": process.signal_rate(t), "g2": process.diffusion(t)}

    return jax.vmap(at)(times)


class Tangent(P.GaussianPath):
    """The path with the coefficients and rates of another at one time: all that the equations at that time see of it, so that one program serves all paths."""

    at: dict
    horizon: jax.Array

    def a(self, t):
        return self.at["a"] + self.at["da"] * (t - self.at["t"])

    def noise_variance(self, t):
        return self.at["s2"] + self.at["ds2"] * (t - self.at["t"])


class Known(et.Field):
    value: jax.Array

    def __call__(self, t, x):
        return self.value


@eqx.filter_jit
def both_sides(process, law, t, x):
    """Pairs that must agree, by name."""

    def log_p(t, x):
        return process.marginal(law, t)._log_prob(x)

    rate, score = jax.grad(log_p, argnums=(0, 1))(t, x)
    exact, hessian = (jax.jacfwd(process.score(law), argnums=1)(t, x), process.hessian(law, t, x))
    velocity = process.velocity(law)
    v, slope = velocity(t, x), jnp.trace(jax.jacfwd(velocity, argnums=1)(t, x))
    F, Q, D = (jax.jacfwd(lambda y: apply(t, y))(x) for apply in (process.drift, process.spread, process.disturbance))  # noqa: B023
    composed, whole = process.kernel(0.9 * t, t, 2).after(process.kernel(0.7 * t, 0.9 * t, 2)), process.kernel(0.7 * t, t, 2)
    return {
        "continuity": (rate, -slope - v @ score),
        "Fokker-Planck": (rate, -jnp.trace(F) - (F @ x) @ score + jnp.sum(Q * (exact + score[:, None] * score[None, :])) / 2),
        "score": (process.score(law)(t, x), score),
        "hessian": (hessian, exact),
        "velocity": (v, F @ x - Q @ score / 2),
        "disturbance": (D @ D.T, Q),
        "composed factor": (composed.A, whole.A),
        "composed noise": (composed.C.as_matrix(), whole.C.as_matrix()),
    }


@eqx.filter_jit
def fields(process, law, t, x):
    """The four exact fields, and each converted from each other one."""
    exact = {kind: getattr(process, kind)(law)(t, x) for kind in KINDS}
    converted = {(to, given): P.convert(process, Known(exact[given]), to, given)(t, x) for given in KINDS for to in KINDS}
    return exact, converted


@pytest.mark.parametrize("name", PATHS)
def test_every_equation_of_a_path_holds_and_fields_are_bayes_rule(name):
    process = PATHS[name]
    assert all(getattr(type(process), method) is getattr(P.GaussianPath, method) for method in INHERITED)
    known = jets(process, SHARES * process.horizon)
    for i in range(len(SHARES)):
        at = {key: value[i] for key, value in known.items()}
        tangent = Tangent(at, process.horizon)
        for side, (got, expected) in both_sides(tangent, MIXTURE, at["t"], X).items():
            np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10, err_msg=side)
        exact, converted = fields(tangent, MIXTURE, at["t"], X)
        a, s2, da, ds2 = (float(at[key]) for key in ("a", "s2", "da", "ds2"))
        _, score, denoised, noise = noised_fields(WEIGHTS, MEANS, COVS, a, s2, np.asarray(X))
        by_hand = {"score": score, "denoiser": denoised, "noise": noise, "velocity": da * denoised + ds2 / (2 * np.sqrt(s2)) * noise}
        for kind in KINDS:
            np.testing.assert_allclose(exact[kind], by_hand[kind], rtol=1e-10, atol=1e-12)
        for (to, given), value in converted.items():
            np.testing.assert_allclose(value, by_hand[to], rtol=1e-8, atol=1e-9, err_msg=f"{to} from {given}")


def test_every_equation_of_a_linear_sde_holds():
    process = P.LinearSde(DRIFT, NOISE, 1.5)
    for t in (0.4, 1.1):
        for side, (got, expected) in both_sides(process, MIXTURE, jnp.asarray(t), X).items():
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12, err_msg=side)


def beta(t, low=0.1, high=20.0, horizon=1.0):
    return low + (high - low) * t / horizon


def grown(t, low=0.05, high=20.0, horizon=0.7):
    return low * (high / low) ** (t / horizon)


def half_tangent(t):
    return np.pi / 2 / 2 / 1.02 * np.tan(np.pi / 2 * (t / 2 + 0.02) / 1.02)


def sub_g2(t):
    return beta(t, 0.2, 8.0, 2.0) * -np.expm1(-2 * (0.2 * t + 7.8 * t**2 / 4))


def edm_beta(t):
    root, scale = 0.05**0.25 + t / 2 * (10.0**0.25 - 0.05**0.25), 100 / (100 - 0.05**2)
    return scale * 8 * root**7 * (10.0**0.25 - 0.05**0.25) / 2 / (1 + scale * (root**8 - 0.05**2))


def general_f(t):
    return -t / 2 / (1 - (t / 2) ** 2)


RATIO = np.log(20.0 / 0.05) / 0.7
SDES = {  # f, g^2 and s_0^2
    "variance preserving": (lambda t: -beta(t) / 2, beta, 0.0),
    "sub-variance-preserving": (lambda t: -beta(t, 0.2, 8.0, 2.0) / 2, sub_g2, 0.0),
    "variance exploding": (lambda t: 0.0, lambda t: 2 * grown(t) ** 2 * RATIO, 0.0),
    "Ornstein-Uhlenbeck": (lambda t: -0.7, lambda t: 1.4, 0.0),
    "EDM": (lambda t: 0.0, lambda t: 2 * t, 0.0),
    "cosine": (lambda t: -half_tangent(t), lambda t: 2 * half_tangent(t), 0.0),
    "EDM, variance preserving": (lambda t: -edm_beta(t) / 2, edm_beta, 0.0),
    "linear": (lambda t: -1 / (1 - t), lambda t: 2 * t / (1 - t), 0.0),
    "optimal transport": (lambda t: -1 / (1 - t), lambda t: 2 * 0.9 * (0.1 + 0.9 * t) + 2 * (0.1 + 0.9 * t) ** 2 / (1 - t), 0.01),
    "variance-exploding path": (lambda t: 0.0, lambda t: 2 * grown(t) ** 2 * RATIO, 0.05**2),
    "trigonometric": (lambda t: -np.pi / 2 * np.tan(np.pi * t / 2), lambda t: np.pi * np.tan(np.pi * t / 2), 0.0),
    "general": (general_f, lambda t: t * (1 - t / 4) * (2 - t) - 2 * general_f(t) * (t * (1 - t / 4)) ** 2, 0.0),
}


@pytest.mark.parametrize("name", SDES)
def test_marginals_solve_the_sde_of_the_paper(name):
    process, (f, g2, start) = PATHS[name], SDES[name]
    got, times = jets(process, SHARES * process.horizon), SHARES * float(process.horizon)
    a, variance = solved(f, g2, start, times)
    np.testing.assert_allclose(got["a"], a, rtol=1e-8)
    np.testing.assert_allclose(got["s2"], variance, rtol=1e-8)
    np.testing.assert_allclose(got["f"], [f(t) for t in times], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(got["g2"], [g2(t) for t in times], rtol=1e-9)


def test_the_discrete_path_meets_every_noise_level_of_ddpm():
    got = jets(PATHS["discrete"], jnp.asarray([1.0, 3.0, 4.0]))
    signal = np.cumprod(1 - BETAS)[[0, 2, 3]]
    np.testing.assert_allclose(got["a"], np.sqrt(signal), rtol=1e-14)
    np.testing.assert_allclose(got["s2"], 1 - signal, rtol=1e-13)


def test_the_numbers_of_song():
    times = jnp.asarray(np.array([0.05, 0.5, 1.0]))
    vp, sub = (jax.tree.map(np.asarray, jets(process, times)) for process in (PATHS["variance preserving"], P.SubVariancePreserving()))
    assert vp["a"][-1] ** 2 == pytest.approx(4.3186e-5, rel=1e-5)
    np.testing.assert_allclose(sub["a"], vp["a"], rtol=1e-15)
    np.testing.assert_allclose(sub["s2"], vp["s2"] ** 2, rtol=1e-14)
    np.testing.assert_allclose(sub["g2"], vp["g2"] * (1 - vp["a"] ** 4), rtol=1e-8)
    near_data, at_noise = jets(P.VarianceExploding(), jnp.asarray(np.array([1e-9, 1.0])))["s2"]
    assert float(at_noise) == pytest.approx(50.0**2 - 0.01**2, rel=1e-14)
    assert float(near_data) == pytest.approx(2e-13 * np.log(5000), rel=1e-8)  # nothing cancels near the data


@eqx.filter_jit
def ends(vp, linear, interpolants, law):
    start, end = jnp.zeros(()), jnp.ones(())
    velocities = linear.velocity(law)(end, X), linear.velocity(law)(start, X), vp.velocity(law)(start, X)
    return velocities, (law.mean, law._score(X)), (vp.marginal(law, start).cov, linear.marginal(law, start).cov, law.cov), [path.a(path.horizon) for path in interpolants]


def test_both_ends_of_time():
    interpolants = [PATHS[name] for name in ("linear", "trigonometric", "general", "cosine")]
    (end, start, vp_start), (mean, score), covs, signals = ends(PATHS["variance preserving"], PATHS["linear"], interpolants, MIXTURE)
    np.testing.assert_allclose(end, X - mean, atol=1e-12)  # all noise: E[Z - X_0 | Z = x]
    np.testing.assert_allclose(start, -X, atol=1e-12)  # all data: E[Z - x]
    np.testing.assert_allclose(vp_start, -0.1 / 2 * (X + score), rtol=1e-10)
    np.testing.assert_allclose(covs, np.broadcast_to(covs[2], (3, 2, 2)), atol=1e-14)
    assert all(float(signal) == 0 for signal in signals)


def test_noised_samples_have_the_marginal_law():
    process, rng = PATHS["sub-variance-preserving"], np.random.default_rng(1)
    labels = rng.choice(2, 100_000, p=WEIGHTS)
    data = MEANS[labels] + np.einsum("nij,nj->ni", np.linalg.cholesky(COVS)[labels], rng.normal(size=(100_000, 2)))
    signal, t = np.exp(-(0.2 * 0.8 + 7.8 * 0.8**2 / 4)), 0.8
    draws = np.sqrt(signal) * data + (1 - signal) * rng.normal(size=(100_000, 2))
    marginal = process.marginal(MIXTURE, t)
    centred = draws - np.asarray(marginal.mean)
    assert_mean(draws, marginal.mean)
    assert_mean(centred[:, :, None] * centred[:, None, :], marginal.cov)


def test_the_denoiser_of_atoms_is_their_softmax_average():
    points, weights, t = np.array([[0.0, 1.0], [1.0, -0.5], [-1.0, 0.2]]), np.array([0.2, 0.5, 0.3]), 0.3
    process = PATHS["variance preserving"]
    u = np.exp(-(0.1 * t + 19.9 * t**2 / 2))
    logits = np.log(weights) - np.sum((np.asarray(X) - np.sqrt(u) * points) ** 2, axis=1) / (2 * (1 - u))
    softmax = np.exp(logits - logits.max()) / np.sum(np.exp(logits - logits.max()))
    denoiser = eqx.filter_jit(process.denoiser(et.FiniteLaw(points, weights)))
    np.testing.assert_allclose(denoiser(jnp.asarray(t), X), softmax @ points, rtol=1e-12)


def test_mean_field_is_the_weighted_average():
    field = et.MeanField([Known(jnp.asarray([1.0, 2.0])), Known(jnp.asarray([-3.0, 0.5]))], [0.3, 0.7])
    np.testing.assert_allclose(field(jnp.asarray(0.2), X), [0.3 - 2.1, 0.6 + 0.35], rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PATHS["variance preserving"].marginal(GAUSSIAN, 1.5), "`t`.*1.5.*from 0"),
        (lambda: PATHS["variance preserving"].marginal(GAUSSIAN, -0.1), "`t`.*-0.1.*from 0"),
        (lambda: PATHS["EDM"].marginal(GAUSSIAN, 5.1), "`t`.*5.1.*5 \\(noise\\)"),
        (lambda: PATHS["variance preserving"].kernel(0.5, 0.2), "`s`.*0.5.*at most t = 0.2"),
        (lambda: PATHS["variance preserving"].kernel(0.0, 0.5).push(GAUSSIAN), "`law`.*dimension 2.*dimension 1"),
        (lambda: PATHS["variance preserving"].score(et.FiniteLaw([[0.0, 0.0]]))(jnp.asarray(0.0), X), "`law, whose covariance 0 is met without noise at time 0`"),
        (lambda: PATHS["linear"].readout("drift", jnp.asarray(0.5)), "`kind`.*'drift'"),
        (lambda: P.VariancePreserving(beta_max=-1.0), "`beta_min, beta_max, horizon`.*-1"),
        (lambda: P.SubVariancePreserving(horizon=0.0), "`beta_min, beta_max, horizon`.*, 0"),
        (lambda: P.VarianceExploding(2.0, 1.0), "`sigma_min`.*got 2.*less than sigma_max = 1"),
        (lambda: P.VarianceExploding(0.0), "`sigma_min`.*got 0.*above 0"),
        (lambda: P.VarianceExplodingPath(1.0, 1.0), "`sigma_min`.*less than"),
        (lambda: P.EdmVariancePreserving(rho=-1.0), "`rho`.*-1"),
        (lambda: P.OrnsteinUhlenbeck(rate=[1.0, 2.0]), "`rate`.*shape \\(2,\\).*one number"),
        (lambda: P.EdmPath(horizon=np.inf), "`horizon`.*infinite"),
        (lambda: P.CosineVariancePreserving(offset=0.0), "`offset`.*above 0"),
        (lambda: P.OptimalTransportPath(1.0), "`sigma_min`.*less than"),
        (lambda: P.DiscreteVariancePreserving([0.1, 1.0]), "`betas`.*0.1 to 1"),
        (lambda: P.DiscreteVariancePreserving([]), "`betas`.*shape \\(0,\\)"),
        (lambda: P.Interpolant(lambda t: t, lambda t: 1 - t), "`a`.*0 at time 0 and 1 at 1.*1 at time 0"),
        (lambda: P.Interpolant(lambda t: 1 - t, lambda t: t / 2), "`s`.*0.5 at 1"),
        (lambda: P.Interpolant(lambda t: 1 - t, lambda t: jnp.sin(2.5 * np.pi * t) ** 2), "`a, s`.*fall"),
        (lambda: et.MeanField([]), "`fields`.*empty"),
        (lambda: et.MeanField([PATHS["linear"].score(GAUSSIAN)], [0.5]), "`weights`.*sum 0.5"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()
