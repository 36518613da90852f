"""Networks that impute: latent-variable models of rows with holes, with and without a model of why values are missing."""
