"""Strict numerics for every test: 64 bits, no silent promotion of ranks or dtypes, warnings as errors, shapes checked, compilations counted."""

import os
from importlib.metadata import version

# most of the time of the tests is compilation: quicker compilation, slower programs; give XLA_FLAGS to test with others
_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if version("jaxlib").startswith("0.9."):  # a fifth of the compilation; an XLA that does not know a flag stops the process
    _FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", _FLAGS)

import jax
import jax.monitoring
import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_default_prng_impl", "threefry2x32")

MOST_COMPILATIONS = 2500  # a process: XLA keeps every compiled program
_compilations = 0
_of_workers: list[int] = []


def _count(event: str, duration: float, **_) -> None:
    global _compilations
    _compilations += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_count)

settings.register_profile("one", deadline=None, derandomize=True, max_examples=25, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("one")

with install_import_hook("ensembletheory", "beartype.beartype"):
    import ensembletheory  # noqa: F401


def pytest_sessionfinish(session, exitstatus):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["compilations"] = _compilations
    elif exitstatus == 0 and max(_counts()) > MOST_COMPILATIONS:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    _of_workers.append(getattr(node, "workeroutput", {}).get("compilations", 0))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"XLA compilations: {' + '.join(map(str, _counts()))} (at most {MOST_COMPILATIONS} a process)")


def _counts() -> list[int]:
    """Of each process that ran tests."""
    return _of_workers or [_compilations]
