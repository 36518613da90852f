"""The page: complete in itself, honest about what is red, its formulas drawn."""

import json
import re
from html.parser import HTMLParser

import pytest

from paper_figures.framework.formula import formula, paragraphs, prose
from paper_figures.framework.page import write_page
from paper_figures.framework.provenance import environment

PNG = b"\x89PNG fake"


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def values(self, *names):
        return [value for _, attributes in self.elements for name, value in attributes.items() if name in names]


def written(out, claims=(), **changes):
    number = {"name": "gain, $K=1$", "got": 0.53, "printed": "0.50", "tolerance": 0.005, "holds": False}
    record = {
        "name": "toy",
        "title": "A <toy>",
        "alt": 'a "line" & dots',
        "source": "own notes",
        "claims": ["a-claim"],
        "mode": "full",
        "verdict": "red",
        "caption": "It is 0.50 at $\\frac{1}{2}$.\n\nA second < paragraph.",
        "numbers": [number],
        "inputs": {"level": 1.0},
        "inputs_hash": "0123",
        "environment": environment(),
        "wall_time_s": 1.0,
        "files": {},
    } | changes
    (out / "toy.json").write_text(json.dumps(record))
    (out / "toy.png").write_bytes(PNG)
    (out / "toy.pdf").write_bytes(b"%PDF fake")
    if claims:
        (out / "claims.json").write_text(json.dumps(claims))
    return write_page(out).read_text()


CLAIM = {"id": "a-claim", "kind": "theorem", "statement": r"\mathrm{KL}(p \| q) \le \tfrac12 \sum_k w_k", "source": "a <source>", "holds": False, "verdict": "violated & more"}


def test_the_page_refers_to_nothing_outside_itself(tmp_path):
    text = written(tmp_path, [CLAIM])
    page = Page(text)
    assert page.open == []
    ids = page.values("id")
    assert len(set(ids)) == len(ids)
    for target in page.values("href", "src", "xlink:href", "srcset", "action", "data", "poster"):
        assert target.startswith("data:") or target.removeprefix("#") in ids, target
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    assert not re.search(r"url\(|@import", text)


def test_other_files_in_the_folder_do_not_disturb(tmp_path):
    before = written(tmp_path)
    (tmp_path / "notes.json").write_text('{"some": "thing"}')
    (tmp_path / "cut.json").write_text('{"name": "cu')
    assert write_page(tmp_path).read_text() == before


def test_links_to_claims_that_were_not_checked_are_plain_text(tmp_path):
    page = Page(written(tmp_path))
    assert "#claim-a-claim" not in page.values("href")
    assert "No claim has been checked" in (tmp_path / "index.html").read_text()


def test_a_red_figure_is_shown_as_red_with_its_numbers_open(tmp_path):
    text = written(tmp_path)
    assert '<section id="toy" class="red">' in text
    assert "<details open><summary>0 of 1 asserted numbers hold</summary>" in text
    assert "<td>0.53</td><td>0.50</td><td>0.005</td>" in text
    assert "0 of 1 figures have every number" in text


def test_a_green_figure_is_shown_as_green(tmp_path):
    number = {"name": "gain", "got": 0.5, "printed": "0.50", "tolerance": 0.005, "holds": True}
    text = written(tmp_path, verdict="green", numbers=[number])
    assert '<section id="toy">' in text
    assert "1 of 1 figures have every number" in text
    assert 'class="bad"' not in text


def test_a_figure_that_failed_shows_why(tmp_path):
    text = written(tmp_path, verdict="failed", error="RuntimeError: <no data>")
    assert "could not be drawn" in text
    assert "RuntimeError: &lt;no data&gt;" in text


def test_images_and_pdfs_are_embedded_with_their_descriptions(tmp_path):
    page = Page(written(tmp_path))
    (image,) = [attributes for tag, attributes in page.elements if tag == "img"]
    assert image["alt"] == 'a "line" & dots'
    assert image["src"] == "data:image/png;base64,iVBORyBmYWtl" or image["src"].startswith("data:image/png;base64,")
    assert any(value.startswith("data:application/pdf;base64,JVBERi") for value in page.values("href"))


def test_captions_keep_their_paragraphs_and_escape_markup(tmp_path):
    text = written(tmp_path)
    assert re.search(r"<figcaption><p>It is 0\.50 at <svg .*</svg>\.</p><p>A second &lt; paragraph\.</p></figcaption>", text)


def test_claims_are_shown_with_verdict_and_drawn_statement(tmp_path):
    text = written(tmp_path, [CLAIM, CLAIM | {"id": "other", "holds": True, "verdict": "holds"}])
    assert "1 of 2 claims stand as they are classed" in text
    assert "violated &amp; more" in text
    assert "a &lt;source&gt;" in text
    labels = [a["aria-label"] for tag, a in Page(text).elements if tag == "svg"]
    assert labels.count(CLAIM["statement"]) == 2
    assert 'href="#claim-a-claim"' in text


@pytest.mark.parametrize(("kind", "standing"), [("theorem", "holds"), ("conjecture", "open"), ("refuted", "stays refuted")])
def test_a_claim_is_never_said_to_be_more_than_it_is(tmp_path, kind, standing):
    good = written(tmp_path, [CLAIM | {"kind": kind, "holds": True, "verdict": "as before"}])
    assert f'<span class="good">{standing}</span><br>as before' in good
    bad = written(tmp_path, [CLAIM | {"kind": kind}])
    assert '<span class="bad">does not stand</span><br>violated &amp; more' in bad


def test_a_narrow_screen_and_a_dark_one_are_provided_for(tmp_path):
    text = written(tmp_path)
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in text
    assert "color-scheme: light dark" in text
    assert "fill: currentColor" in text


@pytest.mark.parametrize("latex", [r"\mathrm{KL}(p \| q) \le \tfrac12 \sum_k w_k \bar q_k", r"\mathbb{E}\left[ \frac{a}{b} \right] \quad \lVert x \rVert"])
def test_formulas_become_outlines_that_hang_on_the_line(latex):
    drawing = formula(latex)
    assert drawing.startswith("<svg")
    path = re.search(r'<path d="([^"]+)"', drawing)[1]
    assert re.fullmatch(r"(?:[MLQC](?:-?\d+\.\d\d ?)+|Z)+", path)
    _, y0, width, height = map(float, re.search(r'viewBox="([^"]+)"', drawing)[1].split())
    assert width > 0
    assert y0 < 0 < y0 + height  # above and below the base line


def test_a_formula_that_cannot_be_drawn_is_shown_as_it_is_written():
    assert formula(r"\nosuchcommand{<}") == r"<code>\nosuchcommand{&lt;}</code>"


def test_prose_draws_what_stands_between_dollar_signs():
    assert prose("a < b") == "a &lt; b"
    assert prose("let $x$ be").startswith("let <svg")
    assert prose("let $x$ be").endswith("</svg> be")
    assert paragraphs("a\n\nb") == "<p>a</p><p>b</p>"
