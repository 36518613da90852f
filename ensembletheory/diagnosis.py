"""What is installed, what is missing, and whether this JAX can be trusted on this machine."""

import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

import jax
import jax.numpy as jnp

from ensembletheory.precision import enable_x64

__all__ = ["Diagnosis", "diagnose"]

DEADLOCKING = ((0, 10), (0, 11))  # two batched Cholesky factorisations in one program block each other on two-core CPUs


@dataclass(frozen=True)
class Diagnosis:
    """Versions of what is required, the state of JAX, the packages each extra lacks, and the problems (none: sound)."""

    versions: dict[str, str]
    state: dict[str, str]
    missing: dict[str, list[str]]
    problems: list[str]


def diagnose() -> Diagnosis:
    """Look at the installation; switches 64-bit arithmetic on."""
    enable_x64()
    x64 = jnp.ones(1).dtype == jnp.float64
    needed = [name for name, extra in _requirements() if extra is None]
    versions = {name: _version(name) or "missing" for name in ("ensembletheory", *needed, "jaxlib")}
    state = {
        "python": platform.python_version(),
        "64-bit arithmetic": "on for commands; call ensembletheory.enable_x64() in your own code" if x64 else "cannot be switched on",
        "devices": ", ".join(str(device) for device in jax.devices()),
        "cores": str(os.cpu_count()),
    }
    return Diagnosis(versions, state, _missing_by_extra(), _problems(versions, x64))


def _problems(versions: dict[str, str], x64: bool) -> list[str]:
    missing = [f"{name} is missing: pip install --force-reinstall ensembletheory" for name, found in versions.items() if found == "missing"]
    release = tuple(int(part) for part in versions["jax"].split(".")[:2]) if versions["jax"] != "missing" else ()
    deadlock = [f"jax {versions['jax']} deadlocks on two cores: pip install 'jax>=0.9,!=0.10.*,!=0.11.*'"] if release in DEADLOCKING else []
    return missing + deadlock + ([] if x64 else ["64-bit arithmetic cannot be switched on: unset JAX_ENABLE_X64"])


def _missing_by_extra() -> dict[str, list[str]]:
    """For each extra the packages that are not installed."""
    by_extra: dict[str, list[str]] = {}
    for name, extra in _requirements():
        if extra is not None and name != "ensembletheory":
            by_extra.setdefault(extra, []).extend([] if _version(name) else [name])
    return by_extra


def _requirements() -> Iterable[tuple[str, str | None]]:
    """Every requirement's name, and the extra that brings it."""
    for line in requires("ensembletheory") or ():
        name, extra = re.match(r"[\w.-]+", line), re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if name is not None:
            yield name[0], extra[1] if extra else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
