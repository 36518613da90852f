"""Laws fitted to data by maximum likelihood: Gaussian mixtures, PPCA and mixtures of PPCA, alone or as bootstrap members; NaN marks missing values."""

from ensembletheory.fitting.bootstrap import bootstrap_mixtures as bootstrap_mixtures
from ensembletheory.fitting.bootstrap import bootstrap_ppcas as bootstrap_ppcas
from ensembletheory.fitting.em import NotConverged as NotConverged
from ensembletheory.fitting.mixtures import fit_mixture as fit_mixture
from ensembletheory.fitting.ppca_mixtures import fit_ppca_mixture as fit_ppca_mixture
from ensembletheory.fitting.ppcas import fit_ppca as fit_ppca
