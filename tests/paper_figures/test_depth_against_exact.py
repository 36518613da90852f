"""MIWAE beside the exact Gaussian: green as it stands, and the choice among candidates by hand."""

import numpy as np
import pytest

from paper_figures.depth_against_exact import FIGURE, _tuned


@pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption
def test_every_number_of_the_caption_holds(drawn):
    data = drawn(FIGURE).data
    assert data["exact_em"].shape == (1, 2, 2, 2)
    assert np.isfinite(data["miwae"]).all()


def test_the_candidate_of_least_held_out_error_is_judged_by_hidden_cells():
    errors = np.random.default_rng(0).random((2, 3, 4, 2))
    expected = []
    for mask in range(4):
        candidates = [(errors[i, j, mask, 0], errors[i, j, mask, 1]) for i in range(2) for j in range(3)]
        expected.append(min(candidates)[1])
    np.testing.assert_array_equal(_tuned(errors), expected)
