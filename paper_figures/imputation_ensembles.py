r"""Ensembles of imputers on real data: errors against the number M of members, beside the law A + B / M and other people's imputers.

Rows of a data set are drawn, cells deleted completely at random, and columns standardised by what is left of them, anew in every replication. Members are Gaussians fitted
by EM to bootstrap resamples of the rows with holes; given what is observed each has an exact conditional. Two losses over the whole of a replication are quadratic in the
ensemble and hence, over all subsets of M of the K members, exactly A + B / M (`ensembletheory.imputation.error_laws`): the squared error of the averaged conditional means,
and the energy distance between the complete rows and the M copies completed by one draw of each member. The A and B drawn are those of all pairs of the K members, the dots
those of the first M alone. The linear pool reweights the members by the density of what is observed; its conditional mean is no average, and no law binds it. The log pool is
one Gaussian.

The columns of breast cancer are the ten means over nuclei; the pixels of digits are averaged two by two.
"""

import warnings
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from scipy import stats
from scipy.spatial.distance import cdist

import ensembletheory as et
from ensembletheory.errors import missing_extra
from ensembletheory.imputation import conditional_draws, conditional_mean, energy_distance, law_of_scores, law_of_squares, observed_log_prob, pooled_mean
from ensembletheory.imputation.masks import CellsAtRandom, masked
from ensembletheory.plotting import LOOKS, WIDTHS, Look, curve, letter, new_figure
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

RULES = {"mixed_conditionals": "mixture of conditionals", "linear": "linear pool", "log": "log pool"}
PEERS = {"iterative": "chained_equations", "neighbours": "nearest_neighbours", "forests": "chained_forests"}
TITLES = {"breast_cancer": "breast cancer", "wine": "wine", "digits": "digits"}


def _compute(
    seed: int,
    datasets: list[str],
    rows: int,
    share: float,
    replications: int,
    members: int,
    sizes: list[int],
    ridges: list[float],
    neighbours: list[int],
    tolerance: float,
    peers: list[str],
    rounds: int,
    trees: int,
) -> Data:
    data: Data = {"datasets": datasets, "sizes": sizes, "members": members, "replications": replications, "peers": peers}
    for place, dataset in enumerate(datasets):
        whole, keys = _columns(dataset), jax.random.split(jax.random.fold_in(jax.random.key(seed), place), replications)
        tables = [_Table.of(key, whole, rows, share, [seed, place, i]) for i, key in enumerate(keys)]
        ridge, nearest = _tuned(jax.random.fold_in(keys[0], 1), tables[0].X, members, ridges, neighbours, tolerance)
        steps = {"rounds": rounds, "trees": trees, "nearest": nearest}
        found = [_replication(key, table, members, sizes, ridge, tolerance, peers, steps) for key, table in zip(keys, tables, strict=True)]
        data |= {f"{dataset} ridge": ridge, f"{dataset} nearest": nearest}
        data |= {f"{dataset} {name}": np.array([one[name] for one in found]) for name in found[0]}
    return data


def _columns(dataset: str) -> Float[np.ndarray, "n d"]:
    """The rows of a data set that a package brings."""
    try:
        from sklearn import datasets
    except ImportError:
        missing_extra("scikit-learn", "data")
    values = getattr(datasets, f"load_{dataset}")().data
    if dataset == "digits":
        return values.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)
    return values[:, :10] if dataset == "breast_cancer" else values


class _Table(NamedTuple):
    """Rows with holes and complete, in standard deviations of what is observed of each column."""

    truth: Float[np.ndarray, "n d"]
    X: Float[np.ndarray, "n d"]

    @staticmethod
    def of(key: PRNGKeyArray, whole: np.ndarray, rows: int, share: float, seed: list[int]) -> "_Table":
        chosen = whole[np.random.default_rng(seed).permutation(len(whole))[:rows]]
        X = np.asarray(masked(chosen, CellsAtRandom(share).observed(jax.random.split(key, 3)[0], chosen)))
        location, scale = np.nanmean(X, axis=0), np.nanstd(X, axis=0)
        return _Table((chosen - location) / scale, (X - location) / scale)


def _tuned(key: PRNGKeyArray, X: np.ndarray, members: int, ridges: list[float], neighbours: list[int], tolerance: float) -> tuple[float, int]:
    """The ridge of the members and the number of neighbours whose mean squared errors over a tenth of the observed cells, held out, are least."""
    key_mask, key_fit = jax.random.split(key)
    held = ~np.isnan(X) & ~np.asarray(CellsAtRandom(0.1).observed(key_mask, np.zeros_like(X)))
    train = np.where(held, np.nan, X)

    def error(imputed: np.ndarray) -> float:
        return float(np.mean((imputed - X)[held] ** 2))

    def pooled(ridge: float) -> float:
        return error(np.mean([conditional_mean(law, train) for law in _members(key_fit, train, members, ridge, tolerance)], axis=0))

    return min(ridges, key=pooled), min(neighbours, key=lambda k: error(_by_neighbours(train, k)))


def _members(key: PRNGKeyArray, X: np.ndarray, members: int, ridge: float, tolerance: float) -> list[et.Gaussian]:
    return [et.Gaussian(fit.means[0], fit.covs[0]) for fit in et.bootstrap_mixtures(key, X, 1, members, ridge=ridge, starts=1, tolerance=tolerance)]


def _replication(
    key: PRNGKeyArray, table: _Table, members: int, sizes: list[int], ridge: float, tolerance: float, peers: list[str], steps: dict[str, int]
) -> dict[str, np.ndarray]:
    """Squared errors and energy distances of one table and mask."""
    truth, X = table
    observed, (_, key_fit, key_draw) = ~np.isnan(X), jax.random.split(key, 3)
    laws = _members(key_fit, X, members, ridge, tolerance)
    means = np.stack([conditional_mean(law, X) for law in laws])
    others = {name: _imputed(name, X, steps) for name in peers}
    squares = _squares(truth, observed, X, laws, means, sizes) | {f"{name} square": np.square(other - truth)[~observed].mean() for name, other in others.items()}
    draws = np.stack([conditional_draws(own, law, X, 1)[0] for own, law in zip(jax.random.split(key_draw, members), laws, strict=True)])
    guesses = {"guess": means.mean(axis=0)} | others
    return {**squares, **_energies(truth, draws, sizes), **{f"{name} energy": np.array(energy_distance(guess, truth)) for name, guess in guesses.items()}}


def _squares(truth: np.ndarray, observed: np.ndarray, X: np.ndarray, laws: list[et.Gaussian], means: np.ndarray, sizes: list[int]) -> dict[str, np.ndarray]:
    """Mean squared errors over the missing entries of the first M members by each rule, and by the law of all subsets."""
    logs = np.stack([observed_log_prob(law, X) for law in laws])
    law = law_of_squares((means - truth[None])[:, ~observed])

    def error(imputed) -> float:
        return float(np.mean((np.asarray(imputed) - truth)[~observed] ** 2))

    weights = [np.exp(logs[:M] - np.logaddexp.reduce(logs[:M])) for M in sizes]
    return {
        "mixed_conditionals square": np.array([error(means[:M].mean(axis=0)) for M in sizes]),
        "linear square": np.array([error(np.einsum("kn,knd->nd", own, means[:M])) for own, M in zip(weights, sizes, strict=True)]),
        "log square": np.array([error(pooled_mean(laws[:M], X, "log") if M > 1 else means[0]) for M in sizes]),
        "law square": np.asarray(law.at(np.array(sizes, float))),
    }


def _energies(truth: np.ndarray, draws: np.ndarray, sizes: list[int]) -> dict[str, np.ndarray]:
    """Energy distances between the complete rows and the copies of the first M members together, and by the law of all subsets."""
    K, n, d = draws.shape
    flat = draws.reshape(-1, d)
    between, to_truth, own = cdist(flat, flat).reshape(K, n, K, n).mean(axis=(1, 3)), cdist(flat, truth).reshape(K, n, n).mean(axis=(1, 2)), cdist(truth, truth).mean()
    law = law_of_scores(to_truth, between)
    return {
        "copies energy": np.array([2 * to_truth[:M].mean() - between[:M, :M].mean() - own for M in sizes]),
        "law energy": 2 * np.asarray(law.at(np.array(sizes, float))) - own,
    }


def _imputed(name: str, X: np.ndarray, steps: dict[str, int]) -> np.ndarray:
    """The table completed by another package's imputer."""
    if name == "forests":
        return _by_forests(X, steps["rounds"], steps["trees"])
    if name == "neighbours":
        return _by_neighbours(X, steps["nearest"])
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that so many rounds have not converged
        return np.asarray(IterativeImputer(max_iter=steps["rounds"], tol=0.05, random_state=0).fit_transform(X))


def _by_neighbours(X: np.ndarray, nearest: int) -> np.ndarray:
    from sklearn.impute import KNNImputer

    return np.asarray(KNNImputer(n_neighbors=nearest).fit_transform(X))


def _by_forests(X: np.ndarray, rounds: int, trees: int) -> np.ndarray:
    """A draw by chained boosted trees with mean matching."""
    try:
        import miceforest
        import pandas
    except ImportError:
        missing_extra("miceforest", "data")
    table = pandas.DataFrame(X, columns=[f"column {j}" for j in range(X.shape[1])])
    # mean matching by predictions asks lightgbm for a private method by position, which its newer versions refuse
    kernel = miceforest.ImputationKernel(table, num_datasets=1, mean_match_strategy="shap", random_state=0)
    kernel.mice(rounds, num_iterations=trees, num_threads=1, verbose=False)
    return np.asarray(kernel.complete_data(0))


def _draw(data: Data) -> Picture:
    datasets = [str(name) for name in data["datasets"]]
    picture, panels = new_figure(WIDTHS["icml_page"], 4.2, rows=2, columns=len(datasets))
    for k, dataset in enumerate(datasets):
        _draw_squares(panels[k], data, dataset, "abc"[k])
        _draw_energies(panels[k + len(datasets)], data, dataset, "def"[k])
    panels[0].set_ylabel("root mean squared error")
    panels[len(datasets)].set_ylabel("energy distance")
    handles, labels = panels[0].get_legend_handles_labels()
    handle, label = panels[len(datasets)].get_legend_handles_labels()
    picture.legend([*handles, handle[-1]], [*labels, label[-1]], loc="outside lower center", ncols=4)
    return picture


def _draw_squares(ax: Axes, data: Data, dataset: str, name: str) -> None:
    letter(ax, name, TITLES[dataset])
    sizes = data["sizes"]
    curve(ax, sizes, np.sqrt(data[f"{dataset} law square"].mean(axis=0)), LOOKS["ensemble_law"])
    for rule in RULES:
        ax.plot(sizes, np.sqrt(data[f"{dataset} {rule} square"].mean(axis=0)), **_marks(LOOKS[rule]))
    for peer in map(str, data["peers"]):
        curve(ax, sizes[[0, -1]], np.full(2, np.sqrt(data[f"{dataset} {peer} square"].mean())), LOOKS[PEERS[peer]])
    _scale(ax, sizes)


def _draw_energies(ax: Axes, data: Data, dataset: str, name: str) -> None:
    letter(ax, name, TITLES[dataset])
    sizes = data["sizes"]
    curve(ax, sizes, data[f"{dataset} law energy"].mean(axis=0), LOOKS["ensemble_law"])
    ax.plot(sizes, data[f"{dataset} copies energy"].mean(axis=0), **_marks(LOOKS["mixed_conditionals"]))
    for peer in map(str, data["peers"]):
        curve(ax, sizes[[0, -1]], np.full(2, data[f"{dataset} {peer} energy"].mean()), LOOKS[PEERS[peer]])
    curve(ax, sizes[[0, -1]], np.full(2, data[f"{dataset} guess energy"].mean()), LOOKS["filled_in"]._replace(label="mean of all members, no draw"))
    ax.set(ylim=(0, None))
    _scale(ax, sizes)


def _marks(look: Look) -> dict:
    return {"color": look.color, "marker": look.marker, "linestyle": "none", "markerfacecolor": "white", "label": look.label}


def _scale(ax: Axes, sizes: np.ndarray) -> None:
    ax.set(xscale="log", xlabel="members $M$")
    ax.set_xticks(sizes, labels=[str(size) for size in sizes])
    ax.minorticks_off()


# What the caption prints: root mean squared errors of one member, of all by each rule, and of others; energy distances of one copy, of one of each member, and of the rest.
PRINTED: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "full": {
        "breast_cancer": (("0.570", "0.532", "0.534", "0.535", "0.603", "0.704", "0.747"), ("0.0191", "0.0109", "0.0171", "0.0184", "0.0329", "0.0202")),
        "wine": (("0.829", "0.796", "0.797", "0.796", "0.918", "0.810", "0.929"), ("0.0396", "0.0234", "0.0426", "0.0371", "0.0469", "0.0341")),
        "digits": (("0.960", "0.936", "0.933", "0.937", "1.074", "0.978", "1.087"), ("0.0571", "0.0334", "0.0716", "0.0502", "0.0837", "0.0483")),
    },
    "quick": {"wine": (("0.873", "0.835", "0.840", "0.837", "0.862"), ("0.133", "0.085", "0.119", "0.133"))},
}
FEWEST = 20  # replications of a full run
APPROXIMATE = 1e-3  # relative: EM stops at a tolerance

CERTAIN = 1e-4  # two-sided probability of a deviation that is counted

TEXT = r"""Errors of ensembles of imputers against the number $M$ of members, {share} of the cells missing completely at random: means over {replications} replications, each
with {rows} rows of a data set and a mask of its own, in standard deviations of the observed values of each column. Members are Gaussians fitted by EM to bootstrap
resamples. Once a data set, on a tenth of the observed cells of its first table, their ridge was chosen from {ridges}, and the number of nearest neighbours from
{neighbours}. Chained regressions ({rounds} rounds, not run to convergence) and chained boosted trees ({rounds} rounds of {trees} trees, one draw) were not tuned: their
lines rank no method. (Upper row) Root of the mean squared error over the missing cells; (lower row) energy distance between the complete rows and the copies completed by
one draw of each member. Grey lines: $A+B/M$ with $A$ and $B$ from all pairs of the {members} members; hollow marks: the first $M$ of them.

{panels}

With all members the mixture's losses are those of the law, as they must be, for there is one subset. The first $M$ are one subset of many: of {means} mean deviations from
the law, paired by replication, 0 have a probability below 1e-4 under Student's law.
Averaging costs the spread: the table completed by the mean of all members is farther from the complete rows than the copies of all members together, by energy distance,
with 0 exceptions."""

PANEL = """{title}: one member errs by {squares[0]}, the mixture of the conditionals of all by {squares[1]}, the linear pool by {squares[2]} and the log pool by
{squares[3]}{others}. Energy distance: {energies[0]} of one copy, {energies[1]} of one copy of each member, {energies[2]} of the mean of all members{other_energies}."""
NAMES = {"iterative": "chained regressions", "neighbours": "nearest neighbours", "forests": "a draw of chained boosted trees"}


def _caption(data: Data) -> Caption:
    mode = "full" if data["replications"] >= FEWEST else "quick"
    datasets, peers = [str(name) for name in data["datasets"]], [str(name) for name in data["peers"]]
    panels = [_panel(f"({'abc'[k]}, {'def'[k]}) {TITLES[name]}", *PRINTED[mode][name], peers) for k, name in enumerate(datasets)]
    numbers = [number for name in datasets for number in _measured(data, name, peers, *PRINTED[mode][name])]
    counts = {"means": 2 * (data["sizes"].size - 1) * len(datasets)}
    settings = {name: FIGURE.settings(mode == "quick")[name] for name in ("share", "rows", "ridges", "neighbours", "rounds", "trees", "members", "replications")}
    settings |= {name: ", ".join(map(str, settings[name])) for name in ("ridges", "neighbours")}
    return Caption(TEXT.format(panels="\n\n".join(panels), **settings, **counts), (*numbers, *_violations(data, datasets)))


def _panel(title: str, squares: tuple[str, ...], energies: tuple[str, ...], peers: list[str]) -> str:
    others = ", ".join(["", *(f"{NAMES[peer]} by {text}" for peer, text in zip(peers, squares[4:], strict=True))])
    more = ", ".join(["", *(f"{text} of {NAMES[peer]}" for peer, text in zip(peers, energies[3:], strict=True))])
    return PANEL.format(title=title, squares=squares, energies=energies, others=others, other_energies=more)


def _measured(data: Data, name: str, peers: list[str], squares: tuple[str, ...], energies: tuple[str, ...]) -> list[Number]:
    """The printed losses of one data set."""
    roots = [data[f"{name} law square"][:, 0], *(data[f"{name} {rule} square"][:, -1] for rule in RULES), *(data[f"{name} {peer} square"] for peer in peers)]
    distances = [data[f"{name} law energy"][:, 0], data[f"{name} copies energy"][:, -1], *(data[f"{name} {who} energy"] for who in ("guess", *peers))]
    rows = [*((f"{name}, root {k}", values.mean() ** 0.5, text) for k, (values, text) in enumerate(zip(roots, squares, strict=True)))]
    rows += [(f"{name}, energy {k}", values.mean(), text) for k, (values, text) in enumerate(zip(distances, energies, strict=True))]
    return [Number(title, got, text, relative_error=APPROXIMATE) for title, got, text in rows]


def _violations(data: Data, datasets: list[str]) -> list[Number]:
    """How often what is exact, or must be so on average, is not."""
    pairs = [
        (data[f"{name} {nested}"], data[f"{name} law {loss}"]) for name in datasets for nested, loss in (("mixed_conditionals square", "square"), ("copies energy", "energy"))
    ]
    odd = sum(np.count_nonzero(_probability((nested - law)[:, :-1]) < CERTAIN) for nested, law in pairs)
    nearer = sum(np.count_nonzero(data[f"{name} guess energy"] <= data[f"{name} copies energy"][:, -1]) for name in datasets)
    return [
        Number("mean deviations", float(odd), "0"),
        Number("means nearer", float(nearer), "0"),
    ]


def _probability(deviations: np.ndarray) -> np.ndarray:
    """Two-sided, under Student's law, of each column's mean."""
    n = len(deviations)
    return 2 * stats.t.sf(np.abs(deviations.mean(axis=0)) / (deviations.std(axis=0, ddof=1) / n**0.5), n - 1)


FIGURE = Figure(
    name="imputation_ensembles",
    title="Do ensembles of imputers help on real data?",
    inputs={
        "seed": 4,
        "datasets": ["breast_cancer", "wine", "digits"],
        "rows": 120,
        "share": 0.3,
        "replications": 20,
        "members": 8,
        "sizes": [1, 2, 4, 8],
        "ridges": [0.001, 0.01, 0.05, 0.2],
        "neighbours": [3, 5, 10, 20, 40],
        "tolerance": 1e-5,
        "peers": ["iterative", "neighbours", "forests"],
        "rounds": 5,
        "trees": 50,
    },
    quick_inputs={
        "datasets": ["wine"],
        "rows": 40,
        "replications": 4,
        "members": 4,
        "sizes": [1, 2, 4],
        "ridges": [0.2],
        "neighbours": [5, 10],
        "peers": ["neighbours"],
    },
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Six panels, three data sets. Upper row: root mean squared error against the number of members; the marks of the mixture of conditionals fall along the grey curve "
    "A + B / M and flatten, with the linear and the log pool near them. Lower row: energy distance; copies of several members come nearer to the "
    "complete rows along the law, while the table completed by the mean of all members stays farther away.",
    source="scikit-learn's breast cancer, wine and digits data, its IterativeImputer and KNNImputer; miceforest; law derived here, in the setting of P.-A. Mattei and "
    "D. Garreau, "
    '"Are ensembles getting better all the time?", 2025',
    claims=("imputation-ensemble-law",),
)
