"""Two networks in one: green as it stands, red when an input moves, and its arrays again by other routes."""

import numpy as np

from paper_figures import mixmo_digits
from paper_figures.mixmo_digits import FIGURE

B, COV, NOISE = (np.array(FIGURE.inputs[name]) for name in ("slope", "input_cov", "noise_variances"))


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_caption_red(drawn):
    moved = mixmo_digits._linear(0, 1.02 * B, COV, NOISE, [], 1, 1)["optimum"]
    off = [number.name for number in FIGURE.caption(drawn(FIGURE).data | {"optimum": moved}).numbers if not number.holds]
    assert off == ["optimum at width 1", "optimum at width 2", "optimum at width 3"]  # with width 4 only the noise is left


def test_optima_keep_the_largest_singular_values(drawn):
    """Of two slots with the same two singular values each."""
    values = np.sort(np.repeat(np.linalg.svd(B @ np.linalg.cholesky(COV))[1] ** 2, 2))[::-1]
    np.testing.assert_allclose(drawn(FIGURE).data["optimum"], [2 * NOISE.sum() + values[width:].sum() for width in (1, 2, 3, 4)], rtol=1e-12)


def test_exact_errors_are_those_of_draws():
    rng = np.random.default_rng(0)
    encoders, heads, units = rng.normal(size=(2, 3, 3)), rng.normal(size=(4, 4)), (np.array([1.0, 0.9]), np.array([2.0, 1.5]))
    encoders[:, :, -1], heads[:, -1] = 0, 0
    x = rng.multivariate_normal(np.zeros(2), COV, (20_000, 2))
    y = x @ B.T + np.sqrt(NOISE) * rng.normal(size=x.shape)
    hidden = np.einsum("krd,nkd->nr", encoders[:, :, :-1], x / units[0])
    predicted = (hidden @ heads[:, :-1].T).reshape(-1, 2, 2) * units[1]
    draws = np.sum((y - predicted) ** 2, axis=(1, 2))
    exact = mixmo_digits._exact_error(mixmo_digits._maps(encoders, heads, *units), B, COV, NOISE)
    assert abs(draws.mean() - exact) <= 5 * draws.std() / np.sqrt(len(draws))


def test_predictors_are_judged_by_counting():
    y = np.array([0, 1, 0, 1])
    first, second = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]]), np.array([[0.2, 0.8], [0.3, 0.7], [0.1, 0.9], [0.45, 0.55]])
    judged = mixmo_digits._judged("pair", np.log(np.stack([first, second])[None]), y)  # the first errs on 1, 2, 3, the second on 0, 2
    np.testing.assert_allclose(judged["pair, head"], [5 / 8])
    np.testing.assert_allclose(judged["pair, ratio"], 3 / 1)
    np.testing.assert_allclose(judged["pair, average"], [2 / 4])  # on 2 and 3
    pooled, each = (first + second) / 2, -(np.log(first) + np.log(second)) / 2
    rows = np.arange(4)
    np.testing.assert_allclose(judged["pair, loss"], np.max(-np.log(pooled[rows, y]) - each[rows, y]), rtol=1e-12)


def test_averaged_predictors_never_lose_in_cross_entropy(drawn):
    data = drawn(FIGURE).data
    for name in ("two_networks", "plain_sum", "linear_mixing", "cut_mixing"):
        assert np.all(data[f"{name}, loss"] <= 1e-12)
        assert np.all((data[f"{name}, head"] > 0) & (data[f"{name}, head"] < 0.9))
