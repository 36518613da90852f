"""Phase space of Hamiltonian generative flows: green as it stands, red when an input moves; densities, predictors and losses again in NumPy."""

import numpy as np

from paper_figures.hgf_phase_space import FIGURE

W, M, S = (np.asarray(FIGURE.inputs[name]) for name in ("weights", "means", "variances"))


def turned(motion, t):
    """What takes (x_0, v_0) to (x_t, v_t), and the covariance of (x_0, v_0) in a component."""
    E = np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]]) if motion == "oscillation" else np.array([[1.0, t], [0.0, 1.0]])
    return E, [np.array([[s, -s], [-s, 1 + s]]) if motion == "transport_path" else np.diag([s, 1.0]) for s in S]


def components(motion, t):
    E, covs = turned(motion, t)
    starts = [np.array([m, -m if motion == "transport_path" else 0.0]) for m in M]
    return [(w, E @ start, E @ cov @ E.T) for w, start, cov in zip(W, starts, covs, strict=True)]


def normal(z, mean, cov):
    gap = z - mean
    return np.exp(-0.5 * np.sum(gap * np.linalg.solve(cov, gap.T).T, axis=1)) / (2 * np.pi * np.sqrt(np.linalg.det(cov)))


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE.with_inputs(**FIGURE.quick_inputs), "variances")


def test_densities_and_predictors_are_conditional_means_of_mixtures(drawn):
    data = drawn(FIGURE).data
    x = data["line"]
    grid = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
    for motion, horizon in (("diffusion_path", 1.0), ("transport_path", 1.0), ("oscillation", np.pi / 2)):
        parts = components(motion, 0.5 * horizon)
        density = sum(w * normal(grid, mean, cov) for w, mean, cov in parts)
        np.testing.assert_allclose(data[f"{motion} density"].ravel(), density, rtol=1e-8, atol=1e-14)
        weights = np.array([w * np.exp(-((x - mean[0]) ** 2) / (2 * cov[0, 0])) / np.sqrt(cov[0, 0]) for w, mean, cov in parts])
        means = np.array([mean[1] + cov[1, 0] / cov[0, 0] * (x - mean[0]) for _, mean, cov in parts])
        np.testing.assert_allclose(data[f"{motion} predictor"], np.sum(weights * means, axis=0) / weights.sum(axis=0), rtol=1e-8, atol=1e-10)


def test_paths_follow_the_motion(drawn):
    data = drawn(FIGURE).data
    for motion, horizon in (("diffusion_path", 1.0), ("transport_path", 1.0), ("oscillation", np.pi / 2)):
        paths = data[f"{motion} paths"]
        for t, points in zip(np.linspace(0, horizon, len(paths)), paths, strict=True):
            np.testing.assert_allclose(points, paths[0] @ turned(motion, t)[0].T, atol=1e-12)


def test_discrepancy_bound_and_loss_are_integrals(drawn):
    data = drawn(FIGURE).data
    x, c = np.linspace(-7, 7, 20_001), FIGURE.inputs["centre"]
    terms = np.array([w * np.exp(-((x - m) ** 2) / (2 * s)) / np.sqrt(2 * np.pi * s) for w, m, s in zip(W, M, S, strict=True)])
    score = np.sum(terms * (M[:, None] - x) / S[:, None], axis=0) / terms.sum(axis=0)
    loss = np.trapezoid(terms.sum(axis=0) * (-(x - c) - score) ** 2, x)
    np.testing.assert_allclose(data["loss"], loss, rtol=1e-9)
    np.testing.assert_allclose(data["bound"], np.sin(data["times"]) ** 2 * loss, rtol=1e-9)
    for t, found in list(zip(data["times"], data["discrepancy"], strict=True))[::5]:
        C, s = np.cos(t), np.sin(t)
        means, variances = c + C * (M - c), C**2 * S + s**2
        seen = np.array([w * np.exp(-((x - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v) for w, m, v in zip(W, means, variances, strict=True)])
        each = np.array([-s * (m - c) + C * s * (1 - v) / total * (x - mean) for m, v, total, mean in zip(M, S, variances, means, strict=True)])
        u = np.sum(seen * each, axis=0) / seen.sum(axis=0)
        np.testing.assert_allclose(found, np.trapezoid(seen.sum(axis=0) * u**2, x), rtol=1e-7)
