"""Sizes of the venues and one style, set for the length of a `with` block: no TeX, no text as outlines, no global state."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["WIDTHS", "new_figure", "render", "style"]

# Inches. ICML sets two columns, NeurIPS and ICLR one.
WIDTHS = {"icml_column": 3.25, "icml_page": 6.75, "neurips": 5.5, "iclr": 5.5}

_RC: dict[Any, object] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "figure.constrained_layout.h_pad": 0.04,
    "figure.constrained_layout.w_pad": 0.04,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "text.usetex": False,
    "mathtext.fontset": "dejavusans",
    "savefig.dpi": 200,
}


@contextmanager
def style() -> Iterator[None]:
    """A `with` block in which figures are made and saved in the style of this package, whatever the reader's own settings."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure of the given size in inches with its panels in reading order; call it inside `style()`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def render(figure: Figure, format: Literal["pdf", "png"], note: str) -> bytes:
    """The file of `figure`, with `note` in its metadata; call it inside `style()`.

    Equal figures give equal bytes: a PDF carries no date, unless SOURCE_DATE_EPOCH sets one.
    """
    dateless = {} if "SOURCE_DATE_EPOCH" in os.environ else {"CreationDate": None}
    metadata = {"Description": note} if format == "png" else {"Subject": note} | dateless
    file = BytesIO()
    figure.savefig(file, format=format, metadata=metadata)
    return file.getvalue()
