"""Ensembles of VAEs: green as it stands, red when the noise moves, and its arrays again by other routes."""

import numpy as np
import pytest

from paper_figures.vae_ensembles import FIGURE, RULES

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption

S = np.diag([*FIGURE.inputs["spectrum"], 0.0]) + FIGURE.inputs["noise"] * np.eye(3)


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    red = two_percent_off(FIGURE, "noise")
    assert {"one fit", "log pool", "as they stand"} <= set(red)
    assert "linear pools below their member average" not in red  # it holds whatever the inputs


def fitted(sample):
    """Mean and covariance of maximum likelihood PPCA with two factors: the smallest eigenvalue stays, as with q = d - 1 the covariance is that of the data."""
    return sample.mean(axis=0), np.cov(sample.T, bias=True)


def kl(m, C):
    return 0.5 * (np.trace(np.linalg.solve(C, S)) + m @ np.linalg.solve(C, m) - 3 + np.linalg.slogdet(C)[1] - np.linalg.slogdet(S)[1])


def log_pooled(fits):
    precisions = [np.linalg.inv(C) for _, C in fits]
    C = np.linalg.inv(np.mean(precisions, axis=0))
    return C @ np.mean([P @ m for P, (m, _) in zip(precisions, fits, strict=True)], axis=0), C


def test_exact_fits_and_their_log_pools_come_again_from_covariances(drawn):
    data = drawn(FIGURE).data
    for i, samples in enumerate(data["samples"]):
        fits = [fitted(sample) for sample in samples]
        single = np.mean([kl(*fit) for fit in fits])
        for rule in range(len(RULES)):
            assert data["exact"][i, rule, 0] == pytest.approx(single, rel=1e-9)
        assert data["exact"][i, RULES.index("log"), -1] == pytest.approx(kl(*log_pooled(fits)), rel=1e-9)
        linear = data["exact"][i, RULES.index("linear")]
        assert np.all(np.diff(linear) < 0)  # over disjoint groups of equal size: Jensen


def test_trained_vaes_are_the_exact_fits_of_their_points(drawn):
    data = drawn(FIGURE).data
    trained, alike = data["learned"], [RULES.index(name) for name in RULES if name != "raw_decoders"]
    np.testing.assert_allclose(trained.mean(axis=0)[alike], data["exact"][: len(trained)].mean(axis=0)[alike], atol=5e-3)


def test_averages_of_curves_are_those_of_the_decoders(drawn):
    """Members are drawn with their latents aligned; z runs from -2.2 to 2.2, so that a turned one runs backwards."""
    data = drawn(FIGURE).data
    *members, raw, aligned = data["curves"]
    np.testing.assert_allclose(aligned, np.mean(members, axis=0), rtol=1e-9)
    np.testing.assert_allclose(raw, np.mean([one[:: int(sign)] for one, sign in zip(members, data["signs"], strict=True)], axis=0), rtol=1e-9, atol=1e-12)
    assert set(data["signs"]) == {1.0, -1.0}


def test_laws_on_the_plane_have_mass_one_and_pools_gain(drawn):
    data = drawn(FIGURE).data
    np.testing.assert_allclose(data["mass"], 1, atol=1e-2)
    subsets, (raw, aligned, log, linear) = data["subsets"], data["curved"].T
    M = subsets.shape[1]
    np.testing.assert_allclose(raw[:M], aligned[:M], rtol=1e-6)
    np.testing.assert_allclose(linear[:M], aligned[:M], rtol=1e-9)
    np.testing.assert_allclose(log[:M] - linear[:M], np.log(data["mass"][1:]), atol=1e-9)
    assert np.all(linear[M:] < subsets[M:] @ linear[:M])
    assert np.all(log[M:] < subsets[M:] @ log[:M])
