"""Non-reversible linear diffusions: the fastest antisymmetric drift in any dimension, exact convergence, and what steps do to it."""

from ensembletheory.nonreversible.convergence import drift_matrix as drift_matrix
from ensembletheory.nonreversible.convergence import gap as gap
from ensembletheory.nonreversible.convergence import kinetic_gap as kinetic_gap
from ensembletheory.nonreversible.convergence import kl_decay as kl_decay
from ensembletheory.nonreversible.convergence import prefactor as prefactor
from ensembletheory.nonreversible.convergence import rates as rates
from ensembletheory.nonreversible.convergence import time_to as time_to
from ensembletheory.nonreversible.optimum import FastestSkew as FastestSkew
from ensembletheory.nonreversible.optimum import fastest_skew as fastest_skew
from ensembletheory.nonreversible.optimum import one_direction as one_direction
from ensembletheory.nonreversible.steps import euler_kernel as euler_kernel
from ensembletheory.nonreversible.steps import law_at_rest as law_at_rest
from ensembletheory.nonreversible.steps import step_limit as step_limit
