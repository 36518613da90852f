"""Training of score networks, alone and as an ensemble, beside torch: python -m benchmarks.bench_neural.

A perceptron of 3 hidden layers of 128 units learns denoising, 2-D data, batches of 512, 200 steps of Adam with clipping and a moving average; eight members in one call stand
beside eight trainings one after the other. Everything in 32 bits, which is how networks are trained elsewhere. The first call compiles.
Asked of eight members in one call: at most 0.6 times the wall time of one after the other, on two idle cores, and at most 1.15 times its processor time.
"""

import numpy as np

from benchmarks.harness import Rows, main

STEPS, BATCH, WIDTH, MEMBERS = 200, 512, 128, 8
TOGETHER = "eight of them in one call"
LIMITS = {(TOGETHER, "one after the other"): (0.6, 1.15)}


def rows_of_data():
    """Ten thousand points of eight clusters in the plane."""
    rng = np.random.default_rng(0)
    return (2 * rng.normal(size=(8, 2))[rng.integers(8, size=10_000)] + 0.3 * rng.normal(size=(10_000, 2))).astype(np.float32)


def ours(members: int):
    import jax

    from ensembletheory.neural import Recipe, ScoreLearner, fit, fit_ensemble
    from ensembletheory.processes import VariancePreserving

    learner, recipe, data = ScoreLearner(VariancePreserving(), WIDTH, 3, BATCH), Recipe(steps=STEPS, chunk=100), rows_of_data()
    if members == 1:
        return lambda: fit(jax.random.key(0), learner, data, recipe).losses
    return lambda: fit_ensemble(jax.random.key(0), learner, data, members, recipe).losses


def one_after_the_other():
    import jax

    from ensembletheory.neural import Recipe, ScoreLearner, fit
    from ensembletheory.processes import VariancePreserving

    learner, recipe, data = ScoreLearner(VariancePreserving(), WIDTH, 3, BATCH), Recipe(steps=STEPS, chunk=100), rows_of_data()
    return lambda: [fit(jax.random.key(k), learner, data, recipe).losses for k in range(MEMBERS)]


def torch_training(members: int):
    import torch

    torch.set_num_threads(1)  # with two it is slower
    data, mean = torch.tensor(rows_of_data()), torch.tensor(rows_of_data().mean(0))
    scale = float(rows_of_data().std())

    def features(level):
        angles = level[:, None] * torch.tensor([0.25, 0.5, 1.0, 2.0])
        return torch.cat([level[:, None] / 8, torch.sin(angles), torch.cos(angles)], dim=1)

    def train():
        layers = [part for a, b in ((11, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH)) for part in (torch.nn.Linear(a, b), torch.nn.SiLU())]
        network = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, 2))
        average = [parameter.detach().clone() for parameter in network.parameters()]
        optimiser = torch.optim.Adam(network.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        for _ in range(STEPS):
            t = 1e-3 + (1 - 1e-3) * (torch.arange(BATCH) + torch.rand(BATCH)) / BATCH
            u = torch.exp(-0.1 * t - 9.95 * t**2)
            x0, z = data[torch.randint(len(data), (BATCH,))], torch.randn(BATCH, 2)
            a, noise = torch.sqrt(u)[:, None], (1 - u)[:, None]
            v = a**2 * scale**2 + noise
            centred = a * x0 + torch.sqrt(noise) * z - a * mean
            output = network(torch.cat([centred / torch.sqrt(v), features(torch.log(noise / v)[:, 0])], dim=1))
            score = -centred / v + a * scale / torch.sqrt(noise * v) * output
            loss = ((torch.sqrt(noise) * score + z) ** 2).sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                torch._foreach_lerp_(average, list(network.parameters()), 1e-3)

    return lambda: [train() for _ in range(members)]


def rows() -> Rows:
    return {
        "score network 3 x 128, batch 512, 200 steps": {"ours": lambda: ours(1), "torch": lambda: torch_training(1)},
        TOGETHER: {"ours": lambda: ours(MEMBERS), "one after the other": one_after_the_other, "torch": lambda: torch_training(MEMBERS)},
    }


if __name__ == "__main__":
    main(rows(), "benchmarks.bench_neural", LIMITS)
