"""Networks of ambiguous masks: green as it stands in its quick run."""

import numpy as np

from paper_figures.punet_ambiguous import FIGURE


def test_every_number_of_the_caption_holds(drawn):
    data = drawn(FIGURE).data
    assert np.mean(data["probabilistic_unet"]) < np.mean(data["floors"])
    assert np.all(data["lost by pooling"] <= 1e-12)
