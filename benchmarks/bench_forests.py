"""Forests evaluated in JAX beside scikit-learn's predictions: python -m benchmarks.bench_forests. One noise level of 16 trees, averaged, at 1350 and at 20,000 points."""

from collections.abc import Callable

import numpy as np

from benchmarks.harness import Rows, main

TREES, DIM = 16, 4


def regressors() -> list:
    from sklearn.tree import DecisionTreeRegressor

    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, DIM))
    return [DecisionTreeRegressor(min_samples_leaf=5, random_state=k).fit(X, X + rng.normal(size=X.shape)) for k in range(TREES)]


def points(n: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, DIM))


def ours(n: int) -> Callable[[], object]:
    import jax
    import jax.numpy as jnp

    import ensembletheory as et
    from ensembletheory.estimators.forests.trees import nodes_of, stacked
    from ensembletheory.processes import VariancePreserving

    et.enable_x64()
    forest = et.MeanField(stacked(VariancePreserving(), "noise", [0.5], [[nodes_of(tree.tree_)] for tree in regressors()]))
    mean, t, x = jax.jit(lambda forest, t, x: forest.batch(t, x)), jnp.asarray(0.5), jnp.asarray(points(n))
    return lambda: mean(forest, t, x)


def peer(n: int) -> Callable[[], object]:
    trees, x = regressors(), points(n)
    return lambda: np.mean([tree.predict(x) for tree in trees], axis=0)


ROWS: Rows = {f"mean of {TREES} trees, {n} points": {"ours": lambda n=n: ours(n), "scikit-learn": lambda n=n: peer(n)} for n in (1350, 20_000)}


if __name__ == "__main__":
    main(ROWS, "benchmarks.bench_forests")
