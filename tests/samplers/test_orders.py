"""Every scheme along an axis at a time: its order, its fixed points, and numbers that its recursion gives.

The variance recursions of the schemes stand in this file only.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.samplers import (
    AnalyticDpm,
    Ddim,
    Ddpm,
    EdmHeun,
    Euler,
    EulerMaruyama,
    ExponentialIntegrator,
    Heun,
    Midpoint,
    Rk4,
    Sampler,
    padded,
    uniform_grid,
)

VP, LINEAR = et.processes.VariancePreserving(), et.processes.LinearInterpolant()
VARIANCES = np.array([4.0, 0.25, 10.0, 1.0, 0.1, 0.01])
DATA = et.Gaussian(np.zeros(6), VARIANCES)
STEPS = (64, 128, 256, 512, 1024)
GRIDS = jnp.stack([padded(grid, 1025) for grid in [*(uniform_grid(VP, n) for n in STEPS), uniform_grid(VP, 49, 1e-3), uniform_grid(VP, 249, 1e-3)]])
NOISED = 1 + (VARIANCES - 1) * np.exp(-10.05)
SCHEMES = {
    "em": (EulerMaruyama(), 1),
    "ei": (ExponentialIntegrator(), 1),
    "ddpm": (Ddpm(), 1),
    "ddim": (Ddim(), 1),
    "ancestral": (Ddim(eta=1.0), 1),
    "euler": (Euler(), 1),
    "midpoint": (Midpoint(), 2),
    "heun": (Heun(), 2),
    "rk4": (Rk4(), 4),
}


def kernels(process, law, scheme, grids):
    """A^2 and C of the whole run, (grids, coordinates)."""
    field = getattr(process, scheme.takes)(law)
    run = jax.jit(jax.vmap(lambda grid: Sampler(process, field, scheme, grid).coordinatewise_kernel(law.dim)))(grids)
    return np.asarray(run.a) ** 2, np.asarray(run.C.variances)


@pytest.fixture(scope="module", params=SCHEMES)
def named(request):
    return request.param, kernels(VP, DATA, SCHEMES[request.param][0], GRIDS)


def test_the_order_of_heun_in_the_noise_level():
    """Up to a time with noise: the last step to none is Euler's, which on grids uniform in time is of order 1."""
    square, _ = kernels(VP, DATA, EdmHeun(), jnp.stack([padded(uniform_grid(VP, n, 0.05), 1025) for n in STEPS]))
    error = np.abs(np.sqrt(square * NOISED) - np.sqrt(levels(0.05)[1]))
    np.testing.assert_allclose(-np.polyfit(np.log(STEPS), np.log(error), 1)[0], 2, atol=0.1)


AT_1024 = {  # | sqrt(v) - sqrt(lambda) | from p_T, for lambda = 4 and 1/4
    "em": (8.047e-4, 3.442e-4),
    "ei": (1.627e-3, 1.265e-3),
    "ddpm": (2.187e-3, 1.384e-4),
    "euler": (8.658e-4, 2.291e-4),
    "heun": (1.565e-6, 1.339e-6),
    "rk4": (None, 1.09e-12),
}
TOY = {  # W2 to the data of variances (10, 1, .1, .01), from N(0, I), truncated at 1e-3, 50 and 250 nodes
    "em": (0.02499585, 0.00379799),
    "ei": (0.06713569, 0.01258291),
    "ddpm": (0.18385121, 0.03148645),
    "euler": (0.07309856, 0.01522478),
    "heun": (0.00578229, 0.00113608),
    "rk4": (0.00093678, 0.00095782),
}


def test_order_and_numbers(named):
    name, (square, noise) = named
    error = np.abs(np.sqrt(square * NOISED + noise) - np.sqrt(VARIANCES))[: len(STEPS)]  # from p_T, untruncated
    slopes = -np.polyfit(np.log(STEPS[2:]), np.log(error[2:, 1:3]), 1)[0]  # variances 1/4 and 10: the leading term of RK4 almost vanishes at 4
    np.testing.assert_allclose(slopes, SCHEMES[name][1], atol=0.1)
    for value, printed in zip(error[-1, :2], AT_1024.get(name, (None, None)), strict=True):
        assert printed is None or value == pytest.approx(printed, rel=5e-3 if printed < 1e-11 else 1e-3)
    if name in TOY:
        toy = np.sqrt(((np.sqrt(square + noise) - np.sqrt(VARIANCES)) ** 2)[-2:, 2:].sum(axis=1))
        np.testing.assert_allclose(toy, TOY[name], atol=6e-9)


def test_variance_one_is_a_fixed_point_of_some_schemes_and_not_of_the_others(named):
    name, (square, noise) = named
    moved = np.abs(square + noise - 1)[:, 3].max()
    assert (moved < 1e-12) if name in ("ddpm", "euler", "midpoint", "heun", "rk4") else (moved > 1e-4)


def levels(t):
    """beta and the noised variances of the data at time t, for VP(.1, 20)."""
    return 0.1 + 19.9 * t, 1 + (VARIANCES - 1) * np.exp(-(0.1 * t + 19.9 * t**2 / 2))


def recursion(name, v, t, s):
    """One step of the variance, in the notation dX = -b/2 X dt + sqrt(b) dW."""
    h, (b, L), (b1, L1), (bm, Lm) = t - s, levels(t), levels(s), levels((t + s) / 2)
    g = (0.1 * (t - s) + 19.9 * (t**2 - s**2) / 2) / 2
    c, c1, cm = b / 2 * (1 - 1 / L), b1 / 2 * (1 - 1 / L1), bm / 2 * (1 - 1 / Lm)
    k2 = cm * (1 + h * c / 2)
    k3 = cm * (1 + h * k2 / 2)
    return {
        "em": lambda: (1 + h * b / 2 * (1 - 2 / L)) ** 2 * v + h * b,
        "ei": lambda: (1 + np.expm1(g) * (1 - 2 / L)) ** 2 * v + np.expm1(2 * g),
        "ddpm": lambda: (1 - h * b / L) ** 2 / (1 - h * b) * v + h * b,
        "euler": lambda: (1 + h * c) ** 2 * v,
        "midpoint": lambda: (1 + h * k2) ** 2 * v,
        "heun": lambda: (1 + h / 2 * (c + c1 * (1 + h * c))) ** 2 * v,
        "rk4": lambda: (1 + h / 6 * (c + 2 * k2 + 2 * k3 + c1 * (1 + h * k3))) ** 2 * v,
    }[name]()


def test_variances_are_those_of_the_recursions(named):
    name, (square, noise) = named
    if name in ("ddim", "ancestral"):
        return
    v, grid = np.array([0.3, 2.0, 1.0, 1.0, 0.5, 1.5]), np.linspace(1.0, 1e-3, 50)
    start = v
    for t, s in itertools.pairwise(grid):
        v = recursion(name, v, t, s)
    np.testing.assert_allclose((square * start + noise)[-2], v, rtol=1e-11)


def ddim_recursion(v, t, s, eta):
    """The conditional mean and noise of X_s given X_t and X_0, averaged over X_0 as a Gaussian of the denoiser, in the notation of the discrete-time papers."""
    bar_t, bar_s = (np.exp(-(0.1 * r + 19.9 * r**2 / 2)) for r in (t, s))
    L = 1 + (VARIANCES - 1) * bar_t
    tau2 = eta**2 * (1 - bar_s) / (1 - bar_t) * (1 - bar_t / bar_s)
    denoise = np.sqrt(bar_t) * VARIANCES / L
    return (np.sqrt(bar_s) * denoise + np.sqrt(1 - bar_s - tau2) * (1 - np.sqrt(bar_t) * denoise) / np.sqrt(1 - bar_t)) ** 2 * v + tau2


@pytest.mark.parametrize(("name", "eta"), [("ddim", 0.0), ("ancestral", 1.0)])
def test_ddim_is_its_recursion(name, eta):
    square, noise = kernels(VP, DATA, SCHEMES[name][0], GRIDS)
    v, grid = np.ones(6), np.linspace(1.0, 1e-3, 50)
    for t, s in itertools.pairwise(grid):
        v = ddim_recursion(v, t, s, eta)
    np.testing.assert_allclose((square + noise)[-2], v, rtol=1e-10)


FLOW_MATCHING = {  # standard deviation after N steps from 1 to 2: theory of the linear path
    "euler": {1: 0.0, 2: 0.8, 4: 1.36216216, 8: 1.65913822, 10: 1.72313042, 16: 1.82273237, 32: 1.90945428, 64: 1.95422118, 100: 1.97058191},
    "midpoint": {1: 1.6, 2: 1.97754678, 4: 1.99316486, 8: 1.99910580, 10: 1.99953895, 16: 1.99988658, 32: 1.99998577},
    "heun": {1: 0.5, 2: 1.53, 4: 1.90972327, 8: 1.98085011, 10: 1.98828067, 16: 1.99575284, 32: 1.99901023},
    "rk4": {1: 1.98, 2: 2.0086950360, 4: 1.9991769063, 8: 1.9999745331, 10: 1.9999907131, 16: 1.9999988401},
}
SHRINKING = {"euler": {1: 0.0, 2: 0.2, 4: 0.34054054, 8: 0.41478455, 10: 0.43078260}, "midpoint": {1: 0.4, 2: 0.49438669, 4: 0.49829122, 8: 0.49977645}}


@pytest.mark.parametrize("name", FLOW_MATCHING)
def test_standard_deviations_of_flow_matching(name):
    numbers = list(FLOW_MATCHING["euler"])
    grids = jnp.stack([padded(uniform_grid(LINEAR, n), 101) for n in numbers])
    square, _ = kernels(LINEAR, et.Gaussian([0.0, 0.0], [4.0, 0.25]), SCHEMES[name][0], grids)
    for column, table in enumerate((FLOW_MATCHING[name], SHRINKING.get(name, {}))):
        for n, std in table.items():
            assert np.sqrt(square[numbers.index(n), column]) == pytest.approx(std, abs=6e-9 if n > 1 else 1e-12)


def test_analytic_dpm_is_exact_for_isotropic_data_on_any_grid():
    for variance, grid in ((4.0, [1.0, 0.3, 0.05, 0.0]), (0.25, [1.0, 0.9, 0.0])):
        data = et.Gaussian([0.5, -1.0], variance)
        sampler = Sampler(VP, VP.denoiser(data), AnalyticDpm(VP, data, grid), grid)
        law = sampler.law(VP.marginal(data, 1.0))
        np.testing.assert_allclose(law.mean, data.mean, atol=1e-13)
        np.testing.assert_allclose(law.cov, data.cov, atol=1e-13)
