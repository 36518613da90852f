"""Where a figure comes from: inputs, sources, libraries, machine, and the digests by which a later run knows that nothing has changed."""

import hashlib
import inspect
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from paper_figures.framework.contract import Data, Figure

__all__ = ["data_digest", "digest", "environment", "inputs_digest", "source_digest"]

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("ensembletheory", "simulations", "paper_figures/framework", "paper_figures/shared")
LIBRARIES = ("ensembletheory", "jax", "jaxlib", "numpy", "scipy", "matplotlib", "equinox", "optax", "scikit-learn", "pyarrow")


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def digest(content: bytes | str) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def inputs_digest(settings: Mapping[str, Any]) -> str:
    """A digest of the inputs that does not depend on their order."""
    return digest(json.dumps(settings, sort_keys=True))


def data_digest(data: Data) -> str:
    """A digest of names, types, shapes and bytes of the arrays."""
    described = [(name, str(data[name].dtype), data[name].shape, digest(data[name].tobytes())) for name in sorted(data)]
    return digest(json.dumps(described))


def source_digest(figure: Figure) -> str:
    """A digest of the figure's own file and of every file of the packages it may use; other figures do not enter."""
    files = [Path(inspect.getfile(figure.compute))]
    for folder in SOURCES:
        files += sorted(path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return digest("".join(f"{path.name} {digest(path.read_bytes())}\n" for path in files))


def environment() -> dict[str, Any]:
    """Versions, commit, machine and numeric settings of this run."""
    device = jax.devices()[0]
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in LIBRARIES},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": _git("status", "--porcelain") != "",
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
        "x64": jax.config.values["jax_enable_x64"],
        "prng": jax.config.values["jax_default_prng_impl"],
        "prng_partitionable": jax.config.values["jax_threefry_partitionable"],
    }


def _git(*arguments: str) -> str:
    try:
        run = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return "unknown: git is not installed"
    return run.stdout.strip() if run.returncode == 0 else "unknown: not a git checkout"
