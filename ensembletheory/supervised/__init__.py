"""Expected losses of averaged predictors in closed form: when more members help, and when they do not."""

from ensembletheory.supervised.losses import squared_loss as squared_loss
from ensembletheory.supervised.losses import welsch_loss as welsch_loss
from ensembletheory.supervised.tails import exponential_tail as exponential_tail
from ensembletheory.supervised.votes import gaussian_vote_error as gaussian_vote_error
from ensembletheory.supervised.votes import majority_vote_error as majority_vote_error
