"""Divergences of samplers against hand-written recursions, what they cost at a tolerance, and the table of section 7.4 of the theory's notes cell by cell."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from ensembletheory.integration_cost import METHODS, Method, Path, divergences, evaluations_a_step, evaluations_needed, get, steps_needed
from ensembletheory.laws import Gaussian
from ensembletheory.processes import TrigonometricInterpolant
from ensembletheory.samplers import Euler, Midpoint, Rk4
from tests.integration_cost.recursions import COARSE, DEVIATIONS, EVALUATIONS, EVERY, ON_A_COARSE_GRID, TOLERANCES, VARIANCES, kl, quarter_turn

MOST = 24
SOME = ("quarter_turn", "linear_heun", "oscillation_euler", "vp_sde_quadratic", "cld_sde")
REST = tuple(name for name in VARIANCES if name not in SOME)


def check_divergences(name):
    found = np.asarray(divergences(METHODS[name], DEVIATIONS, MOST))
    expected = np.array([[kl(s**2, VARIANCES[name](s**2, n)) for n in range(1, MOST + 1)] for s in DEVIATIONS])
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("name", SOME)
def test_divergences_are_those_of_recursions_by_hand(name):
    check_divergences(name)


@pytest.mark.verify  # the same models with other schemes and grids
@pytest.mark.parametrize("name", REST)
def test_so_are_the_others(name):
    check_divergences(name)


@pytest.mark.parametrize("name", VARIANCES)
def test_evaluations_are_counted(name):
    assert evaluations_a_step(METHODS[name]) == EVALUATIONS[name]


@pytest.mark.parametrize(("scheme", "expected"), [(Midpoint(), 2), (Rk4(), 4)])
def test_evaluations_of_other_schemes(scheme, expected):
    assert evaluations_a_step(Method(Path(TrigonometricInterpolant()), scheme)) == expected


def cheap(name):
    return not name.startswith("cld")


@pytest.mark.parametrize("name", VARIANCES)
def test_every_cell_of_the_table(name):
    """The cell's number of steps meets the tolerance and so do the next; one step fewer does not: by the second route, which divergences are compared with above."""
    for i, s in enumerate(DEVIATIONS):
        for tolerance, cell in zip(TOLERANCES, EVERY[name][i], strict=True):
            if cell == np.inf or (not cheap(name) and cell > 130):
                continue
            steps = round(cell / EVALUATIONS[name])
            later = [steps, steps + 1, steps + 2, steps + steps // 8, 2 * steps]
            assert all(kl(s**2, VARIANCES[name](s**2, n)) <= tolerance for n in later), (s, tolerance)
            assert steps == 1 or kl(s**2, VARIANCES[name](s**2, steps - 1)) > tolerance, (s, tolerance)


@pytest.mark.parametrize("name", VARIANCES)
def test_a_coarse_grid_of_steps_rounds_cells_up(name):
    """Cells of the notes are the next of their grid, of ratio 1.12, above those of every number of steps: none differs otherwise."""
    for fine, coarse in zip(np.ravel(EVERY[name]), np.ravel(ON_A_COARSE_GRID[name]), strict=True):
        if fine == np.inf:
            assert coarse == np.inf
        else:
            steps = fine / EVALUATIONS[name]
            assert coarse == EVALUATIONS[name] * min(n for n in COARSE if n >= steps)


@pytest.mark.verify  # all cells by the package, with every number of steps up to 2119
@pytest.mark.parametrize("name", VARIANCES)
def test_every_cell_by_the_package(name):
    a_step, values = evaluations_a_step(METHODS[name]), np.asarray(divergences(METHODS[name], DEVIATIONS, 2119))
    for row, cells, coarse in zip(values, EVERY[name], ON_A_COARSE_GRID[name], strict=True):
        assert [a_step * steps_needed(row, tolerance) for tolerance in TOLERANCES] == cells
        on_grid = [steps_needed(row[np.array(COARSE) - 1], tolerance) for tolerance in TOLERANCES]
        assert [a_step * COARSE[int(n) - 1] if n < np.inf else n for n in on_grid] == coarse


def test_no_lucky_number_counts():
    """Euler on the diffusion at deviation 1/2 passes close to zero at 5 steps, and needs eight times as many for a divergence that these have by luck."""
    row = np.array([float(kl(0.25, VARIANCES["vp_euler"](0.25, n))) for n in range(1, 101)])
    assert int(np.flatnonzero(row <= 1.1e-4)[0]) + 1 == 5
    assert steps_needed(row, 1.1e-4) == 41
    assert row[5] > 2 * row[4]


def test_the_last_number_of_steps_must_meet_the_tolerance():
    assert steps_needed([0.1, 0.01, 0.1], 0.05) == np.inf
    assert steps_needed([0.1, 0.01, np.nan], 0.05) == np.inf
    assert steps_needed([0.1, np.nan, 0.01], 0.05) == 3
    assert steps_needed([0.05, 0.01], 0.05) == 1


def test_modes_add():
    """Data in the plane whose axes are turned: modes move by themselves, and divergences of modes are summed."""
    c, s = np.cos(0.6), np.sin(0.6)
    Q, deviations = np.array([[c, -s], [s, c]]), np.array([0.5, 2.0])
    data = Gaussian([1.0, -2.0], Q @ np.diag(deviations**2) @ Q.T)
    law = METHODS["quarter_turn"].law(data, 5)
    np.testing.assert_allclose(law.cov, Q @ np.diag([quarter_turn(v, 5) for v in deviations**2]) @ Q.T, rtol=1e-9)
    np.testing.assert_allclose(law.mean, [1.0, -2.0], atol=1e-12)
    summed = evaluations_needed(METHODS["oscillation_euler"], deviations, 1e-2, MOST)
    rows = [[float(kl(v, VARIANCES["oscillation_euler"](v, n))) for n in range(1, MOST + 1)] for v in deviations**2]
    assert summed == steps_needed(np.sum(rows, axis=0), 1e-2)


def test_a_scalar_mass():
    """One horizon for two modes: the narrow one makes a quarter turn, and the wide one, at a negative stiffness, is exact as well as the steps get short."""
    data = Gaussian([0.0, 0.0], [0.25, 9.0])
    clock = eqx.filter_jit(METHODS["scalar_mass"].model.clock)(data)
    T, (k_narrow, k_wide) = float(clock.horizon), np.diagonal(clock.stiffness)
    assert np.pi / 4 == pytest.approx(T, rel=1e-12)
    assert k_narrow * T**2 == pytest.approx((np.pi / 2) ** 2, rel=1e-9)
    w = np.sqrt(-k_wide)
    assert np.cosh(w * T) ** 2 + (np.sinh(w * T) / w) ** 2 == pytest.approx(9.0, rel=1e-10)
    errors = [np.max(np.abs(np.asarray(METHODS["scalar_mass"].law(data, n, 64).cov) - np.diag([0.25, 9.0]))) for n in (32, 64)]
    assert errors[0] / errors[1] == pytest.approx(4.0, abs=0.1)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="deviations"):
        divergences(METHODS["linear_euler"], [-1.0], 4)
    with pytest.raises(ValueError, match="steps"):
        divergences(METHODS["linear_euler"], [1.0], 0)
    with pytest.raises(ValueError, match="most"):
        Method(Path(TrigonometricInterpolant()), Euler()).law(Gaussian([0.0], 1.0), jnp.asarray(3))
    with pytest.raises(ValueError, match="name"):
        get("unknown")
