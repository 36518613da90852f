"""Diffusion and flow models whose fields are forests: trees as members, which every aggregation rule takes."""

from ensembletheory.estimators.forests.imputer import ForestDiffusionImputer as ForestDiffusionImputer
from ensembletheory.estimators.forests.imputer import ForestFlow as ForestFlow
from ensembletheory.estimators.forests.leaves import leaf_means as leaf_means
from ensembletheory.estimators.forests.rules import RULES as RULES
from ensembletheory.estimators.forests.rules import ForestSampler as ForestSampler
from ensembletheory.estimators.forests.training import fit_forest as fit_forest
from ensembletheory.estimators.forests.trees import TreeField as TreeField
