"""Neural Hamiltonian flows and generative networks."""
