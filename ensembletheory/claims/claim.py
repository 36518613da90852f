r"""A claim: a statement, the domain of its instances, and a margin that is >= 0 wherever the statement holds.

A margin is known up to two things: the error of its `Estimate` (a standard error counts `STANDARD_ERRORS` times, so that the least of 20,000 Monte-Carlo margins
is mistaken with probability below 1e-4) and rounding, since margins are differences of divergences. It is *violated* where margin + error < -rounding.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory import errors
from ensembletheory.claims.domain import Domain
from ensembletheory.estimate import Estimate, as_estimate
from ensembletheory.precision import require_x64

__all__ = ["Claim", "ClaimError", "Mutant", "claim"]

KINDS = ("theorem", "conjecture", "refuted")
Margin = Callable[..., Any]

STANDARD_ERRORS = 6.0
ROUNDING = 1e-9  # nats: margins here are differences of numbers below 1e5, each right to about 1e-15 of itself


class ClaimError(ValueError):
    """A margin raised, or returned something that is not a number: the claim, not the statement, is wrong."""


@dataclass(frozen=True)
class Mutant:
    """A claim with one hypothesis dropped or one constant perturbed: false, and a search that cannot refute it is no search."""

    dropped: str
    margin: Margin | None = None
    domain: Domain | None = None


@dataclass(frozen=True, eq=False)
class Claim:
    """A statement about all instances of a domain; calling it calls the margin as it was written."""

    id: str
    statement: str
    source: str
    domain: Domain
    function: Margin
    kind: str = "conjecture"
    references: tuple[str, ...] = ()
    equality: Callable[[], Iterable[Mapping[str, Any]]] | None = None
    mutants: Mapping[str, Mutant] = field(default_factory=dict)
    proof: str = ""
    rounding: float = ROUNDING

    def __post_init__(self):
        if not re.fullmatch(r"[a-z0-9]+([-.][a-z0-9]+)*", self.id):
            errors.refuse("id", repr(self.id), "lower-case words joined by hyphens", "The id names files: write something like 'linear-pool-kl'.")
        if self.kind not in KINDS:
            errors.refuse("kind", repr(self.kind), "'theorem', 'conjecture' or 'refuted'", "A statement without a proof is a conjecture.")
        _check_signature(self.id, self.function, self.domain)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the margin returns, unchecked."""
        return self.function(*args, **kwargs)

    def margin(self, **instance: Any) -> Estimate:
        """The margin at one instance of the domain: >= 0 where the claim holds.

        Raises:
            ValueError: if the instance is not in the domain.
            ClaimError: if the margin raises there, returns NaN, or returns anything but one real number (or an `Estimate` of one).
            RuntimeError: in 32-bit arithmetic.
        """
        require_x64(f"the margin of claim `{self.id}`")
        return self.evaluate(self.domain.check(instance))

    def evaluate(self, instance: Mapping[str, Float[Array, "..."]]) -> Estimate:
        """The margin at an instance that is known to lie in the domain.

        Raises:
            ClaimError: as `margin`.
        """
        try:
            value = self.function(**instance)
        except Exception as error:
            raise self.mistake(f"raised {type(error).__name__}: {error}", instance) from error
        estimate = self._as_margin(value, instance)
        if np.isnan(estimate.value) or np.isnan(estimate.error):
            raise self.mistake("returned NaN", instance)
        return estimate

    def traced(self, instance: Mapping[str, Float[Array, "..."]]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Value and uncertainty (see the module) of the margin, for use under jit, vmap and grad, where nothing can be looked at."""
        estimate = self._as_margin(self.function(**instance), instance)
        return estimate.value, uncertainty(estimate)

    def violated(self, value: Any, error: Any) -> Any:
        """Whether a margin with this value and uncertainty refutes the claim; elementwise."""
        return value + error < -self.rounding

    def mutated(self, name: str) -> "Claim":
        """The claim with one of its hypotheses dropped.

        Raises:
            ValueError: if there is no such mutant.
        """
        if name not in self.mutants:
            errors.refuse("name", repr(name), f"one of {sorted(self.mutants)}", f"These are the mutants of claim `{self.id}`.")
        mutant = self.mutants[name]
        return replace(
            self,
            id=f"{self.id}.{name}",
            statement=f"{self.statement} (dropped: {mutant.dropped})",
            function=mutant.margin or self.function,
            domain=mutant.domain or self.domain,
            kind="conjecture",
            equality=None,
            mutants={},
        )

    def mistake(self, what: str, instance: Mapping[str, Any]) -> ClaimError:
        """The error that says what the margin did, and where."""
        where = "a traced instance"
        if errors.is_concrete(*instance.values()):
            where = ", ".join(f"{name}={np.asarray(value).tolist()}" for name, value in instance.items())
        return ClaimError(f"claim `{self.id}`: its margin {what} at {where}; expected one real number that is >= 0 where the claim holds. Mend the margin or its domain.")

    def _as_margin(self, value: Any, instance: Mapping[str, Any]) -> Estimate:
        if not isinstance(value, Estimate | jax.Array | np.ndarray | np.number | float | int) or isinstance(value, bool):
            raise self.mistake(f"returned {type(value).__name__}", instance)
        number = value.value if isinstance(value, Estimate) else jnp.asarray(value)
        if number.shape != ():
            raise self.mistake(f"returned shape {number.shape}", instance)
        if not jnp.issubdtype(number.dtype, jnp.floating) and not jnp.issubdtype(number.dtype, jnp.integer):
            raise self.mistake(f"returned dtype {number.dtype}", instance)
        return as_estimate(value)


def claim(
    *,
    id: str,
    statement: str,
    source: str,
    domain: Domain,
    kind: str = "conjecture",
    references: Iterable[str] = (),
    equality: Callable[[], Iterable[Mapping[str, Any]]] | None = None,
    mutants: Mapping[str, Mutant] | None = None,
    proof: str = "",
    rounding: float = ROUNDING,
) -> Callable[[Margin], Claim]:
    """Make a claim of the margin below: a function of the parts of `domain` that is >= 0 (a number or an `Estimate`) wherever the statement holds.

    Args:
        id: lower-case words joined by hyphens.
        statement: LaTeX, without dollar signs.
        source: where the statement comes from; "derived here" if nowhere else.
        domain: its instances.
        kind: "theorem" (proved: a violation is a bug), "conjecture" (open: never reported as true) or "refuted" (a stored counter-example must stay one).
        references: keys of `references.bib`.
        equality: gives instances at which the margin is exactly 0.
        mutants: false versions by name, with one hypothesis dropped or one constant perturbed.
        proof: why it is true, or why it is false, in a few words.
        rounding: margins within it of zero are taken for rounding.

    Raises:
        ValueError: if the id cannot name a file, or the margin's arguments are not the parts of the domain.
    """
    return lambda margin: Claim(id, statement, source, domain, margin, kind, tuple(references), equality, mutants or {}, proof, rounding)


def uncertainty(estimate: Estimate) -> Float[Array, ""]:
    """How far the margin may be off: its error, or `STANDARD_ERRORS` times its standard error."""
    return estimate.error * (STANDARD_ERRORS if estimate.kind == "monte_carlo" else 1.0)


def _check_signature(id: str, function: Margin, domain: Domain) -> None:
    try:
        inspect.signature(function).bind(**dict(domain.parts))
    except TypeError as error:
        errors.refuse("margin", f"arguments that do not fit ({error})", f"the parts of the domain: {', '.join(domain.parts)}", f"Rename one or the other in claim `{id}`.")
