"""VAEs of any weights: bounds in order, log p by quadrature and by importance against SciPy, and the linear case against PPCA's formulas."""

from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import ensembletheory as et
from ensembletheory.latent import elbo, iwae_bound
from ensembletheory.neural import Vae, linear_vae
from tests.helpers import assert_mean, assert_within_errors

LAW = et.Gaussian([0.5, -1.0, 2.0], [[2.0, 0.6, 0.1], [0.6, 1.0, -0.3], [0.1, -0.3, 0.5]])
X = np.array([[0.3, -0.8, 1.9], [2.0, 0.1, 2.5], [-1.5, -2.5, 1.0], [0.5, -1.0, 2.0]])
built = eqx.filter_jit(lambda key, law, latent, depth, noise: Vae(key, law, latent, width=6, depth=depth, noise=noise))


def scaled(vae: Vae, scale, log_noise):
    """Weights `scale` times those of a start, and another noise."""
    decoder, encoder = jax.tree.map(lambda layer: scale * layer, (vae.decoder, vae.encoder))
    return eqx.tree_at(lambda v: (v.decoder, v.encoder, v.log_noise), vae, (decoder, encoder, vae.log_noise + log_noise))


@eqx.filter_jit
def weighed(keys, scale, log_noise, x, latent, K):
    """Of VAEs from several keys: the log-weights of K draws at x, and log p(x) by quadrature."""

    def of(key):
        vae = scaled(Vae(key, LAW, latent, width=6, depth=1), scale, log_noise)
        return vae.log_weights(key, x, K), vae.log_prob(x, nodes=256 if latent == 1 else 64)

    return jax.vmap(of)(keys)


def log_mean(log_values, axis):
    return np.logaddexp.reduce(log_values, axis=axis) - np.log(log_values.shape[axis])


@pytest.mark.parametrize("latent", [1, 2])
@settings(max_examples=10)
@given(st.integers(0, 2**31), st.floats(0.1, 3.0), st.floats(-1.0, 2.0), st.tuples(*[st.floats(-3, 3)] * 3))
def test_elbo_is_at_most_iwae_is_at_most_log_p_for_any_weights(latent, seed, scale, log_noise, x):
    logs, log_p = weighed(jax.random.split(jax.random.key(seed), 3), jnp.array(scale), jnp.array(log_noise), jnp.array(x), latent, 512)
    bounds = [log_mean(np.asarray(logs).reshape(3, -1, K), axis=2) for K in (1, 2, 4, 8, 16)]
    for lower, upper in pairwise(bounds):  # on every draw: Jensen for each pair of groups
        assert np.all(lower.mean(axis=1) <= upper.mean(axis=1) + 1e-12 * np.abs(upper.mean(axis=1)))
    for bound in bounds:
        error = bound.std(axis=1, ddof=1) / np.sqrt(bound.shape[1])
        assert np.all(bound.mean(axis=1) <= np.asarray(log_p.value + log_p.error) + 5 * error)


def density_by_scipy(vae, x):
    """p(x) of a VAE with q = 1, its perceptron written out in NumPy, integrated over z by an adaptive rule."""
    hidden, last = map(np.asarray, vae.decoder.layers)
    v = np.asarray(vae.noise_variances)

    def joint(z):
        h = hidden @ [z, 1.0]
        mean = np.asarray(vae.mean) + float(vae.scale) * (last @ np.append(h / (1 + np.exp(-h)), 1.0))
        return np.exp(-0.5 * (z**2 + np.sum((x - mean) ** 2 / v + np.log(v))) - 2 * np.log(2 * np.pi))

    return scipy.integrate.quad(joint, -9, 9, points=np.linspace(-8, 8, 33), limit=300, epsabs=1e-14)[0]


def test_log_p_by_quadrature_and_by_importance_is_scipys_within_its_error():
    vae = built(jax.random.key(1), LAW, 1, 1, "diagonal")
    vae = eqx.tree_at(lambda v: v.log_noise, vae, jnp.array([-1.0, -2.5, -1.5]))
    truth = np.log([density_by_scipy(vae, x) for x in X])
    for nodes in (None, 32):
        found = vae.log_prob(X, nodes=nodes)
        assert found.kind == "quadrature"
        assert np.all(np.abs(found.value - truth) <= found.error)
    assert np.all(vae.log_prob(X).error < 1e-7)
    assert np.all(vae.log_prob(X, nodes=8).error == np.inf)
    np.testing.assert_allclose(vae.law(nodes=128).log_prob(X), truth, rtol=1e-10)
    narrow = eqx.tree_at(lambda v: v.encoder.layers[1], vae, vae.encoder.layers[1].at[:, -1].add(jnp.array([1.0, -3.0])))  # off, and 20 times too narrow in variance
    for model in (vae, narrow):
        found = model.log_prob(X, key=jax.random.key(2), samples=8000)
        assert found.kind == "monte_carlo"
        assert_within_errors(found.value, found.error, truth)
    assert np.all(np.isfinite(found.error))
    bound = narrow.iwae(jax.random.key(3), X, K=8)
    assert np.all(bound.value + 5 * bound.error < truth)  # which the estimate of log p is not, although its encoder is the same


def test_errors_are_infinite_where_the_posterior_is_not_reached():
    """Neither by the nodes, which end at 8, nor by draws of the prior and of an encoder far off; nor is a comb handed out as a law."""
    model = et.Ppca([[1.0]], [0.0], 0.3)
    truth = scipy.stats.norm(0, np.sqrt(1.3)).logpdf([3.0, 8.0, 18.0])
    vae = linear_vae(model, et.AffineKernel([[-1.0]], [-9.0], [0.01]))
    x = np.array([[3.0], [8.0], [18.0]])
    found = vae.log_prob(x, nodes=256)
    assert np.all(np.abs(found.value - truth) <= found.error)
    assert np.all(np.isinf(found.error) == [False, False, True])
    off = np.abs(found.value - truth)
    assert off[1] > 1e-5  # of which every second node says nothing
    assert off[2] > 1
    drawn = vae.log_prob(x[2], key=jax.random.key(0), samples=1000)
    assert abs(drawn.value - truth[2]) > 5
    assert np.isinf(drawn.error)
    steep = eqx.tree_at(lambda v: v.log_noise, built(jax.random.key(4), LAW, 2, 1, "scalar"), jnp.array([-12.0]))
    with pytest.raises(ValueError, match=r"`model`: got a decoder so steep .* expected at most 256\. Take log_prob"):
        steep.law()
    assert steep.law(nodes=64).weights.size == 65**2


def test_two_latents_by_quadrature_are_those_by_gauss_legendre():
    vae = built(jax.random.key(4), LAW, 2, 1, "scalar")
    nodes, weights = np.polynomial.legendre.leggauss(200)
    z = 8 * np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    hidden, last = map(np.asarray, vae.decoder.layers)
    h = z @ hidden[:, :2].T + hidden[:, 2]
    means = np.asarray(vae.mean) + float(vae.scale) * (h / (1 + np.exp(-h)) @ last[:, :-1].T + last[:, -1])
    v, mass = float(vae.noise_variances[0]), 64 * np.outer(weights, weights).ravel() * np.exp(-0.5 * np.sum(z**2, axis=1)) / (2 * np.pi)
    p = [mass @ np.exp(-0.5 * np.sum((x - means) ** 2, axis=1) / v) / (2 * np.pi * v) ** 1.5 for x in X]
    found = vae.log_prob(X)
    assert np.all(np.abs(found.value - np.log(p)) <= found.error + 1e-10)
    assert np.all(found.error < 1e-7)


def test_the_linear_vae_is_ppca_with_an_affine_encoder():
    vae = eqx.tree_at(lambda v: v.constants, built(jax.random.key(5), LAW, 2, 0, "scalar"), jnp.array([-0.7, 0.4]))  # encoder variances that are not 1
    model, kernel = vae.ppca(), vae.encoder_kernel()
    W, s2 = np.asarray(model.loadings), float(model.noise_variance)
    truth = scipy.stats.multivariate_normal(model.mean, W @ W.T + s2 * np.eye(3)).logpdf(X)
    exact = vae.log_prob(X)
    assert exact.kind == "closed_form"
    np.testing.assert_allclose(exact.value, truth, rtol=1e-12)
    by_nodes = vae.log_prob(X, nodes=64)
    assert np.all(np.abs(by_nodes.value - truth) <= by_nodes.error)
    np.testing.assert_allclose(vae.elbo(jax.random.key(1), X, samples=2).value, elbo(model, kernel, X), rtol=1e-12)
    means, variances = eqx.filter_jit(lambda model, x: jax.vmap(model.encode)(x))(vae, jnp.asarray(X))
    np.testing.assert_allclose(means, X @ np.asarray(kernel.A).T + np.asarray(kernel.b), rtol=1e-12)
    np.testing.assert_allclose(variances, np.tile(np.asarray(kernel.C.diagonal()), (4, 1)), rtol=1e-12)
    bound = vae.iwae(jax.random.key(2), X, K=4, samples=2000)
    assert_within_errors(bound.value, bound.error, [float(iwae_bound(model, kernel, point, 4)) for point in X])


def test_a_ppca_comes_back_from_the_linear_vae_that_is_it():
    model = et.Ppca([[1.0, 0.4], [-0.5, 2.0], [0.3, 0.1]], [1.0, -2.0, 0.5], 0.7)
    kernel = et.AffineKernel([[0.3, -0.2, 0.1], [0.0, 0.5, 0.4]], [0.2, -0.1], [0.3, 0.6])
    vae = linear_vae(model, kernel)
    for got, expected in zip(jax.tree.leaves((vae.ppca(), vae.encoder_kernel())), jax.tree.leaves((model, kernel)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)
    gap = float(vae.log_prob(X[0]).value - linear_vae(model).elbo(jax.random.key(0), X[0]).value)
    M = np.asarray(model.loadings).T @ np.asarray(model.loadings) + 0.7 * np.eye(2)
    assert gap == pytest.approx(0.5 * (np.log(np.diag(M)).sum() - np.linalg.slogdet(M)[1]), rel=1e-10)
    with pytest.raises(ValueError, match="`encoder`: got .* with Dense covariance"):
        linear_vae(model, model.posterior)


def test_the_estimate_of_log_p_is_corrected_for_the_bias_of_the_logarithm():
    """Uncorrected its mean would be off by r^2 / 2, eight standard errors here; what remains is of order r^3."""
    model = et.Ppca([[1.0, 0.4], [-0.5, 2.0], [0.3, 0.1]], [1.0, -2.0, 0.5], 0.7)
    vae = linear_vae(model)
    found = vae.log_prob(np.tile(X[0], (20_000, 1)), key=jax.random.key(0), samples=16)
    off, bias = float(np.mean(found.value) - vae.log_prob(X[0]).value), float(np.mean(np.square(found.error))) / 2
    assert bias > 8 * np.std(found.value) / np.sqrt(20_000)
    assert abs(off) < bias / 2, (off, bias)


def test_with_several_noise_variances_the_linear_law_is_that_of_factor_analysis():
    vae = built(jax.random.key(6), LAW, 2, 0, "diagonal")
    vae = eqx.tree_at(lambda v: v.log_noise, vae, jnp.array([-1.0, 0.5, -3.0]))
    W = float(vae.scale) * np.asarray(vae.decoder.layers[0])[:, :2]
    np.testing.assert_allclose(vae.law().cov, W @ W.T + 3.5 / 3 * np.diag(np.exp([-1.0, 0.5, -3.0])), rtol=1e-12)
    with pytest.raises(ValueError, match="`model`: got a VAE of 3 noise variances"):
        vae.ppca()


def test_draws_have_the_moments_of_the_law():
    vae = built(jax.random.key(1), LAW, 1, 1, "diagonal")
    draws, law = np.asarray(vae.sample(jax.random.key(3), 4000)), vae.law(256)
    assert_mean(draws, law.mean)
    assert_mean((draws - np.asarray(law.mean))[:, :, None] * (draws - np.asarray(law.mean))[:, None, :], law.cov)


def test_a_fixed_noise_is_the_variance_that_was_given_and_stays():
    def summed(vae):
        return sum(map(jnp.sum, (vae.decode(jnp.ones(2)), vae.noise_variances, *vae.encode(jnp.ones(3)))))

    def of(key):
        vae = Vae(key, LAW, 2, depth=0, noise=0.3)
        return vae.noise_variances, eqx.filter_grad(summed)(vae)

    variances, gradient = eqx.filter_jit(of)(jax.random.key(0))
    np.testing.assert_allclose(variances, 0.3, rtol=1e-12)
    for fixed in (gradient.log_noise, gradient.mean, gradient.scale):
        assert not np.any(fixed)
    for trained in (gradient.decoder.layers[0], gradient.encoder.layers[0], gradient.constants):
        assert np.any(trained)


VAE, WIDE = (eqx.filter_eval_shape(lambda key, q=q: Vae(key, LAW, q, depth=1), jax.random.key(1)) for q in (1, 3))  # shapes only: nothing is computed


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Vae(jax.random.key(0), LAW, 4), "`latent`: got 4; expected at most 3"),
        (lambda: Vae(jax.random.key(0), LAW, 0), "`latent`: got 0; expected a whole number >= 1"),
        (lambda: Vae(jax.random.key(0), LAW, 1, noise="full"), "`noise`: got 'full'"),
        (lambda: Vae(jax.random.key(0), LAW, 1, noise=0.0), "`noise`: got 0.0"),
        (lambda: Vae(jax.random.key(0), LAW, 1, noise=True), "`noise`: got True"),
        (lambda: Vae(jax.random.key(0), LAW, 1, noise=None), "`noise`: got None"),
        (lambda: Vae(jax.random.key(0), LAW, 1, width=0), "`width`: got 0"),
        (lambda: Vae(jax.random.key(0), LAW, 1, depth=-1), "`depth`: got -1"),
        (lambda: VAE.encode(jnp.zeros(1)), r"`x`: got shape \(1,\); expected \(3,\)"),
        (lambda: VAE.log_weights(jax.random.key(0), jnp.zeros(1), 2), r"`x`: got shape \(1,\)"),
        (lambda: VAE.bound(jax.random.key(0), jnp.zeros(()), 2), r"`x`: got shape \(\)"),
        (lambda: VAE.fit_and_divergence(jax.random.key(0), jnp.zeros((2, 3))), r"`x`: got shape \(2, 3\)"),
        (lambda: eqx.filter_eval_shape(VAE.bound, jax.random.key(0), jnp.zeros(3), 0), "`K`: got 0"),
        (lambda: VAE.log_prob(X, jax.random.key(0), samples=3), "`samples`: got 3"),
        (lambda: VAE.iwae(jax.random.key(0), X, 0), "`K`: got 0"),
        (lambda: VAE.log_prob(X[:, :1]), r"`x`: got shape \(4, 1\)"),
        (lambda: VAE.log_prob(np.full((1, 3), np.nan)), "`x`: got 3 NaN"),
        (lambda: VAE.log_prob(X, nodes=7), "`nodes`: got 7; expected an even number"),
        (lambda: VAE.ppca(), "`model`: got a VAE with 1 hidden layers"),
        (lambda: VAE.encoder_kernel(), "`model`: got a VAE with 1 hidden layers"),
        (lambda: WIDE.log_prob(np.zeros(3)), "`key`: got None; expected a PRNG key, since with 3 latent dimensions"),
        (lambda: WIDE.law(), "only Monte Carlo can answer"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
