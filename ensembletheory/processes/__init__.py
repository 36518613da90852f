"""Processes from data (time 0) to noise (the horizon), which hand out the exact score and velocity fields of a law."""

from ensembletheory.processes.conversions import convert as convert
from ensembletheory.processes.diffusion import VariancePreserving as VariancePreserving
from ensembletheory.processes.interpolants import LinearInterpolant as LinearInterpolant
from ensembletheory.processes.path import GaussianPath as GaussianPath
from ensembletheory.processes.process import Process as Process
