"""The scikit-learn face of the density models (needs the extra `data`): they fit, score and sample inside pipelines, grid searches and cross-validation."""

from ensembletheory.errors import missing_extra

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError:
    missing_extra("scikit-learn", "data")

from ensembletheory.estimators.density import Density as Density
from ensembletheory.estimators.density import GaussianMixtureDensity as GaussianMixtureDensity
from ensembletheory.estimators.density import PpcaDensity as PpcaDensity
from ensembletheory.estimators.density import PpcaMixtureDensity as PpcaMixtureDensity
