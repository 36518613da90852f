"""Sampling and likelihoods of diffusions beside diffrax and azula, and exact laws of samplers: python -m benchmarks.bench_diffusion.

Rows of equal work are compared at equal error: each adaptive solver has the tolerance, of those tried (powers of ten, and three times them), which is the loosest to reach the
stated error (root mean square over the points) against a reference computed far more precisely. The first call compiles.
"""

import numpy as np

from benchmarks.harness import Rows, main

SAMPLING_ERROR, LIKELIHOOD_ERRORS = 2e-3, (1e-3, 1e-7)
TOLERANCES = [scale * 10.0**-power for power in range(1, 13) for scale in (3.0, 1.0)]
NODES, TRUNCATIONS = (50, 250, 500, 1000), (0.0, 1e-5, 1e-4, 1e-3)


def mixture():
    """Weights, means and covariances of eight components in the plane."""
    rng = np.random.default_rng(0)
    A = 0.3 * rng.normal(size=(8, 2, 2))
    return rng.dirichlet(np.ones(8)), 2 * rng.normal(size=(8, 2)), A @ A.transpose(0, 2, 1) + 0.05 * np.eye(2)


def points(n):
    return np.random.default_rng(1).normal(size=(n, 2))


def ours():
    import ensembletheory as et

    et.enable_x64()
    law, vp = et.GaussianMixture(*mixture()), et.processes.VariancePreserving()
    return et, law, vp, vp.velocity(law)


def plain():
    """The velocity of one point as a user of diffrax would write it: by Cholesky factors, with Song's schedule."""
    import jax
    import jax.numpy as jnp
    from jax.scipy.special import logsumexp

    jax.config.update("jax_enable_x64", True)
    w, m, S = map(jnp.asarray, mixture())

    def velocity(t, x):
        beta, u = 0.1 + 19.9 * t, jnp.exp(-0.1 * t - 19.9 * t**2 / 2)

        def one(mean, cov):
            L = jnp.linalg.cholesky(u * cov + (1 - u) * jnp.eye(2))
            z = jax.scipy.linalg.solve_triangular(L, x - jnp.sqrt(u) * mean, lower=True)
            return -0.5 * z @ z - jnp.sum(jnp.log(jnp.diagonal(L))), -jax.scipy.linalg.solve_triangular(L.T, z, lower=False)

        logs, scores = jax.vmap(one)(m, S)
        r = jnp.exp(jnp.log(w) + logs - logsumexp(jnp.log(w) + logs))
        return -beta / 2 * (x + r @ scores)

    return velocity


def loosest(work, truth, error):
    """`work` at the loosest tolerance whose error on the reference's points is small enough."""
    for tolerance in TOLERANCES:
        if np.sqrt(np.mean((np.asarray(work(tolerance)) - truth) ** 2)) <= error:
            return tolerance
    raise RuntimeError(f"no tolerance reaches {error}")


def reference_map(n):
    et, _, vp, velocity = ours()
    return np.asarray(et.samplers.flow_map(vp, velocity, points(n), tolerance=1e-11))


def reference_density(x):
    from scipy.special import logsumexp
    from scipy.stats import multivariate_normal

    return logsumexp([multivariate_normal(a, B).logpdf(x) for a, B in zip(*mixture()[1:], strict=True)], b=mixture()[0][:, None], axis=0)


def data(n):
    """Points from the mixture."""
    rng = np.random.default_rng(2)
    w, m, S = mixture()
    label = rng.choice(8, n, p=w)
    return m[label] + np.einsum("nij,nj->ni", np.linalg.cholesky(S)[label], rng.normal(size=(n, 2)))


def our_sampling(n=100_000, tried=2_000):
    et, _, vp, velocity = ours()
    import jax.numpy as jnp

    def work(tolerance, x):
        return et.samplers.flow_map(vp, velocity, x, tolerance=tolerance)

    tolerance, x = loosest(lambda tolerance: work(tolerance, points(tried)), reference_map(tried), SAMPLING_ERROR), jnp.asarray(points(n))
    return lambda: work(tolerance, x)


def diffrax_sampling(n=100_000, tried=2_000):
    import diffrax
    import jax
    import jax.numpy as jnp

    velocity = plain()

    @jax.jit
    def work(tolerance, x):
        term = diffrax.ODETerm(lambda t, x, _: jax.vmap(velocity, (None, 0))(t, x))
        return diffrax.diffeqsolve(term, diffrax.Tsit5(), 1.0, 0.0, None, x, stepsize_controller=diffrax.PIDController(tolerance, tolerance)).ys[0]

    tolerance, x = loosest(lambda tolerance: work(tolerance, jnp.asarray(points(tried))), reference_map(tried), SAMPLING_ERROR), jnp.asarray(points(n))
    return lambda: work(tolerance, x)


def our_heun(n=100_000):
    et, _, vp, velocity = ours()
    import jax

    sampler, start = et.samplers.Sampler(vp, velocity, et.samplers.Heun(), et.samplers.uniform_grid(vp, 100)), et.standard_normal(2)
    return lambda: sampler.sample(jax.random.key(0), n, start)


def diffrax_heun(n=100_000):
    import diffrax
    import jax
    import jax.numpy as jnp

    velocity, x = plain(), jnp.asarray(points(n))

    @jax.jit
    def work(x):
        term = diffrax.ODETerm(lambda t, x, _: jax.vmap(velocity, (None, 0))(t, x))
        return diffrax.diffeqsolve(term, diffrax.Heun(), 1.0, 0.0, -0.01, x).ys[0]

    return lambda: work(x)


def azula_heun(n=100_000):
    import torch
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import VPSchedule
    from azula.sample import HeunSampler

    w, m, S = (torch.tensor(part) for part in mixture())

    class MixtureDenoiser(Denoiser):
        schedule = VPSchedule()

        def forward(self, x, t):
            a, sigma = self.schedule(t)
            C = a**2 * S + sigma**2 * torch.eye(2)
            gap = x[:, None, :] - a * m
            seen = torch.distributions.MultivariateNormal(a * m, C)
            r = torch.softmax(torch.log(w) + seen.log_prob(x[:, None, :]), dim=1)
            means = m + a * torch.einsum("kij,nkj->nki", S, torch.linalg.solve(C, gap.permute(1, 2, 0)).permute(2, 0, 1))
            return DiracPosterior(mean=torch.einsum("nk,nki->ni", r, means))

    sampler, x = HeunSampler(MixtureDenoiser(), steps=100, silent=True, dtype=torch.float64), torch.tensor(points(n))
    return lambda: sampler(x)


def our_likelihood(error, n=10_000, tried=1_000):
    et, law, vp, velocity = ours()
    import jax.numpy as jnp

    start = vp.marginal(law, 1.0)

    def work(tolerance, x):
        return et.samplers.flow_log_prob(vp, velocity, x, start=start, tolerance=tolerance)

    tolerance, x = loosest(lambda tolerance: work(tolerance, data(tried)), reference_density(data(tried)), error), jnp.asarray(data(n))
    return lambda: work(tolerance, x)


def diffrax_likelihood(error, n=10_000, tried=1_000):
    import diffrax
    import jax
    import jax.numpy as jnp

    _, law, vp, _ = ours()
    velocity, start = plain(), vp.marginal(law, 1.0)

    def rates(t, state, _):
        def one(x):
            return velocity(t, x), jnp.trace(jax.jacfwd(lambda x: velocity(t, x))(x))

        return jax.vmap(one)(state[0])

    @jax.jit
    def work(tolerance, x):
        control = diffrax.PIDController(tolerance, tolerance)
        ends, integrals = diffrax.diffeqsolve(diffrax.ODETerm(rates), diffrax.Dopri5(), 0.0, 1.0, None, (x, jnp.zeros(len(x))), stepsize_controller=control).ys
        return start.log_prob(ends[0]) + integrals[0]

    tolerance, x = loosest(lambda tolerance: work(tolerance, jnp.asarray(data(tried))), reference_density(data(tried)), error), jnp.asarray(data(n))
    return lambda: work(tolerance, x)


def spectrum():
    """3072 eigenvalues like those of small natural images: powers of the rank."""
    return 221.0 * np.arange(1, 3073) ** -2.0 + 6e-6


def published_table():
    """Six schemes, four budgets, four truncations, two starts: errors in W2, one program a scheme."""
    import jax
    import jax.numpy as jnp

    import ensembletheory as et

    et.enable_x64()
    from ensembletheory import samplers as s

    vp, eigenvalues = et.processes.VariancePreserving(), jnp.asarray(spectrum())
    g = et.Gaussian(np.zeros(3072), spectrum())
    fields = {"score": vp.score(g), "velocity": vp.velocity(g)}
    schemes = (s.EulerMaruyama(), s.ExponentialIntegrator(), s.Ddpm(), s.Euler(), s.Heun(), s.Rk4())
    grids = jnp.stack([s.padded(s.uniform_grid(vp, nodes - 1, end), max(NODES)) for nodes in NODES for end in TRUNCATIONS])
    starts = jnp.stack([jnp.ones(3072), vp.marginal(g, 1.0).covariance.diagonal()])

    def errors(scheme, grids):
        def row(grid):
            kernel = s.Sampler(vp, fields[scheme.takes], scheme, grid).coordinatewise_kernel(3072)
            return jax.vmap(lambda start: jnp.sqrt(jnp.sum((jnp.sqrt(kernel.a**2 * start + kernel.C.variances) - jnp.sqrt(eigenvalues)) ** 2)))(starts)

        return jax.vmap(row)(grids)

    programs = [jax.jit(lambda grids, scheme=scheme: errors(scheme, grids)) for scheme in schemes]
    return lambda: jax.block_until_ready([program(grids) for program in programs])


def dense_law(steps=1000, d=256):
    import jax

    import ensembletheory as et

    et.enable_x64()
    rng = np.random.default_rng(0)
    A = rng.normal(size=(d, d)) / np.sqrt(d)
    vp, g = et.processes.VariancePreserving(), et.Gaussian(rng.normal(size=d), A @ A.T + 0.1 * np.eye(d))
    sampler, start = et.samplers.Sampler(vp, vp.score(g), et.samplers.EulerMaruyama(), et.samplers.uniform_grid(vp, steps)), et.standard_normal(d)
    return lambda: jax.block_until_ready(sampler.law(start))


def rows() -> Rows:
    table: Rows = {
        "sampling n=1e5 d=2 K=8, error 2e-3": {"ours": our_sampling, "diffrax Tsit5": diffrax_sampling},
        "sampling n=1e5 d=2 K=8, Heun, 100 steps": {"ours": our_heun, "diffrax": diffrax_heun, "azula": azula_heun},
    }
    for error in LIKELIHOOD_ERRORS:
        table[f"log-likelihood n=1e4 d=2 K=8, error {error:g}"] = {"ours": lambda e=error: our_likelihood(e), "diffrax Dopri5": lambda e=error: diffrax_likelihood(e)}
    return table | {"table of six schemes, d=3072": {"ours": published_table}, "exact law, d=256, 1000 steps": {"ours": dense_law}}


if __name__ == "__main__":
    main(rows(), "benchmarks.bench_diffusion")
