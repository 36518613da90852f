"""Mixture log-density and score, ours beside SciPy, scikit-learn, torch and numpyro: python -m benchmarks.bench_laws."""

import numpy as np

from benchmarks.harness import Rows, main

SHAPES = {"n=1e5 d=2 K=8": (100_000, 2, 8), "n=1e5 d=16 K=32": (100_000, 16, 32), "n=1e4 d=64 K=16": (10_000, 64, 16)}


def data(shape):
    n, d, K = shape
    rng = np.random.default_rng(0)
    A = rng.normal(size=(K, d, d)) / np.sqrt(d)
    return rng.normal(size=(n, d)), rng.dirichlet(np.ones(K)), rng.normal(size=(K, d)), A @ A.transpose(0, 2, 1) + np.eye(d)


def ours(shape, method):
    import jax.numpy as jnp

    import ensembletheory as et

    et.enable_x64()
    X, w, m, S = data(shape)
    law, points = et.GaussianMixture(w, m, S), jnp.asarray(X)
    return lambda: getattr(law, method)(points)


def scipy_log_prob(shape):
    from scipy.special import logsumexp
    from scipy.stats import multivariate_normal

    X, w, m, S = data(shape)
    laws = [multivariate_normal(a, B) for a, B in zip(m, S, strict=True)]
    return lambda: logsumexp([law.logpdf(X) for law in laws], b=w[:, None], axis=0)


def sklearn_log_prob(shape):
    from sklearn.mixture import GaussianMixture

    X, w, m, S = data(shape)
    model = GaussianMixture(len(w))
    model.weights_, model.means_, model.covariances_ = w, m, S
    model.precisions_cholesky_ = np.linalg.inv(np.linalg.cholesky(S)).transpose(0, 2, 1)
    return lambda: model.score_samples(X)


def torch_mixture(shape):
    import torch
    from torch import distributions as D

    X, w, m, S = (torch.as_tensor(part) for part in data(shape))
    return torch, X, D.MixtureSameFamily(D.Categorical(w), D.MultivariateNormal(m, S))


def torch_log_prob(shape):
    _, X, law = torch_mixture(shape)
    return lambda: law.log_prob(X)


def torch_score(shape):
    torch, X, law = torch_mixture(shape)
    X = X.requires_grad_()
    return lambda: torch.autograd.grad(law.log_prob(X).sum(), X)[0]


def numpyro_mixture(shape):
    import jax
    import jax.numpy as jnp
    import numpyro.distributions as D

    jax.config.update("jax_enable_x64", True)
    X, w, m, S = (jnp.asarray(part) for part in data(shape))
    return jax, X, D.MixtureSameFamily(D.Categorical(w), D.MultivariateNormal(m, S))


def numpyro_log_prob(shape):
    jax, X, law = numpyro_mixture(shape)
    work = jax.jit(law.log_prob)
    return lambda: work(X)


def numpyro_score(shape):
    jax, X, law = numpyro_mixture(shape)
    work = jax.jit(jax.grad(lambda points: law.log_prob(points).sum()))
    return lambda: work(X)


def rows() -> Rows:
    table: Rows = {}
    for name, shape in SHAPES.items():
        densities = {"scipy": scipy_log_prob, "scikit-learn": sklearn_log_prob, "torch": torch_log_prob, "numpyro": numpyro_log_prob}
        table[f"mixture log-density {name}"] = {"ours": lambda s=shape: ours(s, "log_prob")} | {peer: lambda f=f, s=shape: f(s) for peer, f in densities.items()}
        scores = {"torch": torch_score, "numpyro": numpyro_score}
        table[f"mixture score {name}"] = {"ours": lambda s=shape: ours(s, "score")} | {peer: lambda f=f, s=shape: f(s) for peer, f in scores.items()}
    return table


if __name__ == "__main__":
    main(rows(), "benchmarks.bench_laws")
