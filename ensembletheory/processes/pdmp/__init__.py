"""Piecewise deterministic Markov processes: straight or rotating motion, and velocities that jump at exact event times."""

from ensembletheory.processes.pdmp.bouncy import BouncyParticle as BouncyParticle
from ensembletheory.processes.pdmp.characteristics import ZigZagTables as ZigZagTables
from ensembletheory.processes.pdmp.characteristics import transported as transported
from ensembletheory.processes.pdmp.event_chain import ForwardEventChain as ForwardEventChain
from ensembletheory.processes.pdmp.event_times import event_time as event_time
from ensembletheory.processes.pdmp.event_times import hazard as hazard
from ensembletheory.processes.pdmp.event_times import survival as survival
from ensembletheory.processes.pdmp.process import PiecewiseDeterministic as PiecewiseDeterministic
from ensembletheory.processes.pdmp.process import Simulation as Simulation
from ensembletheory.processes.pdmp.process import Skeleton as Skeleton
from ensembletheory.processes.pdmp.randomised_hmc import RandomisedHmc as RandomisedHmc
from ensembletheory.processes.pdmp.ratio_matching import least_loss as least_loss
from ensembletheory.processes.pdmp.ratio_matching import ratio_matching_loss as ratio_matching_loss
from ensembletheory.processes.pdmp.refreshments import forgetting_rate as forgetting_rate
from ensembletheory.processes.pdmp.refreshments import remembered as remembered
from ensembletheory.processes.pdmp.reverse import RefreshedMixture as RefreshedMixture
from ensembletheory.processes.pdmp.reverse import ReverseBounces as ReverseBounces
from ensembletheory.processes.pdmp.reverse import ReverseFlips as ReverseFlips
from ensembletheory.processes.pdmp.reverse import ReverseRefreshments as ReverseRefreshments
from ensembletheory.processes.pdmp.reverse import stationary_ratios as stationary_ratios
from ensembletheory.processes.pdmp.zigzag import ZigZag as ZigZag
