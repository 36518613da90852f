r"""Do ensembles of density models help on real data? Bootstrap members fitted to a random half of the rows, pools of them judged on the other half.

For members q_1, ..., q_K and held-out rows x_1, ..., x_m, in nats per row and for the first k members,

    average      A_k = -(1/m) sum_i (1/k) sum_{j<=k} log q_j(x_i),
    linear pool  L_k = -(1/m) sum_i log (1/k) sum_{j<=k} q_j(x_i)             A_k - L_k >= 0 row by row (Jensen),
    log pool     G_k = A_k + log Z_k,   Z_k = int prod_{j<=k} q_j^{1/k}       A_k - G_k = -log Z_k >= 0 whatever the rows (Heskes 1998).

So the signs are theorems and only the sizes are empirical. Given the halves, members are independent and identically distributed; A_k therefore has one expectation for
all k, and the expected gains of both pools never fall with k, because x -> -log x and f -> log int exp f are convex (Mattei & Garreau 2025). All these gains are
relative to the members of the ensemble, each of which has seen only the rows of its resample; a model fitted once to all rows is not compared.

Data sets of scikit-learn: wine (178 rows, 13 columns), breast cancer (569, 30), digits (1797, 64). Pixels of digits are integers from 0 to 16 and some are constant: they
are made continuous by uniform dequantisation, (pixel + U[0, 1)) / 17 (Theis, van den Oord & Bethge 2016). Columns are standardised by mean and standard deviation of
the rows fitted to; gains do not depend on it, the average does.

Members are Gaussian mixtures with full covariances, or PPCA. `ridge` (see `fit_mixture`) is what keeps the former sensible: without it some components own fewer
different rows than there are columns. With 3 components, 0.03 is near the best for a single member on breast cancer and digits, and a little small on wine.

log Z is exact for PPCA, whose members are Gaussian. For mixtures it has no closed form; with q the linear pool of the k members

    Z_k = E_q[ prod_j q_j^{1/k} / q ],   an integrand in [0, 1] (arithmetic and geometric means),

is estimated from the same number of draws of every member, and the standard error of log Z_k is that of Z_k over Z_k (delta method).

A cell is one split of one data set and one kind of member: the coordinate `parts` is the number of components or of factors. A row holds A, L, G for the first `members`
of them, and log Z with its standard error (0 where exact). Rows of a data set come back in other splits, so intervals over splits speak of this data set, not of new ones.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from ensembletheory.errors import missing_extra, refuse
from ensembletheory.fitting import bootstrap_mixtures, bootstrap_ppcas
from ensembletheory.laws import Gaussian, GaussianMixture, Law
from ensembletheory.pooling import log_normaliser, log_pool
from simulations.study import Cell, Row, Study

__all__ = ["DATASETS", "MODELS", "SETTINGS", "continuous_rows", "grid", "halves", "nested_weights", "rows_of_gaussians", "rows_of_mixtures", "simulate", "study"]

DATASETS = ("wine", "breast_cancer", "digits")
MODELS = ("mixture", "ppca")
SETTINGS: dict[str, Any] = {
    "datasets": list(DATASETS),
    "splits": 30,
    "held_out": 0.5,
    "members": 16,
    "components": 3,
    "ridge": 0.03,
    "factors": [2, 5, 10],
    "draws": 1000,
}


def simulate(cell: Cell, key: PRNGKeyArray) -> list[Row]:
    """Rows of one split, one for each nested size k = 1, 2, 4, ..., K of the ensemble."""
    rows_key, fit_key, draw_key = jax.random.split(key, 3)
    fitted, held = halves(rows_key, cell["dataset"], cell["held_out"])
    if cell["model"] == "ppca":
        models = bootstrap_ppcas(fit_key, fitted, cell["parts"], cell["ensemble"])
        return rows_of_gaussians([model.law for model in models], held)
    mixtures = bootstrap_mixtures(fit_key, fitted, cell["parts"], cell["ensemble"], ridge=cell["ridge"])
    return rows_of_mixtures(draw_key, mixtures, held, cell["draws"])


def halves(key: PRNGKeyArray, dataset: str, held_out: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit to and rows held out, standardised by the former."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    rows = continuous_rows(rng, dataset)
    held, fitted = np.split(rng.permutation(rows), [round(held_out * len(rows))])
    mean, sd = fitted.mean(axis=0), fitted.std(axis=0)
    return (fitted - mean) / sd, (held - mean) / sd


def continuous_rows(rng: np.random.Generator, dataset: str) -> np.ndarray:
    """The rows of a data set, those of digits dequantised.

    Raises:
        ValueError: if the data set is unknown.
        ImportError: if scikit-learn is missing.
    """
    if dataset not in DATASETS:
        refuse("dataset", repr(dataset), f"one of {', '.join(DATASETS)}", "These come with scikit-learn.")
    try:
        from sklearn import datasets
    except ImportError:
        missing_extra("scikit-learn", "data")
    rows = getattr(datasets, f"load_{dataset}")().data
    return (rows + rng.random(rows.shape)) / 17 if dataset == "digits" else rows


def rows_of_gaussians(members: list[Gaussian], held: np.ndarray) -> list[Row]:
    """Rows of Gaussian members: everything in closed form."""
    weights = nested_weights(len(members))
    pooled = np.array([np.mean(log_pool(members, w).log_prob(held)) for w in weights])
    log_Z = np.array([float(log_normaliser(members, w)) for w in weights])
    return _rows(weights, _log_probs(members, held), pooled, log_Z, np.zeros_like(log_Z))


def rows_of_mixtures(key: PRNGKeyArray, members: list[GaussianMixture], held: np.ndarray, draws: int) -> list[Row]:
    """Rows of mixtures, with log Z from `draws` draws of each member."""
    K, weights = len(members), nested_weights(len(members))
    drawn = [member.sample(key, draws) for member, key in zip(members, jax.random.split(key, K), strict=True)]
    at_held, at_drawn = np.split(_log_probs(members, np.concatenate([held, *drawn])), [len(held)], axis=1)
    estimates = [_log_normaliser(at_drawn.reshape(K, K, draws)[:k, :k]) for k in np.count_nonzero(weights, axis=1)]
    log_Z, errors = np.array(estimates).T
    return _rows(weights, at_held, weights @ at_held.mean(axis=1) - log_Z, log_Z, errors)


def nested_weights(members: int) -> Float[np.ndarray, "sizes members"]:
    """Equal weights on the first k members, for k = 1, 2, 4, ..., the largest power of two that `members` admits."""
    sizes = 2 ** np.arange(members.bit_length())
    return (np.arange(members)[None, :] < sizes[:, None]) / sizes[:, None]


def _rows(weights: np.ndarray, log_probs: np.ndarray, pooled: np.ndarray, log_Z: np.ndarray, errors: np.ndarray) -> list[Row]:
    """Rows from members' log-densities (K, m) at the held-out rows, the log pool's mean log-density there, and its normaliser, one for each size."""
    sizes = np.count_nonzero(weights, axis=1)
    average = -weights @ log_probs.mean(axis=1)
    linear = [-_log_mean(log_probs[:k]).mean() for k in sizes]
    columns = {"members": sizes, "average": average, "linear": linear, "log": -pooled, "log_normaliser": log_Z, "log_normaliser_error": errors}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _log_normaliser(log_probs: Float[np.ndarray, "k k n"]) -> tuple[float, float]:
    """Estimate and standard error of log Z from log q_j at draw i of member l, as [j, l, i]."""
    k, _, n = log_probs.shape
    ratios = np.exp(log_probs.mean(axis=0) - _log_mean(log_probs))
    Z, error = ratios.mean(), (ratios.var(axis=1, ddof=1).sum() / n) ** 0.5 / k
    return float(np.log(Z)), float(error / Z)


def _log_mean(log_values: Float[np.ndarray, "k ..."]) -> Float[np.ndarray, "..."]:
    return np.logaddexp.reduce(log_values, axis=0) - np.log(len(log_values))


def _log_probs(members: Sequence[Law], x: np.ndarray) -> Float[np.ndarray, "K n"]:
    return np.stack([member.log_prob(x) for member in members])


def grid(datasets: list[str], splits: int, held_out: float, members: int, components: int, ridge: float, factors: list[int], draws: int) -> list[Cell]:
    """The cells of `splits` splits of each data set, for mixtures of `components` and for PPCA with as many factors as `factors` says for the data set."""
    shared = [{"dataset": name, "split": split, "held_out": held_out, "ensemble": members} for name in datasets for split in range(splits)]
    mixtures: list[Cell] = [{**cell, "model": "mixture", "parts": components, "ridge": ridge, "draws": draws} for cell in shared]
    q = dict(zip(datasets, factors, strict=True))
    return mixtures + [{**cell, "model": "ppca", "parts": q[cell["dataset"]], "ridge": None, "draws": None} for cell in shared]


_FITTING = ("bootstrap", "em", "mixture_em", "mixtures", "ppca_em", "ppcas", "rows", "seeding")

study = Study(
    "density-ensembles",
    cells=grid(**SETTINGS),
    simulate=simulate,
    quick=grid(**SETTINGS | {"datasets": ["wine"], "factors": [2], "splits": 4}),
    uses=(
        *(f"ensembletheory.fitting.{name}" for name in _FITTING),
        "ensembletheory.latent.ppca",
        "ensembletheory.laws.gaussian",
        "ensembletheory.laws.mixture",
        "ensembletheory.pooling.log",
    ),
)
