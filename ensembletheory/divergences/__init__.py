"""Divergences between laws; each says how exact its answer is."""

from ensembletheory.divergences import bounds as bounds
from ensembletheory.divergences.bounded import hellinger_squared as hellinger_squared
from ensembletheory.divergences.bounded import jensen_shannon as jensen_shannon
from ensembletheory.divergences.bounded import total_variation as total_variation
from ensembletheory.divergences.chi_squared import chi_squared as chi_squared
from ensembletheory.divergences.fisher import fisher_divergence as fisher_divergence
from ensembletheory.divergences.frechet import frechet_distance as frechet_distance
from ensembletheory.divergences.kernel_mean import l2_squared as l2_squared
from ensembletheory.divergences.kernel_mean import mmd_squared as mmd_squared
from ensembletheory.divergences.kl import kl as kl
from ensembletheory.divergences.transport import empirical_w2 as empirical_w2
from ensembletheory.divergences.transport import mw2 as mw2
from ensembletheory.divergences.wasserstein import w1 as w1
from ensembletheory.divergences.wasserstein import w2 as w2
from ensembletheory.divergences.wasserstein import w2_squared as w2_squared
