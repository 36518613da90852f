"""Whether a claim still stands, by kind.

- a *theorem* fails if its margin is negative beyond its error at any instance tried, or its equality family is not tight;
- a *conjecture* fails in the same way, and is otherwise reported as open, never as true;
- a *refuted* claim stays refuted: its stored counter-example must lie in the domain and still violate the claim beyond the error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensembletheory import errors
from ensembletheory.claims import stored
from ensembletheory.claims.claim import Claim, uncertainty
from ensembletheory.claims.evaluation import Evaluator, stacked
from ensembletheory.claims.registry import resolve
from ensembletheory.claims.searched import effort
from ensembletheory.estimate import Estimate
from ensembletheory.precision import require_x64
from ensembletheory.progress import progress

__all__ = ["CheckResult", "check"]

CHUNK = 1024  # instances between two signs of progress


@dataclass(frozen=True)
class CheckResult:
    """The verdict on one claim: `holds` is what the exit status of the command line follows.

    `margin` and `error` belong to `instance`: the least margin tried, or the stored counter-example's. `tightness` is the largest |margin| on the equality family.
    """

    id: str
    kind: str
    holds: bool
    verdict: str
    margin: float | None
    error: float | None
    instance: dict[str, Any]
    evaluations: int
    tightness: float | None = None


def check(claim: str | Claim, samples: int = 4096, seed: int = 0) -> CheckResult:
    """Check a claim on `samples` random instances and its equality family, or a refuted one on its stored counter-example.

    Raises:
        ValueError: for an unknown id, or fewer than one sample.
        ClaimError: if the margin raises, is NaN, or is not a number.
        RuntimeError: in 32-bit arithmetic.
    """
    claim = resolve(claim)
    require_x64(f"the check of claim `{claim.id}`")
    if samples < 1:
        errors.refuse("samples", str(samples), "at least 1", "The default is 4096.")
    return _still_refuted(claim) if claim.kind == "refuted" else _sampled(claim, samples, seed)


def _sampled(claim: Claim, samples: int, seed: int) -> CheckResult:
    evaluator = Evaluator(claim)
    instance, value, error = _least(evaluator, samples, seed)
    violated = bool(claim.violated(value, error))
    tightness, loose = _tightness(evaluator)
    return CheckResult(
        id=claim.id,
        kind=claim.kind,
        holds=not violated and not loose,
        verdict="; ".join(filter(None, (_verdict(claim.kind, violated, loose, f"{samples:,} random instances, least margin {value:.3g}"), effort(claim.id)))),
        margin=value,
        error=error,
        instance={name: part.tolist() for name, part in instance.items()},
        evaluations=evaluator.evaluations,
        tightness=tightness,
    )


def _least(evaluator: Evaluator, samples: int, seed: int) -> tuple[Mapping[str, np.ndarray], float, float]:
    """The instance with the least margin plus uncertainty among random ones, and these two numbers."""
    u = evaluator.draws(samples, seed)
    blocks = [u[i : i + CHUNK] for i in range(0, samples, CHUNK)]
    least = [_least_of(evaluator, block) for block in progress(blocks, f"check {evaluator.claim.id}", len(blocks))]
    return min(least, key=lambda found: found[1] + found[2])


def _least_of(evaluator: Evaluator, u: np.ndarray) -> tuple[Mapping[str, np.ndarray], float, float]:
    instances = evaluator.instances(u)
    values, errors = evaluator(instances)
    best = int(np.argmin(values + errors))
    return {name: part[best, ...] for name, part in instances.items()}, float(values[best]), float(errors[best])


def _tightness(evaluator: Evaluator) -> tuple[float | None, bool]:
    """The largest |margin| on the equality family (None without one), and whether it is beyond error and rounding somewhere."""
    claim = evaluator.claim
    if claim.equality is None:
        return None, False
    family = [claim.domain.check(instance) for instance in claim.equality()]
    values, uncertainties = evaluator(stacked(family))
    return float(np.max(abs(values))), bool(np.any(abs(values) > uncertainties + claim.rounding))


def _verdict(kind: str, violated: bool, loose: bool, tried: str) -> str:
    if violated:
        return f"violated ({tried})"
    if loose:
        return f"not tight where equality is claimed ({tried})"
    return f"holds: no violation among {tried}" if kind == "theorem" else f"open: no violation among {tried}"


def _still_refuted(claim: Claim) -> CheckResult:
    try:
        instance = claim.domain.check(stored.read_instance(stored.counterexample_path(claim)))
    except ValueError as error:
        return _refutation(claim, False, f"no valid stored counter-example: {error}", None, {})
    estimate = claim.evaluate(instance)
    stands = bool(claim.violated(estimate.value, uncertainty(estimate)))
    verdict = f"refuted: margin {estimate} at the stored counter-example" if stands else f"the stored counter-example no longer refutes it: margin {estimate}"
    return _refutation(claim, stands, verdict, estimate, {name: np.asarray(part).tolist() for name, part in instance.items()})


def _refutation(claim: Claim, stands: bool, verdict: str, estimate: Estimate | None, instance: dict[str, Any]) -> CheckResult:
    return CheckResult(
        id=claim.id,
        kind=claim.kind,
        holds=stands,
        verdict=verdict,
        margin=None if estimate is None else float(estimate.value),
        error=None if estimate is None else float(uncertainty(estimate)),
        instance=instance,
        evaluations=0 if estimate is None else 1,
    )
