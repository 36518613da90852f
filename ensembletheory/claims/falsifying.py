r"""Search for a counter-example, shrink it to small fractions, verify it again by itself, and say honestly what was done when there is none.

Which search: on a relaxed triangle inequality for the KL divergence, random draws and Hypothesis report a false constant as never violated in 18 dimensions, on
every seed, and gradient multi-start refutes it at once (measured; see the tests).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ensembletheory import errors
from ensembletheory.claims.claim import Claim, uncertainty
from ensembletheory.claims.evaluation import Evaluator
from ensembletheory.claims.rationals import exact, floats
from ensembletheory.claims.registry import resolve
from ensembletheory.claims.search import Checkpoint, Search, search
from ensembletheory.claims.shrinking import shrink
from ensembletheory.claims.stored import as_json, as_text
from ensembletheory.files import write_whole
from ensembletheory.precision import require_x64

__all__ = ["Falsification", "falsify"]

LEAST_BUDGET = 100
SAME = 1e-4  # relative distance within which two searches found the same least margin


@dataclass(frozen=True)
class Falsification:
    """What a search for a counter-example found, and how hard it looked.

    `margin` and `error` are those of the counter-example (its `instance` in fractions), else of the least margin seen (its `instance` in numbers).
    `rehits` is the part of the local searches that ended at the least margin: near 1 the search is saturated, near 0 it is not.
    `seconds` is the time that the search took, compilation included.
    `denied`: a compiled evaluation violated the claim, and evaluating the margin by itself did not.
    """

    id: str
    found: bool
    margin: float
    error: float
    instance: dict[str, Any]
    least: float
    rehits: float
    searches: int
    evaluations: int
    seconds: float = field(compare=False)
    budget: int
    seed: int
    method: str
    domain: str
    statement: str
    denied: bool

    @property
    def verdict(self) -> str:
        """One line that says no more than what was done."""
        speed = self.evaluations / max(self.seconds, 1e-9)
        effort = f"{self.evaluations:,} evaluations of a budget of {self.budget:,}, {speed:,.0f} a second, {self.searches} local searches by {self.method}"
        if self.found:
            return f"counter-example: margin {self.margin:.6g} at {_line(self.instance)} ({effort})"
        denied = "; its violation was denied by evaluating the margin by itself" if self.denied else ""
        least = f"least margin {self.least:.6g}{denied}, re-found by {self.rehits:.0%} of the searches"
        return f"none found: {least} ({effort}); this is no proof, and says nothing outside {self.domain}"

    def as_json(self) -> str:
        """The whole record, with the version that found it."""
        return as_json({**asdict(self), "ensembletheory": version("ensembletheory")})

    def save(self, path: Path | str) -> Path:
        """Write the record whole."""
        return write_whole(path, self.as_json())


def falsify(claim: str | Claim, budget: int = 20_000, seed: int = 0, checkpoint: Path | str | None = None) -> Falsification:
    """Search for an instance whose margin is negative beyond its error.

    Args:
        claim: a claim or its id.
        budget: evaluations of the margin (a value with its gradient counts once) that screening and local searches may take; shrinking takes a few hundred more.
        seed: of the random starts.
        checkpoint: a file in which a long search is kept, so that the same call goes on where it was stopped; removed at the end.

    Raises:
        ValueError: for an unknown id or a budget below 100.
        ClaimError: if the margin raises, is NaN, or is not a number.
        RuntimeError: in 32-bit arithmetic.
    """
    claim = resolve(claim)
    require_x64(f"the search for a counter-example to `{claim.id}`")
    if budget < LEAST_BUDGET:
        errors.refuse("budget", str(budget), f"at least {LEAST_BUDGET} evaluations", "Fewer say nothing; the default is 20000.")
    evaluator = Evaluator(claim)
    result = _judged(evaluator, search(evaluator, budget, seed, Checkpoint(Path(checkpoint)) if checkpoint else None), budget, seed)
    if checkpoint:
        Path(checkpoint).unlink(missing_ok=True)
    return result


def _judged(evaluator: Evaluator, done: Search, budget: int, seed: int) -> Falsification:
    claim, instances = evaluator.claim, evaluator.instances(np.stack([done.best_end, done.best_draw]))
    values, uncertainties = evaluator(instances)
    margins = values + uncertainties
    best = int(np.argmin(margins))
    worst = {name: value[best, ...] for name, value in instances.items()}
    violated = bool(claim.violated(values, uncertainties)[best])
    found = _confirmed(evaluator, worst, float(margins[best])) if violated else None
    seen = {name: value.tolist() for name, value in worst.items()}, float(values[best]), float(uncertainties[best])
    instance, margin, error = seen if found is None else found
    return Falsification(
        id=claim.id,
        found=found is not None,
        margin=margin,
        error=error,
        instance=instance,
        least=float(values[best]),
        rehits=float(np.mean(np.isclose(done.margins, margins[best], rtol=SAME, atol=SAME))),
        searches=len(done.margins),
        evaluations=evaluator.evaluations,
        seconds=done.seconds,
        budget=budget,
        seed=seed,
        method=done.method,
        domain=str(claim.domain),
        statement=claim.statement,
        denied=violated and found is None,
    )


def _confirmed(evaluator: Evaluator, worst: Mapping[str, np.ndarray], margin: float) -> tuple[dict[str, Any], float, float] | None:
    """The shrunk counter-example, else the one found, with its margin and uncertainty evaluated again outside every compiled program; None if that denies both."""
    for fractions in (shrink(evaluator, worst, margin), {name: exact(value) for name, value in worst.items()}):
        estimate = evaluator.claim.margin(**{name: floats(value) for name, value in fractions.items()})
        value, error = float(estimate.value), float(uncertainty(estimate))
        if evaluator.claim.violated(value, error):
            return as_text(fractions), value, error
    return None


def _line(instance: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {json.dumps(value).replace(chr(34), '')}" for name, value in instance.items())
