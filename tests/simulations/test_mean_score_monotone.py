"""The study against a route of its own: SciPy's quadrature of the closed forms, explicit subsets, NumPy's inverse."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from simulations import mean_score_monotone
from simulations.engine import run_here
from simulations.mean_score_monotone import CHURN, REPLICATES, divergences_by_size, study
from simulations.store import load

instance_of = jax.jit(mean_score_monotone.instance_of, static_argnums=(1, 2))
turned = jax.jit(mean_score_monotone.turned)


def averaged_score_moments(means, variances, sampler):
    """Mean and variance in one coordinate, members with equal weights: M and V of the SDE (G^2 int du/G^2) and of the ODE (prod S^w)."""

    def G(u):
        return np.prod((1 + u * (variances - 1)) ** (1 / len(variances)))

    def B(u):
        return np.mean(means / (1 + u * (variances - 1)))

    def integral(f):
        return quad(f, 0, 1, epsabs=1e-13, epsrel=1e-12, limit=200)[0]

    if sampler == "sde":
        return G(1) * integral(lambda u: B(u) / G(u)), G(1) ** 2 * integral(lambda u: G(u) ** -2)
    return np.sqrt(G(1)) * integral(lambda r: B(r * r) / np.sqrt(G(r * r))), G(1)


def gaussian_kl(p_mean, p_cov, q_mean, q_cov):
    inverse, gap = np.linalg.inv(q_cov), q_mean - p_mean
    return (np.trace(inverse @ p_cov) + gap @ inverse @ gap - len(gap) + np.linalg.slogdet(q_cov)[1] - np.linalg.slogdet(p_cov)[1]) / 2


def divergences_by_enumeration(means, variances, target_mean, target_cov, sampler):
    averages = []
    for size in range(1, len(means) + 1):
        values = []
        for subset in map(list, itertools.combinations(range(len(means)), size)):
            moments = [averaged_score_moments(means[subset, i], variances[subset, i], sampler) for i in range(means.shape[1])]
            mean, variance = np.array(moments).T
            values.append(gaussian_kl(target_mean, target_cov, mean, np.diag(variance)))
        averages.append(np.mean(values))
    return np.array(averages)


@pytest.mark.parametrize("sampler", ["sde", "ode"])
@pytest.mark.parametrize("condition", [4.0, 10_000.0])
def test_divergences_agree_with_quadrature_and_enumeration(sampler, condition):
    instance = instance_of(jax.random.normal(jax.random.key(3), (25,)), 4, 2, jnp.asarray(condition))
    expected = divergences_by_enumeration(*map(np.asarray, instance), sampler)
    np.testing.assert_allclose(divergences_by_size(instance, CHURN[sampler]), expected, rtol=1e-8)


def test_instances_keep_to_their_box():
    normals = jax.random.normal(jax.random.key(0), (50, 49))
    means, variances, target_mean, target_cov = jax.vmap(lambda z: instance_of(z, 3, 4, jnp.asarray(100.0)))(normals)
    spectra = np.linalg.eigvalsh(np.asarray(target_cov))
    for values in (np.asarray(variances), spectra):
        assert 0.1 <= values.min() < 0.15
        assert 7 < values.max() <= 10 + 1e-12
    assert means.shape == (50, 3, 4)
    assert target_mean.shape == (50, 4)
    off_diagonal = np.asarray(target_cov)[:, ~np.eye(4, dtype=bool)]
    assert np.abs(off_diagonal).max() > 1


@pytest.mark.parametrize("frames", ["common", "own"])
def test_one_cell_end_to_end(frames, tmp_path):
    cell = {"frames": frames, "dim": 2, "members": 3, "condition": 4, "block": 0}
    one = replace(study, cells=[cell], quick=())
    assert run_here(one, tmp_path).failures == ()
    rows = load(one, tmp_path).to_pylist()
    assert [(row["replicate"], row["sampler"]) for row in rows] == [(i, sampler) for i in range(REPLICATES[frames]) for sampler in ("sde", "ode")]
    assert {row["k"] for row in rows} <= {1, 2}
    assert all(row["margin"] <= (row["kl_of_one"] - row["kl_of_all"]) / 2 + 1e-12 for row in rows)
    assert all(row["kl_of_all"] < row["kl_of_one"] for row in rows), "this is the theorem"


def test_members_with_frames_of_their_own_keep_their_spectra_and_do_not_commute():
    instance = instance_of(jax.random.normal(jax.random.key(3), (21,)), 3, 2, jnp.asarray(100.0))
    covs = np.asarray(turned(jax.random.key(4), instance)[1])
    np.testing.assert_allclose(np.linalg.eigvalsh(covs), np.sort(instance[1]), rtol=1e-12)
    assert np.abs(covs[0] @ covs[1] - covs[1] @ covs[0]).max() > 0.1


def test_turning_all_members_and_the_target_alike_changes_nothing():
    means, variances, target_mean, target_cov = instance_of(jax.random.normal(jax.random.key(3), (21,)), 3, 2, jnp.asarray(4.0))
    Q = jnp.linalg.qr(jax.random.normal(jax.random.key(5), (2, 2)))[0]
    rotated = means @ Q.T, jnp.einsum("ij,kj,lj->kil", Q, variances, Q), Q @ target_mean, Q @ target_cov @ Q.T
    for churn in CHURN.values():
        flat = divergences_by_size((means, variances, target_mean, target_cov), churn)
        np.testing.assert_allclose(divergences_by_size(rotated, churn), flat, rtol=1e-9)


def test_the_grid_is_what_the_conjecture_asks():
    for frames, dims in (("common", {1, 2, 3, 4}), ("own", {2, 3, 4})):
        cells = [cell for cell in study.cells if cell["frames"] == frames]
        assert {cell["dim"] for cell in cells} == dims
        assert {cell["members"] for cell in cells} == set(range(2, 9))
        assert len(cells) == len(dims) * 7 * len({(cell["condition"], cell["block"]) for cell in cells})
