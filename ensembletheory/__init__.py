r"""Exact ensemble gains of generative models, and claims about them that a computer checks.

A law is an object, and everything that happens to a law is an operator with an exact answer: members are pooled into one law by a rule, a divergence compares it with
the target, the difference is a gain, and a claim says what sign the gain must have. Conventions: `ensembletheory.conventions`.
"""

from ensembletheory import claims as claims
from ensembletheory import divergences as divergences
from ensembletheory import gains as gains
from ensembletheory import hamiltonian as hamiltonian
from ensembletheory import identifiability as identifiability
from ensembletheory import latent as latent
from ensembletheory import nonreversible as nonreversible
from ensembletheory import pooling as pooling
from ensembletheory import processes as processes
from ensembletheory import samplers as samplers
from ensembletheory import structures as structures
from ensembletheory import supervised as supervised
from ensembletheory.covariance import Dense as Dense
from ensembletheory.covariance import Diagonal as Diagonal
from ensembletheory.covariance import Isotropic as Isotropic
from ensembletheory.covariance import LowRankPlusDiagonal as LowRankPlusDiagonal
from ensembletheory.divergences import chi_squared as chi_squared
from ensembletheory.divergences import empirical_w2 as empirical_w2
from ensembletheory.divergences import fisher_divergence as fisher_divergence
from ensembletheory.divergences import frechet_distance as frechet_distance
from ensembletheory.divergences import hellinger_squared as hellinger_squared
from ensembletheory.divergences import jensen_shannon as jensen_shannon
from ensembletheory.divergences import kl as kl
from ensembletheory.divergences import l2_squared as l2_squared
from ensembletheory.divergences import mmd_squared as mmd_squared
from ensembletheory.divergences import mw2 as mw2
from ensembletheory.divergences import total_variation as total_variation
from ensembletheory.divergences import w1 as w1
from ensembletheory.divergences import w2 as w2
from ensembletheory.divergences import w2_squared as w2_squared
from ensembletheory.estimate import Estimate as Estimate
from ensembletheory.fields import Field as Field
from ensembletheory.fields import MeanField as MeanField
from ensembletheory.fitting import bootstrap_mixtures as bootstrap_mixtures
from ensembletheory.fitting import bootstrap_ppcas as bootstrap_ppcas
from ensembletheory.fitting import fit_mixture as fit_mixture
from ensembletheory.fitting import fit_ppca as fit_ppca
from ensembletheory.fitting import fit_ppca_mixture as fit_ppca_mixture
from ensembletheory.gains import Gain as Gain
from ensembletheory.gains import gain as gain
from ensembletheory.kernels import AffineKernel as AffineKernel
from ensembletheory.latent import Ppca as Ppca
from ensembletheory.latent import PpcaMixture as PpcaMixture
from ensembletheory.laws import FiniteLaw as FiniteLaw
from ensembletheory.laws import Gaussian as Gaussian
from ensembletheory.laws import GaussianMixture as GaussianMixture
from ensembletheory.laws import GridLaw as GridLaw
from ensembletheory.laws import Law as Law
from ensembletheory.laws import convolve as convolve
from ensembletheory.laws import standard_normal as standard_normal
from ensembletheory.pooling import average_aligned_loadings as average_aligned_loadings
from ensembletheory.pooling import average_covariances as average_covariances
from ensembletheory.pooling import average_loadings as average_loadings
from ensembletheory.pooling import linear_pool as linear_pool
from ensembletheory.pooling import log_normaliser as log_normaliser
from ensembletheory.pooling import log_pool as log_pool
from ensembletheory.pooling import match_moments as match_moments
from ensembletheory.pooling import mean_score_law as mean_score_law
from ensembletheory.pooling import mean_velocity_law as mean_velocity_law
from ensembletheory.pooling import score_sum_law as score_sum_law
from ensembletheory.pooling import w2_barycenter as w2_barycenter
from ensembletheory.precision import enable_x64 as enable_x64
