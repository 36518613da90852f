"""Checkpoints: one file, written whole, that says which run it belongs to.

The first line is JSON: the number of steps done and the identity of the run, a mapping from what the run depends on (key, model at the start, loss, recipe) to its value
or to the fingerprint of its arrays. The rest holds the arrays of the state and of the losses so far, as `equinox.tree_serialise_leaves` writes them.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from ensembletheory.errors import refuse
from ensembletheory.files import write_whole

__all__ = ["fingerprint", "read_checkpoint", "write_checkpoint"]


def fingerprint(tree: Any) -> str:
    """A hash of the arrays of `tree`: their bits, shapes and dtypes."""
    hashed = hashlib.sha256()
    for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array_like)):
        array = np.asarray(jax.random.key_data(leaf) if eqx.is_array(leaf) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
        hashed.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
    return hashed.hexdigest()[:16]


def write_checkpoint(path: Path, state: Any, losses: Float[np.ndarray, "K steps"], identity: dict[str, Any]) -> None:
    """Write state and losses so that `path` is never seen half written."""
    leaves = io.BytesIO()
    eqx.tree_serialise_leaves(leaves, (state, losses))
    header = json.dumps({"steps": losses.shape[-1], **identity})
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
    head, _, leaves = path.read_bytes().partition(b"\n")
    try:
        header = json.loads(head)
        steps = header.pop("steps")
        _refuse_another_run(path, header, identity)
        return eqx.tree_deserialise_leaves(io.BytesIO(leaves), (state, np.zeros((*losses.shape[:-1], steps))))
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError, KeyError, EOFError, RuntimeError) as error:
        refuse("checkpoint", f"{path}, which cannot be read ({error})", "a file written by this training run", "Delete it to start afresh.")


def _refuse_another_run(path: Path, header: dict[str, Any], identity: dict[str, Any]) -> None:
    for name in identity:
        if header.get(name) != identity[name]:
            refuse("checkpoint", f"{path}, written with another {name}", f"the {name} of this run", "Delete it to start afresh, or pass what it was written with.")
