"""Converters between fields and the networks of four papers: each against the paper's own formula, and there and back."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.processes import papers
from tests.helpers import spd
from tests.processes.by_hand import noised_fields

RNG = np.random.default_rng(0)
WEIGHTS, MEANS, COVS = np.array([0.3, 0.7]), RNG.normal(size=(2, 2)), np.stack([spd(RNG, 2), spd(RNG, 2)])
MIXTURE = et.GaussianMixture(WEIGHTS, MEANS, COVS)
X, BETAS = np.array([0.4, -0.7]), np.linspace(1e-3, 0.2, 50)
PATHS = {"preserving": et.processes.VariancePreserving(0.1, 20.0, 2.0), "exploding": et.processes.EdmPath(20.0)}
COEFFICIENTS = {  # a, s^2, a' and (s^2)' at time t
    "preserving": lambda t: (np.exp(-B(t) / 2), -np.expm1(-B(t)), -b(t) / 2 * np.exp(-B(t) / 2), b(t) * np.exp(-B(t))),
    "exploding": lambda t: (1.0, t**2, 0.0, 2 * t),
}
NAMES = {"song": "score", "lipman": "velocity", "karras": "denoiser", "ddpm": "noise"}


def b(t):
    return 0.1 + 19.9 * t / 2


def B(t):
    return 0.1 * t + 19.9 * t**2 / 4


def at(a, variance, x):
    return noised_fields(WEIGHTS, MEANS, COVS, a, variance, x)[1:]


@eqx.filter_jit
def theirs(process, law, x, t, sigma, n):
    """All four networks, each made of a field of another kind."""
    return {
        "song": papers.to_song(process, process.velocity(law))(x, t),
        "lipman": papers.to_lipman(process, process.noise(law))(t / process.horizon, x),
        "karras": papers.to_karras(process, process.score(law))(x, sigma),
        "ddpm": papers.to_ddpm(process, process.denoiser(law), BETAS)(x, n),
    }


@pytest.mark.parametrize("name", PATHS)
def test_networks_made_of_fields_are_the_papers_formulas(name):
    process, t, sigma, n = PATHS[name], 0.7, 1.3, 20
    got = theirs(process, MIXTURE, jnp.asarray(X), jnp.asarray(t), jnp.asarray(sigma), jnp.asarray(n))
    a, variance, _, _ = COEFFICIENTS[name](t)
    np.testing.assert_allclose(got["song"], at(a, variance, X)[0], rtol=1e-9)
    np.testing.assert_allclose(got["karras"], at(1.0, sigma**2, X)[1], rtol=1e-8)  # of y = X_0 + sigma n, whatever the process
    signal = np.prod(1 - BETAS[:n])
    np.testing.assert_allclose(got["ddpm"], at(np.sqrt(signal), 1 - signal, X)[2], rtol=1e-8)
    horizon = float(process.horizon)
    a, variance, da, dv = COEFFICIENTS[name](horizon - t)
    _, denoised, noise = at(a, variance, X)
    np.testing.assert_allclose(got["lipman"], -horizon * (da * denoised + dv / (2 * np.sqrt(variance)) * noise), rtol=1e-8)


@eqx.filter_jit
def there_and_back(process, law, t, x):
    answers = {}
    for name, kind in NAMES.items():
        extra = (BETAS,) if name == "ddpm" else ()
        field = getattr(process, kind)(law)
        back = getattr(papers, f"from_{name}")(process, getattr(papers, f"to_{name}")(process, field, *extra), *extra)
        assert back.kind == kind
        answers[name] = back(t, x), field(t, x)
    return answers


def test_there_and_back():
    for back, field in there_and_back(PATHS["preserving"], MIXTURE, jnp.asarray(0.9), jnp.asarray(X)).values():
        np.testing.assert_allclose(back, field, rtol=1e-9)


def test_a_network_of_ddpm_is_asked_at_its_own_levels():
    """At the time whose noise level is that of n = 20, eps sees n = 20 and the point of unit power."""
    process, signal = PATHS["exploding"], np.prod(1 - BETAS[:20])
    field = papers.from_ddpm(process, lambda x, n: n + x, BETAS)
    np.testing.assert_allclose(eqx.filter_jit(field)(jnp.asarray(np.sqrt(1 / signal - 1)), jnp.asarray(X)), 20 + np.sqrt(signal) * X, rtol=1e-12)


def test_levels_beyond_the_process_and_wrong_betas_are_refused():
    process = PATHS["exploding"]
    with pytest.raises(ValueError, match="`angle`.*21.*20"):
        papers.to_karras(process, process.denoiser(MIXTURE))(jnp.asarray(X), jnp.asarray(21.0))
    with pytest.raises(ValueError, match="`betas`.*between 0 and 1"):
        papers.from_ddpm(process, lambda x, n: x, [0.1, -0.1])
    with pytest.raises(ValueError, match="`kind`.*'velocities'"):
        papers.to_song(process, papers.from_song(process, lambda x, t: x), "velocities")
