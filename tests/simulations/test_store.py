import json
import math
import shutil

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

from simulations.store import DamagedPart, load, part_path, read_part, survey, write_part
from simulations.study import Study
from tests.simulations.small_studies import draw, normals

CELL, OTHER = normals.cells[:2]
ROWS = [{"x": 0.1, "n": 3, "name": "é", "flag": True, "gap": None}, {"x": math.inf, "n": -(2**62), "name": "", "flag": False, "gap": None}]


def test_rows_come_back_exactly_with_their_coordinates(tmp_path):
    write_part(tmp_path, normals, CELL, ROWS)
    assert read_part(tmp_path, normals, CELL).to_pylist() == [{**CELL, **row} for row in ROWS]


def test_nan_and_numpy_and_jax_scalars_are_values(tmp_path):
    write_part(tmp_path, normals, CELL, [{"a": np.float64("nan"), "b": jnp.asarray(1.5), "c": np.int32(2), "d": np.bool_(True)}])
    (row,) = read_part(tmp_path, normals, CELL).to_pylist()
    assert math.isnan(row["a"])
    assert (row["b"], row["c"], row["d"]) == (1.5, 2, True)


def test_metadata_tells_where_the_rows_come_from(tmp_path):
    path = write_part(tmp_path, normals, CELL, ROWS)
    record = json.loads(pq.read_schema(path).metadata[b"simulation"])
    assert (record["study"], record["seed"], record["cell"]) == ("normals", 7, CELL)
    assert {"python", "jax", "numpy", "pyarrow"} <= set(record["versions"])
    assert path == tmp_path / "normals" / f"{normals.address(CELL)}.parquet"


def read_or_none(store):
    try:
        return read_part(store, normals, CELL).to_pylist()
    except DamagedPart:
        return None


def test_every_truncation_is_noticed(tmp_path):
    path = write_part(tmp_path, normals, CELL, ROWS)
    content = path.read_bytes()
    for length in [*range(0, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:length])
        assert read_or_none(tmp_path) is None


def test_no_altered_byte_alters_a_row(tmp_path):
    path = write_part(tmp_path, normals, CELL, ROWS)
    content, expected = path.read_bytes(), read_or_none(tmp_path)
    noticed = 0
    for position in range(0, len(content), 7):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        rows = read_or_none(tmp_path)
        noticed += rows is None
        assert rows in (None, expected)
    assert noticed > len(content) // 7 // 2


def test_a_part_under_another_cells_name_is_damaged(tmp_path):
    shutil.copy(write_part(tmp_path, normals, CELL, ROWS), part_path(tmp_path, normals, OTHER))
    with pytest.raises(DamagedPart):
        read_part(tmp_path, normals, OTHER)


def test_survey_sorts_the_cells_into_whole_absent_and_damaged(tmp_path):
    study = Study("three", [{"i": 2}, {"i": 0}, {"i": 1}], draw)
    write_part(tmp_path, study, {"i": 1}, ROWS)
    write_part(tmp_path, study, {"i": 0}, ROWS).write_bytes(b"PAR1")
    found = survey(study, tmp_path)
    assert (len(found.parts), found.absent, found.damaged) == (1, [{"i": 2}], [{"i": 0}])
    with pytest.raises(ValueError, match=r"`store`: got 1 absent and 1 damaged parts.*Run the study again"):
        load(study, tmp_path)


def test_load_reads_exactly_the_cells_in_one_order(tmp_path):
    study = Study("three", [{"i": 10}, {"i": 9}, {"i": 1}], draw)
    write_part(tmp_path, study, {"i": 10}, [{"x": 1}])
    write_part(tmp_path, study, {"i": 9}, [{"x": 0.5}, {"x": 0.25}])
    write_part(tmp_path, study, {"i": 1}, [])
    write_part(tmp_path, Study("three", [{"i": 11}], draw), {"i": 11}, [{"x": 2.0}])
    assert load(study, tmp_path).to_pylist() == [{"i": 9, "x": 0.5}, {"i": 9, "x": 0.25}, {"i": 10, "x": 1.0}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [([{"x": 1}, {"y": 1}], "columns"), ([{"scale": 1}], "none of them"), ([{"x": np.ones(2)}], "got x ="), ([{"x": 1j}], "got x =")],
)
def test_untidy_rows_are_refused_and_leave_no_part(tmp_path, rows, message):
    with pytest.raises(ValueError, match=f"`rows`.*{message}"):
        write_part(tmp_path, normals, CELL, rows)
    assert survey(normals, tmp_path).parts == []
