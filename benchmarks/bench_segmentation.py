"""GED of 500 images, 16 samples against 4 graders of 128 x 128 pixels each, ours beside a loop over pairs in NumPy: python -m benchmarks.bench_segmentation.

The loop compares masks pair by pair and image by image, as evaluation scripts do; it is timed on 5 of the images and scaled up, and said to be. Both take the same truth
values and must agree on those images. Compilation is apart. The target is two seconds.
"""

import time
from collections.abc import Callable

import jax
import numpy as np

from ensembletheory.segmentation import ged_u_statistic, ged_v_statistic, hungarian_iou

IMAGES, SAMPLES, GRADERS, SIDE = 500, 16, 4, 128
LOOPED, REPEATS, TARGET = 5, 3, 2.0


def data() -> tuple[np.ndarray, np.ndarray]:
    """Discs with uncertain radius and place."""
    rng = np.random.default_rng(0)
    squares = (np.arange(SIDE) - SIDE / 2) ** 2
    radii = rng.uniform(0, 40, (IMAGES, SAMPLES + GRADERS))
    discs = np.add.outer(squares, squares)[None, None] <= radii[:, :, None, None] ** 2
    return discs[:, :SAMPLES], discs[:, SAMPLES:]


def distance(mask: np.ndarray, other: np.ndarray) -> float:
    union = np.logical_or(mask, other).sum()
    return 1 - np.logical_and(mask, other).sum() / union if union else 0.0


def looped(samples: np.ndarray, graders: np.ndarray) -> float:
    across, within, beyond = (np.mean([distance(a, b) for a in first for b in second]) for first, second in ((samples, graders), (samples, samples), (graders, graders)))
    return 2 * across - within - beyond


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the first call and the median of later ones."""
    times = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - begin)
    return times[0], float(np.median(times[1:]))


def main() -> None:
    samples, graders = data()
    print(f"{IMAGES} images, {SAMPLES} samples, {GRADERS} graders, {SIDE} x {SIDE} pixels; seconds (compilation in the first)")
    ours = {}
    for name, work in (("V-statistic", ged_v_statistic), ("U-statistic", ged_u_statistic), ("Hungarian IoU", hungarian_iou)):
        first, ours[name] = timed(lambda work=work: work(samples, graders))
        target = f", target {TARGET:g}: {'met' if ours[name] < TARGET else 'MISSED'}" if "statistic" in name else ""
        print(f"{name:>14}: ours {ours[name]:.2f} (first {first:.2f}{target})", flush=True)
    begin = time.perf_counter()
    theirs = [looped(*image) for image in zip(samples[:LOOPED], graders[:LOOPED], strict=True)]
    scaled = (time.perf_counter() - begin) * IMAGES / LOOPED
    np.testing.assert_allclose(ged_v_statistic(samples, graders)[:LOOPED], theirs, atol=1e-6)  # ours in 32 bits
    print(f"{'V-statistic':>14}: loop over pairs {scaled:.1f}, timed on {LOOPED} images and scaled by {IMAGES // LOOPED}; {scaled / ours['V-statistic']:.0f} times ours")


if __name__ == "__main__":
    main()
