"""The runner: files that are whole, provenance that is complete, figures kept while nothing has changed, and the exit status."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ensembletheory.plotting import LOOKS, curve, new_figure
from paper_figures import __main__ as command
from paper_figures.framework import Caption, Figure, Number, checkpoint, jobs, page, provenance, runner

ROOT = Path(__file__).resolve().parents[2]


def _compute(level, points, seed):
    return {"x": np.arange(points, dtype=float), "y": np.full(points, level)}


def _draw(data):
    picture, (ax,) = new_figure(2.0, 2.0)
    curve(ax, data["x"], data["y"], LOOKS["log"])
    return picture


def _caption(data):
    return Caption("A level of 2.00.", (Number("level", data["y"][0], "2.00"),))


TOY = Figure(
    name="toy",
    title="A <toy> & its title",
    inputs={"level": 2.0, "points": 9, "seed": 7},
    quick_inputs={"points": 3},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt='a "level" line',
    source="own notes",
    claims=("linear-pool-kl",),
)


def run(figure, out, quick=True):
    return command.main([figure.name], quick, out, {figure.name: figure})


def record(out):
    return json.loads((out / "toy.json").read_text())


def test_a_run_leaves_every_file_whole_and_digested(tmp_path):
    assert run(TOY, tmp_path) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "toy.csv", "toy.json", "toy.npz", "toy.pdf", "toy.png"]
    assert record(tmp_path)["files"] == {f"toy{suffix}": provenance.digest((tmp_path / f"toy{suffix}").read_bytes()) for suffix in (".pdf", ".png", ".npz", ".csv")}
    assert (tmp_path / "toy.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "toy.png").read_bytes().startswith(b"\x89PNG")
    np.testing.assert_array_equal(np.load(tmp_path / "toy.npz")["y"], [2.0, 2.0, 2.0])
    assert (tmp_path / "toy.csv").read_text() == "name,got,printed,tolerance,holds\nlevel,2.0,2.00,0.005,True\n"


def test_provenance_is_complete(tmp_path):
    run(TOY, tmp_path)
    about = record(tmp_path)
    assert (about["verdict"], about["mode"], about["root_seed"], about["claims"]) == ("green", "quick", 7, ["linear-pool-kl"])
    assert about["inputs"] == {"level": 2.0, "points": 3, "seed": 7}
    assert about["inputs_hash"] == provenance.inputs_digest({"seed": 7, "points": 3, "level": 2.0})
    assert about["data_hash"] == provenance.data_digest(dict(np.load(tmp_path / "toy.npz")))
    assert about["source_digest"] == provenance.source_digest(TOY)
    assert about["numbers"] == [{"name": "level", "got": 2.0, "printed": "2.00", "tolerance": 0.005, "holds": True}]
    assert about["wall_time_s"] > 0
    environment = about["environment"]
    assert set(environment["versions"]) == {"python", *provenance.LIBRARIES}
    assert environment["versions"]["numpy"] == np.__version__
    assert (environment["x64"], environment["prng"], environment["device"].split(":")[0]) == (True, "threefry2x32", "cpu")
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert environment["git_commit"] == (head.stdout.strip() or "unknown: not a git checkout")
    assert environment["git_dirty"] in (True, False)
    assert environment["platform"]


def test_pictures_carry_their_inputs_and_equal_runs_give_equal_files(tmp_path):
    run(TOY, tmp_path / "a")
    run(TOY, tmp_path / "b")
    for suffix in (".pdf", ".png", ".npz", ".csv"):
        assert (tmp_path / "a" / f"toy{suffix}").read_bytes() == (tmp_path / "b" / f"toy{suffix}").read_bytes(), suffix
    assert b'"inputs": {"level": 2.0, "points": 3, "seed": 7}' in (tmp_path / "a" / "toy.png").read_bytes()


@pytest.mark.parametrize("change", [{"level": 2.04}, {"level": float(np.nextafter(2.0051, 3))}])
def test_a_number_that_is_off_turns_the_run_red(tmp_path, change, capsys):
    assert run(TOY.with_inputs(**change), tmp_path) == 1
    assert record(tmp_path)["verdict"] == "red"
    assert (tmp_path / "toy.pdf").is_file()
    assert "toy: red, level is 2.0" in capsys.readouterr().out
    assert run(TOY, tmp_path) == 0


def test_a_figure_that_raises_is_reported_and_leaves_no_old_picture(tmp_path, capsys):
    def broken(level, points, seed):
        raise RuntimeError("no such data")

    run(TOY, tmp_path)
    assert run(replace(TOY.with_inputs(seed=8), compute=broken), tmp_path) == 1
    assert (record(tmp_path)["verdict"], record(tmp_path)["files"]) == ("failed", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "toy.json"]
    assert "toy: failed, RuntimeError: no such data" in capsys.readouterr().out
    assert "no such data" in (tmp_path / "index.html").read_text()


@pytest.fixture
def counted(monkeypatch):
    """How often the toy is computed."""
    calls = []

    def compute(**inputs):
        calls.append(inputs)
        return _compute(**inputs)

    compute.__wrapped__ = _compute
    return replace(TOY, compute=compute), calls


def test_a_figure_that_failed_is_tried_again(tmp_path):
    tries = []

    def sometimes(level, points, seed):
        tries.append(seed)
        if len(tries) == 1:
            raise OSError("busy")
        return _compute(level, points, seed)

    toy = replace(TOY, compute=sometimes)
    assert [run(toy, tmp_path), run(toy, tmp_path)] == [1, 0]


def test_a_figure_is_kept_while_nothing_has_changed(tmp_path, counted, capsys):
    toy, calls = counted
    run(toy, tmp_path)
    stamp = (tmp_path / "toy.json").stat().st_mtime_ns
    assert run(toy, tmp_path) == 0
    assert len(calls) == 1
    assert (tmp_path / "toy.json").stat().st_mtime_ns == stamp
    assert "kept, nothing has changed" in capsys.readouterr().out


def test_a_red_figure_that_is_kept_is_still_red(tmp_path, counted):
    toy, calls = counted
    red = toy.with_inputs(level=2.04)
    assert [run(red, tmp_path), run(red, tmp_path)] == [1, 1]
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["toy.pdf", "toy.npz", "toy.csv", "toy.json"])
def test_a_figure_with_a_missing_file_is_drawn_again(tmp_path, counted, name):
    toy, calls = counted
    run(toy, tmp_path)
    (tmp_path / name).unlink()
    run(toy, tmp_path)
    assert len(calls) == 2


def test_a_figure_with_a_damaged_file_other_inputs_mode_sources_or_libraries_is_drawn_again(tmp_path, counted, monkeypatch):
    toy, calls = counted
    run(toy, tmp_path)
    for calls_then, name in ((2, "toy.npz"), (3, "toy.json")):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-9])
        run(toy, tmp_path)
        assert len(calls) == calls_then
    calls.clear()
    run(toy, tmp_path, quick=False)
    assert len(calls) == 1
    run(toy.with_inputs(seed=8), tmp_path, quick=False)
    assert len(calls) == 2
    with monkeypatch.context() as patch:
        patch.setattr(runner, "source_digest", lambda figure: "other")
        run(toy.with_inputs(seed=8), tmp_path, quick=False)
    assert len(calls) == 3
    monkeypatch.setattr(provenance, "LIBRARIES", ("ensembletheory",))
    run(toy.with_inputs(seed=8), tmp_path, quick=False)
    assert len(calls) == 4


def test_a_run_cut_short_is_not_mistaken_for_a_whole_one(tmp_path, monkeypatch):
    run(TOY, tmp_path)
    written = []

    def stop_at_the_third(path, content):
        written.append(path.name)
        if len(written) == 3:
            raise KeyboardInterrupt
        path.write_bytes(content)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "write_whole", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            run(TOY.with_inputs(points=5), tmp_path)
    assert runner.intact_record(TOY, tmp_path, quick=True) is None
    assert runner.intact_record(TOY.with_inputs(points=5), tmp_path, quick=True) is None
    assert run(TOY, tmp_path) == 0


# Checkpoints.


def counting(stops):
    """A figure that does four pieces of work and keeps them at its checkpoint; it is cut short at the pieces in `stops`, once each."""
    done = []

    def compute(level, points, seed):
        kept = checkpoint("toy", "pieces")
        for piece in range(len(kept.read_text()) if kept.exists() else 0, 4):
            if piece in stops:
                stops.remove(piece)
                raise KeyboardInterrupt
            done.append(piece)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text("x" * (piece + 1))
        return _compute(level, points, seed)

    return replace(TOY, compute=compute), done


def test_a_figure_cut_short_goes_on_from_its_checkpoints_and_leaves_none(tmp_path):
    toy, done = counting([2])
    with pytest.raises(KeyboardInterrupt):
        run(toy, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".work"]
    assert run(toy, tmp_path) == 0
    assert done == [0, 1, 2, 3]
    assert not (tmp_path / ".work").exists()


def test_checkpoints_of_other_inputs_modes_or_sources_are_not_gone_on_with_but_removed(tmp_path, monkeypatch):
    toy, done = counting([1, 2, 3])
    for change in (lambda: toy, lambda: toy.with_inputs(seed=8), lambda: monkeypatch.setattr(runner, "source_digest", lambda figure: "other") or toy):
        with pytest.raises(KeyboardInterrupt):
            run(change(), tmp_path)
    assert done == [0, 0, 1, 0, 1, 2]
    (tmp_path / ".work" / "another").mkdir()
    assert run(toy, tmp_path, quick=False) == 0
    assert done[6:] == [0, 1, 2, 3]
    assert [path.name for path in (tmp_path / ".work").iterdir()] == ["another"]


def test_a_figure_that_fails_keeps_its_checkpoints(tmp_path):
    toy, done = counting([])
    assert run(replace(toy, draw=lambda data: 1 / 0), tmp_path) == 1
    assert run(toy, tmp_path) == 0
    assert done == [0, 1, 2, 3]


def test_there_is_no_checkpoint_where_nothing_is_drawn_and_none_of_another_figure(tmp_path):
    assert checkpoint("toy", "part") is None
    assert run(replace(TOY, compute=lambda **inputs: {"y": [checkpoint("toi", "part")]}), tmp_path) == 1
    assert "`figure_name`: got 'toi'; expected the figure that is being drawn, 'toy'" in record(tmp_path)["error"]


def test_the_source_digest_sees_every_file_a_figure_may_use_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    paths = [tmp_path / name for name in ("ensembletheory/a.py", "ensembletheory/b/table.json", "simulations/c.py", "paper_figures/framework/d.py")]
    others = [tmp_path / name for name in ("paper_figures/other.py", "ensembletheory/__pycache__/a.pyc", "tests/t.py")]
    for path in (*paths, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    before = provenance.source_digest(TOY)
    for path in others:
        path.write_text("2")
        assert provenance.source_digest(TOY) == before
    seen = {before}
    for path in paths:
        path.write_text("2")
        assert provenance.source_digest(TOY) not in seen, path
        seen.add(provenance.source_digest(TOY))


def test_without_a_git_checkout_the_commit_is_said_to_be_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.environment()["git_commit"] == "unknown: not a git checkout"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.environment()["git_commit"] == "unknown: git is not installed"


def test_data_digests_depend_on_names_types_shapes_and_values():
    base = {"a": np.arange(4.0), "b": np.arange(2)}
    others = [{"c": base["a"], "b": base["b"]}, base | {"a": base["a"].reshape(2, 2)}, base | {"b": np.arange(2.0)}, base | {"a": np.arange(4.0) + 1e-16 + 1}]
    assert provenance.data_digest(dict(reversed(base.items()))) == provenance.data_digest(base)
    assert len({provenance.data_digest(data) for data in (base, *others)}) == 5


# The command.


def test_without_names_claims_are_checked_too(tmp_path, monkeypatch, capsys):
    rows = [{"id": "a-claim", "kind": "theorem", "statement": r"x \le y", "source": "here", "holds": True, "verdict": "holds"}]
    monkeypatch.setattr(jobs, "claims_table", lambda quick: rows)
    assert command.main([], True, tmp_path, {"toy": TOY}) == 0
    assert json.loads((tmp_path / "claims.json").read_text()) == rows
    rows[0] |= {"holds": False, "verdict": "violated"}
    assert command.main([], True, tmp_path, {"toy": TOY}) == 1
    assert "claim a-claim: violated" in capsys.readouterr().out


@pytest.mark.verify  # starts two processes, as every reproduction does
def test_processes_share_the_jobs():
    todo = [partial(jobs.Done, holds, str(holds)) for holds in (True, False, True)]
    assert sorted(jobs.results(todo, 2)) == sorted(jobs.results(todo, 1)) == [(False, "False"), (True, "True"), (True, "True")]


def test_the_table_of_claims_is_that_of_the_registry(monkeypatch):
    monkeypatch.setattr(page.claims, "ids", lambda: ("log-pool-reverse-kl",))
    (row,) = page.claims_table(quick=True)
    assert (row["id"], row["kind"], row["holds"]) == ("log-pool-reverse-kl", "refuted", True)
    assert row["statement"] == page.claims.get("log-pool-reverse-kl").statement


def test_a_claim_that_raises_does_not_stand_and_stops_nothing(monkeypatch):
    def check(id, samples):
        raise page.claims.ClaimError("its margin raised")

    monkeypatch.setattr(page.claims, "ids", lambda: ("log-pool-kl",))
    monkeypatch.setattr(page.claims, "check", check)
    (row,) = page.claims_table(quick=True)
    assert (row["holds"], row["verdict"]) == (False, "its margin raised")


def test_an_unknown_name_is_refused_with_the_nearest_before_anything_is_drawn(tmp_path, capsys):
    assert command.main(["toy", "tow"], True, tmp_path, {"toy": TOY}) == 2
    assert "unknown figure 'tow'; the nearest: toy" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_lists_figures_and_refuses_unknown_options():
    listed = CliRunner().invoke(command.app, ["--list"])
    assert listed.exit_code == 0
    assert [line.split(":")[0] for line in listed.output.splitlines()] == list(command.registered())
    assert CliRunner().invoke(command.app, ["--venue"]).exit_code == 2


def test_the_module_runs_as_a_program():
    unknown = subprocess.run([sys.executable, "-m", "paper_figures", "pool_chian"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert unknown.returncode == 2
    assert "the nearest: pool_chain" in unknown.stderr


def test_every_figure_is_called_like_its_file_and_has_a_test():
    for name, figure in command.registered().items():
        assert figure.name == name
        assert Path(__file__).with_name(f"test_{name}.py").is_file(), name
