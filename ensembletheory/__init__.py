"""Exact ensemble gains of generative models, and claims about them that a computer checks."""

from ensembletheory.estimate import Estimate as Estimate
from ensembletheory.precision import enable_x64 as enable_x64
