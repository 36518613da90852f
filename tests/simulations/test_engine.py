import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import distributed
import jax
import numpy as np
import pytest

from simulations import engine
from simulations.engine import run, run_here
from simulations.preload import cpu_of
from simulations.store import load, survey
from simulations.study import Study
from tests.simulations.small_studies import deadly, draw_unless_marked, half_failing, normals, processes, slow_normals

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scheduler():
    """The address of a cluster that was started by somebody else, as a remote one is."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**options) as cluster:
        yield cluster.scheduler_address


def contents(store):
    return {path.name: path.read_bytes() for path in Path(store).rglob("*.parquet")}


@pytest.mark.verify
def test_scheduler_workers_and_order_change_no_number(tmp_path, scheduler):
    backwards = replace(normals, cells=normals.cells[::-1])
    reports = [
        run_here(normals, tmp_path / "here"),
        run_here(backwards, tmp_path / "backwards"),
        run(normals, tmp_path / "local", workers=2),
        run(backwards, tmp_path / "remote", scheduler=scheduler),
    ]
    assert {(report.kept, report.written, report.failures) for report in reports} == {(0, 8, ())}
    tables = [load(normals, tmp_path / name) for name in ("here", "backwards", "local", "remote")]
    assert all(table.equals(tables[0]) for table in tables)
    assert tables[0].num_rows == 24
    assert len(set(tables[0]["value"].to_pylist())) == 24
    assert contents(tmp_path / "here") == contents(tmp_path / "local") == contents(tmp_path / "remote")


def test_numbers_stay_what_they_were(tmp_path):
    run_here(replace(normals, cells=normals.cells[:1], quick=()), tmp_path)
    values = load(replace(normals, cells=normals.cells[:1], quick=()), tmp_path)["value"].to_numpy()
    np.testing.assert_allclose(values, [-0.530881502889469, 0.33429647589186323, 0.4674817808371806], rtol=1e-9)


def test_running_again_computes_only_what_is_missing(tmp_path):
    run_here(replace(normals, cells=normals.cells[:3], quick=()), tmp_path)
    before = contents(tmp_path)
    report = run_here(normals, tmp_path)
    assert (report.kept, report.written) == (3, 5)
    assert before.items() <= contents(tmp_path).items()
    assert run(normals, tmp_path, workers=2).written == 0


def test_a_damaged_part_is_computed_again(tmp_path):
    run_here(normals, tmp_path)
    whole = contents(tmp_path)
    victim = sorted((tmp_path / "normals").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:-100])
    report = run_here(normals, tmp_path)
    assert (report.kept, report.written) == (7, 1)
    assert contents(tmp_path) == whole


def test_another_seed_is_another_study_in_the_same_store(tmp_path):
    run_here(normals, tmp_path)
    assert run_here(replace(normals, seed=8), tmp_path).written == 8
    values = [set(load(replace(normals, seed=seed), tmp_path)["value"].to_pylist()) for seed in (7, 8)]
    assert not values[0] & values[1]


@pytest.mark.parametrize("how", ["here", "remote"])
def test_a_cell_that_raises_is_named_and_tried_again(tmp_path, scheduler, how):
    mark = tmp_path / "mark"
    mark.touch()
    study = Study("retried", [{"index": index, "mark": str(mark)} for index in range(4)], draw_unless_marked)
    go = run_here if how == "here" else lambda study, store: run(study, store, scheduler=scheduler)
    report = go(study, tmp_path)
    assert [failure.cell["index"] for failure in report.failures] == [1, 3]
    assert all(f"ArithmeticError: cell {failure.cell['index']} would not (small_studies.py, line" in failure.reason for failure in report.failures)
    assert report.written == 2
    mark.unlink()
    report = go(study, tmp_path)
    assert (report.kept, report.written, report.failures) == (2, 2, ())


def test_workers_are_spawned_pinned_and_in_64_bits(tmp_path):
    report = run(processes, tmp_path, workers=2)
    assert report.failures == ()
    rows = load(processes, tmp_path).to_pylist()
    assert os.getpid() not in {row["pid"] for row in rows}
    assert {(row["cpus"], row["x64"], row["bits"]) for row in rows} == {(1, True, 64)}


@pytest.mark.verify
def test_a_worker_that_dies_takes_only_its_own_cell(tmp_path):
    report = run(deadly, tmp_path, workers=1)
    assert [failure.cell for failure in report.failures] == [{"index": 2}]
    assert "KilledWorker" in report.failures[0].reason
    assert report.written == 3


def test_a_worker_with_another_source_refuses(tmp_path):
    task = engine._task(normals, normals.cells[0]).replace(normals.source, "0" * 64)
    assert "`source`" in engine._perform(task, str(tmp_path))
    assert contents(tmp_path) == {}


def test_parts_that_do_not_show_up_are_reported(tmp_path):
    outcomes = [(cell, None) for cell in normals.cells]
    report = engine._report(normals, tmp_path, list(normals.cells), outcomes)
    assert report.written == 0
    assert "do the workers share this folder?" in report.failures[0].reason


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"workers": 2, "scheduler": "tcp://127.0.0.1:1"}])
def test_wrong_numbers_of_workers_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="`workers`"):
        run(normals, tmp_path, **wrong)


def test_32_bits_are_refused_here(tmp_path):
    with jax.enable_x64(False), pytest.raises(RuntimeError, match="study normals: got 32-bit"):
        run_here(normals, tmp_path)


def test_missing_dask_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"ensembletheory\[sweep\]"):
        run(normals, tmp_path, workers=1)


def test_the_bootstrap_does_not_import_jax():
    program = "import sys, simulations.preload; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_cpus_are_dealt_round():
    assert [cpu_of(name, [4, 6]) for name in ("0", "1", "2", "node-3")] == [4, 6, 4, 6]
    assert cpu_of("tcp://127.0.0.1:4000", [4, 6]) is None


def start(store, workers=1):
    """A run in a process that heeds Ctrl-C, also where the tests run in the background and were told to ignore it."""
    command = [sys.executable, "-m", "simulations", "run", "tests.simulations.small_studies:slow_normals", "--store", store, "--workers", str(workers)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what is ignored stays so in a child, what is handled does not
    try:
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for_parts(process, store, number):
    while len(contents(store)) < number and process.poll() is None:
        time.sleep(0.02)


@pytest.mark.verify
def test_stopped_runs_lose_and_double_nothing(tmp_path):
    """A run is killed, the next one gets Ctrl-C, and the third finishes."""
    store = tmp_path / "stopped"
    process = start(store)
    wait_for_parts(process, store, 1)
    time.sleep(np.random.default_rng(0).uniform(0.0, 0.2))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    found = survey(slow_normals, store)
    assert found.damaged == []
    kept = len(found.parts)
    assert 1 <= kept < 24
    process = start(store)
    wait_for_parts(process, store, kept + 4)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1, output
    assert "stopped; what is finished is kept" in output
    assert "Traceback" not in output
    found = survey(slow_normals, store)
    assert found.damaged == []
    assert kept + 4 <= len(found.parts) < 24
    process = start(store, workers=2)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    run_here(replace(slow_normals, cells=slow_normals.cells[:3]), tmp_path / "here")
    table = load(slow_normals, store)
    assert len(contents(store)) == 24
    assert table["index"].to_pylist() == [index for index in range(24) for _ in range(3)]
    assert len(set(table["value"].to_pylist())) == 72
    assert contents(tmp_path / "here").items() <= contents(store).items()


def test_the_failing_study_fails_on_every_run(tmp_path):
    assert [len(run_here(half_failing, tmp_path).failures) for _ in range(2)] == [2, 2]
