"""Evaluations a second of searches for the least margin, ours beside Hypothesis with target() and SciPy's differential evolution: python -m benchmarks.bench_search.

All search the same claim. Ours is the streaming search, its compilation reported apart; Hypothesis draws from the claim's own strategy and targets the negative of the
compiled margin; differential evolution runs over the chart's coordinates, one instance a call of the compiled margin, or a whole population (`vectorized`).
"""

import subprocess
import sys
import time
from collections.abc import Callable

CLAIMS = ("log-pool-kl", "barycenter-kl", "mean-score-monotone-centred")  # two closed forms and a quadrature
SECONDS = 10.0
BUDGET = 50_000_000  # of which most are plain draws, a value each; the rest are steps of L-BFGS, a value with its gradient each
BOX = (-6.0, 6.0)  # of the chart's coordinates


def ours(id: str) -> tuple[float, float]:
    """Evaluations a second once compiled, and the seconds of compilation."""
    import jax
    import numpy as np

    from ensembletheory.claims import get
    from ensembletheory.claims import search as streaming
    from ensembletheory.claims.evaluation import Evaluator

    evaluator = Evaluator(get(id))
    plan = streaming._plan(BUDGET, evaluator.claim.domain.size, evaluator.block)
    rounds, start = streaming._Rounds(evaluator, 0, plan), time.perf_counter()
    jax.block_until_ready(rounds._descend(rounds._screen(np.uint64(0), np.uint64(0))[0]))
    compiled, start = time.perf_counter() - start, time.perf_counter()
    evaluations = 0
    for state in rounds.play(rounds.begin(), BUDGET):
        evaluations = state.evaluations if state else 0
        if time.perf_counter() - start > SECONDS:
            break
    return evaluations / (time.perf_counter() - start), compiled


def _compiled(id: str) -> tuple[Callable, int]:
    """The margin of a stack of coordinates, and their number."""
    import jax

    from ensembletheory.claims import get

    claim = get(id)
    return jax.jit(jax.vmap(lambda u: claim.traced(claim.domain.instance(u))[0])), claim.domain.size


def hypothesis(id: str) -> tuple[float, float]:
    """Evaluations a second of generation with target()."""
    import jax
    from hypothesis import HealthCheck, Phase, given, settings, target

    from ensembletheory.claims import get

    claim, count = get(id), 0
    margin = jax.jit(lambda instance: claim.traced(instance)[0])
    start = time.perf_counter()
    margin(claim.domain.sample(jax.random.key(0))).block_until_ready()
    compiled = time.perf_counter() - start

    @settings(max_examples=300, deadline=None, database=None, phases=[Phase.generate, Phase.target], suppress_health_check=[HealthCheck.too_slow])
    @given(claim.domain.strategy())
    def run(instance):
        nonlocal count
        count += 1
        target(-float(margin(instance)))

    start = time.perf_counter()
    run()
    return count / (time.perf_counter() - start), compiled


def evolution(id: str, vectorized: bool) -> tuple[float, float]:
    """Evaluations a second of SciPy's differential evolution with its defaults."""
    import numpy as np
    from scipy.optimize import differential_evolution

    margin, size = _compiled(id)
    population = 15 * size
    start = time.perf_counter()
    np.asarray(margin(np.zeros((population if vectorized else 1, size))))
    compiled, count = time.perf_counter() - start, 0

    def objective(u):
        nonlocal count
        count += 1 if u.ndim == 1 else u.shape[1]
        return np.asarray(margin(u[None])).item() if u.ndim == 1 else np.asarray(margin(u.T))

    start = time.perf_counter()
    differential_evolution(objective, [BOX] * size, rng=0, tol=0, maxiter=100, polish=False, vectorized=vectorized, updating="deferred" if vectorized else "immediate")
    return count / (time.perf_counter() - start), compiled


PEERS = {"ours": ours, "Hypothesis": hypothesis, "evolution": lambda id: evolution(id, False), "vectorized": lambda id: evolution(id, True)}


def main() -> None:
    """Print the table, or, in a child process, measure one cell of it."""
    if len(sys.argv) == 3:
        from ensembletheory import enable_x64

        enable_x64()
        print(*PEERS[sys.argv[2]](sys.argv[1]))
        return
    print(f"{'evaluations a second (ours / peer)':<36}" + "".join(f"{peer:>24}" for peer in PEERS) + f"{'compilation of ours, s':>26}")
    for id in CLAIMS:
        measured = {peer: _measured(id, peer) for peer in PEERS}
        speed, compiled = measured["ours"]
        print(f"{id:<36}" + "".join(f"{_cell(speed, other):>24}" for other, _ in measured.values()) + f"{compiled:>26.1f}", flush=True)


def _measured(id: str, peer: str) -> list[float]:
    result = subprocess.run([sys.executable, "-m", "benchmarks.bench_search", id, peer], capture_output=True, text=True, check=True)
    return [float(word) for word in result.stdout.split()[-2:]]


def _cell(ours: float, other: float) -> str:
    return f"{other:,.0f} ({ours / other:,.0f})"


if __name__ == "__main__":
    main()
