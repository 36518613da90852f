"""KL and squared W2 of batches of Gaussian pairs, ours beside NumPy, POT, torch and numpyro: python -m benchmarks.bench_gaussians."""

import numpy as np

from benchmarks.harness import Rows, main

KL_SHAPES = {"1e4 pairs d=2": (10_000, 2), "1e4 pairs d=8": (10_000, 8), "1e4 pairs d=32": (10_000, 32)}
W2_SHAPES = {"1e4 pairs d=2": (10_000, 2), "1e4 pairs d=8": (10_000, 8), "1e3 pairs d=32": (1000, 32)}


def data(shape):
    n, d = shape
    rng = np.random.default_rng(0)
    A = rng.normal(size=(2, n, d, d)) / np.sqrt(d)
    return rng.normal(size=(2, n, d)), A @ A.swapaxes(-1, -2) + 0.5 * np.eye(d)


def ours(shape, name):
    import jax

    import ensembletheory as et

    et.enable_x64()
    means, covs = data(shape)
    p, q = (jax.vmap(et.Gaussian)(m, S) for m, S in zip(means, covs, strict=True))
    work = jax.jit(jax.vmap(lambda a, b: getattr(et, name)(a, b).value))
    return lambda: work(p, q)


def numpy_kl(shape):
    (m, n), (P, Q) = data(shape)

    def work():
        L, K = np.linalg.cholesky(P), np.linalg.cholesky(Q)
        A, z = np.linalg.solve(K, L), np.linalg.solve(K, (m - n)[..., None])
        logs = np.log(np.diagonal(K, axis1=1, axis2=2)).sum(1) - np.log(np.diagonal(L, axis1=1, axis2=2)).sum(1)
        return 0.5 * ((A**2).sum((1, 2)) + (z**2).sum((1, 2)) - m.shape[1]) + logs

    return work


def torch_kl(shape):
    import torch
    from torch.distributions import MultivariateNormal, kl_divergence

    (m, n), (P, Q) = (torch.as_tensor(part) for part in data(shape))
    return lambda: kl_divergence(MultivariateNormal(m, P), MultivariateNormal(n, Q))


def numpyro_kl(shape):
    import jax
    from numpyro.distributions import MultivariateNormal, kl_divergence

    jax.config.update("jax_enable_x64", True)
    (m, n), (P, Q) = (jax.numpy.asarray(part) for part in data(shape))
    work = jax.jit(lambda m, P, n, Q: kl_divergence(MultivariateNormal(m, P), MultivariateNormal(n, Q)))
    return lambda: work(m, P, n, Q)


def numpy_w2(shape):
    (m, n), (P, Q) = data(shape)

    def root(S):
        values, vectors = np.linalg.eigh(S)
        return (vectors * np.sqrt(values)[..., None, :]) @ vectors.swapaxes(-1, -2)

    def work():
        R = root(P)
        cross = np.sqrt(np.linalg.eigvalsh(R @ Q @ R)).sum(1)
        return ((m - n) ** 2).sum(1) + np.trace(P + Q, axis1=1, axis2=2) - 2 * cross

    return work


def pot_w2(shape):
    import ot

    (m, n), (P, Q) = data(shape)
    return lambda: np.array([ot.gaussian.bures_wasserstein_distance(*pair) ** 2 for pair in zip(m, n, P, Q, strict=True)])


def rows() -> Rows:
    table: Rows = {}
    for name, shape in KL_SHAPES.items():
        peers = {"numpy": numpy_kl, "torch": torch_kl, "numpyro": numpyro_kl}
        table[f"KL, {name}"] = {"ours": lambda s=shape: ours(s, "kl")} | {peer: lambda f=f, s=shape: f(s) for peer, f in peers.items()}
    for name, shape in W2_SHAPES.items():
        peers = {"numpy": numpy_w2, "POT": pot_w2}
        table[f"squared W2, {name}"] = {"ours": lambda s=shape: ours(s, "w2_squared")} | {peer: lambda f=f, s=shape: f(s) for peer, f in peers.items()}
    return table


if __name__ == "__main__":
    main(rows(), "benchmarks.bench_gaussians")
