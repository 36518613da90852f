"""Piecewise deterministic Markov processes: straight or rotating motion, and velocities that jump at exact event times."""

from ensembletheory.processes.pdmp.bouncy import BouncyParticle as BouncyParticle
from ensembletheory.processes.pdmp.event_chain import ForwardEventChain as ForwardEventChain
from ensembletheory.processes.pdmp.event_times import event_time as event_time
from ensembletheory.processes.pdmp.event_times import hazard as hazard
from ensembletheory.processes.pdmp.event_times import survival as survival
from ensembletheory.processes.pdmp.process import PiecewiseDeterministic as PiecewiseDeterministic
from ensembletheory.processes.pdmp.process import Simulation as Simulation
from ensembletheory.processes.pdmp.process import Skeleton as Skeleton
from ensembletheory.processes.pdmp.randomised_hmc import RandomisedHmc as RandomisedHmc
from ensembletheory.processes.pdmp.refreshments import forgetting_rate as forgetting_rate
from ensembletheory.processes.pdmp.refreshments import remembered as remembered
from ensembletheory.processes.pdmp.zigzag import ZigZag as ZigZag
