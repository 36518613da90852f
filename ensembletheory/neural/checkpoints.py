"""Checkpoints: one file, written whole, that says which run it belongs to.

The first line is JSON: the number of steps done, the SHA-256 of the rest, and the identity of the run, a mapping from what the run depends on (key, model at the start,
loss, recipe) to its value or fingerprint. The rest holds the arrays of the state and of the losses so far, as `equinox.tree_serialise_leaves` writes them.

A fingerprint tells apart whatever a model or a loss holds: arrays by their bits, modules by their class and all fields (sizes, rates and names among them), functions by their
name, their bytecode and what they close over. It does not see what functions and methods read from elsewhere: of an edited package, or of changed global variables, it knows
nothing.
"""

import dataclasses
import functools
import hashlib
import inspect
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from ensembletheory.errors import refuse
from ensembletheory.files import write_whole

__all__ = ["fingerprint", "read_checkpoint", "write_checkpoint"]


def fingerprint(tree: Any) -> str:
    """A hash of all that `tree` holds, the same in every process."""
    return hashlib.sha256(_described(tree, ()).encode()).hexdigest()[:16]


def _described(value: Any, within: tuple) -> str:
    """What tells `value`, found `within` others, from other values."""
    if any(value is outer for outer in within):
        return "itself"
    inner = functools.partial(_described, within=(*within, value))
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"{jax.random.key_impl(value)}{inner(jax.random.key_data(value))}"
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        array = np.asarray(value)
        return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"
    if isinstance(value, type | ModuleType):
        return value.__name__ if isinstance(value, ModuleType) else f"{value.__module__}.{value.__qualname__}"
    return _described_by_parts(value, inner)


def _described_by_parts(value: Any, inner: Callable[[Any], str]) -> str:
    if isinstance(value, list | tuple):
        parts = map(inner, value)
    elif isinstance(value, set | frozenset):
        parts = sorted(map(inner, value))
    elif isinstance(value, Mapping):
        parts = (f"{inner(key)}: {inner(value[key])}" for key in value)
    elif isinstance(value, functools.partial):
        parts = map(inner, (value.func, value.args, value.keywords))
    elif dataclasses.is_dataclass(value):
        parts = (f"{field.name}: {inner(getattr(value, field.name, None))}" for field in dataclasses.fields(value))
    elif isinstance(value, CodeType):
        parts = map(inner, (value.co_name, value.co_code, value.co_consts, value.co_names))
    elif inspect.ismethod(value):
        parts = map(inner, (value.__func__, value.__self__))
    elif inspect.isfunction(value) or hasattr(value, "__wrapped__"):
        parts = _parts_of_function(inspect.unwrap(value), inner)
    else:
        parts = [inner(vars(value))] if hasattr(value, "__dict__") else [repr(value)]
    return f"{inner(type(value))}({', '.join(parts)})"


def _parts_of_function(function: Any, inner: Callable[[Any], str]) -> list[str]:
    closed_over = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    own = [getattr(function, part, None) for part in ("__module__", "__qualname__", "__code__", "__defaults__", "__kwdefaults__")]
    return list(map(inner, own + closed_over))


def write_checkpoint(path: Path, state: Any, losses: Float[np.ndarray, "K steps"], identity: dict[str, Any]) -> None:
    """Write state and losses so that `path` is never seen half written."""
    leaves = io.BytesIO()
    eqx.tree_serialise_leaves(leaves, (state, losses))
    header = json.dumps({"steps": losses.shape[-1], "sha256": hashlib.sha256(leaves.getvalue()).hexdigest(), **identity})
    write_whole(path, header.encode() + b"\n" + leaves.getvalue())


def read_checkpoint(path: Path, state: Any, losses: Float[np.ndarray, "K 0"], identity: dict[str, Any]) -> tuple[Any, Float[np.ndarray, "K steps"]]:
    """State and losses at the checkpoint.

    Args:
        path: the file.
        state: a state of the same structure.
        losses: an array without steps, for the shape of what stands before them.
        identity: of the run that asks.

    Raises:
        ValueError: if the file is not a checkpoint, or one of another run.
    """
    try:
        head, _, leaves = path.read_bytes().partition(b"\n")
        header = json.loads(head)
        steps, digest = header.pop("steps"), header.pop("sha256")
        _refuse_another_run(path, header, identity)
        if hashlib.sha256(leaves).hexdigest() != digest:
            raise EOFError("its content is not what was written")
        return eqx.tree_deserialise_leaves(io.BytesIO(leaves), (state, np.zeros((*losses.shape[:-1], steps))))
    except OSError as error:
        refuse("checkpoint", f"{path}, which cannot be read ({error})", "a file that can be read and written", "Name another.")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError, KeyError, EOFError, RuntimeError) as error:
        refuse("checkpoint", f"{path}, which cannot be read ({error})", "a file written by this training run", "Delete it to start afresh.")


def _refuse_another_run(path: Path, header: dict[str, Any], identity: dict[str, Any]) -> None:
    for name in identity:
        if header.get(name) != identity[name]:
            refuse("checkpoint", f"{path}, written with another {name}", f"the {name} of this run", "Delete it to start afresh, or pass what it was written with.")
