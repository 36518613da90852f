"""The study of the two samplers against SciPy's quadrature on the line and the maximum likelihood fits it says it draws."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad

from simulations.engine import run_here
from simulations.sde_or_ode import REPLICATES, distances, ensemble, study
from simulations.store import load


def kl_and_w2(means, variances, sampler):
    """From N(0, 1), of the law sampled from averaged scores of members on the line."""

    def G(u):
        return np.prod((1 + u * (variances - 1)) ** (1 / len(variances)))

    def B(u):
        return np.mean(means / (1 + u * (variances - 1)))

    if sampler == "sde":
        m, v = G(1) * quad(lambda u: B(u) / G(u), 0, 1)[0], G(1) ** 2 * quad(lambda u: G(u) ** -2, 0, 1)[0]
    else:
        m, v = np.sqrt(G(1)) * quad(lambda r: B(r * r) / np.sqrt(G(r * r)), 0, 1)[0], G(1)
    return ((1 + m**2) / v - 1 + np.log(v)) / 2, np.hypot(m, 1 - np.sqrt(v))


def test_distances_on_the_line_agree_with_quadrature():
    means, covs, mean, cov = ensemble(np.random.default_rng(0), "common", 1, 4, 0.5, 0)
    stack = tuple(np.repeat(part[None], REPLICATES, axis=0) for part in (means, covs, mean, cov))
    found = distances(stack, True)
    for sampler in ("sde", "ode"):
        kl, w2 = kl_and_w2(means[:, 0], covs[:, 0, 0], sampler)
        np.testing.assert_allclose(found[f"kl_{sampler}"], kl, rtol=1e-8)
        np.testing.assert_allclose(found[f"w2_{sampler}"], w2, rtol=1e-7)


@pytest.mark.parametrize("kind", ["common", "own"])
def test_members_scatter_around_the_target_with_the_spread(kind):
    means, covs, mean, cov = ensemble(np.random.default_rng(0), kind, 2, 400, 0.5, 0)
    logs = np.log(np.linalg.eigvalsh(covs))
    assert 0.45 < means.std() < 0.55
    assert 0.45 < logs.std() < 0.55
    assert (np.abs(covs[:, 0, 1]).max() > 0.1) == (kind == "own")
    np.testing.assert_array_equal(mean, 0)
    np.testing.assert_array_equal(cov, np.eye(2))


def test_bootstrap_members_are_too_narrow_by_one_row_twice():
    """The maximum likelihood covariance of a resample of n rows has expectation (1 - 1/n)^2 of the target's."""
    rng = np.random.default_rng(0)
    draws = [ensemble(rng, "bootstrap", 1, 8, 10.0, 16) for _ in range(400)]
    ratios = np.array([covs[:, 0, 0].mean() / cov[0, 0] for _, covs, _, cov in draws])
    assert abs(ratios.mean() - (15 / 16) ** 2) < 4 * ratios.std() / 20


def test_the_quick_cells_end_to_end(tmp_path):
    cells = [cell for cell in study.quick if cell["kind"] == "common"]
    one = replace(study, cells=cells, quick=())
    assert run_here(one, tmp_path).failures == ()
    rows = load(one, tmp_path).to_pylist()
    assert len(rows) == REPLICATES * len(cells)
    assert all(row[f"kl_{sampler}"] < row["kl_average"] for row in rows for sampler in ("sde", "ode")), "this is the theorem"
