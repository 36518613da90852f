"""Drawing without model logic: looks by meaning, sizes by venue, primitives that take an Axes."""

from importlib.util import find_spec

from ensembletheory.errors import missing_extra

if find_spec("matplotlib") is None:
    missing_extra("matplotlib", "figures")

from ensembletheory.plotting.palette import LOOKS as LOOKS
from ensembletheory.plotting.palette import Look as Look
from ensembletheory.plotting.primitives import curve as curve
from ensembletheory.plotting.primitives import dots as dots
from ensembletheory.plotting.primitives import letter as letter
from ensembletheory.plotting.primitives import write_beside as write_beside
from ensembletheory.plotting.style import WIDTHS as WIDTHS
from ensembletheory.plotting.style import new_figure as new_figure
from ensembletheory.plotting.style import render as render
from ensembletheory.plotting.style import style as style
