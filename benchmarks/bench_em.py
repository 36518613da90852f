"""EM for full-covariance Gaussian mixtures, ours beside scikit-learn: python -m benchmarks.bench_em.

Both climb from the same parameters by the same number of iterations, without ridge and without a stopping rule, so that they do the same arithmetic; medians of
three runs, compilation apart. The bootstrap row fits 16 resamples: ours in one compiled call with counts as weights, ours one call a member, and scikit-learn in a
loop over resampled rows. Where threads matter compare within one run only, and set OMP_NUM_THREADS=1 to see scikit-learn with one thread.
"""

import time
import warnings
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import ensembletheory as et
from ensembletheory.fitting import mixture_em
from ensembletheory.fitting.bootstrap import bootstrap_counts
from ensembletheory.fitting.mixture_em import MixtureParameters
from ensembletheory.fitting.rows import Rows, blocks

STEPS, MEMBERS, REPEATS = 50, 16, 3
SHAPES = ((569, 2, 3), (569, 10, 3), (10_000, 4, 8), (5_000, 16, 8))


def data(n: int, d: int, K: int) -> tuple[np.ndarray, MixtureParameters]:
    """Overlapping clusters, and a start with one centre near each."""
    rng = np.random.default_rng(0)
    centres = 1.5 * rng.normal(size=(K, d))
    X = centres[rng.integers(K, size=n)] + rng.normal(size=(n, d))
    begin = centres + 0.5 * rng.normal(size=(K, d))
    return X, MixtureParameters(jnp.full((K,), 1 / K), jnp.asarray(begin), jnp.broadcast_to(jnp.eye(d), (K, d, d)))


def peer(X: np.ndarray, begin: MixtureParameters) -> GaussianMixture:
    """scikit-learn from the same parameters, the same number of iterations."""
    K = begin.weights.size
    model = GaussianMixture(K, tol=0, reg_covar=0, max_iter=STEPS, init_params="random", random_state=0)
    model.set_params(weights_init=np.asarray(begin.weights), means_init=np.asarray(begin.means), precisions_init=np.asarray(begin.covs))
    return model.fit(X)


def climbs(rows: Rows, begin: MixtureParameters) -> MixtureParameters:
    cut = blocks(rows, mixture_em.block_size(rows, begin.weights.size))
    return jax.lax.fori_loop(0, STEPS, lambda _, parameters: mixture_em.step(parameters, cut, jnp.asarray(0.0))[1], begin)


@eqx.filter_jit
def one(rows: Rows, begin: MixtureParameters) -> MixtureParameters:
    return climbs(rows, begin)


@eqx.filter_jit
def batch(rows: Rows, counts: jax.Array, begin: MixtureParameters) -> MixtureParameters:
    return jax.lax.map(lambda weights: climbs(Rows(rows.values, None, weights), begin), counts)


def timed(work: Callable) -> tuple[float, float]:
    """Milliseconds of the first call and the median of later ones."""
    times = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        jax.block_until_ready(work())
        times.append(1e3 * (time.perf_counter() - begin))
    return times[0], float(np.median(times[1:]))


def report(shape: tuple[int, int, int]) -> None:
    """Print two lines of the table, and check that both sides arrive at the same parameters."""
    X, begin = data(*shape)
    rows = Rows(jnp.asarray(X), None, jnp.ones(len(X)))
    (first, ours), (_, theirs) = timed(lambda: one(rows, begin)), timed(lambda: peer(X, begin).means_)
    np.testing.assert_allclose(one(rows, begin).means, np.asarray(peer(X, begin).means_), rtol=1e-6, atol=1e-6)
    print(f"{shape!s:>18} {'one fit':>12} {ours:10.1f} {'':>10} {theirs:12.1f} {theirs / ours:7.1f} {(first - ours) / 1e3:9.1f}", flush=True)
    counts = bootstrap_counts(jax.random.key(0), len(X), MEMBERS)
    resamples = [np.repeat(X, np.asarray(w, int), axis=0) for w in counts]
    first, ours = timed(lambda: batch(rows, counts, begin))
    _, loop = timed(lambda: [one(Rows(rows.values, None, w), begin) for w in counts])
    _, theirs = timed(lambda: [peer(Z, begin).means_ for Z in resamples])
    print(f"{shape!s:>18} {f'{MEMBERS} members':>12} {ours:10.1f} {loop:10.1f} {theirs:12.1f} {theirs / ours:7.1f} {(first - ours) / 1e3:9.1f}", flush=True)


def main() -> None:
    et.enable_x64()
    warnings.simplefilter("ignore", ConvergenceWarning)  # scikit-learn is told to stop after STEPS iterations
    print(f"{STEPS} EM iterations, milliseconds")
    print(f"{'(n, d, K)':>18} {'':>12} {'ours':>10} {'our loop':>10} {'scikit-learn':>12} {'ratio':>7} {'compile s':>9}")
    for shape in SHAPES:
        report(shape)


if __name__ == "__main__":
    main()
