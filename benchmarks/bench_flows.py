"""Likelihoods of coupling flows beside flowjax and the whole Jacobian, of continuous flows, and what pairs by transport cost: python -m benchmarks.bench_flows.

Parameters are those of untrained networks, the same for ours and flowjax up to their key. Operations are counted in `paper_figures.flows_cost`; here they are timed. Where
a row has no package as a peer, the peer is another way of ours to the same answer, autodiff or an estimate by two probes, or the same training with independent pairs.
"""

import numpy as np

from benchmarks.harness import Rows, main

LAYERS, WIDTH, DEPTH = 6, 64, 2


def points(n, d):
    return np.random.default_rng(1).normal(size=(n, d))


def flow(d):
    import jax

    import ensembletheory as et
    from ensembletheory.neural import CouplingFlow

    et.enable_x64()
    return CouplingFlow(jax.random.key(0), et.Gaussian(np.zeros(d), 1.0), LAYERS, WIDTH, DEPTH)


def read_off(n, d):
    def prepare():
        law, x = flow(d), points(n, d)
        return lambda: law.log_prob(x)

    return prepare


def whole_jacobian(n, d):
    def prepare():
        import equinox as eqx
        import jax

        from ensembletheory.neural.flows.coupling_flow import dense_log_prob

        law, x = flow(d), jax.numpy.asarray(points(n, d))
        work = eqx.filter_jit(lambda law, x: jax.lax.map(lambda y: dense_log_prob(law, y), x, batch_size=256))
        return lambda: work(law, x)

    return prepare


def by_flowjax(n, d):
    def prepare():
        import equinox as eqx
        import jax
        from flowjax.distributions import StandardNormal
        from flowjax.flows import coupling_flow

        jax.config.update("jax_enable_x64", True)
        sizes = {"flow_layers": LAYERS, "nn_width": WIDTH, "nn_depth": DEPTH, "nn_activation": jax.nn.silu}
        law, x = coupling_flow(jax.random.key(0), base_dist=StandardNormal((d,)), **sizes), jax.numpy.asarray(points(n, d))
        work = eqx.filter_jit(lambda law, x: law.log_prob(x))
        return lambda: work(law, x)

    return prepare


def continuous(n, d, probe):
    def prepare():
        import jax

        import ensembletheory as et
        from ensembletheory.neural import VelocityNetwork
        from ensembletheory.processes import LinearInterpolant
        from ensembletheory.samplers import flow_log_prob
        from ensembletheory.samplers.likelihood import hutchinson_log_prob

        et.enable_x64()
        path, x = LinearInterpolant(), points(n, d)
        field = VelocityNetwork(jax.random.key(0), path, et.Gaussian(np.zeros(d), 1.0), WIDTH, DEPTH)
        if probe:
            return lambda: hutchinson_log_prob(jax.random.key(1), path, field, x, probes=2, tolerance=1e-4).value
        return lambda: flow_log_prob(path, field, x, tolerance=1e-4)

    return prepare


def matching(pairs):
    def prepare():
        import jax

        import ensembletheory as et
        from ensembletheory.neural import FlowMatchingLearner, IndependentPairs, Recipe, TransportedPairs, fit
        from ensembletheory.processes import LinearInterpolant

        et.enable_x64()
        law = et.GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [[0.1, 0.1], [0.1, 0.1]])
        learner = FlowMatchingLearner(LinearInterpolant(), TransportedPairs() if pairs else IndependentPairs())
        return lambda: fit(jax.random.key(0), learner, law, Recipe(steps=200, chunk=200)).losses

    return prepare


ROWS: Rows = {
    "coupling log-density N=1e4 d=16": {"ours": read_off(10_000, 16), "flowjax": by_flowjax(10_000, 16), "whole Jacobian": whole_jacobian(10_000, 16)},
    "coupling log-density N=1e3 d=64": {"ours": read_off(1000, 64), "flowjax": by_flowjax(1000, 64), "whole Jacobian": whole_jacobian(1000, 64)},
    "continuous log-density N=1e3 d=16, divergence": {"ours": continuous(1000, 16, False), "two probes": continuous(1000, 16, True)},
    "200 steps of 256 pairs by transport, d=2": {"ours": matching(True), "independent": matching(False)},
}

if __name__ == "__main__":
    main(ROWS, "benchmarks.bench_flows")
