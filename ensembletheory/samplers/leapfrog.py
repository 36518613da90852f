r"""Leapfrog (Stoermer-Verlet) for a separable Hamiltonian flow, with `field` a gradient: half a kick, a drift, half a kick.

From t to s, h = t - s:   p <- p - h/2 dH/dq,   q <- q + h dH/dp,   p <- p - h/2 dH/dq.   Order 2, symplectic, undone by the step with -h; on a mode of frequency w stable for
w h < 2. Its exact laws are in `ensembletheory.hamiltonian`. The splittings of higher order are in `ensembletheory.samplers.splitting`.
"""

import equinox as eqx

from ensembletheory.samplers.splitting import KickDrift

__all__ = ["Leapfrog"]


class Leapfrog(KickDrift):
    """Leapfrog; takes a gradient; order 2; `unstable` allows steps beyond the stability limit w h = 2."""

    unstable: bool = eqx.field(static=True, default=False)

    @property
    def kicks(self) -> tuple[float, ...]:
        """Halves."""
        return (0.5, 0.5)

    @property
    def drifts(self) -> tuple[float, ...]:
        """One."""
        return (1.0,)
