"""The claims of this package, one module per source."""

from difflib import get_close_matches
from functools import cache
from importlib import import_module

from ensembletheory import errors
from ensembletheory.claims.claim import Claim

__all__ = ["get", "ids", "resolve"]

SOURCES = (
    "jensen",
    "log_pool",
    "barycenter",
    "mean_score",
    "averaged_score",
    "averaged_flow",
    "averaged_score_fails",
    "averaged_score_open",
    "linear_vae",
    "latent",
    "mattei_garreau",
    "dual_average",
    "blindness",
    "procrustes",
    "ppca_averages",
    "bootstrap",
    "linear_pool",
    "transport",
    "mixture_bounds",
    "diffusion",
    "flow_matching",
    "noising",
    "sampler_bounds",
    "pdmp",
    "kac",
    "nonreversible",
    "hamiltonian",
    "hamiltonian_models",
    "integration_cost",
    "networks",
    "imputation",
    "repaint",
    "segmentation",
    "pixel_average",
)


def ids() -> tuple[str, ...]:
    """The ids of all claims, by source."""
    return tuple(_claims())


def get(id: str) -> Claim:
    """The claim called `id`.

    Raises:
        ValueError: if there is none, with the nearest ids.
    """
    if id not in _claims():
        near = get_close_matches(id, _claims(), n=3, cutoff=0.4)
        errors.refuse("id", repr(id), f"one of {', '.join(ids())}", f"Nearest: {', '.join(near)}." if near else "No id resembles it.")
    return _claims()[id]


def resolve(claim: str | Claim) -> Claim:
    """A claim itself, or the one that is called so.

    Raises:
        ValueError: as `get`.
    """
    return claim if isinstance(claim, Claim) else get(claim)


@cache
def _claims() -> dict[str, Claim]:
    modules = [import_module(f"ensembletheory.claims.{source}") for source in SOURCES]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Claim)]
    return {claim.id: claim for claim in found}
