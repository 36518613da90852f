"""The decay of non-reversible processes: SciPy's exponentials, eigenvalues and root finding for everything that is drawn."""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from paper_figures.nonreversible_ou import FIGURE, NAMES

S = np.diag([0.1, 0.5, 1.0, 4.0, 10.0])


def fastest(D, weights):
    """The optimal J, of axes that are turned until the diagonal is level."""
    N = np.sqrt(S) @ D @ np.sqrt(S)
    level, V, free = np.trace(N) / 5, np.eye(5), list(range(5))
    while len(free) > 1:
        i, j = max(free, key=lambda k: N[k, k]), min(free, key=lambda k: N[k, k])
        a, b, c = N[i, i] - level, N[j, j] - level, N[i, j]
        tangent = min(np.roots([b, 2 * c, a]).real, key=lambda t: (round(abs(t), 9), t)) if b else 0.0  # of two alike the negative one
        G = np.eye(5)
        G[np.ix_([i, j], [i, j])] = np.array([[1, tangent], [-tangent, 1]]) / np.hypot(1, tangent)
        N, V = G @ N @ G.T, V @ G.T
        free.remove(i)
    K = np.array([[0.0 if i == j else (weights[i] + weights[j]) / (weights[i] - weights[j]) * N[i, j] for j in range(5)] for i in range(5)])
    root = np.diag(1 / np.sqrt(np.diagonal(S))) @ V
    return root @ K @ root.T


def drifts():
    raw, top = np.random.default_rng(0).normal(size=(5, 5)), np.diag([0.0, 0.0, 0.0, 0.0, 5.0])
    weights = np.linspace(1, 5, 5)
    return dict(zip(NAMES, (S, (np.eye(5) + raw - raw.T) @ S, (np.eye(5) + fastest(np.eye(5), weights)) @ S, (top + fastest(top, weights)) @ S), strict=True))


def kl(B, t):
    E, root = scipy.linalg.expm(-t * B), np.sqrt(S)
    mean, cov = root @ E @ np.ones(5), np.eye(5) + root @ E @ (np.eye(5) - np.linalg.inv(S)) @ E.T @ root
    return 0.5 * (mean @ mean + np.trace(cov) - 5 - np.linalg.slogdet(cov)[1])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_of_each_process(drawn, name):
    data, B, i = drawn(FIGURE).data, drifts()[name], NAMES.index(name)
    assert data["rates"][i] == pytest.approx(np.linalg.eigvals(B).real.min(), rel=1e-9)
    assert data["limits"][i] == pytest.approx(2 * np.min((1 / np.linalg.eigvals(B)).real), rel=1e-9)
    for k in (0, 1, 5):
        assert data["kls"][i][k] == pytest.approx(kl(B, data["times"][k]), rel=1e-6)
    assert kl(B, data["times_to"][i]) == pytest.approx(1e-6, rel=1e-6)
    assert data["steps"][i] == pytest.approx(2 * data["times_to"][i] / data["limits"][i])


def test_multiples_and_prefactors(drawn):
    data = drawn(FIGURE).data
    for row, name in enumerate(("any_skew", "fastest_skew")):
        J = drifts()[name] @ np.linalg.inv(S) - np.eye(5)
        for k in (3, -1):
            assert data["scaled"][row][k] == pytest.approx(np.linalg.eigvals((np.eye(5) + data["sizes"][k] * J) @ S).real.min(), rel=1e-8)
    for k in (2, -1):
        B = (np.eye(5) + fastest(np.eye(5), np.linspace(1, data["conditions"][k], 5))) @ S
        step, power, largest = scipy.linalg.expm(0.01 * (3.12 * np.eye(5) - np.sqrt(S) @ B @ np.diag(1 / np.sqrt(np.diagonal(S))))), np.eye(5), 1.0
        for _ in range(200):
            power = power @ step
            largest = max(largest, np.linalg.norm(power, 2))
        assert data["prefactors"][k] == pytest.approx(largest, rel=1e-8)
        assert largest <= np.sqrt(data["conditions"][k])


def test_precisions_decide_the_numbers(two_percent_off):
    assert "slowest rate, fastest_skew" in two_percent_off(FIGURE, "precisions")
