"""Gauges: leapfrog written out in NumPy from every gauge, the curve of stiffness and mass, groups by their axioms, nearest elements by search."""

import jax
import numpy as np
import pytest
from scipy import linalg, stats

import ensembletheory as et
from ensembletheory.hamiltonian import HamiltonianFlow, nearest_gauge, one_step_gauges, reaching_stiffnesses, rescaled
from ensembletheory.identifiability import Action, Unitary
from ensembletheory.identifiability.axioms import action_defects, group_defects, metric_defects
from ensembletheory.processes import QuadraticHamiltonian
from ensembletheory.samplers import Leapfrog
from tests.helpers import spd

RNG = np.random.default_rng(0)


def leapfrog(K, m, h, steps):
    """The matrix of `steps` leapfrog steps with scalar mass m."""
    d = len(K)
    one, none = np.eye(d), np.zeros((d, d))
    kick, drift = np.block([[one, none], [-h / 2 * K, one]]), np.block([[one, h / m * one], [none, one]])
    return np.linalg.matrix_power(kick @ drift @ kick, steps)


def position_covariance(K, m, h, steps=1):
    rows = leapfrog(np.atleast_2d(K), m, h, steps)[: len(np.atleast_2d(K))]
    return rows @ rows.T


def unitary(d, rng):
    u = linalg.polar(rng.normal(size=(d, d)) + 1j * rng.normal(size=(d, d)))[0]
    return np.block([[u.real, -u.imag], [u.imag, u.real]])


def test_every_gauge_samples_the_law_by_one_step():
    S, m, h = spd(np.random.default_rng(1), 2, 0.3, 3.0), 1.3, 0.6
    gauges = one_step_gauges(et.Gaussian([0.0, 0.0], S), h, m)
    assert len(gauges) == 4
    for gauge in gauges:
        np.testing.assert_allclose(position_covariance(np.asarray(gauge.stiffness), m, h), S, atol=1e-12)
    lists = [np.asarray(gauge.stiffness) for gauge in gauges]
    assert min(np.abs(one - other).max() for i, one in enumerate(lists) for other in lists[:i]) > 0.1
    maps = [np.eye(2) - h**2 / (2 * m) * K for K in lists]
    assert np.linalg.eigvalsh(maps[0])[0] > 0  # the gradient of a convex function: the first alone
    assert all(np.linalg.eigvalsh(other)[0] < 0 for other in maps[1:])


@pytest.mark.parametrize(("steps", "variance"), [(1, 1.44), (2, 0.9), (3, 1.44)])
def test_stiffness_and_mass_lie_on_a_curve_of_one_law(steps, variance):
    """With the mass learned there is a curve; with the mass fixed at most 2 L stiffnesses, 1 or 2 for L = 1."""
    h, reached = 0.5, []
    for mass in (0.9, 1.0, 1.1, 1.5):
        found = reaching_stiffnesses(np.sqrt(variance), mass, h, steps)
        assert 1 <= len(found) <= 2 * steps
        for k in found:
            assert position_covariance(k, mass, h, steps)[0, 0] == pytest.approx(variance, rel=1e-9)
        reached.append(found[0])
    assert np.all(np.diff(reached) != 0)
    if steps == 1:
        c = h / 1.5
        np.testing.assert_allclose(found, 2 * 1.5 / h**2 * (1 + np.array([-1, 1]) * np.sqrt(variance - c**2)), rtol=1e-12)


def test_energy_times_a_factor_over_a_shorter_time_makes_the_same_steps():
    rng = np.random.default_rng(2)
    H = QuadraticHamiltonian(spd(rng, 2), spd(rng, 2), [0.3, -0.2], horizon=0.7)
    kernels = [HamiltonianFlow(one, et.standard_normal(4), 3).kernel() for one in (H, rescaled(H, 2.5))]
    np.testing.assert_allclose(kernels[0].A, kernels[1].A, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(kernels[0].b, kernels[1].b, rtol=1e-12, atol=1e-13)
    assert float(rescaled(H, 2.5).horizon) == pytest.approx(0.28)
    np.testing.assert_allclose(rescaled(H, 2.5).flow(0.28), H.flow(0.7), rtol=1e-10)
    coupled = QuadraticHamiltonian(spd(rng, 2), spd(rng, 2), coupling=rng.normal(size=(2, 2)), horizon=0.7)
    np.testing.assert_allclose(rescaled(coupled, 2.5).flow(0.28), coupled.flow(0.7), rtol=1e-9)


def test_axioms_of_the_unitary_group():
    group, elements = Unitary(4), [Unitary(4).random(jax.random.key(k)) for k in range(4)]
    rows = [RNG.normal(size=(2, 4)) for _ in range(3)]
    assert max(group_defects(group, elements).values()) < 1e-12
    assert max(action_defects(Action(group, 1), elements, rows).values()) < 1e-12
    assert max(metric_defects(Action(group, 1), elements, rows).values()) < 1e-7
    J = np.block([[np.zeros((2, 2)), np.eye(2)], [-np.eye(2), np.zeros((2, 2))]])
    for g in elements:
        np.testing.assert_allclose(g @ J @ g.T, J, atol=1e-13)
        np.testing.assert_allclose(g @ g.T, np.eye(4), atol=1e-13)
    assert not group.contains(np.diag([1.0, 1.0, -1.0, -1.0]))  # orthogonal, not symplectic
    assert not group.contains(np.diag([2.0, 1.0, 0.5, 1.0]))  # symplectic, not orthogonal
    with pytest.raises(ValueError, match="`size`: got 3; expected an even number"):
        Unitary(3)


def test_draws_are_from_the_haar_measure():
    """|u_11|^2 of a Haar unitary of size 2 is uniform (KS, n = 400, level 1e-6), and so is the phase of its determinant."""
    draws = [Unitary(4).random(jax.random.key(k)) for k in range(400)]
    u = np.array([g[:2, :2] + 1j * g[2:, :2] for g in draws])
    assert stats.kstest(abs(u[:, 0, 0]) ** 2, "uniform").pvalue > 1e-6
    assert stats.kstest(np.angle(np.linalg.det(u)) / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-6


def test_the_nearest_gauge_beats_all_others():
    C = RNG.normal(size=(4, 4))
    best = np.asarray(nearest_gauge(C))
    np.testing.assert_allclose(best, Unitary(4).nearest(C), atol=1e-12)
    rng = np.random.default_rng(4)
    value = np.sum(C * best)
    assert all(np.sum(C * unitary(2, rng)) <= value + 1e-12 for _ in range(300))
    skew = rng.normal(size=(2, 2)) + 1j * rng.normal(size=(2, 2))
    for step in (1e-3, -1e-3):
        u = linalg.expm(step * (skew - skew.conj().T))
        assert np.sum(C * (np.block([[u.real, -u.imag], [u.imag, u.real]]) @ best)) < value


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match=r"`law`: got a variance of 0.25; expected at least \(h / m\)\^2 = 0.36"):
        one_step_gauges(et.Gaussian([0.0], 0.25), 0.6)
    with pytest.raises(ValueError, match="`law`: got mean .*expected a centred law"):
        one_step_gauges(et.Gaussian([1.0], 1.0), 0.6)
    with pytest.raises(ValueError, match="`factor`: got -1"):
        rescaled(QuadraticHamiltonian(1.0, 1.0), -1.0)
    stiff = one_step_gauges(et.Gaussian([0.0], 4.0), 0.6)[1]
    with pytest.raises(ValueError, match="stability limit 2"):
        HamiltonianFlow(stiff, et.standard_normal(2), 1)
    assert float(HamiltonianFlow(stiff, et.standard_normal(2), 1, Leapfrog(unstable=True)).law().cov[0, 0]) == pytest.approx(4, rel=1e-12)
