"""Reflection between walls: densities and velocities by long sums of images and Fourier series in NumPy, draws by folding, continuity, the way back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import ensembletheory as et
from ensembletheory.processes import Reflection
from ensembletheory.samplers import Heun, Sampler, uniform_grid

W, R = 1.5, 0.8
PARTS = ((0.3, -0.9, 0.02), (0.7, 0.5, 0.1))
LINE = et.GaussianMixture([0.3, 0.7], [[-0.9], [0.5]], [[0.02], [0.1]])
BOX = Reflection(W, R)
X = np.linspace(-W, W, 401)
N = np.arange(-60, 61)[:, None]
SIGN = np.where(N % 2, -1.0, 1.0)

moved = jax.jit(lambda process, law, t, points: jax.vmap(lambda x: process.velocity(law)(t, x))(points))


def along_images(m, S, t, x):
    """Density and flux of one component on the line, image by image."""
    v, y = S + (R * t) ** 2, 2 * W * N + SIGN * x[None, :]
    each = np.exp(-((y - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v)
    return each.sum(axis=0), np.sum(SIGN * R**2 * t / v * (y - m) * each, axis=0)


def fourier_density(m, S, t, x):
    f = np.pi * np.arange(1, 400)[:, None] / (2 * W)
    return 1 / (2 * W) + np.sum(np.exp(-(f**2) * (S + (R * t) ** 2) / 2) * np.cos(f * (m + W)) * np.cos(f * (x[None, :] + W)), axis=0) / W


@pytest.mark.parametrize("t", [0.2, 1.5, 2.05, 2.15, 5.0])  # on both sides of the change of series, at r^2 t^2 + S = 4 w^2 / pi
def test_density_and_velocity_are_sums_over_images_and_fourier_series(t):
    assert abs(np.sqrt(4 * W**2 / np.pi) / R - 2.1) < 0.05
    terms = [along_images(m, S, t, X) for _, m, S in PARTS]
    density, flux = (sum(w * part[k] for (w, _, _), part in zip(PARTS, terms, strict=True)) for k in (0, 1))
    found = np.exp(np.asarray(BOX.log_prob(LINE, t, X[:, None])))
    np.testing.assert_allclose(found, density, rtol=1e-12)
    np.testing.assert_allclose(found, sum(w * fourier_density(m, S, t, X) for w, m, S in PARTS), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(np.asarray(moved(BOX, LINE, t, X[:, None]))[:, 0], flux / density, rtol=1e-10, atol=1e-12)
    assert np.trapezoid(found, X) == pytest.approx(1, abs=1e-4)
    assert np.max(np.abs(found * 2 * W - 1)) <= float(BOX.unevenness(t)) * (1 + 1e-9)
    np.testing.assert_allclose(moved(BOX, LINE, t, np.array([[-W], [W]])), 0, atol=1e-12)


def test_what_flows_past_a_point_is_what_is_lost():
    """d/dt p = -d/dx (u p), by central differences."""
    x, h, t = np.linspace(-1.4, 1.4, 8), 1e-4, 0.7

    def density(s, y):
        return np.exp(np.asarray(BOX.log_prob(LINE, s, y[:, None])))

    flux = [np.asarray(moved(BOX, LINE, t, y[:, None]))[:, 0] * density(t, y) for y in (x + h, x - h)]
    np.testing.assert_allclose((density(t + h, x) - density(t - h, x)) / (2 * h), -(flux[0] - flux[1]) / (2 * h), atol=1e-6)


def test_components_in_the_plane_are_products():
    law = et.GaussianMixture([0.4, 0.6], [[-0.9, 0.2], [0.5, -0.3]], [[0.02, 0.3], [0.1, 0.05]])
    points, t = np.array([[0.3, -0.8], [-1.2, 1.4], [0.0, 0.1]]), 0.9
    components = ((0.4, (-0.9, 0.2), (0.02, 0.3)), (0.6, (0.5, -0.3), (0.1, 0.05)))
    parts = [(w, [along_images(m, S, t, x) for m, S, x in zip(means, variances, points.T, strict=True)]) for w, means, variances in components]
    density = sum(w * first[0] * second[0] for w, (first, second) in parts)
    flux = np.stack([sum(w * one[i][1] * one[1 - i][0] for w, one in parts) for i in (0, 1)], axis=1)
    np.testing.assert_allclose(np.exp(np.asarray(BOX.log_prob(law, t, points))), density, rtol=1e-11)
    np.testing.assert_allclose(moved(BOX, law, t, points), flux / density[:, None], rtol=1e-10)
    assert float(BOX.log_prob(law, t, [0.0, 2.0])) == -np.inf


def test_draws_are_reflected_paths():
    """Draws pass a KS test (n = 20,000, level 1e-6) against the integrated density; folding is what walls do to a path followed bounce by bounce."""
    draws = np.asarray(BOX.sample(jax.random.key(0), 20_000, LINE, 1.2))[:, 0]
    fine = np.linspace(-W, W, 20_001)
    cdf = np.concatenate([[0], np.cumsum(np.diff(fine) * sum(w * along_images(m, S, 1.2, (fine[1:] + fine[:-1]) / 2)[0] for w, m, S in PARTS))])
    assert stats.kstest(draws, lambda x: np.interp(x, fine, cdf)).pvalue > 1e-6
    x, v, unfolded = 0.4, 3.7, 0.4 + 3.7 * 2.0
    left = 2.0
    while left > 0:
        wall = W if v > 0 else -W
        t = min((wall - x) / v, left)
        x, left, v = x + v * t, left - t, -v if t < left else v
    assert float(BOX.fold(unfolded)) == pytest.approx(x, abs=1e-12)


def test_uniform_noise_flows_back_to_the_data_along_quantiles():
    u = (np.arange(200) + 0.5) / 200
    start = 2 * W * u - W
    ends = np.asarray(Sampler(BOX, BOX.velocity(LINE), Heun(), uniform_grid(BOX, 400)).run(jax.random.key(0), jnp.asarray(start[:, None])))[:, 0]
    fine = np.linspace(-W, W, 40_001)
    cdf = np.concatenate([[0], np.cumsum(np.diff(fine) * sum(w * along_images(m, S, 0.0, (fine[1:] + fine[:-1]) / 2)[0] for w, m, S in PARTS))])
    np.testing.assert_allclose(np.interp(ends, fine, cdf), u, atol=1e-4)
    assert float(BOX.unevenness(BOX.horizon)) == pytest.approx(1e-6, rel=1e-6)


def test_mistakes_are_refused():
    full = et.Gaussian([0.0, 0.0], [[1.0, 0.5], [0.5, 1.0]])
    for arguments, message in (
        ((full, 1.0, [0.0, 0.0]), "`law`: got a full covariance; expected covariances along the axes"),
        ((et.Gaussian([2.0], 1.0), 1.0, [0.0]), "`law`: got a mean at 2; expected means within the box, at most 1.5 from 0"),
        ((et.FiniteLaw([[0.0]], [1.0]), 0.0, [0.0]), "met without noise"),
        ((LINE, 99.0, [0.0]), "`t`: got 99"),
        ((LINE, 1.0, [0.0, 1.0]), "`x`: got shape"),
    ):
        with pytest.raises(ValueError, match=message):
            BOX.log_prob(*arguments)
    with pytest.raises(ValueError, match="`half_width`: got 0; expected a number above 0"):
        Reflection(0.0)
    with pytest.raises(TypeError, match="`law`: got GridLaw"):
        BOX.velocity(et.GridLaw(jax.tree_util.Partial(LINE._log_prob), *LINE.pieces()))


def test_the_bound_holds_for_an_atom_at_the_wall_and_beyond_the_box_the_field_is_that_of_the_fold():
    process = Reflection(1.0, 1.0)
    for t, expected in ((0.001, 1594.769), (0.05, 30.91538), (0.5, 2.191540)):
        n = np.arange(-400, 401)
        density = np.sum(np.exp(-0.5 * (4 * n / t) ** 2)) * 2 / (np.sqrt(2 * np.pi) * t)  # two images, the atom and the one behind the wall, at every period
        assert 2 * density - 1 == pytest.approx(expected, rel=1e-6)
        np.testing.assert_allclose(process.unevenness(t), expected, rtol=1e-6)
    assert float(process.unevenness(0.0)) == np.inf
    velocity = process.velocity(et.Gaussian([0.3], 0.04))
    inside, mirrored, far = (float(velocity(jnp.asarray(0.5), jnp.array([x]))[0]) for x in (0.7, 1.3, 20.7))
    assert mirrored == pytest.approx(-inside, rel=1e-12)
    assert far == pytest.approx(inside, rel=1e-9)
