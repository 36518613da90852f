"""Missing values: how they come to be missing, and the exact law of what is missing given what is observed; NaN marks a missing value."""

from ensembletheory.imputation.conditional_fields import ConditionalField as ConditionalField
from ensembletheory.imputation.conditional_fields import ConditionalSampler as ConditionalSampler
from ensembletheory.imputation.conditional_fields import ExactConditional as ExactConditional
from ensembletheory.imputation.conditionals import conditional_draws as conditional_draws
from ensembletheory.imputation.conditionals import conditional_law as conditional_law
from ensembletheory.imputation.conditionals import conditional_mean as conditional_mean
from ensembletheory.imputation.conditionals import conditional_variance as conditional_variance
from ensembletheory.imputation.conditionals import observed_log_prob as observed_log_prob
from ensembletheory.imputation.replacement import Repaint as Repaint
from ensembletheory.imputation.replacement_limits import repaint_limit as repaint_limit
