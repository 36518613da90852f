"""Turned and averaged VAEs: what a turn keeps, which alignment is best (by brute force and by SciPy), and averages that do not depend on the copy of a member."""

from itertools import permutations, product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

import ensembletheory as et
from ensembletheory.identifiability import Orthogonal, SignedPermutations
from ensembletheory.neural import AveragedVae, Vae, align_latents, stack, turned
from ensembletheory.neural.latent import averaged_vae

LAW = et.Gaussian([0.5, -1.0, 2.0], [[2.0, 0.6, 0.1], [0.6, 1.0, -0.3], [0.1, -0.3, 0.5]])
X = np.random.default_rng(9).multivariate_normal([0.5, -1.0, 2.0], [[2.0, 0.6, 0.1], [0.6, 1.0, -0.3], [0.1, -0.3, 0.5]], 4)
Z = np.random.default_rng(0).normal(size=(5, 2))
G = [np.eye(2), np.array([[0.0, -1.0], [1.0, 0.0]]), np.array([[-1.0, 0.0], [0.0, 1.0]])]
WEIGHTS = [0.5, 0.2, 0.3]


@eqx.filter_jit
def built(key, depth):
    vae = Vae(key, LAW, 2, width=6, depth=depth)
    return vae if depth else eqx.tree_at(lambda v: v.constants, vae, jnp.array([-0.7, 0.4]))  # encoder variances that are not 1


decoded = eqx.filter_jit(lambda model, z: jax.vmap(model.decode)(z))
encoded = eqx.filter_jit(lambda model, x: jax.vmap(model.encode)(x))


@pytest.fixture(scope="module")
def vaes():
    """Three VAEs with a hidden layer, which share nothing."""
    return [built(jax.random.key(k), 1) for k in range(3)]


@pytest.fixture(scope="module")
def linear():
    return [built(jax.random.key(k), 0) for k in range(3)]


@pytest.mark.parametrize("g", G)
def test_a_signed_permutation_turns_every_part(vaes, linear, g):
    for vae in (vaes[0], linear[0]):
        copy = turned(vae, g)
        np.testing.assert_allclose(decoded(copy, jnp.asarray(Z @ g.T)), decoded(vae, jnp.asarray(Z)), rtol=1e-12)
        (means, variances), (turned_means, turned_variances) = encoded(vae, jnp.asarray(X)), encoded(copy, jnp.asarray(X))
        np.testing.assert_allclose(turned_means, np.asarray(means) @ g.T, rtol=1e-12)
        np.testing.assert_allclose(turned_variances, np.asarray(variances) @ np.abs(g).T, rtol=1e-12)
    np.testing.assert_allclose(copy.log_prob(X).value, linear[0].log_prob(X).value, rtol=1e-11)
    np.testing.assert_allclose(copy.elbo(jax.random.key(0), X).value, linear[0].elbo(jax.random.key(0), X).value, rtol=1e-11)


def test_any_rotation_keeps_the_law_of_x(vaes):
    angle = 0.7
    Q = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    as_it_is, rotated = (AveragedVae(stack(vaes[:1]), [R]).log_prob(X, nodes=128) for R in (np.eye(2), Q))
    assert np.all(as_it_is.error < 1e-3)
    assert np.all(np.abs(as_it_is.value - rotated.value) <= as_it_is.error + rotated.error)


def test_the_average_is_that_of_the_functions(vaes):
    average = AveragedVae(stack(vaes), G, WEIGHTS)
    expected = sum(w * np.asarray(decoded(vae, jnp.asarray(Z @ g))) for w, vae, g in zip(WEIGHTS, vaes, G, strict=True))
    np.testing.assert_allclose(decoded(average, jnp.asarray(Z)), expected, rtol=1e-12)
    means, variances = encoded(average, jnp.asarray(X))
    parts = [tuple(map(np.asarray, encoded(vae, jnp.asarray(X)))) for vae in vaes]
    np.testing.assert_allclose(means, sum(w * m @ g.T for w, (m, _), g in zip(WEIGHTS, parts, G, strict=True)), rtol=1e-12)
    np.testing.assert_allclose(variances, sum(w * v @ np.abs(g).T for w, (_, v), g in zip(WEIGHTS, parts, G, strict=True)), rtol=1e-12)


def test_averaged_linear_vaes_are_the_ppca_of_averaged_loadings(linear):
    models = [vae.ppca() for vae in linear]
    raw = et.average_loadings(models, WEIGHTS).law
    law = AveragedVae(stack(linear), weights=WEIGHTS).law()
    np.testing.assert_allclose(law.mean, raw.mean, rtol=1e-12)
    np.testing.assert_allclose(law.cov, raw.cov, rtol=1e-12)


def test_copies_that_were_planted_are_found_and_their_average_is_the_original(vaes):
    copies = stack([turned(vaes[0], g) for g in G])
    turns = align_latents(copies, X)
    np.testing.assert_array_equal(turns, [g.T for g in G])
    original = decoded(vaes[0], jnp.asarray(Z))
    np.testing.assert_allclose(decoded(AveragedVae(copies, turns), jnp.asarray(Z)), original, rtol=1e-12)
    assert np.max(np.abs(decoded(AveragedVae(copies), jnp.asarray(Z)) - original)) > 0.1


def test_the_aligned_average_does_not_depend_on_the_copies_of_its_members(vaes):
    copies = [vaes[0], turned(vaes[1], G[1]), turned(vaes[2], G[2])]
    first, second = (decoded(AveragedVae(together, align_latents(together, X)), jnp.asarray(Z)) for together in (stack(vaes), stack(copies)))
    np.testing.assert_allclose(first, second, rtol=1e-12)


def misfit(means, elements):
    together = np.stack([M @ g.T for M, g in zip(means, elements, strict=True)])
    return np.sum((together - together.mean(axis=0)) ** 2)


def test_two_members_are_aligned_as_well_as_they_can_be(vaes):
    pair = stack(vaes[:2])
    means = [np.asarray(encoded(vae, jnp.asarray(X))[0]) for vae in vaes[:2]]
    group = [np.eye(2)[list(order)] * signs for order in permutations(range(2)) for signs in product([1.0, -1.0], repeat=2)]
    assert misfit(means, align_latents(pair, X)) == pytest.approx(min(misfit(means, [np.eye(2), g]) for g in group), rel=1e-12)
    best, _ = orthogonal_procrustes(means[1], means[0])
    np.testing.assert_allclose(align_latents(pair, X, Orthogonal)[1], best.T, atol=1e-9)


def test_three_members_are_aligned_as_well_as_any_elements_do(vaes):
    means = [np.asarray(encoded(vae, jnp.asarray(X))[0]) for vae in vaes]
    group = [np.eye(2)[list(order)] * signs for order in permutations(range(2)) for signs in product([1.0, -1.0], repeat=2)]
    least = min(misfit(means, [np.eye(2), g, h]) for g, h in product(group, repeat=2))
    found = misfit(means, align_latents(stack(vaes), X))
    assert least * (1 - 1e-12) <= found <= misfit(means, G[:1] * 3)
    turns = align_latents(stack(vaes), X, Orthogonal)
    np.testing.assert_allclose(turns[0], np.eye(2), atol=1e-12)
    assert misfit(means, turns) <= misfit(means, G[:1] * 3)
    moved = np.mean([M @ Q.T for M, Q in zip(means, turns, strict=True)], axis=0)
    for M, Q in zip(means, turns, strict=True):  # a fixed point: each is the polar factor for the mean of all
        np.testing.assert_allclose(orthogonal_procrustes(M, moved)[0].T, Q, atol=1e-9)


def test_several_descents_find_what_the_first_does_not():
    """Four members on which the descent from the first ends a tenth above the least sum, by brute force."""
    means, weights = np.random.default_rng(1).normal(size=(4, 6, 2)), np.array([0.4, 0.3, 0.2, 0.1])
    group = [np.eye(2)[list(order)] * signs for order in permutations(range(2)) for signs in product([1.0, -1.0], repeat=2)]

    def misfit(elements):
        turned = np.stack([M @ g.T for M, g in zip(means, elements, strict=True)])
        return weights @ np.sum((turned - np.tensordot(weights, turned, 1)) ** 2, axis=(1, 2))

    least = min(misfit([np.eye(2), *others]) for others in product(group, repeat=3))
    assert misfit(averaged_vae._gower(means, SignedPermutations(2), weights, means[0])) > 1.05 * least
    found = averaged_vae._aligned(means, SignedPermutations(2), weights)
    assert misfit(found) == pytest.approx(least, rel=1e-12)
    np.testing.assert_array_equal(found[0], np.eye(2))


def test_wrong_turns_are_refused(vaes):
    with pytest.raises(ValueError, match=r"`turns`: got shape \(1, 2, 2\)"):
        AveragedVae(stack(vaes), [np.eye(2)])
    with pytest.raises(ValueError, match="not orthogonal"):
        AveragedVae(stack(vaes), 2 * np.stack(G))
    with pytest.raises(ValueError, match="`g`: got a matrix of shape"):
        turned(vaes[0], np.ones((2, 2)))
    with pytest.raises(ValueError, match="`weights`"):
        AveragedVae(stack(vaes), weights=[0.5, 0.5, 0.5])
