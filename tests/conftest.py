"""Strict numerics for every test: 64 bits, no silent promotion of ranks or dtypes, warnings as errors, shapes checked, compilations counted."""

import os
import sys
from importlib.metadata import version

# most of the time of the tests is compilation: quicker compilation, slower programs, fewer memory maps; give XLA_FLAGS to test with others
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_parallel_codegen_split_count=1"
    + (" --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.9.") else ""),  # a fifth of the compilation; an unknown flag stops a process
)

import jax
import jax.monitoring
import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_default_prng_impl", "threefry2x32")

MOST_PROGRAMS = 2000  # that a process may hold when it begins with another file: each takes some of the 65,530 memory maps of a process, and XLA dies of the last
MOST_COMPILATIONS = 8400  # of all processes together
_compilations = 0
_forgotten = 0
_of_workers: list[int] = []


def _count(event: str, duration: float, **_) -> None:
    global _compilations
    _compilations += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_count)

settings.register_profile("one", deadline=None, derandomize=True, max_examples=25, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("one")


if "-n" not in sys.argv or "PYTEST_XDIST_WORKER" in os.environ:  # the process that only hands out tests needs no package
    with install_import_hook("ensembletheory", "beartype.beartype"):
        import ensembletheory  # noqa: F401


@pytest.fixture(autouse=True, scope="module")
def _few_programs():
    global _forgotten
    yield
    if _compilations - _forgotten > MOST_PROGRAMS:
        jax.clear_caches()
        _forgotten = _compilations


def pytest_sessionfinish(session, exitstatus):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["compilations"] = _compilations
    elif exitstatus == 0 and sum(_counts()) > MOST_COMPILATIONS:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    _of_workers.append(getattr(node, "workeroutput", {}).get("compilations", 0))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"XLA compilations: {' + '.join(map(str, _counts()))} (at most {MOST_COMPILATIONS} together)")


def _counts() -> list[int]:
    """Of each process that ran tests."""
    return _of_workers or [_compilations]
