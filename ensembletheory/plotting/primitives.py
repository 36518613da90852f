"""What figures are made of; each primitive draws on an Axes it is given, in the look of a meaning, and knows nothing of models."""

from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ensembletheory.plotting.palette import LOOKS, Look

__all__ = ["curve", "dots", "letter", "write_beside"]


def curve(ax: Axes, x: ArrayLike, y: ArrayLike, look: Look, low: ArrayLike | None = None, high: ArrayLike | None = None, markers: bool = False) -> None:
    """A line in the look of its meaning, with the interval [low, high] as a band around it when both are given."""
    ax.plot(x, y, color=look.color, linestyle=look.linestyle, marker=look.marker if markers else "none", label=look.label)
    if low is not None and high is not None:
        ax.fill_between(x, low, high, color=look.color, alpha=0.2, linewidth=0)


def dots(ax: Axes, x: ArrayLike, y: ArrayLike, error: ArrayLike, look: Look = LOOKS["monte_carlo"]) -> None:
    """Hollow dots for simulated values, with bars of +- `error` (pass two standard errors for about 95 %)."""
    ax.errorbar(x, y, error, fmt=look.marker, color=look.color, markerfacecolor="white", markeredgewidth=0.9, elinewidth=0.8, capsize=1.5, linestyle="none", zorder=3)


def write_beside(ax: Axes, x: float, y: float, text: str, look: Look, offset: tuple[float, float] = (3, 0), align: str = "left") -> None:
    """`text` in the colour of its curve beside the data point (x, y), moved by `offset` points; left out of the layout, so that panels keep their size."""
    note = ax.annotate(text, (x, y), offset, textcoords="offset points", color=look.color, fontsize=7, ha=align, va="center")
    note.set_in_layout(False)


def letter(ax: Axes, name: str, title: str) -> None:
    """The panel's letter in bold and its title, above it on the left."""
    ax.set_title(rf"$\bf{{{name}}}$  {title}")
