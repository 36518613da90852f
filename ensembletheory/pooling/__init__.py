"""Pooling rules: many laws in, one law out."""

from ensembletheory.pooling.barycenter import w2_barycenter as w2_barycenter
from ensembletheory.pooling.diversity import AveragedFlow as AveragedFlow
from ensembletheory.pooling.diversity import averaged_flow as averaged_flow
from ensembletheory.pooling.diversity import diversity_rate as diversity_rate
from ensembletheory.pooling.field_rules import DominantField as DominantField
from ensembletheory.pooling.field_rules import MedianField as MedianField
from ensembletheory.pooling.field_rules import PosteriorWeighted as PosteriorWeighted
from ensembletheory.pooling.field_rules import RelativeNoise as RelativeNoise
from ensembletheory.pooling.field_rules import ShiftedGeometricField as ShiftedGeometricField
from ensembletheory.pooling.field_rules import WeightedSum as WeightedSum
from ensembletheory.pooling.linear import linear_pool as linear_pool
from ensembletheory.pooling.log import log_normaliser as log_normaliser
from ensembletheory.pooling.log import log_pool as log_pool
from ensembletheory.pooling.mean_score import mean_score_law as mean_score_law
from ensembletheory.pooling.mean_score import mean_velocity_law as mean_velocity_law
from ensembletheory.pooling.mean_score import score_sum_law as score_sum_law
from ensembletheory.pooling.parameter_average import average_aligned_loadings as average_aligned_loadings
from ensembletheory.pooling.parameter_average import average_covariances as average_covariances
from ensembletheory.pooling.parameter_average import average_loadings as average_loadings
from ensembletheory.pooling.parameter_average import match_moments as match_moments
from ensembletheory.pooling.sample_rules import MeanOfSamples as MeanOfSamples
from ensembletheory.pooling.sample_rules import Routed as Routed
from ensembletheory.pooling.step_rules import Alternating as Alternating
from ensembletheory.pooling.step_rules import ScaledNoise as ScaledNoise
