"""Flow matching and coupling flows, and what their likelihoods cost."""
