"""One look per meaning: a method has the same colour, marker and line in every figure.

Methods carry the colours of Okabe and Ito ("Color universal design", 2008), which stay apart for colour-blind readers, members are grey, and what a loss does
as an ensemble grows carries three colours of Tol's muted scheme. Marker and line differ as well, so that a black and white print can still be read.
"""

from typing import NamedTuple

from matplotlib.typing import LineStyleType

__all__ = ["LOOKS", "Look"]


class Look(NamedTuple):
    """How one meaning is drawn, and what a legend calls it."""

    color: str
    marker: str
    linestyle: LineStyleType
    label: str


LOOKS = {
    "target": Look("#000000", "s", "-", "target"),
    "member": Look("#B8B8B8", ".", (0, (1, 2)), "one member"),
    "average": Look("#7F7F7F", "x", "--", "member average"),
    "best": Look("#4D4D4D", "v", ":", "best member"),
    "linear": Look("#0072B2", "o", "-", "linear pool"),
    "log": Look("#D55E00", "D", "-", "log pool"),
    "barycenter": Look("#009E73", "^", (0, (5, 1)), "$W_2$ barycenter"),
    "mean_score_sde": Look("#E69F00", "P", (0, (3, 1, 1, 1)), "mean score, SDE"),
    "mean_score_ode": Look("#56B4E9", "h", "-.", "mean score, ODE"),
    "churn": Look("#CC79A7", "*", (0, (4, 1, 1, 1, 1, 1)), "mean score, churned"),
    "falls": Look("#332288", "o", "-", "loss falls"),
    "turns": Look("#999933", "D", "-.", "loss falls, then rises"),
    "rises": Look("#882255", "^", "--", "loss rises"),
    "monte_carlo": Look("#222222", "o", "none", "Monte Carlo"),
}
