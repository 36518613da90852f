"""Hypothesis strategies for the models of this package; needs the extra `test`."""

from importlib.util import find_spec

from ensembletheory.errors import missing_extra

if find_spec("hypothesis") is None:
    missing_extra("hypothesis", "test")

from ensembletheory.testing.strategies import ensembles as ensembles
from ensembletheory.testing.strategies import gaussians as gaussians
from ensembletheory.testing.strategies import mixtures as mixtures
from ensembletheory.testing.strategies import ppcas as ppcas
