"""Exact conditionals of a Gaussian mixture over rows with holes, ours beside a NumPy loop over rows: python -m benchmarks.bench_imputation.

100,000 rows of 1,000 distinct masks, half of the 30 columns missing, 8 components with full covariances; conditional means, and one draw a row. The loop treats all
components of a row at once. It is timed on every hundredth row, whose cost is multiplied by a hundred; both sides must agree on those rows. The first call, which
compiles, is apart. Each work is timed by the clock and by the processor time of all threads, of which only the second can be compared under other load.
"""

import time
from collections.abc import Callable

import jax
import numpy as np

import ensembletheory as et
from ensembletheory.imputation import conditional_draws, conditional_mean

ROWS, MASKS, DIM, COMPONENTS, SHARE, REPEATS = 100_000, 1_000, 30, 8, 100, 3
FASTER = 20  # times, at least


def data(seed: int = 0) -> tuple[et.GaussianMixture, np.ndarray]:
    """A mixture and draws from it, with holes."""
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(COMPONENTS, DIM, DIM)) / DIM**0.5
    covs = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(DIM)
    law = et.GaussianMixture(np.full(COMPONENTS, 1 / COMPONENTS), rng.normal(size=(COMPONENTS, DIM)), (covs + covs.transpose(0, 2, 1)) / 2)
    masks = rng.random((MASKS, DIM)) < 0.5
    return law, np.where(masks[rng.integers(MASKS, size=ROWS)], np.nan, np.asarray(law.sample(jax.random.key(seed), ROWS)))


def looped(law: et.GaussianMixture, X: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Conditional means row by row, or draws where a generator is given."""
    weights, means, covs = (np.asarray(part) for part in (law.weights, law.means, law.covs))
    completed = X.copy()
    for x in completed:
        u, o = np.flatnonzero(np.isnan(x)), np.flatnonzero(~np.isnan(x))
        seen, cross = covs[:, o[:, None], o], covs[:, u[:, None], o]
        gaps = x[o] - means[:, o]
        solved = np.linalg.solve(seen, np.concatenate([gaps[:, :, None], cross.transpose(0, 2, 1)], axis=2))
        logs = np.log(weights) - 0.5 * (np.sum(gaps * solved[:, :, 0], axis=1) + np.linalg.slogdet(seen)[1])
        shares = np.exp(logs - logs.max())
        shares /= shares.sum()
        centres = means[:, u] + (cross @ solved[:, :, :1])[:, :, 0]
        if rng is None:
            x[u] = shares @ centres
        else:
            k = rng.choice(len(shares), p=shares)
            x[u] = centres[k] + np.linalg.cholesky(covs[k][u[:, None], u] - cross[k] @ solved[k, :, 1:]) @ rng.normal(size=len(u))
    return completed


def timed(work: Callable, repeats: int) -> tuple[float, float, float]:
    """Seconds: of the first call, and the medians of the later ones by the clock and by the processor."""
    times, used = [], []
    for _ in range(repeats + 1):
        start, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - start)
        used.append(time.process_time() - cpu)
    return times[0], float(np.median(times[1:])), float(np.median(used[1:]))


def report(name: str, ours: Callable, theirs: Callable) -> None:
    """Print one line of the table."""
    (first, wall, cpu), (_, loop, loop_cpu) = timed(ours, REPEATS), timed(theirs, 1)
    line = f"{name:>6} {wall:9.2f} {cpu:9.2f} {first - wall:10.2f} {SHARE * loop:11.1f} {SHARE * loop_cpu:11.1f}"
    print(f"{line} {SHARE * loop / wall:7.1f} {SHARE * loop_cpu / cpu:7.1f} (at least {FASTER})", flush=True)


def main() -> None:
    et.enable_x64()
    law, X = data()
    share = X[::SHARE]
    np.testing.assert_allclose(np.asarray(conditional_mean(law, X))[::SHARE], looped(law, share, None), rtol=1e-8, atol=1e-8)
    print(f"{ROWS} rows, {MASKS} masks, d = {DIM}, K = {COMPONENTS}; seconds; the loop is measured on {len(share)} rows")
    print(f"{'':>6} {'ours':>9} {'CPU':>9} {'compile':>10} {'loop':>11} {'CPU':>11} {'ratio':>7} {'CPU':>7}")
    report("mean", lambda: conditional_mean(law, X), lambda: looped(law, share, None))
    rng = np.random.default_rng(1)
    report("draws", lambda: conditional_draws(jax.random.key(1), law, X, 1), lambda: looped(law, share, rng))


if __name__ == "__main__":
    main()
