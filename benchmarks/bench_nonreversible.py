"""The fastest antisymmetric drift in 500 dimensions and the law of SSCS in 1024 steps, ours beside NumPy loops: python -m benchmarks.bench_nonreversible.

The abscissa spread of the drift, the range of the real parts of the eigenvalues of (I + J) S, is checked to be below 1e-9 before the clock starts.
"""

import numpy as np

from benchmarks.harness import Rows, main

DIMENSION, CONDITION, STEPS = 500, 1e4, 1024
SPREAD = 1e-9


def covariance():
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(DIMENSION, DIMENSION)))[0]
    cov = (Q * np.geomspace(1, CONDITION, DIMENSION)) @ Q.T
    return (cov + cov.T) / 2


def require_optimal(cov, J):
    spread = np.ptp(np.linalg.eigvals((np.eye(DIMENSION) + J) @ np.linalg.inv(cov)).real)
    if not spread < SPREAD:
        raise RuntimeError(f"the abscissa spread is {spread:.3g}")


def our_drift():
    import ensembletheory as et

    et.enable_x64()
    cov = covariance()
    target = et.Gaussian(np.zeros(DIMENSION), cov)
    require_optimal(cov, np.asarray(et.nonreversible.fastest_skew(target).skew))
    return lambda: et.nonreversible.fastest_skew(target).skew


def numpy_drift():
    cov = covariance()

    def work():
        C = np.linalg.cholesky(cov)
        inverse = np.linalg.inv(C)
        N, axes, free = inverse @ inverse.T, C.T.copy(), np.ones(DIMENSION, bool)
        level = np.trace(N) / DIMENSION
        for _ in range(DIMENSION - 1):
            diagonal = np.diagonal(N)
            i, j = np.argmax(np.where(free, diagonal, -np.inf)), np.argmin(np.where(free, diagonal, np.inf))
            a, b, c = N[i, i] - level, N[j, j] - level, N[i, j]
            t = -np.copysign(1, c) * a / (abs(c) + np.sqrt(c**2 - a * b))
            turn, pair = np.array([[1, t], [-t, 1]]) / np.hypot(1, t), [i, j]
            N[pair] = turn @ N[pair]
            N[:, pair] = N[:, pair] @ turn.T
            axes[pair], free[i] = turn @ axes[pair], False
        weights = np.linspace(1, DIMENSION, DIMENSION)
        gaps = weights[:, None] - weights + np.eye(DIMENSION)
        return axes.T @ ((weights[:, None] + weights) / gaps * N * (1 - np.eye(DIMENSION))) @ axes

    require_optimal(cov, work())
    return work


def our_law():
    import jax
    import jax.numpy as jnp

    import ensembletheory as et

    et.enable_x64()
    process = et.processes.CriticallyDampedLangevin()
    field = process.score(process.joint(et.Gaussian([0.0], 4.0)))
    run = jax.jit(lambda grid: et.samplers.Sampler(process, field, et.samplers.Sscs(), grid).kernel(2).push(process.stationary()).cov)
    grid = jnp.linspace(1.0, 0.0, STEPS + 1)
    return lambda: run(grid)


def numpy_law():
    P, flip = np.diag([1.0, 0.25]), np.diag([-1.0, 1.0])

    def matrix(b):
        return np.exp(-2 * b) * np.array([[1 + 2 * b, 4 * b], [-b, 1 - 2 * b]])

    def work():
        h, cov = 1 / STEPS, P
        half = flip @ matrix(2 * h) @ flip
        noise = P - half @ P @ half.T
        for i in range(STEPS):
            E = matrix(4 * (1 - i * h))
            pull = np.diag([0.0, 8.0]) @ (np.diag([0.0, 4.0]) - np.linalg.inv(E @ np.diag([3.0, -0.24]) @ E.T + P))
            whole = np.eye(2) + h * pull
            cov = half @ cov @ half.T + noise
            cov = half @ whole @ cov @ whole.T @ half.T + noise
        return cov

    return work


def rows() -> Rows:
    return {
        f"fastest antisymmetric drift, d={DIMENSION}": {"ours": our_drift, "numpy": numpy_drift},
        f"law of SSCS, {STEPS} steps": {"ours": our_law, "numpy": numpy_law},
    }


if __name__ == "__main__":
    main(rows(), "benchmarks.bench_nonreversible")
