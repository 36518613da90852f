r"""Claims about flow matching between data and N(0, I), drawn independently: the flow map, its energy, and what couplings change.

**The map.** For data N(m, S) every path X_t = a_t X_0 + s_t Z with the right ends, a_0 = s_1 = 1, a_1 = s_0 = 0, has the trajectories
x_t = a_t m + (a_t^2 S + s_t^2 I)^{1/2} z, since all its matrices commute: the flow map z -> m + S^{1/2} z is the optimal transport whatever the schedule. The claim puts
d/dt x_t = v(t, x_t) to the test. From N(0, R) the map is m + R^{1/2} (R^{-1/2} S R^{-1/2})^{1/2} R^{-1/2} x, which is no gradient, and not optimal, unless R and S commute.

**On the line** any data keep their quantiles: F_t(x_t) = const, for d/dt F_t(x) = -v(t, x) p_t(x) is the continuity equation, integrated.

**Energy.** On the straight path, for data of standard deviation s on the line, Var X_t = c_t = (1-t)^2 s^2 + t^2 and E v^2 = c'^2 / (4 c) = 1 + s^2 - s^2 / c, with
Var(Z - X_0 | X_t) = s^2 / c. As int_0^1 dt / c = pi / (2 s),

    int E |v|^2 dt = 1 + s^2 - pi s / 2,      int E Var(Z - X_0 | X_t) dt = pi s / 2  (the floor of conditional flow matching).

No flow has less than W2^2 = (s - 1)^2 (Benamou & Brenier 2000). The signal a = 1 - t with noise of variance t^2 + 2 k t (1 - t) attains it where k = s, and only there: then
Var X_t = ((1 - t) s + t)^2 and every particle moves straight at constant speed, though data and source are drawn independently.

**Minibatches.** Drawing B pairs and matching them by optimal transport makes, on the line, a coupling of correlation rho_B, where data and source are both Gaussian. It costs
1 + s^2 - 2 s rho_B, which falls with B: leave one point of each side out of a batch, at random, and the average of the best matchings of the rest couples the whole
batch.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real, simplex, spd
from ensembletheory.divergences import w2_squared
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian, GaussianMixture, standard_normal
from ensembletheory.laws.univariate import smaller_tail
from ensembletheory.linalg import sqrtm
from ensembletheory.processes import GaussianPath, Interpolant, LinearInterpolant, TrigonometricInterpolant
from ensembletheory.processes.couplings import minibatch_correlation
from ensembletheory.quadrature import integrate
from ensembletheory.samplers.analytic_dpm import mean_posterior_variance

__all__ = [
    "flow_matching_energy",
    "flow_matching_least_energy",
    "flow_matching_map_schedule_free",
    "independent_coupling_is_optimal",
    "minibatch_coupling_correlation",
    "quantile_map",
]


def _signal(bend: Float[Array, ""], t: Float[Array, ""]) -> Float[Array, ""]:
    return (1 - t) * (1 + bend * t)


def _deviation(bend: Float[Array, ""], t: Float[Array, ""]) -> Float[Array, ""]:
    return t * (1 + bend * (1 - t))


def _bent(bends: Float[Array, " 2"]) -> Interpolant:
    """The path with a = (1 - t)(1 + bend_1 t) and s = t (1 + bend_2 (1 - t)), with the right ends whatever the bends."""
    return Interpolant(Partial(_signal, bends[0]), Partial(_deviation, bends[1]))


BENDS = real(-0.9, 3, shape=(2,))
IN_THE_PLANE = Domain(mean=real(-3, 3, shape=(2,)), cov=spd(2, 0.1, 10), bends=BENDS, time=real(0.05, 0.95), point=real(-3, 3, shape=(2,)))


def _defect_of_the_map(mean, cov, bends, time, point, begun=1.0, source_cov=None) -> Estimate:
    """Minus the largest defect of x_t = a m + (a^2 S + s^2 R)^{1/2} z: of d/dt x_t = v(t, x_t), where v is known in coordinates that whiten N(0, R), and of both ends."""
    path, R = _bent(bends), jnp.eye(2) if source_cov is None else source_cov
    root = sqrtm(R)
    inverse = jnp.linalg.inv(root)
    whitened = Gaussian(inverse @ mean, inverse @ cov @ inverse)

    def position(t: Float[Array, ""]) -> Float[Array, " 2"]:
        return path.a(t) * mean + sqrtm(path.a(t) ** 2 * cov + path.noise_variance(t) * R) @ point

    x, slope = jax.jvp(position, (time,), (jnp.ones_like(time),))
    of_motion = slope - root @ path.velocity(whitened)(time, inverse @ x)
    of_the_ends = jnp.concatenate([position(jnp.zeros(())) - mean - sqrtm(cov) @ point, position(jnp.asarray(begun)) - root @ point])
    return closed_form(-jnp.max(jnp.abs(jnp.concatenate([of_motion, of_the_ends]))))


def _begun_early(mean, cov, bends, time, point, begun) -> Estimate:
    return _defect_of_the_map(mean, cov, bends, time, point, begun)


def _any_source(mean, cov, bends, time, point, source_cov) -> Estimate:
    return _defect_of_the_map(mean, cov, bends, time, point, source_cov=source_cov)


def _some_schedules() -> Iterator[dict[str, Any]]:
    data = {"mean": [1.0, -2.0], "cov": [[4.0, 1.0], [1.0, 0.5]], "point": [1.0, 0.5]}
    for bends, time in (([0.0, 0.0], 0.5), ([3.0, -0.9], 0.2), ([-0.5, 2.0], 0.9)):
        yield {**data, "bends": bends, "time": time}


@claim(
    id="flow-matching-map-schedule-free",
    statement=r"X_t = a_t X_0 + s_t Z, \; X_0 \sim \mathcal{N}(m, S), \; Z \sim \mathcal{N}(0, I) \ \Rightarrow \ \mathrm{the\ flow\ maps}\ z\ \mathrm{to}\ m + S^{1/2} z",
    source="derived here, for the paths of Lipman et al. (2023) and Albergo & Vanden-Eijnden (2023); for a VP diffusion: Pierret & Galerne (2025), proposition 3",
    domain=IN_THE_PLANE,
    kind="theorem",
    references=["lipman2023flow", "albergo2023building", "pierret2025diffusion"],
    equality=_some_schedules,
    mutants={
        "begun-early": Mutant("the end of the schedule: the flow begins where data are left", _begun_early, IN_THE_PLANE.replace(begun=real(0.5, 0.9))),
        "any-source": Mutant("an isotropic source: N(0, R)", _any_source, IN_THE_PLANE.replace(source_cov=spd(2, 0.1, 10))),
    },
    proof="C = a^2 S + s^2 I and C' commute, so d/dt C^{1/2} z = C' C^{-1} / 2 C^{1/2} z, which is the velocity less a' m.",
)
def flow_matching_map_schedule_free(mean, cov, bends, time, point) -> Estimate:
    """Minus the largest defect of the trajectories that end in the map: 0 everywhere."""
    return _defect_of_the_map(mean, cov, bends, time, point)


ON_THE_LINE = Domain(
    weights=simplex(2),
    means=real(-2, 2, shape=(2,)),
    variances=positive(0.2, 10, shape=(2,)),
    bends=BENDS,
    time=real(0.2, 0.9),
    point=real(-4, 4),
)


def _defect_of_continuity(weights, means, variances, bends, time, point, of_law: Callable = lambda law: law) -> Estimate:
    """Minus the relative difference between the velocity and -dF/dt / p at one point, both from the smaller tail."""
    path, law = _bent(bends), GaussianMixture(weights, means[:, None], variances[:, None])

    def log_tail(t: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        side, log = smaller_tail(path.marginal(law, t), point)
        return log, side

    log, rate, side = jax.jvp(log_tail, (time,), (jnp.ones_like(time),), has_aux=True)
    of_quantiles = -side * rate * jnp.exp(log - path.marginal(law, time)._log_prob(point[None]))
    velocity = path.velocity(of_law(law))(time, point[None])[0]
    return closed_form(-jnp.abs(of_quantiles - velocity) / (1 + jnp.abs(of_quantiles)))


def _of_moments(weights, means, variances, bends, time, point) -> Estimate:
    return _defect_of_continuity(weights, means, variances, bends, time, point, lambda law: Gaussian(law.mean, law.cov))


def _some_mixtures() -> Iterator[dict[str, Any]]:
    data = {"weights": [0.3, 0.7], "means": [-2.0, 1.0], "variances": [0.25, 0.5]}
    for bends, time, point in (([0.0, 0.0], 0.5, 0.0), ([2.0, -0.5], 0.3, -1.5), ([-0.5, 1.0], 0.8, 2.0)):
        yield {**data, "bends": bends, "time": time, "point": point}


@claim(
    id="flow-is-the-quantile-map",
    statement=r"F_t(x_t) = F_1(x_1) \ \mathrm{along}\ \dot{x}_t = v(t, x_t)\ \mathrm{on\ the\ line}, \quad \partial_t F_t(x) = -v(t, x) \, p_t(x)",
    source="the continuity equation, integrated; for rectified flows on the line see Liu, Gong & Liu (2023)",
    domain=ON_THE_LINE,
    kind="theorem",
    references=["lipman2023flow", "liu2023flow"],
    equality=_some_mixtures,
    mutants={"moments-alone": Mutant("the exact velocity: that of the Gaussian of the same moments", _of_moments)},
    proof="Integrate the continuity equation from -infinity to x: what flows past x is what F loses.",
)
def quantile_map(weights, means, variances, bends, time, point) -> Estimate:
    """Minus the relative difference between the velocity and that of the quantiles: 0 everywhere."""
    return _defect_of_continuity(weights, means, variances, bends, time, point)


DEVIATIONS = Domain(deviations=positive(0.1, 10, shape=(2,)))


def _power(path: GaussianPath, law: Gaussian, time: Float[Array, " 1"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """E |v|^2 at one time, of the affine v of Gaussian data: of its mean and of its deviations along the columns of a factor of Cov X_t."""
    noised, field = path.marginal(law, time[0]), path.velocity(law)
    assert isinstance(noised, Gaussian)
    mean = field(time[0], noised.mean)
    deviations = jax.vmap(lambda column: field(time[0], noised.mean + column) - mean, in_axes=1)(noised.covariance.factor())
    power = jnp.sum(mean**2) + jnp.sum(deviations**2)
    return power, power


def _floor(path: GaussianPath, law: Gaussian, time: Float[Array, " 1"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """E tr Cov(Z - X_0 | X_t) on the straight path, where Z - X_0 = (X_t - X_0) / t."""
    variance = law.dim * mean_posterior_variance(path, law, time[0]) / time[0] ** 2
    return variance, variance


def _over_time(integrand: Callable, law: Gaussian, path: GaussianPath) -> Estimate:
    return integrate(Partial(integrand, path, law), (jnp.linspace(0.0, 1.0, 9) ** 2 * (3 - 2 * jnp.linspace(0.0, 1.0, 9)),))


def _defect_of_the_energy(deviations, stated: Callable, path: GaussianPath | None = None) -> Estimate:
    """Minus the sum of the distances of energy and floor from what is stated."""
    law = Gaussian(jnp.zeros(2), deviations**2)
    energy = _over_time(_power, law, LinearInterpolant() if path is None else path) - jnp.sum(stated(deviations))
    floor = _over_time(_floor, law, LinearInterpolant()) - jnp.sum(jnp.pi * deviations / 2)
    return Estimate(-jnp.abs(energy.value) - jnp.abs(floor.value), energy.error + floor.error, "quadrature")


def _energy(s: Float[Array, " 2"]) -> Float[Array, " 2"]:
    return 1 + s**2 - jnp.pi * s / 2


def _least_energy(s: Float[Array, " 2"]) -> Float[Array, " 2"]:
    return (s - 1) ** 2


@claim(
    id="flow-matching-energy",
    statement=r"\int_0^1 E|v(t, X_t)|^2 dt = \sum_i (1 + s_i^2 - \frac{\pi}{2} s_i), \quad \int_0^1 E\, \mathrm{tr\,Cov}(Z - X_0 | X_t)\, dt = \frac{\pi}{2} \sum_i s_i",
    source="derived here, for the straight path of Lipman et al. (2023)",
    domain=DEVIATIONS,
    kind="theorem",
    references=["lipman2023flow"],
    equality=lambda: iter([{"deviations": [2.0, 0.5]}, {"deviations": [1.0, 1.0]}, {"deviations": [0.2, 5.0]}]),
    mutants={
        "least-energy": Mutant("the independent coupling: the energy of optimal transport", lambda deviations: _defect_of_the_energy(deviations, _least_energy)),
        "trigonometric": Mutant("the straight path: the trigonometric one", lambda deviations: _defect_of_the_energy(deviations, _energy, TrigonometricInterpolant())),
    },
    proof="E v^2 = c'^2 / (4 c) = 1 + s^2 - s^2 / c for c = (1-t)^2 s^2 + t^2, and int_0^1 dt / c = (arctan s + arctan 1/s) / s = pi / (2 s).",
)
def flow_matching_energy(deviations) -> Estimate:
    """Minus the sum of the distances of energy and floor from what is stated: 0 everywhere."""
    return _defect_of_the_energy(deviations, _energy)


def _rounded_deviation(k: Float[Array, ""], t: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.sqrt(t**2 + 2 * k * t * (1 - t))


def _excess_energy(mean, deviation, noise, constant: float = 1.0) -> Estimate:
    """The energy of the path with noise of variance t^2 + 2 k t (1 - t), less `constant` times W2^2."""
    path, law = Interpolant(Partial(_signal, jnp.zeros(())), Partial(_rounded_deviation, noise)), Gaussian(mean[None], deviation[None] ** 2)
    return _over_time(_power, law, path) - constant * w2_squared(law, standard_normal(1))


def _straight_flows() -> Iterator[dict[str, Any]]:
    for mean, deviation in ((0.0, 2.0), (1.0, 0.5), (-2.0, 1.0)):
        yield {"mean": mean, "deviation": deviation, "noise": deviation}


@claim(
    id="flow-matching-least-energy",
    statement=r"\int_0^1 E|v(t, X_t)|^2 dt \geq W_2^2(\mathcal{N}(m, s^2), \mathcal{N}(0, 1)), \quad X_t = (1 - t) X_0 + \sqrt{t^2 + 2kt(1-t)} \, Z",
    source="Benamou & Brenier (2000); the schedule that attains it, k = s, is derived here",
    domain=Domain(mean=real(-3, 3), deviation=positive(0.3, 3), noise=positive(0.1, 3)),
    kind="theorem",
    references=["benamou2000computational", "lipman2023flow"],
    equality=_straight_flows,
    mutants={"larger-constant": Mutant("the constant: 1.05 W2^2", lambda **instance: _excess_energy(**instance, constant=1.05))},
    proof="E|x_1 - x_0|^2 <= E (int |v| dt)^2 <= int E|v|^2 dt along the flow, which couples both laws.",
)
def flow_matching_least_energy(mean, deviation, noise) -> Estimate:
    """The energy in excess of W2^2."""
    return _excess_energy(mean, deviation, noise)


BATCHES = (1, 2, 4, 8, 16)


def _slack_of_the_costs(shift, deviation, sign: float = 1.0) -> Estimate:
    """The least fall of the cost of the coupling from one batch size to the next, and from the last to W2^2; `sign` -1 matches the largest with the smallest."""
    correlations = [minibatch_correlation(batch) * sign for batch in BATCHES]
    costs = jnp.stack([shift**2 + 1 + deviation**2 - 2 * deviation * correlation.value for correlation in correlations])
    falls = costs - jnp.append(costs[1:], shift**2 + (deviation - 1) ** 2)
    return Estimate(jnp.min(falls), 2 * deviation * sum(correlation.error for correlation in correlations), "quadrature")


def _points() -> Iterator[dict[str, Any]]:
    for shift in (0.0, 1.5):
        yield {"shift": shift, "deviation": 0.0}


@claim(
    id="minibatch-coupling-correlation",
    statement=r"m^2 + (s - 1)^2 \leq c_{2B} \leq c_B, \quad c_B = m^2 + 1 + s^2 - 2 s \rho_B, \; \rho_B = \frac{1}{B} \sum_i (E Z_{i:B})^2",
    source="derived here, for the minibatch couplings of Tong et al. (2024); checked for B up to 16",
    domain=Domain(shift=real(-3, 3), deviation=real(0, 4)),
    kind="theorem",
    references=["tong2024improving"],
    equality=_points,
    mutants={"worst-matching": Mutant("the best matching: the largest with the smallest", lambda shift, deviation: _slack_of_the_costs(shift, deviation, -1.0))},
    proof="Two batches of B, each matched at its best, are a matching of 2B: the best one costs no more, and no coupling less than W2^2.",
)
def minibatch_coupling_correlation(shift, deviation) -> Estimate:
    """The least fall of the cost along batch sizes 1, 2, 4, 8, 16 and to W2^2, for N(m, s^2) and N(0, 1)."""
    return _slack_of_the_costs(shift, deviation)


@claim(
    id="independent-coupling-is-optimal",
    statement=r"E|T(X) - X|^2 = W_2^2(\mathcal{N}(0, R), \mathcal{N}(0, S)) \ \mathrm{for\ the\ flow\ map}\ T\ \mathrm{of\ the\ independent\ coupling}",
    source="flow-matching-map-schedule-free for any Gaussian source; refuted here where the covariances do not commute",
    domain=Domain(source_cov=spd(2, 0.1, 10), cov=spd(2, 0.1, 10)),
    kind="refuted",
    references=["lipman2023flow", "liu2023flow", "tong2024improving"],
    proof="T = R^{1/2} (R^{-1/2} S R^{-1/2})^{1/2} R^{-1/2} is symmetric, the gradient of a convex function, only if R and S commute.",
)
def independent_coupling_is_optimal(source_cov, cov) -> Estimate:
    """W2^2 less the cost tr R + tr S - 2 tr(T R) of the flow map."""
    root = sqrtm(source_cov)
    inverse = jnp.linalg.inv(root)
    T = root @ sqrtm(inverse @ cov @ inverse) @ inverse
    cost = jnp.trace(source_cov) + jnp.trace(cov) - 2 * jnp.trace(T @ source_cov)
    return w2_squared(Gaussian(jnp.zeros(2), source_cov), Gaussian(jnp.zeros(2), cov)) - cost
