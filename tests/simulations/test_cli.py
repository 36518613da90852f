import json
import subprocess
import sys
from pathlib import Path

import distributed
import pytest
from typer.testing import CliRunner

from simulations import engine
from simulations.cli import app

ROOT = Path(__file__).parents[2]
SMALL = "tests.simulations.small_studies"


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_list_names_the_studies_with_their_sizes():
    studies = json.loads(call("list", "--json").stdout)["studies"]
    assert [study["study"] for study in studies] == ["mean-score-monotone", "sde-or-ode", "searches", "density-ensembles", "network-ensembles"]
    assert all(study["cells"] > study["quick"] > 0 for study in studies)
    assert call("list").stdout.startswith(f"mean-score-monotone: {studies[0]['about']}")


def test_run_status_and_quick(tmp_path):
    store = ["--store", tmp_path]
    assert call("status", f"{SMALL}:normals", *store).exit_code == 1
    result = call("run", f"{SMALL}:normals", "--quick", *store, "--workers", 1, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"study": "normals", "kept": 0, "written": 2, "failures": []}
    assert call("status", f"{SMALL}:normals", "--quick", *store).exit_code == 0
    counts = json.loads(call("status", f"{SMALL}:normals", *store, "--json").stdout)
    assert counts == {"study": "normals", "whole": 2, "absent": 6, "damaged": 0}
    assert call("status", f"{SMALL}:normals", "--quick", *store, "--seed", 5).exit_code == 1
    again = call("run", f"{SMALL}:normals", "--quick", *store)
    assert again.stdout == "normals: 0 written, 2 kept, 0 failed\n"


def test_failed_cells_are_named_and_the_status_is_1(tmp_path):
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**options, protocol="tcp://") as cluster:
        result = call("run", f"{SMALL}:half_failing", "--store", tmp_path, "--scheduler", cluster.scheduler_address)
    assert result.exit_code == 1
    assert "half-failing: 2 written, 0 kept, 2 failed" in result.stdout
    assert '"index": 3' in result.stdout
    assert "ArithmeticError: cell 3 would not" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "mean-score-monotony"], "nearest: mean-score-monotone"),
        (["status", "zzz"], "nearest: density-ensembles, mean-score-monotone"),
        (["run", f"{SMALL}:draw"], "a function"),
        (["run", f"{SMALL}:nothing"], "`reference`"),
        (["run", "no_such_module:study"], "`reference`"),
        (["run", f"{SMALL}:normals", "--seed", "-1"], "`seed`"),
        (["run", f"{SMALL}:normals", "--workers", "0"], "workers"),
        (["run", f"{SMALL}:normals", "--workers", "1", "--scheduler", "tcp://127.0.0.1:1"], "`workers`"),
        (["run", f"{SMALL}:slow_normals", "--quick"], "`cells`: got none"),
        (["run"], "STUDY"),
        (["walk"], "walk"),
    ],
)
def test_wrong_use_says_what_is_wrong_and_exits_with_2(tmp_path, arguments, message):
    result = call(*arguments, *(["--store", tmp_path] if len(arguments) > 1 else []))
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_scheduler_that_does_not_answer_is_wrong_use(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "PATIENCE", "1s")
    result = call("run", f"{SMALL}:normals", "--store", tmp_path, "--scheduler", "tcp://127.0.0.1:1")
    assert result.exit_code == 2
    assert "127.0.0.1:1" in result.stderr


def test_a_store_that_cannot_be_a_folder_is_wrong_use(tmp_path):
    (tmp_path / "file").touch()
    assert call("status", f"{SMALL}:normals", "--store", tmp_path / "file").exit_code == 2


def test_missing_dask_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = call("run", f"{SMALL}:normals", "--store", tmp_path)
    assert result.exit_code == 2
    assert "pip install 'ensembletheory[sweep]'" in result.stderr


@pytest.mark.verify
def test_missing_pyarrow_names_its_extra(tmp_path):
    program = "import sys; sys.modules['pyarrow'] = None; from simulations.cli import main; main()"
    command = [sys.executable, "-c", program, "run", f"{SMALL}:normals", "--store", tmp_path]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "pip install 'ensembletheory[sweep]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_module_entry_point_lists(tmp_path):
    command = [sys.executable, "-m", "simulations", "list", "--json"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(result.stdout) == json.loads(call("list", "--json").stdout)
