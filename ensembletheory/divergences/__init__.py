"""Divergences between laws; each says how exact its answer is."""

from ensembletheory.divergences.fisher import fisher_divergence as fisher_divergence
from ensembletheory.divergences.kl import kl as kl
from ensembletheory.divergences.wasserstein import w2 as w2
from ensembletheory.divergences.wasserstein import w2_squared as w2_squared
