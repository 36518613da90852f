r"""How hard was a counter-example looked for? 10^8 evaluations for each open claim on averaged scores, by dimension and number of members.

A cell is one streaming search (`ensembletheory.claims.falsify`) of one claim of `claims.averaged_score_open` on one box: `members` Gaussians in `dim` dimensions with
variances in [1/20, 20], means within 3 of the point where densities are compared, churn free in [0, 2] (None) or given; `part` numbers the seeds of large budgets. A row
holds the evaluations, their speed, the least margin (relative: 1 stands for nearly equal members), where it is, and the part of the local searches that found it again.

    python -m simulations run searches        runs what is missing (about an hour on two cores)
    python -m simulations.records             writes what the store holds into the package, one file a claim
"""

import json

from jaxtyping import PRNGKeyArray

from ensembletheory.claims import averaged_score_open as claims
from ensembletheory.claims import falsify
from ensembletheory.claims.claim import Claim
from simulations.study import Cell, Row, Study

__all__ = ["BUDGETS", "simulate", "study"]

LARGEST = 5_000_000  # evaluations of one cell
MILLION = 1_000_000

# Evaluations by claim, churn, dimension and number of members, most where they are cheap.
_ON_THE_LINE = {3: 25, 4: 12, 5: 6, 6: 4, 8: 2.5, 12: 1, 16: 0.5}
BUDGETS: list[tuple[str, float | None, int, int, int]] = [
    *(("mean-score-monotone-in-k", churn, 1, n, int(millions * MILLION)) for churn in (1.0, 0.0) for n, millions in _ON_THE_LINE.items()),
    *(("mean-score-monotone-in-k", None, 1, n, MILLION // 2) for n in _ON_THE_LINE),
    *(("mean-score-monotone-centred", None, 1, n, int(2 * millions * MILLION)) for n, millions in _ON_THE_LINE.items()),
    *(("churn-monotone", None, 1, n, int(millions * MILLION)) for n, millions in ((2, 60), (3, 25), (4, 10), (8, 5), (16, 1))),
    *(
        ("churn-monotone-log-det", None, d, n, evaluations)
        for d, n, evaluations in ((2, 2, 400_000), (2, 4, 100_000), (3, 2, 100_000), (4, 2, 40_000), (8, 2, 4_000), (2, 16, 10_000))
    ),
]


def simulate(cell: Cell, key: PRNGKeyArray) -> list[Row]:
    """The one row of a search; its seed is the part's number."""
    found = falsify(_claim(cell["claim"], cell["churn"], cell["dim"], cell["members"]), cell["budget"], cell["part"])
    kept = ("evaluations", "seconds", "searches", "rehits", "least", "found", "method", "domain")
    return [{name: getattr(found, name) for name in kept} | {"margin": found.margin, "error": found.error, "instance": json.dumps(found.instance)}]


def _claim(id: str, churn: float | None, dim: int, members: int) -> Claim:
    if id == "mean-score-monotone-in-k":
        return claims.mean_score_monotone(members, churn)
    if id == "churn-monotone-log-det":
        return claims.log_det_falls(dim, members)
    return {"mean-score-monotone-centred": claims.monotone_centred, "churn-monotone": claims.variance_falls}[id](members)


def _cells() -> list[Cell]:
    return [
        {"claim": id, "churn": churn, "dim": dim, "members": members, "budget": min(budget, LARGEST), "part": part}
        for id, churn, dim, members, budget in BUDGETS
        for part in range(-(-budget // LARGEST))
    ]


study = Study("searches", cells=_cells(), simulate=simulate, quick=[_cells()[-1]], uses=("ensembletheory.claims.sub_ensembles",))
