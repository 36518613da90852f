"""64-bit arithmetic: asked for once at the entry points, demanded wherever a number is to be quoted."""

import jax

__all__ = ["enable_x64", "require_x64"]


def enable_x64() -> None:
    """Switch JAX to 64-bit arithmetic; call it before the first array is made."""
    jax.config.update("jax_enable_x64", True)


def require_x64(what: str) -> None:
    """Refuse to compute `what` in 32-bit arithmetic, where differences of divergences cancel.

    Raises:
        RuntimeError: if JAX runs in 32-bit mode.
    """
    if not jax.config.read("jax_enable_x64"):
        raise RuntimeError(
            f"{what}: got 32-bit arithmetic; expected 64-bit, because differences of divergences cancel. "
            "Call ensembletheory.enable_x64() before making any array (or set JAX_ENABLE_X64=1)."
        )
