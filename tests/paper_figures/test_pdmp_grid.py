"""Nine modes by jumps and diffusions: distances to the data a second time in NumPy, and forward clouds where their moments have to be."""

import numpy as np
import pytest

from paper_figures.pdmp_grid import FIGURE
from tests.helpers import assert_mean

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert "squared MMD of noise" in two_percent_off(FIGURE, "deviation")


def grid():
    return [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]


def test_distances_to_the_data_by_hand(drawn):
    """All pairs of draws, and expectations over the data by the one-dimensional integral of the kernel, axis by axis."""
    data, h, s = drawn(FIGURE).data, FIGURE.inputs["bandwidth"], FIGURE.inputs["deviation"]
    weights = np.array(FIGURE.inputs["weights"])
    nodes = np.linspace(-3, 3, 1501)

    def kernel(x, y):
        return np.exp(-((x - y) ** 2) / (2 * h**2))

    def smooth(x, m):
        density = np.exp(-((nodes - m) ** 2) / (2 * s**2)) / (s * np.sqrt(2 * np.pi))
        return np.trapezoid(kernel(np.asarray(x)[:, None], nodes[None, :]) * density, nodes, axis=1)

    noise = np.exp(-(nodes**2) / 2) / np.sqrt(2 * np.pi)
    columns = {m: smooth(nodes, m) for m in (-1, 0, 1)}
    twice = {(m, k): np.trapezoid(columns[m] * np.exp(-((nodes - k) ** 2) / (2 * s**2)) / (s * np.sqrt(2 * np.pi)), nodes) for m in (-1, 0, 1) for k in (-1, 0, 1)}
    within = sum(weights[a] * weights[b] * twice[p[0], q[0]] * twice[p[1], q[1]] for a, p in enumerate(grid()) for b, q in enumerate(grid()))
    far = np.linspace(-9, 9, 3001)
    normal = np.exp(-(far**2) / 2) / np.sqrt(2 * np.pi)
    own = np.trapezoid(np.trapezoid(kernel(far[:, None], far[None, :]) * normal, far, axis=1) * normal, far) ** 2
    to_modes = {m: np.trapezoid(columns[m] * noise, nodes) for m in (-1, 0, 1)}
    crossed = sum(w * to_modes[i] * to_modes[j] for w, (i, j) in zip(weights, grid(), strict=True))
    assert float(data["mmd_noise"]) == pytest.approx(own - 2 * crossed + within, rel=1e-6)
    for name in data["methods"]:
        found = data[f"mmd_{name}"][list(data["evaluations"]).index(int(data["shown"]))]
        for batch, value in zip(np.split(data[f"ends_{name}"], len(found)), found, strict=True):
            n = len(batch)
            among = (sum(np.sum(kernel(batch[i, 0], batch[:, 0]) * kernel(batch[i, 1], batch[:, 1])) for i in range(n)) - n) / (n * (n - 1))
            to_data = sum(w * np.mean(smooth(batch[:, 0], i) * smooth(batch[:, 1], j)) for w, (i, j) in zip(weights, grid(), strict=True))
            assert value == pytest.approx(among - 2 * to_data + within, abs=1e-10)
        np.testing.assert_allclose(data[f"masses_{name}"].sum(axis=-1), 1, rtol=1e-12)


def test_forward_clouds_have_the_moments_of_their_noise(drawn):
    data, s = drawn(FIGURE).data, FIGURE.inputs["deviation"]
    weights, modes = np.array(FIGURE.inputs["weights"]), np.array(grid(), dtype=float)
    mean = weights @ modes
    spread = weights @ modes**2 - mean**2 + s**2
    assert_mean(data["data"], mean)
    assert_mean(data["noised_telegraph"], mean)
    assert_mean((data["noised_telegraph"] - mean) ** 2, spread + 1 - (1 - np.exp(-18)) / 18)
    assert_mean((data["data"] - mean) ** 2, spread)
