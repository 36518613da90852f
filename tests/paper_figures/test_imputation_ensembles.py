"""Ensembles of imputers on real data: green as they stand, and the law again from the curve's ends."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from paper_figures.imputation_ensembles import FIGURE


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_the_drawn_law_is_affine_in_one_over_m_and_ends_at_all_members(drawn):
    data = drawn(FIGURE).data
    for loss, nested in (("square", "mixed_conditionals"), ("energy", "copies")):
        law, sizes = data[f"wine law {loss}"], data["sizes"]
        slopes = np.diff(law, axis=1) / np.diff(1 / sizes)
        np.testing.assert_allclose(slopes, slopes[:, :1] * np.ones(len(sizes) - 1), rtol=1e-8)
        np.testing.assert_allclose(law[:, -1], data[f"wine {nested} {loss}"][:, -1], rtol=1e-9)
        assert (slopes > 0).all()
