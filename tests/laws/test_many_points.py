"""Blocks of points, ill-conditioned factors and arrays too large to copy: the numbers of one point at a time."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.laws import streaming

RNG = np.random.default_rng(0)


def mixture(d: int, K: int) -> et.GaussianMixture:
    A = RNG.normal(size=(K, d, d)) / np.sqrt(d)
    return et.GaussianMixture(RNG.dirichlet(np.ones(K)), RNG.normal(size=(K, d)), A @ A.transpose(0, 2, 1) + 0.3 * np.eye(d))


@pytest.mark.parametrize("d", [2, 6, 33])
def test_blocks_give_the_numbers_of_single_points(d):
    law = mixture(d, 3)
    X = RNG.normal(size=(20_001, d))  # more than two blocks, and one point over
    some = np.array([0, 1, 8191, 8192, 12_345, 20_000])
    one_by_one = jax.jit(jax.vmap(lambda x: (law._log_prob(x), law._score(x))))(jnp.asarray(X[some]))
    np.testing.assert_allclose(np.asarray(law.log_prob(X))[some], one_by_one[0], rtol=1e-12)
    np.testing.assert_allclose(np.asarray(law.score(X))[some], one_by_one[1], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("d", [3, 6])
def test_ill_conditioned_covariances_keep_their_digits(d):
    rng = np.random.default_rng(d)
    Q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    S = np.stack([(Q * np.geomspace(scale * 1e-10, scale, d)) @ Q.T for scale in (1.0, 3.0)])
    S = (S + S.transpose(0, 2, 1)) / 2
    m, w = rng.normal(size=(2, d)), np.array([0.4, 0.6])
    x = m[0] + 1.3 * np.linalg.cholesky(S[0]) @ rng.normal(size=d)
    with mpmath.workdps(60):
        total, slope = mpmath.mpf(0), mpmath.matrix(d, 1)
        for k in range(2):
            gap, C = mpmath.matrix(x.tolist()) - mpmath.matrix(m[k].tolist()), mpmath.matrix(S[k].tolist())
            solved = mpmath.lu_solve(C, gap)
            density = w[k] * mpmath.exp(-(gap.T * solved)[0] / 2) / mpmath.sqrt((2 * mpmath.pi) ** d * mpmath.det(C))
            total, slope = total + density, slope - density * solved
        exact, exact_slope = float(mpmath.log(total)), np.array([float(part / total) for part in slope])
    law = et.GaussianMixture(w, m, S)
    # condition 1e10: entries of S rounded by eps move the smallest eigenvalue by 1e10 eps, and so do those of its factor
    assert float(law.log_prob(x)) == pytest.approx(exact, rel=1e-5)
    assert np.linalg.norm(np.asarray(law.score(x)) - exact_slope) < 1e-5 * np.linalg.norm(exact_slope)


def test_memory_maps_are_streamed_to_the_same_numbers(tmp_path):
    law, n = mixture(6, 3), 750_001
    X = np.lib.format.open_memmap(tmp_path / "points.npy", mode="w+", dtype=np.float64, shape=(n, 6))
    X[:] = RNG.normal(size=(n, 6))
    assert streaming.is_large(X, 6)
    on_device = jnp.asarray(np.asarray(X))
    np.testing.assert_array_equal(law.log_prob(X), law.log_prob(on_device))
    np.testing.assert_allclose(law.score(X), law.score(on_device), rtol=1e-12, atol=1e-13)
    with pytest.raises(ValueError, match=r"`x`.*shape \(750001, 6\).*\(..., 2\)"):
        mixture(2, 2).log_prob(X)
    X[n - 2, 3] = np.nan
    with pytest.raises(ValueError, match="`x`.*1 NaN or infinite"):
        law.log_prob(X)


def test_an_array_on_the_device_stays_there():
    law = mixture(6, 3)
    x = jnp.asarray(RNG.normal(size=(2**20, 6)))
    law.log_prob(x)
    with jax.transfer_guard("disallow"):
        values = law.log_prob(x)
    assert values.shape == (2**20,)
    assert not streaming.is_large(x, 6)
    assert streaming.over_blocks(lambda points: points, x, 2**20) is x
