"""An imputer that runs a diffusion with the exact fields of a fitted law, in the conventions of scikit-learn; see `ensembletheory.estimators.imputers`.

Asked for the conditional field, it draws from the exact conditional up to the length of its steps, as `MixtureImputer` does at once. Asked to replace and resample (RePaint)
it uses the field of whole rows, as one would use a trained one, and shows what that costs: its law is not the conditional (`ensembletheory.imputation.replacement`).
"""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import checked_count, refuse
from ensembletheory.estimators.density import filled
from ensembletheory.estimators.imputers import Imputer
from ensembletheory.estimators.in_units import InUnits, in_units
from ensembletheory.fitting import fit_mixture
from ensembletheory.imputation import ConditionalSampler, ExactConditional, Repaint
from ensembletheory.processes import VariancePreserving
from ensembletheory.samplers import Ddim, Heun, angle_grid

__all__ = ["DiffusionImputer", "PathImputer"]

_PROCESS = VariancePreserving()


class PathImputer(Imputer):
    """An imputer that samples along a path from noise to data; `transform` gives the mean of `draws` completed copies."""

    draws: int

    def fit(self, X: Any, y: Any = None) -> "PathImputer":
        """As `Imputer.fit`; what the sampler cannot run with is refused here, not when it runs.

        Raises:
            ValueError: as `Imputer.fit` and the sampler say, or if `draws` is below 1.
        """
        checked_count("draws", self.draws, 1)
        super().fit(X)
        if self.model_ is not None:
            self._sampler()
        return self

    def _sampler(self) -> Any:
        """What samples rows in units of their columns: `sample(key, X, n, by_row=...)`."""
        raise NotImplementedError

    def _mean(self, key: PRNGKeyArray, X: np.ndarray) -> np.ndarray:
        return self._sampled(key, X, self.draws, by_row=True).mean(axis=0)

    def _draws(self, key: PRNGKeyArray, X: np.ndarray, n: int) -> np.ndarray:
        return self._sampled(key, X, n, by_row=False)

    def _sampled(self, key: PRNGKeyArray, X: np.ndarray, n: int, by_row: bool) -> np.ndarray:
        copies = np.asarray(self._sampler().sample(key, filled(self.model_.standardised(X)), n, by_row=by_row))
        return self.model_.restored(copies[:, : len(X)])


@eqx.filter_jit
def diffusion_grid(process: VariancePreserving, steps: int, end: float) -> Float[Array, " n"]:
    """`angle_grid`, compiled as a whole."""
    return angle_grid(process, steps, end)


class DiffusionImputer(PathImputer):
    """A VP diffusion with the exact fields of a Gaussian mixture fitted by EM.

    Args:
        n_components: number of components.
        method: "conditional" (the field given what is observed, along the probability flow) or "repaint" (replacement and resampling with the field of whole rows).
        steps: of the grid.
        resamplings: how often RePaint runs a block; 1 is replacement.
        jump: steps of a block; it divides `steps`.
        draws: copies whose mean `transform` gives.
        ridge: fraction of the columns' variances that keeps covariances regular.
        starts: how many starts get a short climb.
        tolerance: relative gain at which EM stops; None for the root of the machine epsilon.
        max_iterations: largest number of EM iterations.
        random_state: chooses the starts, and all draws.
    """

    def __init__(
        self,
        n_components=1,
        *,
        method="conditional",
        steps=50,
        resamplings=10,
        jump=1,
        draws=64,
        ridge=1e-6,
        starts=4,
        tolerance=None,
        max_iterations=5000,
        random_state=None,
    ):
        self.n_components = n_components
        self.method = method
        self.steps = steps
        self.resamplings = resamplings
        self.jump = jump
        self.draws = draws
        self.ridge = ridge
        self.starts = starts
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.random_state = random_state

    def _fit(self, key: PRNGKeyArray, X: np.ndarray) -> InUnits:
        if self.method not in ("conditional", "repaint"):
            refuse("method", repr(self.method), "'conditional' or 'repaint'", "The first is exact, the second needs no conditional field.")
        steering = {"ridge": self.ridge, "starts": self.starts, "tolerance": self.tolerance, "max_iterations": self.max_iterations}
        return in_units(X, lambda rows: fit_mixture(key, rows, self.n_components, **steering))

    def _sampler(self) -> ConditionalSampler | Repaint:
        law = self.model_.model
        if self.method == "conditional":
            return ConditionalSampler(_PROCESS, ExactConditional(_PROCESS, law, "velocity"), Heun(), diffusion_grid(_PROCESS, self.steps, 1e-4))
        return Repaint(_PROCESS, _PROCESS.denoiser(law), Ddim(1.0), diffusion_grid(_PROCESS, self.steps, 0.0), self.resamplings, self.jump)
