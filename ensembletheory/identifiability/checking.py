r"""Is a law identified up to a group? A check of any law against any group, by axioms, invariance, rays and collisions.

A law theta -> p_theta is *identified up to G* if p_a = p_b exactly when b = g . a for some g in G. What a computer can say of it:

 1. the axioms of the group, of its action and of the quotient metric, measured (`axioms`);
 2. invariance: how far p_{g a} is from p_a;
 3. the converse with a modulus: d_law(p_a, p_b) >= c d_G(a, b)^k on all pairs tried, with k fitted along the rays on which laws part most slowly. k = 1 at regular
    points, k = 2 where the first derivative of the law vanishes across orbits (merged components of a mixture), no k where the group is too small;
 4. collisions: pairs of equal laws on different orbits, searched for from many starts. One of them refutes the converse; none of them proves nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import jax
import numpy as np

from ensembletheory.errors import refuse
from ensembletheory.identifiability.actions import Action, Symmetry, norm
from ensembletheory.identifiability.axioms import action_defects, group_defects, metric_defects
from ensembletheory.identifiability.groups import Group
from ensembletheory.identifiability.observing import Observer
from ensembletheory.identifiability.search import Pair, Rays, collide, distance, rays
from ensembletheory.precision import require_x64
from ensembletheory.progress import progress

__all__ = ["Report", "check"]

ROUNDING = 1e-8  # relative defects below it are rounding
SAME_LAW = 1e-9  # law distances below this part of the law's own size count as equal laws
OTHER_ORBIT = 1e-2  # quotient distances above this part of the unit count as different orbits
_ELEMENTS = 3


@dataclass(frozen=True)
class Report:
    """What `check` measured.

    Attributes:
        group: the group, as text.
        axioms: the largest defect of each axiom, by "group: closure", "action: compatibility", "metric: triangle" ...; rounding if they hold.
        invariance: the largest relative distance of the laws of a and g . a.
        exponent: k of d_law >= c d_G^k; infinite where laws do not part at all.
        constant: the largest c that all pairs tried allow, with this k.
        worst: the pair that allows no larger c.
        suspects: pairs of equal laws on different orbits, the farthest first.
        searches: how many collision searches were made.
        reached: how many of them ended at the law they aimed for.
        distances: quotient and law distances (pairs, 2) of all pairs that the modulus was taken over.
    """

    group: str
    axioms: dict[str, float]
    invariance: float
    exponent: float
    constant: float
    worst: Pair
    suspects: tuple[Pair, ...]
    searches: int
    reached: int
    distances: np.ndarray

    @property
    def broken(self) -> tuple[str, ...]:
        """The axioms that fail by more than rounding."""
        return tuple(name for name, defect in self.axioms.items() if not defect <= ROUNDING)

    @property
    def invariant(self) -> bool:
        """Whether the group leaves the law as it is."""
        return self.invariance <= ROUNDING

    @property
    def holds(self) -> bool:
        """Whether everything that was tried agrees with: identified up to the group."""
        return not self.broken and self.invariant and not self.suspects and bool(np.isfinite(self.exponent))

    @property
    def verdict(self) -> str:
        """One line that says no more than what was done."""
        if self.broken:
            return f"not an action of a group with a quotient metric: {', '.join(self.broken)} fails"
        if not self.invariant:
            return f"{self.group} changes the law: by up to {self.invariance:.2g} of its size"
        if self.suspects or not np.isfinite(self.exponent):
            return f"not identified up to {self.group}: equal laws on different orbits, so more symmetries are to be suspected"
        return f"identified up to {self.group}, as far as {len(self.distances):,} pairs and {self.searches} searches can tell; this is no proof"

    def __str__(self) -> str:
        where = f"suspect: {self.suspects[0]}" if self.suspects else "none on another orbit"
        bound = f"law distance >= {self.constant:.3g} d_G^{self.exponent:g} on {len(self.distances):,} pairs; least at {self.worst}"
        return "\n".join(
            [
                self.verdict,
                f"  axioms      defects of at most {max(self.axioms.values()):.1e}",
                f"  invariance  law(g . a) = law(a) to {self.invariance:.1e}",
                f"  converse    {bound if not self.suspects else 'fails'}",
                f"  collisions  {self.reached} of {self.searches} searches reached the law again: {where}",
            ]
        )


def check(law: Any, symmetry: Symmetry | Group, draw: Callable[[Any], Any] | Sequence[Any], *, points: int = 4, searches: int = 6, seed: int = 0) -> Report:
    """Whether a law is identified up to a group.

    Args:
        law: parameters -> `Law`, `Ppca` or an array of observables; traceable by JAX if it can be (then fast), else a function of NumPy arrays.
        symmetry: an `Action` (or another `Symmetry`) of a group on the parameters, or a bare group that multiplies the last axis of one array.
        draw: key -> parameters; or a list of parameters to look at, where special points are of interest.
        points: how many parameters to draw.
        searches: collision searches from each of them.
        seed: of all random choices.

    Returns:
        A report; print it.

    Raises:
        ValueError: if parameters do not fit the group, the law is not finite where it is drawn, or nothing can be compared.
        TypeError: if `law` is no function of the parameters.
        RuntimeError: in 32-bit arithmetic.
    """
    require_x64("the check of an identifiability statement")
    if not callable(law):
        raise TypeError(f"`law`: got {type(law).__name__}; expected a function of the parameters. Write lambda parameters: et.Gaussian(...).")
    action = symmetry if isinstance(symmetry, Symmetry) else Action(symmetry)
    drawn = _drawn(draw, points, seed)
    observer = Observer(law, drawn)
    flat, rng = [observer.pack(parameters) for parameters in drawn], np.random.default_rng(seed)
    unit = _unit(observer, action, flat)
    elements = [action.group.random(key) for key in jax.random.split(jax.random.key(seed + 1), _ELEMENTS)]
    seen, ends = rays(observer, action, flat, unit, rng), _collisions(observer, action, flat, _starts(observer, draw, flat, searches, unit, rng, seed))
    reached = [end for end in ends if end.law <= SAME_LAW * observer.scale]
    tried = [*_along(seen), *_between(observer, action, flat)]
    if not tried:
        refuse("symmetry", "a group whose orbits hold every parameter tried", "parameters on different orbits", "Then the law cannot tell them apart; draw others.")
    exponent = seen.exponent() if len(seen.law) else 1.0
    ratios = [pair.law / pair.quotient ** (exponent if np.isfinite(exponent) else 1.0) for pair in tried]
    suspects = [pair for pair in (*reached, *tried) if pair.law <= SAME_LAW * observer.scale and pair.quotient > OTHER_ORBIT * unit]
    return Report(
        group=str(action.group),
        axioms=_axioms(action, elements, drawn[:3]),
        invariance=max(observer.distance(observer.pack(action.act(g, a)), observer.pack(a)) for g in elements for a in drawn) / observer.scale,
        exponent=exponent,
        constant=min(ratios),
        worst=_readable(observer, tried[int(np.argmin(ratios))]),
        suspects=tuple(_readable(observer, pair) for pair in sorted(suspects, key=lambda pair: -pair.quotient)),
        searches=len(ends),
        reached=len(reached),
        distances=np.array([[pair.quotient, pair.law] for pair in tried]),
    )


def _drawn(draw: Callable[[Any], Any] | Sequence[Any], points: int, seed: int) -> list[Any]:
    drawn = [draw(key) for key in jax.random.split(jax.random.key(seed), points)] if callable(draw) else list(draw)
    if not drawn:
        refuse("draw, points", "no parameters", "at least one", "Draw several: the modulus compares them.")
    return drawn


def _unit(observer: Observer, action: Symmetry, flat: list[np.ndarray]) -> float:
    """The distance that counts as far: between typical orbits, or the size of the parameters where there is one orbit only."""
    between = [distance(observer, action, a, b) for a, b in combinations(flat, 2)]
    apart = [d for d in between if d > 0]
    size = max(norm(action.section(observer.unpack(a))) for a in flat)
    return float(np.median(apart)) if apart else max(size, 1.0)


def _starts(observer: Observer, draw: Any, flat: list[np.ndarray], searches: int, unit: float, rng: np.random.Generator, seed: int) -> list[list[np.ndarray]]:
    """For each point, where its searches start: half around it, half (where parameters can be drawn) anywhere."""
    near = [[a + unit * rng.normal(size=a.size) / np.sqrt(a.size) for _ in range(searches)] for a in flat]
    if not callable(draw):
        return near
    keys = jax.random.split(jax.random.key(seed + 2), (len(flat), searches // 2))
    return [[observer.pack(draw(key)) for key in row] + around[searches // 2 :] for row, around in zip(keys, near, strict=True)]


def _collisions(observer: Observer, action: Symmetry, flat: list[np.ndarray], starts: list[list[np.ndarray]]) -> list[Pair]:
    tasks = [(target, start) for target, row in zip(flat, starts, strict=True) for start in row]
    return [collide(observer, action, target, start) for target, start in progress(tasks, "collisions", len(tasks))]


def _along(seen: Rays) -> list[Pair]:
    """The pairs of the rays."""
    places = np.ndindex(seen.law.shape)
    return [Pair(seen.starts[ray], seen.ends[ray, scale], float(seen.quotient[ray, scale]), float(seen.law[ray, scale])) for ray, scale in places]


def _between(observer: Observer, action: Symmetry, flat: list[np.ndarray]) -> list[Pair]:
    """The pairs of drawn parameters that lie on different orbits."""
    pairs = [Pair(a, b, distance(observer, action, a, b), observer.distance(a, b)) for a, b in combinations(flat, 2)]
    return [pair for pair in pairs if pair.quotient > 0]


def _readable(observer: Observer, pair: Pair) -> Pair:
    """The pair with parameters as they were drawn."""
    return replace(pair, a=observer.unpack(pair.a), b=observer.unpack(pair.b))


def _axioms(action: Symmetry, elements: list[np.ndarray], parameters: list[Any]) -> dict[str, float]:
    defects = {
        "group": group_defects(action.group, elements),
        "action": action_defects(action, elements, parameters),
        "metric": metric_defects(action, elements, parameters),
    }
    return {f"{part}: {axiom}": defect for part, axioms in defects.items() for axiom, defect in axioms.items()}
