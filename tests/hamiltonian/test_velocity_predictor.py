"""Velocity predictors: regression in NumPy on matrix exponentials, the smoothed error by sums over a grid, the discrepancy by quadrature, orders measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

import ensembletheory as et
from ensembletheory.hamiltonian import VelocityPredictor, force_error, hamiltonian_score_discrepancy, smoothed_force_error, with_momenta
from ensembletheory.processes import LinearInterpolant, Oscillation, QuadraticHamiltonian
from ensembletheory.samplers import Heun, Sampler, uniform_grid
from tests.helpers import spd

LINE = et.GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [[0.2], [0.1]])
X = np.linspace(-9, 9, 40_001)

discrepancy = jax.jit(lambda H, law, t: hamiltonian_score_discrepancy(VelocityPredictor(H, with_momenta(law, H.mass)), t).value)
predicted = jax.jit(lambda predictor, t, points: jax.vmap(lambda x: predictor(t, x))(points))


def regressed(parts, M, K, c, t, x):
    """E[v_t | x_t = x] for data sum_k w_k N(m_k, S_k), with the flow of x' = v, M v' = -K (x - c) as a matrix exponential."""
    d, A = len(M), np.linalg.solve(M, K)
    E = linalg.expm(t * np.block([[np.zeros((d, d)), np.eye(d)], [-A, np.zeros((d, d))]]))
    logs, means = [], []
    for w, m, S in parts:
        centre = E @ np.concatenate([m - c, np.zeros(d)]) + np.concatenate([c, np.zeros(d)])
        cov = E @ linalg.block_diag(S, np.linalg.inv(M)) @ E.T
        seen, gap = cov[:d, :d], x - centre[:d]
        logs.append(np.log(w) - 0.5 * gap @ np.linalg.solve(seen, gap) - 0.5 * np.linalg.slogdet(seen)[1])
        means.append(centre[d:] + cov[d:, :d] @ np.linalg.solve(seen, gap))
    r = np.exp(np.array(logs) - np.max(logs))
    return r / r.sum() @ np.array(means)


def density(x, parts=((0.3, -1.0, 0.2), (0.7, 1.0, 0.1))):
    return sum(w * np.exp(-((x - m) ** 2) / (2 * S)) / np.sqrt(2 * np.pi * S) for w, m, S in parts)


def score(x, parts=((0.3, -1.0, 0.2), (0.7, 1.0, 0.1))):
    terms = np.array([np.log(w) - (x - m) ** 2 / (2 * S) - np.log(S) / 2 for w, m, S in parts])
    r = np.exp(terms - terms.max(axis=0))
    return np.sum(r / r.sum(axis=0) * np.array([(m - x) / S for w, m, S in parts]), axis=0)


def test_predictor_of_a_mixture_in_the_plane_with_a_mass_that_does_not_commute():
    rng = np.random.default_rng(0)
    M, K, c = spd(rng, 2), spd(rng, 2) - 0.5 * np.eye(2), np.array([0.3, -0.4])
    parts = [(0.3, np.array([-1.0, 0.5]), spd(rng, 2)), (0.7, np.array([1.0, 0.0]), spd(rng, 2))]
    law = et.GaussianMixture([0.3, 0.7], [m for _, m, _ in parts], [S for _, _, S in parts])
    predictor = VelocityPredictor(QuadraticHamiltonian(M, K, c, horizon=2.0), with_momenta(law, M))
    points = rng.normal(size=(6, 2))
    for t in (0.2, 1.7):
        np.testing.assert_allclose(predicted(predictor, t, points), [regressed(parts, M, K, c, t, x) for x in points], rtol=1e-10, atol=1e-12)


def test_target_slope_of_a_gaussian_on_the_line():
    """s = 1.7, k = 0.9, t = 0.05: -0.02769576062 against t (1/s^2 - k) = -0.0276989619."""
    predictor = VelocityPredictor(QuadraticHamiltonian(1.0, 0.9), with_momenta(et.Gaussian([0.0], 1.7**2)))
    assert f"{float(predicted(predictor, 0.05, np.ones((1, 1)))[0, 0]):.11f}" == "-0.02769576062"
    assert f"{0.05 * (1 / 1.7**2 - 0.9):.10f}" == "-0.0276989619"
    w, t, s2 = np.sqrt(0.9), 0.7, 1.7**2
    slope = np.sin(2 * w * t) / 2 * (1 / w - w * s2) / (s2 * np.cos(w * t) ** 2 + np.sin(w * t) ** 2 / 0.9)
    closed = slope**2 * (s2 * np.cos(w * t) ** 2 + np.sin(w * t) ** 2 / 0.9)
    assert float(hamiltonian_score_discrepancy(predictor, t)) == pytest.approx(closed, rel=1e-13)


def test_the_predictor_is_zero_exactly_where_the_force_is_the_score():
    rng = np.random.default_rng(1)
    S, m = spd(rng, 2), np.array([0.5, -1.0])
    law = et.Gaussian(m, S)
    P = np.linalg.inv(S)
    matched, pulled, shifted = (QuadraticHamiltonian(1.0, K, c, horizon=5.0) for K, c in ((P, m), (P + 0.01 * np.eye(2), m), (P, m + 0.01)))
    for t in (0.3, 1.0, 4.0):
        assert float(discrepancy(matched, law, t)) < 1e-26
        assert float(discrepancy(pulled, law, t)) > 1e-8
        assert float(discrepancy(shifted, law, t)) > 1e-9


@pytest.mark.parametrize("stiffness", [0.9, -0.5])
def test_discrepancy_of_a_mixture_tends_to_the_loss_of_score_matching_and_keeps_its_bounds(stiffness):
    H = QuadraticHamiltonian(1.0, stiffness, [0.2], horizon=2.0)
    error = np.trapezoid(density(X) * (-stiffness * (X - 0.2) - score(X)) ** 2, X)
    assert float(force_error(H, LINE)) == pytest.approx(error, rel=1e-9)
    times = np.array([0.02, 0.01, 0.005])
    found = np.array([float(discrepancy(H, LINE, t)) for t in times])
    slope = np.polyfit(np.log(times), np.log(error - found / times**2), 1)[0]
    assert slope == pytest.approx(2, abs=0.02)  # E|u_t|^2 / t^2 is even in t
    assert (4 * found[2] / times[2] ** 2 - found[1] / times[1] ** 2) / 3 == pytest.approx(error, rel=1e-6)
    assert float(discrepancy(H, LINE, 1e-5)) / 1e-10 == pytest.approx(error, rel=1e-8)
    for t in (0.4, 1.5):
        w = np.sqrt(abs(stiffness))
        S = np.sin(w * t) / w if stiffness > 0 else np.sinh(w * t) / w
        assert float(smoothed_force_error(H, LINE, t)) == pytest.approx(S**2 * error, rel=1e-9)
        assert float(discrepancy(H, LINE, t)) < S**2 * error


def test_discrepancy_and_identity_by_sums_over_a_grid():
    """u_t(x) = S E[(F - score)(x_0) | x_t = x], with the posterior of x_0 as weights on a grid; E|u_t|^2 by the trapezoid rule."""
    k, c, t = 0.9, 0.2, 0.6
    C, S = np.cos(np.sqrt(k) * t), np.sin(np.sqrt(k) * t) / np.sqrt(k)
    H = QuadraticHamiltonian(1.0, k, [c], horizon=2.0)
    points = np.linspace(-5, 5, 401)
    u = np.asarray(predicted(VelocityPredictor(H, with_momenta(LINE)), t, points[:, None]))[:, 0]
    for x, found in list(zip(points, u, strict=True))[40:361:80]:
        weights = density(X) * np.exp(-((x - c - C * (X - c)) ** 2) / (2 * S**2))
        assert found == pytest.approx(S * np.sum(weights * (-k * (X - c) - score(X))) / np.sum(weights), rel=1e-9)
    noised = density(points, [(w, c + C * (m - c), C**2 * s + S**2) for w, m, s in ((0.3, -1.0, 0.2), (0.7, 1.0, 0.1))])
    assert float(discrepancy(H, LINE, t)) == pytest.approx(np.trapezoid(noised * u**2, points), rel=1e-8)


def test_positions_move_with_the_predictor():
    """d/dt p = -d/dx (u p), by central differences."""
    H = QuadraticHamiltonian(1.0, 2.0, [0.1], horizon=2.0)
    predictor = VelocityPredictor(H, with_momenta(LINE))
    x, h, t = np.linspace(-2, 2, 9), 1e-4, 0.5
    flux = [np.asarray(predicted(predictor, t, y[:, None])[:, 0] * jnp.exp(predictor.positions(t).log_prob(y[:, None]))) for y in (x + h, x - h)]
    rate = [np.exp(np.asarray(predictor.positions(s).log_prob(x[:, None]))) for s in (t + h, t - h)]
    np.testing.assert_allclose((rate[0] - rate[1]) / (2 * h), -(flux[0] - flux[1]) / (2 * h), atol=1e-6)


def test_oscillation_is_its_own_predictor_and_forgets_the_data():
    path = Oscillation(frequency=1.3, speed=0.8)
    H = QuadraticHamiltonian(1 / 0.8**2, 1.3**2 / 0.8**2, horizon=float(path.horizon))
    predictor = VelocityPredictor(H, with_momenta(LINE, 1 / 0.8**2))
    points = np.linspace(-2, 2, 5)[:, None]
    for t in (0.3, 1.1):
        np.testing.assert_allclose(predicted(path.velocity(LINE), t, points), predicted(predictor, t, points), rtol=1e-10)
    assert float(path.horizon) == pytest.approx(np.pi / 2.6)
    end = path.marginal(LINE, path.horizon)
    np.testing.assert_allclose(end.means, 0, atol=1e-16)
    np.testing.assert_allclose(end.covs, (0.8 / 1.3) ** 2, rtol=1e-12)


def test_flow_matching_is_free_motion_with_a_velocity_that_depends_on_the_data():
    parts = LINE.covs[:, 0, 0]
    joint = et.GaussianMixture([0.3, 0.7], [[-1.0, -1.0], [1.0, 1.0]], [[[s, s], [s, 1 + s]] for s in np.asarray(parts)])  # (x_0, x_0 - x_1): x' = -p in this time
    predictor, path = VelocityPredictor(QuadraticHamiltonian(1.0, 0.0), joint), LinearInterpolant()
    points = np.linspace(-2, 2, 5)[:, None]
    for t in (0.25, 0.9):
        np.testing.assert_allclose(predicted(predictor, t, points), predicted(path.velocity(LINE), t, points), rtol=1e-10)


def test_a_sampler_follows_oscillation_back_to_the_data_at_order_two():
    path, data = Oscillation(2.0), et.Gaussian([0.7], 0.36)
    start, errors = path.marginal(data, path.horizon), []
    for steps in (16, 32, 64):
        law = Sampler(path, path.velocity(data), Heun(), uniform_grid(path, steps)).law(start)
        errors.append(abs(float(law.cov[0, 0]) - 0.36) + abs(float(law.mean[0]) - 0.7))
    assert np.polyfit(np.log([16, 32, 64]), np.log(errors), 1)[0] == pytest.approx(-2, abs=0.15)


def test_mistakes_are_refused():
    H = QuadraticHamiltonian(1.0, 1.0)
    with pytest.raises(ValueError, match=r"`joint`: got dimension 1; expected dimension 2.*with_momenta"):
        VelocityPredictor(H, LINE)
    with pytest.raises(ValueError, match="`law`: got dimension 2; expected dimension 1, half that of phase space"):
        force_error(H, et.standard_normal(2))
    atoms = et.FiniteLaw([[0.0], [1.0]], [0.5, 0.5])
    with pytest.raises(ValueError, match="met without noise at time 0"):
        force_error(H, atoms)
    predictor = VelocityPredictor(H, with_momenta(atoms))
    with pytest.raises(ValueError, match="met without noise at time 0"):
        predictor(jnp.asarray(0.0), jnp.zeros(1))
    with pytest.raises(ValueError, match="`mass`: got variance -1"):
        with_momenta(LINE, -1.0)
    with pytest.raises(ValueError, match="`frequency`: got -1; expected a number above 0"):
        Oscillation(-1.0)
    x = 0.4
    np.testing.assert_allclose(predicted(predictor, 0.5, np.array([[x]]))[0, 0], regressed_atoms(x, 0.5), rtol=1e-9)


def regressed_atoms(x, t):
    C, S = np.cos(t), np.sin(t)
    r = np.exp(-((x - C * np.array([0.0, 1.0])) ** 2) / (2 * S**2))
    return r @ (-S * np.array([0.0, 1.0]) + C * (x - C * np.array([0.0, 1.0])) / S) / r.sum()
