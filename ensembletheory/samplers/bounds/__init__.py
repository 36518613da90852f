"""Upper bounds on the error of a sampler, to be set beside its exact error: `song_bound`, `girsanov_bound` (KL), `benton_bound`, `albergo_bound` (W2)."""

from ensembletheory.samplers.bounds.perturbed import Perturbed as Perturbed
from ensembletheory.samplers.bounds.scores import girsanov_bound as girsanov_bound
from ensembletheory.samplers.bounds.scores import song_bound as song_bound
from ensembletheory.samplers.bounds.velocities import albergo_bound as albergo_bound
from ensembletheory.samplers.bounds.velocities import benton_bound as benton_bound
