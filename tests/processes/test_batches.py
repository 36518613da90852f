"""Exact fields at many points and of full covariances: against formulas in NumPy, point by point; derivatives in the law where eigenvalues are equal."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.fields import Batching
from tests.helpers import spd

VP = et.processes.VariancePreserving()
RNG = np.random.default_rng(11)
KINDS = ("score", "noise", "denoiser", "velocity")
T, A, NOISE = 0.3, np.exp(-0.5 * (0.03 + 19.9 * 0.045)), -np.expm1(-(0.03 + 19.9 * 0.045))
READOUTS = {"score": (0.0, -1.0), "noise": (0.0, np.sqrt(NOISE)), "denoiser": (1.0, 0.0), "velocity": (-A * (0.1 + 19.9 * T) / 2, A**2 * (0.1 + 19.9 * T) / 2)}


def mixture(d):
    return et.GaussianMixture([0.2, 0.3, 0.5], RNG.normal(size=(3, d)), np.stack([spd(RNG, d) for _ in range(3)]))


def conditional_means(weights, means, covs, kind, points):
    """E[alpha X_0 + (c / s) Z | x], point by point."""
    alpha, c = READOUTS[kind]
    result = []
    for x in points:
        noised = [A**2 * S + NOISE * np.eye(len(x)) for S in covs]
        y = [np.linalg.solve(C, x - A * m) for C, m in zip(noised, means, strict=True)]
        logs = np.array([np.log(w) - 0.5 * np.linalg.slogdet(C)[1] - 0.5 * (x - A * m) @ u for w, C, m, u in zip(weights, noised, means, y, strict=True)])
        r = np.exp(logs - logs.max())
        result.append((r / r.sum()) @ np.array([alpha * m + alpha * A * S @ u + c * u for m, S, u in zip(means, covs, y, strict=True)]))
    return np.array(result)


@eqx.filter_jit
def at_many(law, points):
    """Every kind of field at once, by `batch` and one point at a time."""
    fields = [getattr(VP, kind)(law) for kind in KINDS]
    fields.append(et.processes.convert(VP, fields[2], "velocity"))
    fields.append(et.MeanField([fields[0], et.processes.convert(VP, fields[3], "score")], [0.25, 0.75]))
    t = jnp.asarray(T)
    return [field.batch(t, points) for field in fields], [jax.vmap(field, (None, 0))(t, points) for field in fields]


@pytest.mark.parametrize("law", [mixture(2), mixture(6), et.Gaussian(RNG.normal(size=6), spd(RNG, 6))], ids=["written-out", "whitened", "gaussian"])
def test_fields_at_many_points_are_conditional_means(law):
    points = 2 * RNG.normal(size=(5, law.dim))
    parts = (law.weights, law.means, law.covs) if isinstance(law, et.GaussianMixture) else ([1.0], law.mean[None], law.cov[None])
    expected = {kind: conditional_means(*map(np.asarray, parts), kind, points) for kind in KINDS}
    for values in at_many(law, points):
        for value, kind in zip(values, (*KINDS, "velocity", "score"), strict=True):
            np.testing.assert_allclose(value, expected[kind], rtol=1e-10, atol=1e-11)


def test_vmap_over_points_takes_the_batch_and_derivatives_take_one_point_at_a_time():
    """Also when the law is batched, or time is."""
    law, points, times = mixture(2), jnp.asarray(RNG.normal(size=(5, 2))), jnp.linspace(0.1, 0.9, 5)

    @eqx.filter_jit
    def compared(together):
        def field(law):
            return together(VP.velocity(law))

        several = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.9 * leaf]), law.means)
        moved = eqx.filter_vmap(lambda means: jax.vmap(field(eqx.tree_at(lambda one: one.components.mean, law, means)), (None, 0))(times[0], points))(several)
        slope = jax.grad(lambda scale: jnp.sum(jax.vmap(field(law), (None, 0))(times[0], scale * points) ** 2))(1.0)
        return jax.vmap(field(law), (None, 0))(times[0], points), jax.vmap(field(law))(times, points), moved, jax.jacfwd(field(law), 1)(times[0], points[0]), slope

    for batched, one in zip(compared(Batching), compared(lambda field: field), strict=True):
        np.testing.assert_allclose(batched, one, rtol=1e-11, atol=1e-12)


def test_derivatives_in_a_covariance_with_equal_eigenvalues():
    """First and second derivatives along two directions, where eigenvectors have none, by differences of the formula: errors of second differences are near 1e-6."""
    S, x, m = np.diag([2.0, 2.0, 2.0, 0.5, 0.5, 1.0]), RNG.normal(size=6), RNG.normal(size=6)
    D, E = (spd(RNG, 6) for _ in range(2))

    def velocity(u, v):
        return VP.velocity(et.Gaussian(m, jnp.asarray(S) + u * D + v * E))(jnp.asarray(T), jnp.asarray(x))

    def by_formula(u, v):
        return conditional_means([1.0], [m], [S + u * D + v * E], "velocity", [x])[0]

    first, second = jax.jit(lambda u: (jax.jacfwd(velocity)(u, u), jax.jacfwd(jax.jacrev(velocity), argnums=1)(u, u)))(0.0)
    h = 1e-3
    corners = by_formula(h, h) - by_formula(h, -h) - by_formula(-h, h) + by_formula(-h, -h)
    np.testing.assert_allclose(first, (by_formula(h, 0) - by_formula(-h, 0)) / (2 * h), atol=1e-5)
    np.testing.assert_allclose(second, corners / (4 * h**2), atol=1e-5)
    assert np.max(np.abs(second)) > 1e-2
