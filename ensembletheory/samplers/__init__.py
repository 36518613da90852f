"""Samplers: schemes run along a grid of times, with their exact laws."""

from ensembletheory.samplers import bounds as bounds
from ensembletheory.samplers.analytic_dpm import AnalyticDpm as AnalyticDpm
from ensembletheory.samplers.ddim import Ddim as Ddim
from ensembletheory.samplers.ddpm import Ddpm as Ddpm
from ensembletheory.samplers.edm_heun import EdmHeun as EdmHeun
from ensembletheory.samplers.euler import Euler as Euler
from ensembletheory.samplers.euler_maruyama import EulerMaruyama as EulerMaruyama
from ensembletheory.samplers.exponential import ExponentialIntegrator as ExponentialIntegrator
from ensembletheory.samplers.grids import angle_grid as angle_grid
from ensembletheory.samplers.grids import edm_grid as edm_grid
from ensembletheory.samplers.grids import padded as padded
from ensembletheory.samplers.grids import quadratic_grid as quadratic_grid
from ensembletheory.samplers.grids import uniform_grid as uniform_grid
from ensembletheory.samplers.heun import Heun as Heun
from ensembletheory.samplers.langevin import AdaptiveLangevinCorrector as AdaptiveLangevinCorrector
from ensembletheory.samplers.langevin import LangevinCorrector as LangevinCorrector
from ensembletheory.samplers.likelihood import flow_log_prob as flow_log_prob
from ensembletheory.samplers.likelihood import flow_map as flow_map
from ensembletheory.samplers.likelihood import hutchinson_log_prob as hutchinson_log_prob
from ensembletheory.samplers.likelihood import hutchinson_variance as hutchinson_variance
from ensembletheory.samplers.line import densities_on_the_line as densities_on_the_line
from ensembletheory.samplers.line import density_on_the_line as density_on_the_line
from ensembletheory.samplers.midpoint import Midpoint as Midpoint
from ensembletheory.samplers.rk4 import Rk4 as Rk4
from ensembletheory.samplers.sampler import Sampler as Sampler
from ensembletheory.samplers.scheme import Scheme as Scheme
