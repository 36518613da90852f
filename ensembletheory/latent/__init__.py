"""Latent-variable laws: a prior pushed through a decoder kernel."""

from ensembletheory.latent.averages import average_elbo as average_elbo
from ensembletheory.latent.averages import average_log_likelihood as average_log_likelihood
from ensembletheory.latent.averages import beta_encoder as beta_encoder
from ensembletheory.latent.importance import iwae_bound as iwae_bound
from ensembletheory.latent.importance import iwae_gap as iwae_gap
from ensembletheory.latent.importance import iwae_rate as iwae_rate
from ensembletheory.latent.importance import iwae_tail_exponent as iwae_tail_exponent
from ensembletheory.latent.iwae import iwae_second_moment as iwae_second_moment
from ensembletheory.latent.iwae import iwae_threshold as iwae_threshold
from ensembletheory.latent.mixture import PpcaMixture as PpcaMixture
from ensembletheory.latent.mixture import mixture_elbo as mixture_elbo
from ensembletheory.latent.ppca import Ppca as Ppca
from ensembletheory.latent.ppca import best_diagonal_encoder as best_diagonal_encoder
from ensembletheory.latent.ppca import elbo as elbo
from ensembletheory.latent.ppca import hadamard_gap as hadamard_gap
from ensembletheory.latent.stationary import StationaryPoint as StationaryPoint
from ensembletheory.latent.stationary import active_dimensions as active_dimensions
from ensembletheory.latent.stationary import beta_vae_optimum as beta_vae_optimum
from ensembletheory.latent.stationary import collapse_thresholds as collapse_thresholds
from ensembletheory.latent.stationary import stationary_points as stationary_points
