"""Claims about bounds on samplers: mutants violated by hand by as much as SciPy says, and the numbers of the refuted one."""

from functools import cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from scipy.special import rel_entr

from ensembletheory.claims import get

NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)


def quadrature(f, *ends):
    """By 40-point Gauss-Legendre on each interval."""
    return sum((b - a) / 2 * sum(w * f(a + (b - a) * (x + 1) / 2) for x, w in zip(NODES, WEIGHTS, strict=True)) for a, b in pairwise(ends))


def kl(p, q):
    """Of Gaussians (mean, variance)."""
    return 0.5 * (p[1] / q[1] - 1 - np.log(p[1] / q[1]) + (p[0] - q[0]) ** 2 / q[1])


class Vp:
    """Noised laws of a VP diffusion with linear rates, as (mean, variance)."""

    def __init__(self, rates):
        self.low, self.high = rates

    def beta(self, t):
        return self.low + (self.high - self.low) * t

    def signal2(self, t):
        return np.exp(-(self.low * t + (self.high - self.low) * t**2 / 2))

    def noised(self, law, t):
        u = self.signal2(t)
        return np.sqrt(u) * law[0], 1 + u * (law[1] - 1)

    def line(self, laws, coefficients, t):
        """Slope and level of sum_k c_k s_k at time t."""
        noised = [self.noised(law, t) for law in laws]
        return -sum(c / v for c, (_, v) in zip(coefficients, noised, strict=True)), sum(c * m / v for c, (m, v) in zip(coefficients, noised, strict=True))

    def path_cost(self, p, laws, coefficients, end=0.0):
        def rate(t):
            (mean, variance), (slope, level) = self.noised(p, t), self.line(laws, coefficients, t)
            slope, level = slope + 1 / variance, level - mean / variance
            return self.beta(t) / 2 * ((slope * mean + level) ** 2 + slope**2 * variance)

        return quadrature(rate, end, end + (1 - end) / 8, 1.0)

    def start_cost(self, p):
        return kl(self.noised(p, 1.0), (0.0, 1.0))

    def sampled(self, laws, coefficients, churn):
        def rate(tau, moments):
            slope, level = self.line(laws, coefficients, 1 - tau)
            drift, half = 1 + (1 + churn) * slope, self.beta(1 - tau) / 2
            return [half * (drift * moments[0] + (1 + churn) * level), 2 * half * (drift * moments[1] + churn)]

        return integrate.solve_ivp(rate, (0, 1), [0.0, 1.0], rtol=1e-11, atol=1e-12, method="DOP853").y[:, -1]


def of_instance(instance):
    return Vp(instance["rates"]), (instance["target_mean"], instance["target_variance"]), list(zip(instance["means"], instance["variances"], strict=True))


def song(instance, churn=1.0, constant=1.0, end=1.0):
    vp, p, laws = of_instance(instance)
    coefficients = instance["total"] * np.asarray(instance["weights"])
    return constant * vp.path_cost(p, laws, coefficients) + end * vp.start_cost(p) - kl(p, vp.sampled(laws, coefficients, churn))


def girsanov(instance, constant=1.0, end=1.0, frozen=True):
    vp, p, model = Vp(instance["rates"]), (instance["mean"], instance["variance"]), (instance["model_mean"], instance["model_variance"])
    grid = 1 - instance["length"] * np.concatenate([[0.0], np.cumsum(instance["steps"])])
    cost, law = 0.0, np.array([0.0, 1.0])
    for t, s in pairwise(grid):
        (mean, variance), (model_mean, model_variance) = vp.noised(p, t), vp.noised(model, t)
        e = np.sqrt(vp.signal2(s) / vp.signal2(t))

        def rate(r, t=t, mean=mean, variance=variance, model_mean=model_mean, model_variance=model_variance):
            """Half b E |s(t, X_t) - s*(r, X_r)|^2, both affine in X_r and an independent part of X_t."""
            _, now_variance = vp.noised(p, r)
            ratio = np.sqrt(vp.signal2(t) / vp.signal2(r))
            moved = 1 / now_variance - ratio / model_variance
            level = -(mean - model_mean) / model_variance
            return vp.beta(r) / 2 * (level**2 + moved**2 * now_variance + (variance - ratio**2 * now_variance) / model_variance**2)

        cost += quadrature(rate, s, t)
        slope, shift = -1 / model_variance, model_mean / model_variance
        pull = 2 * (e - 1)
        law = np.array([(e + pull * slope) * law[0] + pull * shift, (e + pull * slope) ** 2 * law[1] + e**2 - 1])
    path = cost if frozen else vp.path_cost(p, [model], [1.0], grid[-1])
    return constant * path + end * vp.start_cost(p) - kl(vp.noised(p, grid[-1]), law)


def flow(instance, of_bound):
    """`of_bound` of the error, int L and max L, less W2; the model's paths by SciPy."""
    m, s, b, c = (instance[name] for name in ("mean", "deviation", "slope", "shift"))

    def moments(t):
        return np.cos(np.pi * t / 2) * m, np.cos(np.pi * t / 2) ** 2 * s**2 + np.sin(np.pi * t / 2) ** 2

    def exact(t):
        return np.pi / 4 * np.sin(np.pi * t) * (1 - s**2) / moments(t)[1]

    def backward(tau, x):
        t = 1 - tau
        mean, _ = moments(t)
        return -(-np.pi / 2 * np.sin(np.pi * t / 2) * m + exact(t) * (x - mean) + b * x + c)

    ends = integrate.solve_ivp(backward, (0, 1), [0.0, 1.0], rtol=1e-11, atol=1e-12, method="DOP853").y[:, -1]
    error = np.sqrt(quadrature(lambda t: (b * moments(t)[0] + c) ** 2 + b**2 * moments(t)[1], 0.0, 1.0))
    slopes = [exact(t) for t in np.linspace(0, 1, 20_001)]
    return of_bound(error, quadrature(lambda t: abs(exact(t)), 0.0, 0.5, 1.0), np.max(np.abs(slopes))) - np.hypot(ends[0] - m, ends[1] - ends[0] - s)


def pinsker(instance, constant=2.0, power=2):
    p, q = map(np.asarray, instance["weights"])
    return np.sum(rel_entr(p, q)) - constant * (np.sum(abs(p - q)) / 2) ** power


def averaged(instance, total=1.0, geometric=False):
    vp, p, laws = of_instance(instance)
    w, start = np.asarray(instance["weights"]), vp.start_cost(p)
    members = np.array([vp.path_cost(p, [law], [1.0]) + start for law in laws])
    return (np.exp(w @ np.log(members)) if geometric else w @ members) - vp.path_cost(p, laws, total * w) - start


STAYING = {"target_mean": 2.0, "target_variance": 0.25, "means": [0.0, 0.0], "variances": [1.0, 1.0], "weights": [0.3, 0.7], "total": 1.0, "rates": [2.0, 1.0]}
SHARPENED = STAYING | {"target_mean": 0.5, "means": [0.5, 0.4], "variances": [0.25, 0.3], "total": 1.25, "rates": [0.5, 4.0]}
RUN = {"mean": 2.0, "variance": 0.5, "model_mean": -1.0, "model_variance": 1.5, "rates": [0.2, 1.0], "steps": [0.4, 0.3, 0.2, 0.1], "length": 0.9}
EXACT = RUN | {"mean": 1.0, "variance": 0.2, "model_mean": 1.0, "model_variance": 0.2, "rates": [1.0, 5.0]}
STRETCHED = {"mean": 1.0, "deviation": 1.5, "slope": -2.0, "shift": 0.5}
ATOMS = {"weights": [[0.6, 0.4, 0.0], [0.4, 0.6, 0.0]], "means": [-1.0, 2.0], "variances": [1.0, 0.5]}
MEMBERS = {"target_mean": 0.5, "target_variance": 2.0, "means": [0.4, -2.0], "variances": [1.9, 0.5], "weights": [0.3, 0.7], "rates": [0.5, 4.0]}
MUTANTS = {
    ("song-bound-sde", "ode"): (SHARPENED, lambda i: song(i, churn=0.0)),
    ("song-bound-sde", "smaller-constant"): (STAYING, lambda i: song(i, constant=0.9)),
    ("song-bound-sde", "without-the-start"): (STAYING, lambda i: song(i, end=0.0)),
    ("girsanov-frozen-score", "smaller-constant"): (RUN, lambda i: girsanov(i, constant=0.5)),
    ("girsanov-frozen-score", "without-the-start"): (RUN, lambda i: girsanov(i, end=0.0)),
    ("girsanov-frozen-score", "not-frozen"): (EXACT, lambda i: girsanov(i, frozen=False)),
    ("benton-w2-bound", "of-the-exact-velocity"): (STRETCHED, lambda i: flow(i, lambda error, whole, _: error * np.exp(whole))),
    ("benton-w2-bound", "without-stretching"): (STRETCHED, lambda i: flow(i, lambda error, *_: error)),
    ("albergo-w2-bound", "of-the-exact-velocity"): (STRETCHED, lambda i: flow(i, lambda error, _, largest: error * np.exp(0.5 + largest))),
    ("albergo-w2-bound", "without-stretching"): (STRETCHED, lambda i: flow(i, lambda error, *_: error * np.exp(0.5))),
    ("pinsker", "larger-constant"): (ATOMS, lambda i: pinsker(i, constant=2.1)),
    ("pinsker", "without-the-square"): (ATOMS, lambda i: pinsker(i, power=1)),
    ("ensemble-bound-below-average", "sum-of-scores"): (MEMBERS, lambda i: averaged(i, total=2.0)),
    ("ensemble-bound-below-average", "geometric-mean"): (MEMBERS, lambda i: averaged(i, geometric=True)),
}


@cache
def mutants(id):
    """The margins of all mutants of a claim, in one program."""
    claims = {name: get(id).mutated(name) for name in get(id).mutants}
    return jax.jit(lambda instance: {name: claim.traced(instance) for name, claim in claims.items()})


def test_every_mutant_is_here():
    assert set(MUTANTS) == {(id, name) for id in {id for id, _ in MUTANTS} for name in get(id).mutants}


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated_by_as_much_as_the_second_route_says(id, name):
    instance, route = MUTANTS[id, name]
    get(id).domain.check(instance)
    value, error = mutants(id)({part: jnp.asarray(number, dtype=float) for part, number in instance.items()})[name]
    assert value + error < -1e-3
    assert float(value) == pytest.approx(route(instance), rel=1e-7)


def test_the_flow_violates_the_bound_of_the_sde():
    """The scores of N(0, a), a tenth too large: KL of the flow's law against the path's part of the bound."""
    for a, divergence, bound in ((4.0, 0.256045, 0.043319176), (0.25, 0.497216, 0.05718131)):
        vp, p = Vp((0.1, 20.0)), (0.0, a)
        assert vp.path_cost(p, [p], [1.1]) == pytest.approx(bound, rel=1e-6)
        assert kl(p, vp.sampled([p], [1.1], 0.0)) == pytest.approx(divergence, abs=6e-7)
        assert kl(p, vp.sampled([p], [1.1], 1.0)) < bound < divergence


def test_pinsker_is_tight_to_leading_order():
    for e in (1e-2, 1e-3):
        slack = pinsker({"weights": [[0.5 + e, 0.5 - e], [0.5 - e, 0.5 + e]]})
        assert 0 < slack < 16 * e**4  # of 8 e^2
