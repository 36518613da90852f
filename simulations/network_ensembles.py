r"""Do averaged networks gain what averaged exact scores gain? Members with laws of their own, scores exact and learned, over targets, numbers of members, repetitions.

In a cell rows are drawn from a target p on the line, and mixtures q_1 ... q_K fitted to bootstrap resamples of them. Each q_k has its exact score, and a network trained
on it. For the first k members and either kind of score the same sampler (the probability flow by Heun's method on one grid) makes laws of known density, alone and averaged,
and

    gain = sum_{j<=k} KL(p || law of score j) / k - KL(p || law of the averaged score)

is a mean over draws from p, the same for both kinds (`ensembletheory.neural.sampled_gain`). Exact scores gain at least nothing up to the horizon and the steps, by theorem;
of networks no theorem says so. What the two gains differ by is what training left to be learned, and its share that averaging removes.

A row holds, for the first `members` networks: the members' average divergence, the gain, and their standard errors; and the same of the exact scores.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ensembletheory.errors import refuse
from ensembletheory.fitting import bootstrap_mixtures
from ensembletheory.laws import GaussianMixture
from ensembletheory.neural import Recipe, ScoreLearner, fit_ensemble, sampled_gain, stack
from ensembletheory.processes import VariancePreserving
from simulations.density_ensembles import nested_weights
from simulations.study import Cell, Row, Study

__all__ = ["SETTINGS", "TARGETS", "grid", "simulate", "study"]

PROCESS = VariancePreserving()
START = 1e-3  # the earliest time of training, and the last of the sampler
TARGETS = {
    "two modes": ([0.4, 0.6], [-1.5, 1.0], [0.2, 0.35]),
    "skew": ([0.7, 0.3], [-0.3, 0.9], [0.3, 1.0]),
    "one in another": ([0.5, 0.5], [0.0, 0.2], [0.1, 1.5]),
}
SETTINGS: dict[str, Any] = {"targets": list(TARGETS), "repetitions": 20, "rows": 60, "members": 8, "steps": 1000, "draws": 4096}


def simulate(cell: Cell, key: PRNGKeyArray) -> list[Row]:
    """Rows of one repetition, one for each nested size k = 1, 2, 4, ..., K of the ensemble."""
    data_key, fit_key, train_key, draw_key = jax.random.split(key, 4)
    target, K = _target(cell["target"]), cell["ensemble"]
    laws = bootstrap_mixtures(fit_key, target.sample(data_key, cell["sample"]), 2, K, ridge=0.03)
    recipe = Recipe(steps=cell["steps"], learning_rate=1e-2, chunk=cell["steps"], ema_decay=0.99)
    networks = fit_ensemble(train_key, ScoreLearner(PROCESS, 32, 3, 256, START), list(laws), K, recipe).average
    exact, times = stack([PROCESS.score(law) for law in laws]), jnp.linspace(1.0, START ** (1 / 3), 25) ** 3
    found = [[sampled_gain(draw_key, target, fields, PROCESS, times, cell["draws"], w) for fields in (networks, exact)] for w in nested_weights(K)]
    return [
        {
            "members": 2**i,
            "average": float(learned.average.value),
            "average_error": float(learned.average.error),
            "gain": float(learned.gain.value),
            "gain_error": float(learned.gain.error),
            "exact_average": float(true.average.value),
            "exact_average_error": float(true.average.error),
            "exact_gain": float(true.gain.value),
            "exact_gain_error": float(true.gain.error),
        }
        for i, (learned, true) in enumerate(found)
    ]


def _target(name: str) -> GaussianMixture:
    if name not in TARGETS:
        refuse("target", repr(name), f"one of {', '.join(TARGETS)}", "See TARGETS.")
    weights, means, variances = TARGETS[name]
    return GaussianMixture(weights, [[m] for m in means], [[v] for v in variances])


def grid(targets: list[str], repetitions: int, rows: int, members: int, steps: int, draws: int) -> list[Cell]:
    """The cells of `repetitions` data sets of each target."""
    shared = {"sample": rows, "ensemble": members, "steps": steps, "draws": draws}
    return [{"target": name, "repetition": i, **shared} for name in targets for i in range(repetitions)]


study = Study(
    "network-ensembles",
    cells=grid(**SETTINGS),
    simulate=simulate,
    quick=grid(**SETTINGS | {"targets": ["two modes"], "repetitions": 2}),
    uses=(
        "ensembletheory.estimate",
        "ensembletheory.fields",
        "ensembletheory.fitting.bootstrap",
        "ensembletheory.laws.mixture",
        "ensembletheory.neural.gains",
        "ensembletheory.neural.learner",
        "ensembletheory.neural.perceptron",
        "ensembletheory.neural.scores.score_learner",
        "ensembletheory.neural.scores.score_matching",
        "ensembletheory.neural.scores.score_network",
        "ensembletheory.neural.training",
        "ensembletheory.processes.conversions",
        "ensembletheory.processes.diffusion",
        "ensembletheory.processes.path",
        "ensembletheory.processes.stochastic",
        "ensembletheory.samplers.heun",
        "ensembletheory.samplers.likelihood",
        "ensembletheory.samplers.sampler",
        "simulations.density_ensembles",
    ),
)
