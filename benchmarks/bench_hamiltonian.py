"""The law of leapfrog on quadratic Hamiltonians, by normal modes, beside steps in NumPy: python -m benchmarks.bench_hamiltonian.

Rows with given modes need the Chebyshev polynomials alone; rows with a full stiffness matrix an eigendecomposition and a few products too. NumPy makes the kicks and
drifts one after the other, of every mode at once, or on matrices of 2 d columns.
"""

import numpy as np

from benchmarks.harness import Rows, main


def given(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Masses and stiffnesses, of which one in ten is negative."""
    rng = np.random.default_rng(0)
    return rng.uniform(0.5, 2.0, d), rng.uniform(-0.5, 4.5, d)


def modes(d: int, L: int):
    import jax

    import ensembletheory as et
    from ensembletheory.hamiltonian import leapfrog_variance

    et.enable_x64()
    m, k = map(jax.numpy.asarray, given(d))
    return lambda: leapfrog_variance(m, k, 1.0 / L, L)


def modes_in_numpy(d: int, L: int):
    m, k = given(d)

    def work():
        (A, B), (C, D), h = (np.ones(d), np.zeros(d)), (np.zeros(d), np.ones(d)), 1.0 / L
        for _ in range(L):
            C, D = C - h / 2 * k * A, D - h / 2 * k * B
            A, B = A + h / m * C, B + h / m * D
            C, D = C - h / 2 * k * A, D - h / 2 * k * B
        return A**2 + B**2

    return work


def full(d: int, L: int):
    import ensembletheory as et
    from ensembletheory.hamiltonian import leapfrog_law
    from ensembletheory.processes import QuadraticHamiltonian

    et.enable_x64()
    hamiltonian = QuadraticHamiltonian(np.ones(d), stiffness(d))
    return lambda: leapfrog_law(hamiltonian, L).cov.block_until_ready()


def stiffness(d: int) -> np.ndarray:
    A = np.random.default_rng(0).normal(size=(d, d)) / np.sqrt(d)
    return A @ A.T


def full_in_numpy(d: int, L: int):
    K = stiffness(d)

    def work():
        N, P, h = np.eye(d, 2 * d), np.eye(d, 2 * d, d), 1.0 / L
        for _ in range(L):
            P = P - h / 2 * K @ N
            N = N + h * P
            P = P - h / 2 * K @ N
        return N @ N.T

    return work


ROWS: Rows = {
    "variances of given modes, d = 1000, L = 1000": {"ours": lambda: modes(1000, 1000), "numpy steps": lambda: modes_in_numpy(1000, 1000)},
    "law of a full stiffness, d = 1000, L = 1000": {"ours": lambda: full(1000, 1000)},
    "law of a full stiffness, d = 200, L = 200": {"ours": lambda: full(200, 200), "numpy steps": lambda: full_in_numpy(200, 200)},
}

if __name__ == "__main__":
    main(ROWS, "benchmarks.bench_hamiltonian")
