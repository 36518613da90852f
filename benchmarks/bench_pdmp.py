"""Exact simulation of piecewise deterministic processes beside pdmp-jax: python -m benchmarks.bench_pdmp.

Work is counted in useful events: those before the horizon, which lanes that wait for others do not have. In the rows of 1e7 useful events 1000 ms are 1e7 events a second.
The peer takes potentials of any form, which it bounds numerically; it runs in 32 bits, many chains at once or one, whichever is quicker (many for the zig-zag process, one
for the bouncy particle), and we in 64. Both have the same Gaussian target in the plane, with correlated coordinates. The peer's requirements exclude current versions of
JAX, with which it runs nevertheless: install it with pip's --no-deps, beside jax-tqdm, chex, toolz, tqdm and seaborn.
"""

import numpy as np

from benchmarks.harness import Rows, main

PRECISION = np.array([[1.0, 0.3], [0.3, 2.0]])
REFRESHMENT = 1.0
RATES = {"zigzag": np.sqrt(np.diag(PRECISION) / (2 * np.pi)).sum(), "bouncy": REFRESHMENT + 0.6066, "hmc": REFRESHMENT, "chain": 0.6066}  # events in a unit of time
PATHS = 4096


def ours(name, useful, paths=PATHS, until=None):
    import jax

    import ensembletheory as et

    et.enable_x64()
    until = useful / paths / RATES[name] if until is None else until
    target = et.Gaussian([0.0, 0.0], np.linalg.inv(PRECISION))
    processes = et.processes
    process = {
        "zigzag": lambda: processes.ZigZag(target, horizon=until),
        "bouncy": lambda: processes.BouncyParticle(target, REFRESHMENT, until),
        "hmc": lambda: processes.RandomisedHmc(target, REFRESHMENT, until),
        "chain": lambda: processes.ForwardEventChain(target, horizon=until),
    }[name]()

    def work():
        found = process.simulate(jax.random.key(0), paths)
        return found.events

    events = int(np.sum(work()))
    assert abs(events - useful) < 0.02 * useful, events
    return work


def pdmp_jax(name, useful, chains):
    import jax
    import jax.numpy as jnp
    import pdmp_jax

    def gradient(x):
        return jnp.asarray(PRECISION, x.dtype) @ x

    sampler = pdmp_jax.ZigZag(2, gradient) if name == "zigzag" else pdmp_jax.BouncyParticle(2, gradient, refresh_rate=REFRESHMENT)
    run = jax.jit(jax.vmap(lambda seed, x, v: sampler.sample_skeleton(useful // chains, x, v, seed, verbose=False).x))
    rng = np.random.default_rng(0)
    x, v = jnp.asarray(rng.normal(size=(chains, 2)), jnp.float32), jnp.asarray(rng.choice([-1.0, 1.0], size=(chains, 2)), jnp.float32)
    return lambda: run(jnp.arange(chains), x, v)


def rows() -> Rows:
    names = {"zigzag": "zig-zag", "bouncy": "bouncy particle", "hmc": "randomised HMC", "chain": "forward event chain"}
    alone = {f"{text}, 1e7 useful events": {"ours": lambda name=name: ours(name, 1e7)} for name, text in names.items()}
    brief = 10.0
    short = {f"{names[name]}, 1e5 paths of time 10": {"ours": lambda name=name: ours(name, 1e5 * brief * RATES[name], 100_000, brief)} for name in ("zigzag", "bouncy")}
    beside = {
        f"{names[name]}, 2e5 events": {"ours": lambda name=name: ours(name, 2e5), "pdmp-jax": lambda name=name, chains=chains: pdmp_jax(name, 200_000, chains)}
        for name, chains in (("zigzag", 512), ("bouncy", 1))
    }
    return alone | short | beside


if __name__ == "__main__":
    main(rows(), "benchmarks.bench_pdmp")
