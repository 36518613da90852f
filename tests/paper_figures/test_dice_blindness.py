"""What Dice-GED cannot see: every number by counting masks and sets."""

from itertools import product

import numpy as np

from paper_figures.dice_blindness import FIGURE


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "shares")


def test_the_laws_share_no_mask_but_every_pixel_and_size(drawn):
    data = drawn(FIGURE).data
    for mask, other in product(data["first"], data["second"]):
        assert np.any(mask != other)
        assert np.sum(mask & other) / np.sum(mask | other) == 1 / 3
    assert {int(mask.sum()) for law in ("first", "second") for mask in data[law]} == {int(data["first"][0].sum())}
    np.testing.assert_array_equal(data["first"].sum(axis=0), data["second"].sum(axis=0))


def test_distances_are_squares_of_the_share(drawn):
    data = drawn(FIGURE).data
    np.testing.assert_allclose(data["Jaccard"], data["mix"] ** 2 / 3, atol=1e-15)
    np.testing.assert_allclose(data["Dice"], 0, atol=1e-15)
    for name in ("Jaccard", "Dice"):
        assert np.all(np.abs(data[f"{name}, simulated"] - data[f"{name}, at shares"]) < 5 * data[f"{name}, standard error"])


def test_directions_are_ranks_of_the_kernel_on_masses_that_sum_to_zero(drawn):
    data = drawn(FIGURE).data
    for n in (2, 4, 6):
        masks = np.array(list(product((0, 1), repeat=n)), float)
        sizes = masks.sum(axis=1)
        kernel = 2 * masks @ masks.T / np.maximum(sizes[:, None] + sizes[None, :], 1)
        kernel[0, 0] = 1
        centring = np.eye(2**n) - 2.0**-n
        assert data["seen"][n - 1] == np.linalg.matrix_rank(centring @ kernel @ centring, tol=1e-10)
        assert data["all"][n - 1] == 2**n - 1
