"""One page of all results that stand in a folder: figures with captions and asserted numbers, claims with verdicts, provenance.

The page needs nothing but itself: images and PDFs are embedded, formulas are drawn, and no address of any network occurs in it.
"""

import base64
import json
from collections.abc import Iterable, Set
from html import escape
from pathlib import Path

from ensembletheory import claims
from ensembletheory.files import write_whole
from paper_figures.framework.formula import formula, paragraphs, prose
from paper_figures.framework.runner import FAILED, GREEN, Record, read_record

__all__ = ["claims_table", "write_page"]

CLAIMS_FILE = "claims.json"
STANDING = {"theorem": "holds", "conjecture": "open", "refuted": "stays refuted"}
TYPES = {".png": "image/png", ".pdf": "application/pdf"}


def claims_table(quick: bool) -> list[Record]:
    """Check every claim of the package (on fewer instances in a quick run); one row of plain values each."""
    samples = 512 if quick else 4096
    return [_claim_row(id, samples) for id in claims.ids()]


def write_page(out: Path) -> Path:
    """Write `out/index.html` from the figures and claims whose records stand in `out`."""
    records = [record for path in sorted(out.glob("*.json")) if (record := read_record(path))]
    table = json.loads((out / CLAIMS_FILE).read_text()) if (out / CLAIMS_FILE).is_file() else []
    checked = {row["id"] for row in table}
    body = [_head(records, table), *(_figure(record, out, checked) for record in records), _claims(table), _provenance(records)]
    style = Path(__file__).with_name("page.css").read_text()
    return write_whole(out / "index.html", _document(style, "\n".join(body)))


def _claim_row(id: str, samples: int) -> Record:
    claim = claims.get(id)
    row = {"id": id, "kind": claim.kind, "statement": claim.statement, "source": claim.source}
    try:
        result = claims.check(id, samples=samples)
    except claims.ClaimError as error:
        return row | {"holds": False, "verdict": str(error)}
    return row | {"holds": result.holds, "verdict": result.verdict}


def _document(style: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ensembletheory: figures and claims</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _head(records: list[Record], table: list[Record]) -> str:
    green = sum(record["verdict"] == GREEN for record in records)
    claims_stand = f"{sum(row['holds'] for row in table)} of {len(table)} claims stand as they are classed" if table else "the claims were not checked"
    links = "".join(f'<li><a href="#{escape(r["name"])}">{escape(r["title"])}</a> {_badge(r["verdict"] == GREEN, "green", r["verdict"])}</li>' for r in records)
    quick = " This is a quick run: simulations are small." if any(record["mode"] == "quick" for record in records) else ""
    return f"""<header>
<h1>ensembletheory: figures and claims</h1>
<p>{green} of {len(records)} figures have every number of their captions right; {claims_stand}.{quick}</p>
<ul>{links}<li><a href="#claims">Claims</a></li><li><a href="#provenance">Provenance</a></li></ul>
</header>"""


def _figure(record: Record, out: Path, checked: Set[str]) -> str:
    name = escape(record["name"])
    holds = record["verdict"] == GREEN
    content = _failure(record) if record["verdict"] == FAILED else _drawn(record, out)
    return f"""<section id="{name}"{"" if holds else ' class="red"'}>
<h2>{escape(record["title"])} {_badge(holds, "green", record["verdict"])}</h2>
{content}
<p class="small">Source: {prose(record["source"])}{_claim_links(record["claims"], checked)}</p>
<details><summary>Provenance of this figure</summary><pre>{escape(json.dumps({k: v for k, v in record.items() if k != "numbers"}, indent=1))}</pre></details>
</section>"""


def _failure(record: Record) -> str:
    return f'<p class="bad">The figure could not be drawn.</p><pre>{escape(record["error"])}</pre>'


def _drawn(record: Record, out: Path) -> str:
    name, numbers = escape(record["name"]), record["numbers"]
    right = sum(number["holds"] for number in numbers)
    rows = [(prose(n["name"]), _number(n["got"]), n["printed"], _number(n["tolerance"]), _badge(n["holds"], "holds", "off")) for n in numbers]
    return f"""<figure>
<div class="scroll"><img src="{_embedded(out / f"{name}.png")}" alt="{escape(record["alt"])}"></div>
<figcaption>{paragraphs(record["caption"])}</figcaption>
</figure>
<details{"" if right == len(numbers) else " open"}><summary>{right} of {len(numbers)} asserted numbers hold</summary>
{_table(("number", "got", "printed", "tolerance", "verdict"), rows)}
</details>
<p class="small"><a download="{name}.pdf" href="{_embedded(out / f"{name}.pdf")}">PDF</a>; the arrays stand in <code>{name}.npz</code>,
these numbers in <code>{name}.csv</code>.</p>"""


def _claim_links(ids: Iterable[str], checked: Set[str]) -> str:
    links = [f'<a href="#claim-{escape(id)}">{escape(id)}</a>' if id in checked else escape(id) for id in ids]
    return f". Claims: {', '.join(links)}" if links else ""


def _claims(table: list[Record]) -> str:
    rows = [
        (
            f'<span id="claim-{escape(row["id"])}"><code>{escape(row["id"])}</code></span><br>{escape(row["kind"])}',
            f"{formula(row['statement'])}<br><span class='small'>{escape(row['source'])}</span>",
            f"{_badge(row['holds'], STANDING[row['kind']], 'does not stand')}<br>{escape(row['verdict'])}",
        )
        for row in table
    ]
    content = _table(("claim", "statement", "verdict"), rows) if rows else "<p>No claim has been checked for this page; a run without names checks all.</p>"
    return f'<section id="claims"><h2>Claims</h2>\n{content}\n</section>'


def _provenance(records: list[Record]) -> str:
    rows = [(escape(r["name"]), r["mode"], escape(r["environment"]["git_commit"][:12]), _dirty(r), f"{r['wall_time_s']:.1f} s", _versions(r)) for r in records]
    return f'<section id="provenance"><h2>Provenance</h2>\n{_table(("figure", "run", "commit", "tree", "time", "versions"), rows)}\n</section>'


def _dirty(record: Record) -> str:
    return "changed" if record["environment"]["git_dirty"] else "clean"


def _versions(record: Record) -> str:
    return escape(", ".join(f"{name} {version}" for name, version in record["environment"]["versions"].items()))


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in header)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _badge(good: bool, yes: str, no: str) -> str:
    return f'<span class="{"good" if good else "bad"}">{escape(yes if good else no)}</span>'


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.8g}"


def _embedded(path: Path) -> str:
    return f"data:{TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
