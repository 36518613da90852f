r"""Averaged scores: which sampler comes closer to the target, the reverse SDE or the probability flow?

Members and target are Gaussian and both sampled laws are exact (infinite time, `mean_score_law`), so that a row holds no Monte-Carlo error: for one ensemble of K members,
KL(p || .) and W2(p, .) of the SDE's and of the flow's law. On the line the flow's variance is the geometric mean of the members' and the SDE's is smaller (claim
`churn-monotone`), so that the flow wins where members are too narrow on average, as maximum likelihood fits are, and the SDE where they are too wide; how much,
and when, is what this study counts.

Cells, `kind`:
- `bootstrap`: a Gaussian target in d dimensions with eigenvalues log-uniform with quotient `spread`, `rows` draws of it, and each member the maximum likelihood Gaussian of a
  resample of them: exchangeable members, which do not commute;
- `common`: members with means and log-variances normal around the target's with standard deviation `spread`, all along the axes;
- `own`: the same, each member's covariance in a random frame of its own.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

import ensembletheory as et
from simulations.study import Cell, Row, Study

__all__ = ["CHURN", "REPLICATES", "distances", "ensemble", "simulate", "study"]

REPLICATES = 32
CHURN = {"sde": 1.0, "ode": 0.0}

Ensemble = tuple[Float[Array, "K d"], Float[Array, "K d d"], Float[Array, " d"], Float[Array, "d d"]]  # members' moments, target's


def simulate(cell: Cell, key: PRNGKeyArray) -> list[Row]:
    """One row for each replicate."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    replicates = [ensemble(rng, cell["kind"], cell["dim"], cell["members"], float(cell["spread"]), cell["rows"]) for _ in range(REPLICATES)]
    stacked = tuple(jnp.asarray(np.stack(part)) for part in zip(*replicates, strict=True))
    found = {name: np.asarray(values) for name, values in distances(stacked, cell["kind"] == "common").items()}
    return [{"replicate": i} | {name: values[i] for name, values in found.items()} for i in range(REPLICATES)]


def ensemble(rng: np.random.Generator, kind: str, dim: int, members: int, spread: float, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means and covariances of the members, mean and covariance of the target."""
    if kind == "bootstrap":
        variances = spread ** rng.uniform(-0.5, 0.5, dim)
        data = rng.normal(size=(rows, dim)) * np.sqrt(variances)
        resamples = [data[rng.integers(rows, size=rows)] for _ in range(members)]
        return np.stack([x.mean(axis=0) for x in resamples]), np.stack([np.atleast_2d(np.cov(x.T, bias=True)) for x in resamples]), np.zeros(dim), np.diag(variances)
    means, spectra = spread * rng.normal(size=(members, dim)), np.exp(spread * rng.normal(size=(members, dim)))
    frames = np.linalg.qr(rng.normal(size=(members, dim, dim)))[0] if kind == "own" else np.broadcast_to(np.eye(dim), (members, dim, dim))
    return means, (frames * spectra[:, None, :]) @ frames.swapaxes(1, 2), np.zeros(dim), np.eye(dim)


@partial(jax.jit, static_argnames="common")
def distances(ensembles: Ensemble, common: bool) -> dict[str, Float[Array, " n"]]:
    """KL and W2 from the target to the law of each sampler, and the members' average KL, for a stack of ensembles."""
    return jax.lax.map(partial(_distances, common=common), ensembles)


def _distances(ensemble: Ensemble, common: bool) -> dict[str, Float[Array, ""]]:
    means, covs, mean, cov = ensemble
    members = [et.Gaussian(m, jnp.diagonal(S) if common else S) for m, S in zip(means, covs, strict=True)]
    target, process = et.Gaussian(mean, cov), et.processes.VariancePreserving()

    def of_sampler(churn: Float[Array, ""]):
        law = et.mean_score_law(members, process, churn=churn, horizon=jnp.inf)
        return et.kl(target, law).value, et.w2(target, law).value

    kls, w2s = jax.vmap(of_sampler)(jnp.asarray(list(CHURN.values())))
    by_sampler = {f"{name}_{sampler}": values[i] for name, values in (("kl", kls), ("w2", w2s)) for i, sampler in enumerate(CHURN)}
    return by_sampler | {"kl_average": jnp.mean(jnp.stack([et.kl(target, member).value for member in members]))}


def _grid(kind, dims, members, spreads, rows=(0,)) -> list[Cell]:
    return [{"kind": kind, "dim": d, "members": K, "spread": s, "rows": r} for d in dims for K in members for s in spreads for r in rows]


study = Study(
    "sde-or-ode",
    cells=_grid("bootstrap", (1, 2, 4), (2, 4, 8, 16), (1, 10), (16, 64))
    + _grid("common", (1, 2, 4), (2, 4, 8, 16), (0.1, 0.5, 1.5))
    + _grid("own", (2, 4), (2, 4, 8), (0.1, 0.5, 1.5)),
    simulate=simulate,
    quick=_grid("bootstrap", (2,), (4,), (10,), (16,)) + _grid("common", (2,), (4,), (0.5, 1.5)),
    uses=("ensembletheory.pooling.mean_score", "ensembletheory.pooling.mean_score_matrix"),
)
