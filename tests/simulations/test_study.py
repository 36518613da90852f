import hashlib
import importlib
import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest

from simulations.study import Study, resolve
from tests.simulations.small_studies import draw, normals


def test_key_is_the_root_folded_with_a_hash_of_the_coordinates():
    digest = hashlib.sha256(b'{"index":3,"scale":0.5}').digest()
    key = jax.random.key(7, impl="threefry2x32")
    for word in (digest[:4], digest[4:8]):
        key = jax.random.fold_in(key, np.uint32(int.from_bytes(word, "big")))
    for cell in ({"scale": 0.5, "index": 3}, {"index": 3, "scale": 0.5}):
        np.testing.assert_array_equal(jax.random.key_data(normals.key(cell)), jax.random.key_data(key))


def test_cells_that_differ_have_different_keys_and_addresses():
    cells = [{"a": value} for value in (0, 1, 1.0, True, False, None, "1", "", 0.1, 0.1 + 2**-56)]
    study = Study("any", cells, draw)
    for one, other in itertools.combinations(cells, 2):
        assert study.address(one) != study.address(other)
        assert not np.array_equal(jax.random.key_data(study.key(one)), jax.random.key_data(study.key(other)))


def test_address_depends_on_everything_that_makes_a_number():
    cell = normals.cells[0]
    others = [
        replace(normals, seed=8).address(cell),
        replace(normals, name="others").address(cell),
        replace(normals, uses=("ensembletheory.precision",)).address(cell),
        normals.address({**cell, "scale": 0.75}),
    ]
    assert len({normals.address(cell), *others}) == 5


def test_address_does_not_depend_on_the_rest_of_the_grid():
    cell = normals.cells[3]
    assert replace(normals, cells=normals.cells[::-1], quick=()).address(cell) == normals.address(cell)
    assert replace(normals, cells=[cell], quick=()).address(dict(reversed(cell.items()))) == normals.address(cell)


def test_source_of_the_study_and_of_what_it_uses_is_part_of_the_address(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("study_in_a_file", "helper_in_a_file"):
        (tmp_path / f"{name}.py").write_text("def simulate(cell, key):\n    return []\n")
    importlib.invalidate_caches()
    study = Study("in-a-file", [{"a": 1}], resolve("study_in_a_file:simulate"), uses=("helper_in_a_file",))
    addresses = [study.address({"a": 1})]
    for name in ("study_in_a_file", "helper_in_a_file"):
        (tmp_path / f"{name}.py").write_text("def simulate(cell, key):\n    return [{'b': 1}]\n")
        addresses.append(replace(study).address({"a": 1}))
    assert len(set(addresses)) == 3
    assert replace(study).address({"a": 1}) == addresses[-1]


def test_cells_are_sorted_by_value_not_by_text():
    study = Study("sorted", [{"n": 10, "m": "b"}, {"n": 9, "m": "b"}, {"n": 2, "m": "c"}], draw)
    assert [cell["n"] for cell in study.sorted_cells()] == [9, 10, 2]


def local_study():
    def simulate(cell, key):
        return []

    return simulate


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../outside"}, "`name`.*lower-case words"),
        ({"cells": []}, "`cells`: got none"),
        ({"cells": [{"a": 1}, {"b": 1}]}, "`cells`: got coordinates"),
        ({"cells": [{"a": 1}, {"a": 1}]}, "same cell twice"),
        ({"cells": [{"a": float("nan")}]}, "`cells`: got a = nan"),
        ({"cells": [{"a": np.float64(1.0)}]}, "plain Python scalar"),
        ({"cells": [{"a": [1]}]}, "plain Python scalar"),
        ({"quick": [{"scale": 3.0, "index": 0}]}, "`quick`"),
        ({"seed": -1}, "`seed`"),
        ({"seed": 2**32}, "`seed`"),
        ({"simulate": lambda cell, key: []}, "`simulate`.*top level"),
        ({"simulate": local_study()}, "`simulate`.*top level"),
        ({"uses": ("no_such_module_anywhere",)}, "`uses`"),
        ({"uses": ("sys",)}, "`uses`"),
    ],
)
def test_a_study_that_cannot_be_repeated_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(normals, **{"quick": (), **change})


@pytest.mark.parametrize("reference", ["no_such_module:study", "simulations.study:nothing", ":", "simulations"])
def test_resolve_refuses_what_is_not_there(reference):
    with pytest.raises(ValueError, match="`reference`"):
        resolve(reference)
