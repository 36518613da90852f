"""Neural ensembles: fields and laws trained from the same process objects that the exact answers use. Needs the extra `neural` (optax)."""

from ensembletheory.neural.data import as_data as as_data
from ensembletheory.neural.gains import flow_log_prob as flow_log_prob
from ensembletheory.neural.gains import sampled_gain as sampled_gain
from ensembletheory.neural.gains import stacked_flow_log_prob as stacked_flow_log_prob
from ensembletheory.neural.learner import Learner as Learner
from ensembletheory.neural.learner import fit as fit
from ensembletheory.neural.learner import fit_ensemble as fit_ensemble
from ensembletheory.neural.perceptron import Perceptron as Perceptron
from ensembletheory.neural.score_learner import ScoreLearner as ScoreLearner
from ensembletheory.neural.score_matching import ScoreMatching as ScoreMatching
from ensembletheory.neural.score_matching import denoising_loss as denoising_loss
from ensembletheory.neural.score_matching import floor as floor
from ensembletheory.neural.score_matching import member_errors as member_errors
from ensembletheory.neural.score_matching import score_error as score_error
from ensembletheory.neural.score_network import ScoreNetwork as ScoreNetwork
from ensembletheory.neural.stacks import StackedMean as StackedMean
from ensembletheory.neural.stacks import member as member
from ensembletheory.neural.stacks import members as members
from ensembletheory.neural.stacks import stack as stack
from ensembletheory.neural.training import Recipe as Recipe
from ensembletheory.neural.training import Trained as Trained
from ensembletheory.neural.training import train as train
from ensembletheory.neural.training import train_ensemble as train_ensemble
