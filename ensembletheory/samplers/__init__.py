"""Samplers: schemes run along a grid of times, with their exact laws."""

from ensembletheory.samplers.euler_maruyama import EulerMaruyama as EulerMaruyama
from ensembletheory.samplers.heun import Heun as Heun
from ensembletheory.samplers.sampler import Sampler as Sampler
from ensembletheory.samplers.sampler import uniform_grid as uniform_grid
from ensembletheory.samplers.scheme import Scheme as Scheme
