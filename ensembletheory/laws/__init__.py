"""Laws: distributions on R^d with exact densities and scores."""

from ensembletheory.laws.convolution import convolve as convolve
from ensembletheory.laws.finite import FiniteLaw as FiniteLaw
from ensembletheory.laws.gaussian import Gaussian as Gaussian
from ensembletheory.laws.gaussian import singular_gaussian as singular_gaussian
from ensembletheory.laws.gaussian import standard_normal as standard_normal
from ensembletheory.laws.grid import GridLaw as GridLaw
from ensembletheory.laws.kac import KacLaw as KacLaw
from ensembletheory.laws.kac_mixture import KacMixture as KacMixture
from ensembletheory.laws.law import Law as Law
from ensembletheory.laws.mixture import GaussianMixture as GaussianMixture
from ensembletheory.laws.skew_normal import ExtendedSkewNormal as ExtendedSkewNormal
from ensembletheory.laws.soft_uniform import SoftUniform as SoftUniform
