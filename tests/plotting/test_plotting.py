"""Looks that stay apart for every reader, a style that leaves no trace, primitives that draw what they are given."""

import itertools
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb, to_rgba

from ensembletheory.plotting import LOOKS, WIDTHS, curve, dots, letter, new_figure, render, style, write_beside

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB; the last is normal sight.
SIGHTS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "normal": np.eye(3).tolist(),
}
RGB_TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
PLAIN = 10.0  # a CIELAB distance that is seen at a glance; 2.3 is just noticeable


def lab(color, sight):
    rgb = np.asarray(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = RGB_TO_XYZ @ np.clip(np.asarray(SIGHTS[sight]) @ linear, 0, 1) / RGB_TO_XYZ.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_the_colour_space_is_right():
    np.testing.assert_allclose(lab("#ffffff", "normal"), [100, 0, 0], atol=1e-3)
    np.testing.assert_allclose(lab("#ff0000", "normal"), [53.24, 80.09, 67.20], atol=0.02)
    red_against_green = {sight: abs(lab("#ff0000", sight)[1] - lab("#00ff00", sight)[1]) for sight in SIGHTS}
    assert max(red_against_green["protan"], red_against_green["deutan"]) < 0.1 * red_against_green["normal"]


@pytest.mark.parametrize("sight", SIGHTS)
def test_looks_stay_apart(sight):
    for a, b in itertools.combinations(LOOKS.values(), 2):
        apart = np.linalg.norm(lab(a.color, sight) - lab(b.color, sight))
        assert apart >= PLAIN or (a.marker != b.marker and a.linestyle != b.linestyle), f"{a.label} and {b.label}: {apart:.1f}"


@pytest.mark.parametrize("field", ["color", "label"])
def test_no_two_meanings_share_a_colour_or_a_name(field):
    values = [getattr(look, field) for look in LOOKS.values()]
    assert len(set(values)) == len(values)


def test_no_two_meanings_share_marker_and_line():
    shapes = [(look.marker, look.linestyle) for name, look in LOOKS.items() if name not in ("falls", "turns", "rises")]
    assert len(set(shapes)) == len(shapes)


def test_style_is_in_force_inside_and_gone_outside():
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 30, "text.color": "red"}):
        with style():
            inside = mpl.rcParams["font.size"], mpl.rcParams["pdf.fonttype"], mpl.rcParams["text.usetex"], mpl.rcParams["text.color"]
        assert mpl.rcParams["font.size"] == 30
    assert inside == (8, 42, False, "black")
    assert dict(mpl.rcParams) == before


def test_venue_widths_reach_the_file():
    with style():
        figure, axes = new_figure(WIDTHS["icml_column"], 2.0, rows=1, columns=2)
        png = render(figure, "png", "a note")
    assert len(axes) == 2
    assert int.from_bytes(png[16:20]) == 650  # 3.25 inches at 200 dots per inch
    assert b"a note" in png


def test_pdfs_are_stable_embed_true_type_and_carry_only_the_date_that_is_asked_for(monkeypatch):
    def pdf():
        with style():
            figure, (ax,) = new_figure(2.0, 2.0)
            ax.set_title(r"$\alpha$ a title")
            return render(figure, "pdf", "a note")

    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    plain = pdf()
    assert plain == pdf()
    assert b"CreationDate" not in plain
    assert b"/Type3" not in plain
    assert b"/TrueType" in plain or b"/CIDFontType2" in plain
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert b"D:19700102000000Z" in pdf()


def test_primitives_draw_the_numbers_in_the_look():
    look = LOOKS["log"]
    _, (ax,) = new_figure(2.0, 2.0)
    curve(ax, [1, 2], [3.0, 4.0], look, low=[2.0, 3.0], high=[4.0, 5.0])
    dots(ax, [1, 2], [3.1, 4.1], [0.2, 0.1], look)
    write_beside(ax, 2, 4.0, "log pool", look)
    letter(ax, "a", "title")
    line, marks = ax.lines[0], ax.containers[0].lines[0]
    np.testing.assert_array_equal(line.get_xydata(), [[1, 3], [2, 4]])
    assert (line.get_color(), line.get_label()) == (look.color, look.label)
    band = ax.collections[0].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == (2, 5)
    np.testing.assert_array_equal(marks.get_xydata(), [[1, 3.1], [2, 4.1]])
    bars = [segment[:, 1].tolist() for segment in ax.containers[0].lines[2][0].get_segments()]
    np.testing.assert_allclose(bars, [[2.9, 3.3], [4.0, 4.2]])
    assert to_rgba(ax.texts[0].get_color()) == to_rgba(look.color)


def test_without_matplotlib_the_extra_is_named():
    blocked = "import sys, importlib.util as u; f = u.find_spec; u.find_spec = lambda n, *a: None if n == 'matplotlib' else f(n, *a); import ensembletheory.plotting"
    run = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert "ensembletheory[figures]" in run.stderr
