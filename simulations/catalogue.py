"""The studies that can be run by name; any other is named by module:attribute."""

import difflib

from ensembletheory.errors import refuse
from simulations.study import Study, resolve

__all__ = ["STUDIES", "find"]

STUDIES = {
    "mean-score-monotone": "simulations.mean_score_monotone:study",
    "sde-or-ode": "simulations.sde_or_ode:study",
    "searches": "simulations.searches:study",
    "density-ensembles": "simulations.density_ensembles:study",
    "network-ensembles": "simulations.network_ensembles:study",
}


def find(name: str) -> Study:
    """The study called `name` in the catalogue, or at module:attribute.

    Raises:
        ValueError: if there is none.
    """
    if name not in STUDIES and ":" not in name:
        nearest = difflib.get_close_matches(name, STUDIES, n=3, cutoff=0.3) or sorted(STUDIES)
        refuse("study", repr(name), f"a study, nearest: {', '.join(nearest)}", "See `python -m simulations list`; your own: module:attribute.")
    study = resolve(STUDIES.get(name, name))
    if not isinstance(study, Study):
        refuse("study", f"{name}, a {type(study).__name__}", "a simulations.study.Study", "Name the attribute that holds the study.")
    return study
