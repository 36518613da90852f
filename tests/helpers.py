"""What several tests share: random instances built (not filtered) to be valid, and the one way to judge a Monte-Carlo number."""

import numpy as np

Z = 5.0  # standard errors; a two-sided error of 6e-7 a comparison


def spd(rng: np.random.Generator, d: int, low: float = 0.2, high: float = 3.0) -> np.ndarray:
    """A symmetric positive definite matrix with eigenvalues in [low, high] and a random eigenbasis."""
    Q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    S = (Q * np.exp(rng.uniform(np.log(low), np.log(high), d))) @ Q.T
    return (S + S.T) / 2


def assert_within_errors(value, error, truth, z: float = Z):
    """|value - truth| <= z standard errors, entrywise; the errors themselves must be positive."""
    value, error, truth = map(np.asarray, (value, error, truth))
    assert np.all(error > 0)
    score = np.max(np.abs(value - truth) / error)
    assert score <= z, f"off by {score:.2f} standard errors (at most {z}): {value} +- {error}, expected {truth}"


def assert_mean(draws, truth, z: float = Z):
    """The mean of `draws` (n, ...) agrees with `truth` within its standard errors."""
    draws = np.asarray(draws)
    assert_within_errors(draws.mean(0), draws.std(0, ddof=1) / np.sqrt(len(draws)), truth, z)
