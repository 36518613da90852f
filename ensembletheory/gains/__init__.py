"""Gains of ensembles and their decompositions."""

from ensembletheory.gains.gain import Gain as Gain
from ensembletheory.gains.gain import gain as gain
