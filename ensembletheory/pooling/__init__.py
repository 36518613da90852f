"""Pooling rules: many laws in, one law out."""

from ensembletheory.pooling.barycenter import w2_barycenter as w2_barycenter
from ensembletheory.pooling.linear import linear_pool as linear_pool
from ensembletheory.pooling.log import log_normaliser as log_normaliser
from ensembletheory.pooling.log import log_pool as log_pool
from ensembletheory.pooling.mean_score import mean_score_law as mean_score_law
from ensembletheory.pooling.mean_score import mean_velocity_law as mean_velocity_law
from ensembletheory.pooling.parameter_average import average_aligned_loadings as average_aligned_loadings
from ensembletheory.pooling.parameter_average import average_covariances as average_covariances
from ensembletheory.pooling.parameter_average import average_loadings as average_loadings
from ensembletheory.pooling.parameter_average import match_moments as match_moments
