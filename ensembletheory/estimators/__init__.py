"""The scikit-learn face of density models and imputers (needs the extra `data`): they work inside pipelines, grid searches and cross-validation."""

from ensembletheory.errors import missing_extra

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError:
    missing_extra("scikit-learn", "data")

from ensembletheory.estimators.density import Density as Density
from ensembletheory.estimators.density import GaussianMixtureDensity as GaussianMixtureDensity
from ensembletheory.estimators.density import PpcaDensity as PpcaDensity
from ensembletheory.estimators.density import PpcaMixtureDensity as PpcaMixtureDensity
from ensembletheory.estimators.diffusion import DiffusionImputer as DiffusionImputer
from ensembletheory.estimators.forests import ForestDiffusionImputer as ForestDiffusionImputer
from ensembletheory.estimators.forests import ForestFlow as ForestFlow
from ensembletheory.estimators.imputers import GaussianImputer as GaussianImputer
from ensembletheory.estimators.imputers import Imputer as Imputer
from ensembletheory.estimators.imputers import MixtureImputer as MixtureImputer
from ensembletheory.estimators.imputers import PpcaImputer as PpcaImputer
from ensembletheory.estimators.multiple import PooledImputer as PooledImputer
from ensembletheory.estimators.multiple import ProperImputer as ProperImputer
