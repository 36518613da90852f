r"""The conventions of this package, once.

- **Units**: nats. **Divergences** take their arguments in the order of the symbols: `kl(p, q)` is KL(p || q) = E_p[log p - log q].
- **Wasserstein**: `w2` is the distance, `w2_squared` its square; never one for the other.
- **Time**: 0 is data and the horizon is noise, in every process. X_t = a_t X_0 + s_t Z with Z ~ N(0, I); u = a_t^2. Velocity is dx/dt in that time, so generation
  follows it backwards. Lipman et al. and Albergo & Vanden-Eijnden run the other way: their time is 1 - t and their velocity has the opposite sign.
- **Phase space** is z = (q, p), positions before momenta. A Hamiltonian flow *generates* along its own time and *encodes* against it, so that in the time of processes its
  velocity is -J grad H.
- **Variance-preserving diffusion**: dX = -(b/2) X dt + sqrt(b) dW (Song et al. 2021). Papers with dX = -b X dt + sqrt(2 b) dW have half this b.
- **Score** is the gradient of the log-density in x. Scikit-learn's `score` (a mean log-likelihood) is another thing.
- **Fisher divergence** is E_p |grad log p - grad log q|^2, without the factor 1/2.
- **Arrays**: the sample axis comes first, the coordinate axis last. In one-dimensional formulas S is a variance, not a standard deviation.
- **Keys** come first and are never made inside; only Monte Carlo takes one.
- **Estimates**: every number computed with an error carries it, and says what kind it is (see `ensembletheory.estimate`).
"""
