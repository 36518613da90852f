"""Formulas as drawings inside a page: LaTeX to inline SVG by matplotlib's mathtext, so that neither TeX nor a network is needed."""

import re
from html import escape

from matplotlib.path import Path
from matplotlib.textpath import TextPath

__all__ = ["formula", "paragraphs", "prose"]

# What mathtext does not know, or sets larger than a line of text.
_SPELLINGS = {r"\tfrac": r"\frac", r"\dfrac": r"\frac", r"\le": r"\leq", r"\ge": r"\geq", r"\ne": r"\neq", r"\lVert": r"\|", r"\rVert": r"\|", r"\Vert": r"\|"}
_COMMANDS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}
_EM = 16.0


def formula(latex: str) -> str:
    """An inline SVG of `latex` (without dollar signs) in the colour and size of the text around it; the source itself as code if mathtext cannot read it."""
    try:
        outline = TextPath((0, 0), f"${_respelled(latex)}$", size=_EM)
    except ValueError:
        return f"<code>{escape(latex)}</code>"
    box = outline.get_extents()
    width, height = box.width / _EM, box.height / _EM
    view = f"{box.x0:.2f} {-box.y1:.2f} {box.width:.2f} {box.height:.2f}"
    return (
        f'<svg class="formula" role="img" aria-label="{escape(latex)}" viewBox="{view}" '
        f'style="width:{width:.3f}em;height:{height:.3f}em;vertical-align:{box.y0 / _EM:.3f}em"><path d="{_commands(outline)}"/></svg>'
    )


def prose(text: str) -> str:
    """HTML of a text in which formulas stand between dollar signs."""
    parts = text.split("$")
    return "".join(formula(part) if i % 2 else escape(part) for i, part in enumerate(parts))


def paragraphs(text: str) -> str:
    """HTML of a text in which blank lines part paragraphs."""
    return "".join(f"<p>{prose(part)}</p>" for part in text.split("\n\n"))


def _respelled(latex: str) -> str:
    spelled = re.sub(r"\\[A-Za-z]+", lambda command: _SPELLINGS.get(command[0], command[0]), latex)
    return re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", spelled)


def _commands(outline: Path) -> str:
    return "".join("Z" if code == Path.CLOSEPOLY else _COMMANDS[code] + " ".join(_points(vertices)) for vertices, code in outline.iter_segments(simplify=False))


def _points(vertices) -> list[str]:
    return [f"{x:.2f} {-y:.2f}" for x, y in vertices.reshape(-1, 2)]
