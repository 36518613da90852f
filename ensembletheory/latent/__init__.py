"""Latent-variable laws: a prior pushed through a decoder kernel."""

from ensembletheory.latent.iwae import iwae_second_moment as iwae_second_moment
from ensembletheory.latent.iwae import iwae_threshold as iwae_threshold
from ensembletheory.latent.ppca import Ppca as Ppca
from ensembletheory.latent.ppca import best_diagonal_encoder as best_diagonal_encoder
from ensembletheory.latent.ppca import elbo as elbo
from ensembletheory.latent.ppca import hadamard_gap as hadamard_gap
