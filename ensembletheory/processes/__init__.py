"""Processes from data (time 0) to noise (the horizon), which hand out the exact score and velocity fields of a law."""

from ensembletheory.processes.continuous import reverse_kernel as reverse_kernel
from ensembletheory.processes.conversions import convert as convert
from ensembletheory.processes.couplings import coupling_cost as coupling_cost
from ensembletheory.processes.couplings import independent as independent
from ensembletheory.processes.couplings import minibatch_correlation as minibatch_correlation
from ensembletheory.processes.couplings import minibatch_moments as minibatch_moments
from ensembletheory.processes.couplings import optimal_transport as optimal_transport
from ensembletheory.processes.couplings import schroedinger_bridge as schroedinger_bridge
from ensembletheory.processes.diffusion import EdmPath as EdmPath
from ensembletheory.processes.diffusion import OrnsteinUhlenbeck as OrnsteinUhlenbeck
from ensembletheory.processes.diffusion import SubVariancePreserving as SubVariancePreserving
from ensembletheory.processes.diffusion import VarianceExploding as VarianceExploding
from ensembletheory.processes.diffusion import VariancePreserving as VariancePreserving
from ensembletheory.processes.interpolants import Interpolant as Interpolant
from ensembletheory.processes.interpolants import LinearInterpolant as LinearInterpolant
from ensembletheory.processes.interpolants import OptimalTransportPath as OptimalTransportPath
from ensembletheory.processes.interpolants import TrigonometricInterpolant as TrigonometricInterpolant
from ensembletheory.processes.interpolants import VarianceExplodingPath as VarianceExplodingPath
from ensembletheory.processes.interpolants import VariancePreservingPath as VariancePreservingPath
from ensembletheory.processes.linear_sde import LinearSde as LinearSde
from ensembletheory.processes.path import GaussianPath as GaussianPath
from ensembletheory.processes.process import Process as Process
from ensembletheory.processes.schedules import CosineVariancePreserving as CosineVariancePreserving
from ensembletheory.processes.schedules import DiscreteVariancePreserving as DiscreteVariancePreserving
from ensembletheory.processes.schedules import EdmVariancePreserving as EdmVariancePreserving
from ensembletheory.processes.stochastic import StochasticInterpolant as StochasticInterpolant
