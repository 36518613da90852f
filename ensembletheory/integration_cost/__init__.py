"""What integration costs: evaluations at a tolerance, error of a finite horizon, path length and Lipschitz time, of flows and diffusions, each from its own exact law."""

from ensembletheory.integration_cost.evaluations import divergences as divergences
from ensembletheory.integration_cost.evaluations import evaluations_a_step as evaluations_a_step
from ensembletheory.integration_cost.evaluations import evaluations_needed as evaluations_needed
from ensembletheory.integration_cost.evaluations import joint_divergences as joint_divergences
from ensembletheory.integration_cost.evaluations import steps_needed as steps_needed
from ensembletheory.integration_cost.horizon import horizon_needed as horizon_needed
from ensembletheory.integration_cost.horizon import initialisation_error as initialisation_error
from ensembletheory.integration_cost.lipschitz import lipschitz_time as lipschitz_time
from ensembletheory.integration_cost.methods import METHODS as METHODS
from ensembletheory.integration_cost.methods import Kinetic as Kinetic
from ensembletheory.integration_cost.methods import Method as Method
from ensembletheory.integration_cost.methods import Model as Model
from ensembletheory.integration_cost.methods import Path as Path
from ensembletheory.integration_cost.methods import QuarterTurn as QuarterTurn
from ensembletheory.integration_cost.methods import ScalarMass as ScalarMass
from ensembletheory.integration_cost.methods import Transport as Transport
from ensembletheory.integration_cost.methods import get as get
from ensembletheory.integration_cost.orders import leading_error as leading_error
from ensembletheory.integration_cost.path_length import path_length as path_length
from ensembletheory.integration_cost.training import Trained as Trained
from ensembletheory.integration_cost.training import train_leapfrog as train_leapfrog
from ensembletheory.integration_cost.training import train_residual as train_residual
