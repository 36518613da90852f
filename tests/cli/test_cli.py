"""The closed list of commands, what they print, and above all their exit status: 0 holds, 1 does not hold, 2 wrong use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ensembletheory import diagnosis
from ensembletheory.claims import get, ids, stored
from ensembletheory.cli import app

FILE = """
import numpy as np
from ensembletheory.claims import Domain, claim, real

def made(id, function, kind="conjecture"):
    return claim(id=id, statement="x", source="own notes", domain=Domain(x=real(-1, 1)), kind=kind)(function)

above = made("above", lambda x: x + 2.0)
below = made("below", lambda x: x)
wrong_sign = made("wrong-sign", lambda x: -x - 2.0, kind="theorem")
nan = made("nan", lambda x: np.nan)
shape = made("shape", lambda x: np.zeros(2))
raising = made("raising", lambda x: 1 / 0)
refuted = made("refuted", lambda x: x, kind="refuted")

def plain(x):
    return 1.0
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in an empty folder with the file `mine.py`."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(FILE)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_the_list_of_commands_is_closed(run):
    commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert commands == {"claims", "check", "falsify", "cite", "doctor"}


@pytest.mark.parametrize("command", ["claims", "check", "falsify", "cite", "doctor"])
def test_every_command_takes_json_and_seed(run, command):
    help = run(command, "--help").stdout
    assert "--json" in help
    assert "--seed" in help


def test_claims_lists_them_all(run):
    result = run("claims")
    assert result.exit_code == 0
    assert all(id in result.stdout for id in ids())
    records = json.loads(run("claims", "--json", "--seed", "1").stdout)
    assert [record["id"] for record in records] == list(ids())
    assert set(records[0]) == {"id", "kind", "statement", "source", "references", "proof", "domain", "mutants"}


def test_check_of_what_holds(run):
    result = run("check", "log-pool-reverse-kl", "mine.py:above", "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert record["holds"] is True
    assert [entry["verdict"].split(":")[0] for entry in record["results"]] == ["refuted", "open"]


def test_check_without_ids_checks_every_claim(run, monkeypatch):
    asked = []
    monkeypatch.setattr("ensembletheory.claims.check", lambda claim, seed: asked.append((claim.id, seed)) or stored_result(claim))
    assert run("check", "--seed", "7").exit_code == 0
    assert asked == [(id, 7) for id in ids()]


def stored_result(claim):
    from ensembletheory.claims import CheckResult

    return CheckResult(claim.id, claim.kind, True, "fine", 0.0, 0.0, {}, 0)


@pytest.mark.parametrize("target", ["wrong_sign", "below"])
def test_check_of_what_does_not_hold(run, target):
    result = run("check", f"mine.py:{target}")
    assert result.exit_code == 1
    assert "FAILS" in result.stdout
    assert "violated" in result.stdout


def test_check_of_a_refuted_claim_without_its_counterexample(run, monkeypatch):
    monkeypatch.setattr(stored, "counterexample_path", lambda claim: Path("nowhere.json"))
    result = run("check", "log-pool-reverse-kl")
    assert result.exit_code == 1
    assert "no valid stored counter-example" in result.stdout.replace("\n", " ")


def test_falsify_writes_what_it_finds_and_check_takes_it_from_beside_the_claim(run):
    result = run("falsify", "mine.py:refuted", "--budget", "100", "--out", "counterexamples/refuted.json")
    assert result.exit_code == 1
    assert "counter-example: margin -1 at x = -1" in result.stdout
    assert "written to counterexamples/refuted.json" in result.stdout
    assert json.loads(Path("counterexamples/refuted.json").read_text())["instance"] == {"x": "-1"}
    assert run("check", "mine.py:refuted").exit_code == 0


def test_falsify_has_a_stated_place_for_what_it_finds(run):
    result = run("falsify", "mine.py:below", "--budget", "100", "--json", "--seed", "5")
    record = json.loads(result.stdout)
    assert (result.exit_code, record["found"], record["seed"]) == (1, True, 5)
    assert record["path"] == str(Path("output", "counterexamples", "below.json"))
    assert Path(record["path"]).is_file()


def test_falsify_that_finds_nothing(run):
    result = run("falsify", "mine.py:above", "--budget", "100")
    assert result.exit_code == 0
    assert "none found: least margin 1" in result.stdout
    assert not Path("output").exists()


@pytest.mark.parametrize("command", ["check", "falsify"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("log-pol-kl", "Nearest: log-pool-kl"),
        ("absent.py:margin", "there is no file absent.py"),
        ("mine.py", "expected FILE.py:function"),
        ("mine.py:absent", "no 'absent' in mine.py"),
        ("mine.py:plain", "'plain', a function, in mine.py"),
        ("broken.py:margin", "importing it raised ZeroDivisionError: division by zero"),
        ("exits.py:margin", "importing it raised SystemExit"),
        ("syntax.py:margin", "importing it raised SyntaxError"),
        ("mine.py:nan", "claim `nan`: its margin returned NaN at x="),
        ("mine.py:shape", r"claim `shape`: its margin returned shape (2,) at x="),
        ("mine.py:raising", "claim `raising`: its margin raised ZeroDivisionError: division by zero at x="),
    ],
)
def test_wrong_use(run, command, target, message):
    Path("broken.py").write_text("1 / 0")
    Path("exits.py").write_text("raise SystemExit(0)")
    Path("syntax.py").write_text("def margin(:")
    result = run(command, target)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [("falsify", "log-pool-kl", "--budget", "3"), ("cite", "nobody"), ("certify", "log-pool-kl"), ("falsify",)])
def test_other_wrong_use(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr


def test_cite_prints_bibtex(run):
    result = run("cite", "log-pool-kl")
    assert result.exit_code == 0
    assert "@inproceedings{heskes1998selecting," in result.stdout
    assert result.stdout.count("{") == result.stdout.count("}")
    record = json.loads(run("cite", "log-pool-kl", "--json").stdout)
    assert record["references"] == list(get("log-pool-kl").references)


def test_doctor_is_content_with_this_machine(run):
    result = run("doctor", "--json")
    record = json.loads(result.stdout)
    assert result.exit_code == 0
    assert record["problems"] == []
    assert record["versions"]["jax"].startswith("0.")
    assert set(record["missing"]) == {"figures", "test", "neural", "sweep", "data", "images", "transport", "all"}


@pytest.mark.parametrize(("version", "sound"), [("0.9.2", True), ("0.10.1", False), ("0.11.0", False), ("0.12.0", True)])
def test_doctor_warns_of_a_jax_that_deadlocks(run, monkeypatch, version, sound):
    installed = diagnosis._version
    monkeypatch.setattr(diagnosis, "_version", lambda name: version if name == "jax" else installed(name))
    result = run("doctor")
    assert result.exit_code == (0 if sound else 1)
    assert (f"jax {version} deadlocks" in result.stdout) is not sound


def test_doctor_names_the_extra_that_is_missing(run, monkeypatch):
    installed = diagnosis._version
    monkeypatch.setattr(diagnosis, "_version", lambda name: None if name == "matplotlib" else installed(name))
    result = run("doctor")
    assert result.exit_code == 0
    assert "pip install 'ensembletheory[figures]'" in result.stdout


def test_as_a_program():
    """A fresh process, whose standard output is JSON alone, and whose exit status is the verdict."""
    program = [sys.executable, "-m", "ensembletheory", "check", "log-pool-reverse-kl", "--json"]
    checked = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["results"][0]["kind"] == "refuted"
