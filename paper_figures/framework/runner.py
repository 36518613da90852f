"""Run one figure and leave its files: NAME.pdf, NAME.png, NAME.npz (the arrays), NAME.csv (the caption's numbers) and, last, NAME.json (provenance and verdict).

Every file appears whole, and the provenance holds the digests of the others. So a run that was cut short is seen as such, and a figure whose inputs, sources
and libraries are those of the provenance and whose files are intact need not be drawn again. What a run that was cut short has left under `.work`
(`paper_figures.framework.work`) is gone on with.
"""

import csv
import json
import time
import traceback
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np

from ensembletheory.files import write_whole
from ensembletheory.plotting import render, style
from paper_figures.framework.contract import Caption, Data, Figure
from paper_figures.framework.provenance import data_digest, digest, environment, inputs_digest, source_digest
from paper_figures.framework.work import remove_checkpoints, working

__all__ = ["FAILED", "GREEN", "Record", "draw_figure", "intact_record", "read_record"]

GREEN, RED, FAILED = "green", "red", "failed"
SUFFIXES = (".pdf", ".png", ".npz", ".csv")

Record = dict[str, Any]


def draw_figure(figure: Figure, out: Path, quick: bool) -> Record:
    """Compute, draw and judge `figure`, write its files under `out`, and return its provenance; one that raises is recorded as failed."""
    start = time.monotonic()
    about = _about(figure, quick)
    try:
        with working(figure.name, out, _key(about)):
            files, findings = _produce(figure, quick)
    except Exception as error:  # whatever a figure raises, the others must still be drawn
        files, findings = {}, {"verdict": FAILED, "error": "".join(traceback.format_exception(error))}
    for suffix in SUFFIXES:
        (out / f"{figure.name}{suffix}").unlink(missing_ok=True)  # so that a failure leaves no picture of an earlier run
    for name, content in files.items():
        write_whole(out / name, content)
    record = about | findings | {"files": {name: digest(content) for name, content in files.items()}, "wall_time_s": round(time.monotonic() - start, 3)}
    write_whole(out / f"{figure.name}.json", json.dumps(record, indent=1) + "\n")
    if record["verdict"] != FAILED:
        remove_checkpoints(figure.name, out)
    return record


def intact_record(figure: Figure, out: Path, quick: bool) -> Record | None:
    """The provenance of `figure` under `out` if a new run would repeat it and its files are intact."""
    record = read_record(out / f"{figure.name}.json")
    if record is None or record["verdict"] == FAILED:
        return None
    fresh = _about(figure, quick)
    whole = all((out / name).is_file() and digest((out / name).read_bytes()) == expected for name, expected in record["files"].items())
    return record if _key(record) == _key(fresh) and whole else None


def read_record(path: Path) -> Record | None:
    """The provenance at `path`; None if there is no file, or it is damaged or something else."""
    try:
        record = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return record if isinstance(record, dict) and "inputs_hash" in record else None


def _about(figure: Figure, quick: bool) -> Record:
    settings = figure.settings(quick)
    return {
        "name": figure.name,
        "title": figure.title,
        "alt": figure.alt,
        "source": figure.source,
        "claims": list(figure.claims),
        "mode": "quick" if quick else "full",
        "inputs": settings,
        "inputs_hash": inputs_digest(settings),
        "root_seed": settings.get("seed"),
        "source_digest": source_digest(figure),
        "environment": environment(),
    }


def _key(about: Record) -> str:
    """Two runs of one key do the same."""
    return digest(json.dumps([about["mode"], about["inputs_hash"], about["source_digest"], about["environment"]["versions"]], sort_keys=True))[:16]


def _produce(figure: Figure, quick: bool) -> tuple[dict[str, bytes], Record]:
    settings = figure.settings(quick)
    data = {name: np.asarray(array) for name, array in figure.compute(**settings).items()}
    caption = figure.caption(data)
    rows = _rows(caption)
    findings = {
        "verdict": GREEN if all(row["holds"] for row in rows) else RED,
        "caption": caption.text,
        "numbers": rows,
        "data_hash": data_digest(data),
    }
    note = json.dumps({"figure": figure.name, "inputs": settings, "data": findings["data_hash"], "versions": environment()["versions"]})
    with style():
        picture = figure.draw(data)
        images = {f"{figure.name}.{format}": render(picture, format, note) for format in ("pdf", "png")}
    return images | {f"{figure.name}.npz": _npz(data), f"{figure.name}.csv": _csv(rows)}, findings


def _rows(caption: Caption) -> list[Record]:
    return [{"name": n.name, "got": _plain(n.got), "printed": n.printed, "tolerance": _plain(n.tolerance), "holds": n.holds} for n in caption.numbers]


def _plain(value: float) -> float | str:
    value = float(value)
    return value if np.isfinite(value) else str(value)  # JSON knows neither NaN nor infinity


def _npz(data: Data) -> bytes:
    file = BytesIO()
    np.savez_compressed(file, allow_pickle=False, **data)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def _csv(rows: list[Record]) -> bytes:
    file = StringIO()
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()
