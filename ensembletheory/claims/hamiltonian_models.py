r"""Claims about models made of Hamiltonian flows: encoders, velocity predictors, gauges and ensembles.

Their mathematics is in the modules `mean_field`, `velocity_predictor`, `gauge` and `ensembles` of `ensembletheory.hamiltonian`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import orthogonal, positive, real, simplex, spd
from ensembletheory.divergences import kl, w2_squared
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.hamiltonian.ensembles import AveragedHamiltonian
from ensembletheory.hamiltonian.flow import HamiltonianFlow
from ensembletheory.hamiltonian.gauge import one_step_stiffness
from ensembletheory.hamiltonian.mean_field import mean_field_deficit, mean_field_reverse_model
from ensembletheory.hamiltonian.velocity_predictor import VelocityPredictor, force_error, hamiltonian_score_discrepancy, smoothed_force_error, with_momenta
from ensembletheory.laws import Gaussian, GaussianMixture, standard_normal
from ensembletheory.laws.expectation import expectation
from ensembletheory.linalg import sqrtm
from ensembletheory.processes import Hamiltonian, QuadraticHamiltonian
from ensembletheory.samplers import Leapfrog

__all__ = [
    "averaged_potential_below_barycenter",
    "averaged_potential_kl",
    "averaged_potential_transport",
    "gauge_distance_is_w2",
    "mean_field_encoder_bias",
    "one_step_gauges_agree",
    "score_discrepancy_bound",
    "unaligned_flows_shrink",
    "velocity_predictor_smooths",
]

FLOWS = ["toth2020hamiltonian", "souveton2024fixed"]
TWO_IN_THE_PLANE = Domain(cov=spd(2, 0.1, 10), model=spd(2, 0.1, 10))


def _centred(cov: Float[Array, "d d"]) -> Gaussian:
    return Gaussian(jnp.zeros(len(cov)), cov)


def _excess_deficit(cov, model, best: Callable[[Gaussian], Gaussian | None]) -> Estimate:
    target = _centred(cov)
    return mean_field_deficit(target, _centred(model)) - mean_field_deficit(target, best(target))


def _mean_field_optima() -> Iterator[dict[str, Any]]:
    yield {"cov": [[1.0, 0.8], [0.8, 1.0]], "model": [[0.8, 0.4], [0.4, 0.8]]}
    yield {"cov": [[4.0, -1.2], [-1.2, 1.0]], "model": [[3.6, -0.6], [-0.6, 0.9]]}


@claim(
    id="mean-field-encoder-bias",
    statement=r"\mathrm{KL}(p \,\|\, q_S) + \mathrm{gap}(S) \geq \mathrm{its\ value\ at}\ S = D \# \mathrm{Cov}\, p, \; D = \mathrm{diag}\, S, \quad \mathrm{gap}(S) = "
    r"\frac{1}{2} (\sum_i \log S_{ii} - \log \det S)",
    source="derived here, for the mean-field encoder of Toth et al. (2020) and Souveton et al. (2024)",
    domain=TWO_IN_THE_PLANE,
    kind="theorem",
    references=FLOWS,
    equality=_mean_field_optima,
    mutants={
        "no-bias": Mutant("the fixed point D # Cov p: Cov p itself", lambda cov, model: _excess_deficit(cov, model, lambda target: target)),
        "reverse": Mutant("forward KL: the optimum of the reverse one", lambda cov, model: _excess_deficit(cov, model, mean_field_reverse_model)),
    },
    proof="The posterior precision of p given q is S. With sum log S_ii = min_D tr D^{-1} S - d + log det D the deficit is strictly convex along geodesics of (S, D).",
)
def mean_field_encoder_bias(cov, model) -> Estimate:
    """The ELBO deficit of a model less that of the fixed point, in the plane."""
    return _excess_deficit(cov, model, lambda target: None)


ON_THE_LINE = Domain(
    weights=simplex(2),
    means=real(-2, 2, shape=(2,)),
    variances=positive(0.1, 4, shape=(2,)),
    stiffness=real(-1, 4),
    centre=real(-1, 1),
    time=positive(0.05, 1),
    point=real(-3, 3),
)


def _error_of_the_force(x: Float[Array, " 1"], law: GaussianMixture, stiffness: Array, centre: Array) -> tuple[Float[Array, ""], Float[Array, ""]]:
    force, score = -stiffness * (x[0] - centre), law._score(x)[0]
    return force - score, jnp.abs(force) + jnp.abs(score)


def _oscillation(stiffness, time) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The C and S with x_t = C x_0 + S v_0."""
    w = jnp.sqrt(jnp.abs(stiffness) + 1e-300) * time
    return jnp.where(stiffness < 0, jnp.cosh(w), jnp.cos(w)), time * jnp.where(stiffness < 0, jnp.sinh(w), jnp.sin(w)) / w


def _smoothing_defect(weights, means, variances, stiffness, centre, time, point, factor=None, smoothed=True) -> Estimate:
    """Minus the relative distance of u_t(x) from S E[(F - score)(x_0) | x_t = x], by quadrature over the posterior of x_0."""
    law, x = GaussianMixture(weights, means[:, None], variances[:, None]), point[None]
    H = QuadraticHamiltonian(1.0, stiffness, centre[None], horizon=1.0)
    predicted = VelocityPredictor(H, with_momenta(law))(time, x)[0]
    C, S = _oscillation(stiffness, time)
    seen = GaussianMixture(weights, (C * (means - centre) + centre)[:, None], (C**2 * variances + S**2)[:, None])
    gain = C * variances / (C**2 * variances + S**2)
    centres = means + gain * (point - centre - C * (means - centre))
    posterior = GaussianMixture(seen.responsibilities(x), centres[:, None], (gain / C * S**2)[:, None])
    error = expectation(posterior, _error_of_the_force, (law, stiffness, centre)) if smoothed else closed_form(_error_of_the_force(x, law, stiffness, centre)[0])
    gap = predicted - (S if factor is None else factor(time)) * error
    return Estimate(-jnp.abs(gap.value) / (1 + jnp.abs(predicted)), gap.error, gap.kind)


def _some_motions() -> Iterator[dict[str, Any]]:
    data = {"weights": [0.3, 0.7], "means": [-1.0, 1.0], "variances": [0.25, 0.5], "centre": 0.5}
    for stiffness, time, point in ((2.0, 0.5, 0.3), (-0.5, 1.0, -1.5), (0.0, 0.2, 2.0)):
        yield {**data, "stiffness": stiffness, "time": time, "point": point}


@claim(
    id="velocity-predictor-smooths-score-error",
    statement=r"E[v_t | x_t = x] = S_t \, E[F(x_0) - \nabla \log p(x_0) | x_t = x], \quad F(x) = -K (x - c), \; S_t = \sin(\sqrt{K} t) / \sqrt{K}",
    source="derived here; Holderrieth, Xu & Jaakkola (2024) show that the left side is 0 for all t iff the force is the score",
    domain=ON_THE_LINE,
    kind="theorem",
    references=["holderrieth2024hamiltonian"],
    equality=_some_motions,
    mutants={
        "free-motion": Mutant("S_t: t, its value where nothing pulls", lambda **instance: _smoothing_defect(**instance, factor=lambda t: t)),
        "pointwise": Mutant("the error smoothed by the motion: the error at x", lambda **instance: _smoothing_defect(**instance, smoothed=False)),
    },
    proof="The density relative to the stationary one is carried along by the flow; integrate by parts in the momenta, of which x_0 = C x_t - S v_t has the slope -S.",
)
def velocity_predictor_smooths(weights, means, variances, stiffness, centre, time, point) -> Estimate:
    """Minus the relative distance of both sides, for mixtures on the line: 0 everywhere."""
    return _smoothing_defect(weights, means, variances, stiffness, centre, time, point)


FORCED = Domain(cov=spd(2, 0.1, 10), mean=real(-2, 2, shape=(2,)), stiffness=spd(2, 0.05, 5), time=positive(0.01, 10))


def _slack_of_the_discrepancy(cov, mean, stiffness, time, constant=1.0) -> Estimate:
    """The smaller slack of E|u_t|^2 <= E|S (F - score)|^2 <= t^2 E|F - score|^2, over t^2."""
    H, data = QuadraticHamiltonian(1.0, stiffness, horizon=10.0), Gaussian(mean, cov)
    found = hamiltonian_score_discrepancy(VelocityPredictor(H, with_momenta(data)), time).value / time**2
    middle, whole = smoothed_force_error(H, data, time).value / time**2, constant * force_error(H, data).value
    return closed_form(jnp.minimum(constant * middle - found, whole - middle))


def _scores() -> Iterator[dict[str, Any]]:
    for cov, inverse in (([[2.0, 0.0], [0.0, 0.5]], [[0.5, 0.0], [0.0, 2.0]]), ([[1.0, 0.6], [0.6, 1.0]], [[1.5625, -0.9375], [-0.9375, 1.5625]])):
        for time in (0.5, 4.0):
            yield {"cov": cov, "mean": [0.0, 0.0], "stiffness": inverse, "time": time}


@claim(
    id="hamiltonian-score-discrepancy-bound",
    statement=r"E|E[v_t | x_t]|^2 \leq E|S_t (F - \nabla \log p)(x_0)|^2 \leq t^2 \, E|F - \nabla \log p|^2, \quad F(x) = -K x, \; K \succeq 0",
    source="derived here, for the discrepancy of Holderrieth, Xu & Jaakkola (2024), which over t^2 tends to the right side's factor as t -> 0",
    domain=FORCED,
    kind="theorem",
    references=["holderrieth2024hamiltonian", "hyvarinen2005estimation"],
    equality=_scores,
    mutants={
        "smaller-constant": Mutant("the constant: 0.9 of the bound", lambda **instance: _slack_of_the_discrepancy(**instance, constant=0.9)),
        "repelled": Mutant("K >= 0: -K", lambda cov, mean, stiffness, time: _slack_of_the_discrepancy(cov, mean, -stiffness, time), FORCED.replace(time=positive(0.01, 2))),
    },
    proof="velocity-predictor-smooths-score-error and Jensen's inequality; sin(w t) / w <= t.",
)
def score_discrepancy_bound(cov, mean, stiffness, time) -> Estimate:
    """The smaller of both slacks over t^2, for Gaussians in the plane whose covariance need not commute with K."""
    return _slack_of_the_discrepancy(cov, mean, stiffness, time)


ONE_STEP = Domain(cov=spd(2, 0.1, 10), share=real(0.05, 1))


def _positions(hamiltonian: Hamiltonian, dim: int) -> Gaussian:
    """The law of the positions after one leapfrog step from N(0, I)."""
    law = HamiltonianFlow(hamiltonian, standard_normal(2 * dim), 1, Leapfrog(unstable=True)).law()
    assert isinstance(law, Gaussian)
    return law


def _one_step(cov, noise, signs, mass=1.0) -> QuadraticHamiltonian:
    """The Hamiltonian of mass 1 that samples N(0, cov) by one step of h = c, noise = c^2; another mass keeps the potential."""
    return QuadraticHamiltonian(mass, 2 / noise * one_step_stiffness(cov, noise, jnp.asarray(signs)), jnp.zeros(len(cov)), horizon=jnp.sqrt(noise))


def _gauge_defect(cov, share, forgotten=0.0, mass=1.0) -> Estimate:
    noise = share * jnp.linalg.eigvalsh(cov)[0] * 0.999  # below the least eigenvalue, also where it is rounded
    aimed = cov + forgotten * noise * jnp.eye(2)
    defects = [jnp.max(jnp.abs(_positions(_one_step(aimed, noise, signs, mass), 2).cov - cov)) for signs in ((1.0, 1.0), (1.0, -1.0))]
    return closed_form(-jnp.max(jnp.stack(defects)))


@claim(
    id="one-step-potential-gauges",
    statement=r"q_1 \sim \mathcal{N}(0, \Sigma) \ \mathrm{for\ each}\ V(q) = \frac{m}{h^2} \, q^\top (I - Q \, \mathrm{diag}(\pm \sqrt{s_i - h^2/m^2}) \, Q^\top) \, q, "
    r"\quad \Sigma = Q \, \mathrm{diag}(s) \, Q^\top",
    source="derived here: what a law says of the potential of a flow of fixed kinetic energy (Souveton et al. 2024), for one leapfrog step",
    domain=ONE_STEP,
    kind="theorem",
    references=["souveton2024fixed"],
    equality=lambda: iter([{"cov": [[2.0, 0.5], [0.5, 1.0]], "share": 0.5}, {"cov": [[0.5, -0.2], [-0.2, 3.0]], "share": 0.9}]),
    mutants={
        "no-noise": Mutant("the root of s - (h/m)^2: that of s", lambda cov, share: _gauge_defect(cov, share, forgotten=1.0)),
        "other-mass": Mutant("the mass of the potential: 1.1 times it", lambda cov, share: _gauge_defect(cov, share, mass=1.1)),
    },
    proof="q_1 = (I - h^2 K / 2m) q_0 + (h / m) p_0: the covariance is the square of a symmetric matrix, which forgets signs, plus (h/m)^2 I.",
)
def one_step_gauges_agree(cov, share) -> Estimate:
    """Minus the largest error of the covariance, in two of the four gauges, with (h / m)^2 a share of the least eigenvalue: 0 everywhere."""
    return _gauge_defect(cov, share)


GAUGED = Domain(first=spd(2, 0.1, 10), second=spd(2, 0.1, 10), rotation=orthogonal(2), phases=real(-3, 3, shape=(2,)))


def _rows(cov: Float[Array, "2 2"], rotation: Float[Array, "2 2"], phases: Float[Array, " 2"]) -> Float[Array, "2 4"]:
    """[A B] of A + i B = cov^{1/2} rotation diag(exp(i phases)): the positions of a symplectic map that samples N(0, cov)."""
    real_part = sqrtm(cov) @ rotation
    return jnp.concatenate([real_part * jnp.cos(phases)[None, :], real_part * jnp.sin(phases)[None, :]], axis=1)


def _gauge_slack(first, second, rotation, phases, constant=1.0, factor=1.0) -> Estimate:
    apart = _rows(first, jnp.eye(2), jnp.zeros(2)) - factor * _rows(second, rotation, phases)
    return jnp.sum(apart**2) - constant * w2_squared(_centred(first), _centred(second))


def _nearest_gauges() -> Iterator[dict[str, Any]]:
    for first, second in (([[2.0, 0.5], [0.5, 1.0]], [[1.0, -0.5], [-0.5, 3.0]]), ([[0.25, 0.0], [0.0, 4.0]], [[1.0, 0.2], [0.2, 1.0]])):
        roots = []
        for cov in (first, second):
            eigenvalues, Q = np.linalg.eigh(cov)
            roots.append((Q * np.sqrt(eigenvalues)) @ Q.T)
        U, _, V = np.linalg.svd(roots[1] @ roots[0])
        yield {"first": first, "second": second, "rotation": U @ V, "phases": [0.0, 0.0]}


@claim(
    id="gauge-distance-is-w2",
    statement=r"\min_{U^* U = I} E|Z_1 z - Z_2 U z|^2 = W_2^2(\mathcal{N}(0, Z_1 Z_1^*), \mathcal{N}(0, Z_2 Z_2^*)), \quad Z_k = A_k + i B_k, \; A_k B_k^\top = B_k A_k^\top",
    source="derived here: linear symplectic flows, turned by the orthogonal symplectic matrices that keep the prior, couple their laws optimally",
    domain=GAUGED,
    kind="theorem",
    references=["bhatia2019bures", "souveton2024fixed"],
    equality=_nearest_gauges,
    mutants={
        "larger-distance": Mutant("the constant: 1.1 times W2^2", lambda **instance: _gauge_slack(**instance, constant=1.1)),
        "any-factor": Mutant("a unitary U: a factor of it", lambda **instance: _gauge_slack(**instance), GAUGED.replace(factor=real(0.1, 1))),
    },
    proof="|Z_1|^2 + |Z_2|^2 - 2 Re tr(Z_1^* Z_2 U) is least at a polar factor, and (Z_1^* Z_2)(Z_1^* Z_2)^* has the spectrum of S_1^{1/2} S_2 S_1^{1/2}.",
)
def gauge_distance_is_w2(first, second, rotation, phases) -> Estimate:
    """E|Z_1 z - Z_2 U z|^2 less W2^2, in the plane: >= 0, and 0 at a polar factor."""
    return _gauge_slack(first, second, rotation, phases)


SAME_LAW = Domain(cov=spd(2, 0.1, 10), weights=simplex(2), rotation=orthogonal(2), phases=real(-3, 3, shape=(2,)))


def _shrinkage(cov, weights, rotation, phases, factor=1.0) -> Estimate:
    mean = weights[0] * _rows(cov, jnp.eye(2), jnp.zeros(2)) + weights[1] * factor * _rows(cov, rotation, phases)
    return closed_form(jnp.linalg.eigvalsh(cov - mean @ mean.T)[0])


def _one_gauge() -> Iterator[dict[str, Any]]:
    for cov, weights in (([[2.0, 0.5], [0.5, 1.0]], [0.3, 0.7]), ([[0.25, 0.0], [0.0, 4.0]], [0.5, 0.5])):
        yield {"cov": cov, "weights": weights, "rotation": np.eye(2).tolist(), "phases": [0.0, 0.0]}


@claim(
    id="unaligned-flows-shrink",
    statement=r"\mathrm{Cov} \sum_k w_k \Phi_k(z) \preceq \Sigma \quad \mathrm{if}\ \Phi_k(z) \sim \mathcal{N}(0, \Sigma) \ \mathrm{for\ all}\ k",
    source="derived here: averaging Hamiltonian flows without aligning their gauges",
    domain=SAME_LAW,
    kind="theorem",
    references=["souveton2024fixed"],
    equality=_one_gauge,
    mutants={"other-law": Mutant("one law: a member wider by up to a half", _shrinkage, SAME_LAW.replace(factor=real(1, 1.5)))},
    proof="Z -> Z Z^* is convex in the order of matrices.",
)
def unaligned_flows_shrink(cov, weights, rotation, phases) -> Estimate:
    """The least eigenvalue of Sigma less the covariance of the average of two symplectic flows in gauges apart by a unitary matrix."""
    return _shrinkage(cov, weights, rotation, phases)


MEMBERS = Domain(noise=real(0.05, 1), variances=positive(0.1, 20, shape=(3,)), weights=simplex(3))


def _averaged(noise, variances, weights, signs=(1.0, 1.0, 1.0)) -> tuple[Gaussian, list[Gaussian]]:
    """The law of the averaged energies of one-step flows on the line, and those of the members; (h / m)^2 is a share of the least variance."""
    c2 = noise * 0.999 * jnp.min(variances)
    members = [_one_step(variances[k, None, None], c2, signs[k : k + 1]) for k in range(len(variances))]
    return _positions(AveragedHamiltonian(members, weights), 1), [_centred(variances[k, None, None]) for k in range(len(variances))]


def _slack_below_barycenter(noise, variances, weights, constant=1.0) -> Estimate:
    pooled, _ = _averaged(noise, variances, weights)
    return closed_form(constant * (weights @ jnp.sqrt(variances)) ** 2 - pooled.cov[0, 0])


def _equal_flows() -> Iterator[dict[str, Any]]:
    for variance, noise in ((1.0, 0.5), (4.0, 0.9)):
        yield {"noise": noise, "variances": [variance] * 3, "weights": [0.2, 0.3, 0.5]}


@claim(
    id="averaged-potential-below-barycenter",
    statement=r"\mathrm{Var}\, q_1 \leq (\sum_k w_k \sqrt{s_k})^2 \quad (\mathrm{one\ step\ of\ averaged\ potentials},\ c = h/m)",
    source="derived here, for one-step flows of fixed kinetic energy (Souveton et al. 2024) on the line",
    domain=MEMBERS,
    kind="theorem",
    references=["souveton2024fixed", "agueh2011barycenters"],
    equality=_equal_flows,
    mutants={"smaller-constant": Mutant("the constant: 0.98 of the barycenter's variance", lambda **instance: _slack_below_barycenter(**instance, constant=0.98))},
    proof="The variance is c^2 + (sum_k w_k sqrt(s_k - c^2))^2, and y -> sqrt(c^2 + y^2) is convex.",
)
def averaged_potential_below_barycenter(noise, variances, weights) -> Estimate:
    """The variance of the W2 barycenter of the members less that of the averaged potential."""
    return _slack_below_barycenter(noise, variances, weights)


IN_THE_PLANE = Domain(target=spd(2, 0.1, 10), first=spd(2, 0.1, 10), second=spd(2, 0.1, 10), weights=simplex(2), share=real(0.05, 1))


def _transport_slack(target, first, second, weights, share, of_laws=False) -> Estimate:
    """sum_k w_k E|T_p z - T_k z|^2 less W2^2 of the target from the averaged potential, all in convex gauges; `of_laws` takes W2^2 of the members."""
    covs = (target, first, second)
    noise = share * 0.999 * jnp.min(jnp.stack([jnp.linalg.eigvalsh(cov)[0] for cov in covs]))
    one, *members = (_one_step(cov, noise, jnp.ones(2)) for cov in covs)
    pooled = _positions(AveragedHamiltonian(members, weights), 2)
    if of_laws:
        return sum((weights[k] * w2_squared(_centred(target), _centred(cov)) for k, cov in enumerate(covs[1:])), closed_form(0.0)) - w2_squared(_centred(target), pooled)
    squared = jnp.stack([jnp.sum((noise / 2 * (one.stiffness - member.stiffness)) ** 2) for member in members])
    return weights @ squared - w2_squared(_centred(target), pooled)


def _one_potential() -> Iterator[dict[str, Any]]:
    for cov in ([[2.0, 0.5], [0.5, 1.0]], [[0.5, 0.0], [0.0, 3.0]]):
        yield {"target": cov, "first": cov, "second": cov, "weights": [0.4, 0.6], "share": 0.5}


@claim(
    id="averaged-potential-transport",
    statement=r"W_2^2(p, \bar q) \leq \sum_k w_k \, E|T_p(z) - T_k(z)|^2, \quad T(q, p) = q - \frac{h^2}{2m} \nabla V(q) + \frac{h}{m} p, \; \bar V = \sum_k w_k V_k",
    source="derived here, for one-step flows of fixed kinetic energy (Souveton et al. 2024)",
    domain=IN_THE_PLANE,
    kind="theorem",
    references=["souveton2024fixed", "krogh1995neural"],
    equality=_one_potential,
    mutants={"of-the-laws": Mutant("distances of maps: W2^2 of the laws", lambda **instance: _transport_slack(**instance, of_laws=True))},
    proof="T is linear in V: the ambiguity decomposition of the maps, one of which couples p and the averaged potential's law.",
)
def averaged_potential_transport(target, first, second, weights, share) -> Estimate:
    """The members' mean squared error as maps less W2^2 of the target from the averaged potential, in the plane."""
    return _transport_slack(target, first, second, weights, share)


@claim(
    id="averaged-potential-kl",
    statement=r"\mathrm{KL}(p \,\|\, \bar q) \leq \sum_k w_k \, \mathrm{KL}(p \,\|\, q_k), \quad \bar V = \sum_k w_k V_k \ \mathrm{in\ convex\ gauges,\ one\ step}",
    source="the analogue of log-pool-kl for potentials of Hamiltonian flows; refuted here",
    domain=MEMBERS.replace(target_variance=positive(0.1, 10)),
    kind="refuted",
    references=["souveton2024fixed"],
    proof="Averaging the roots of s - c^2 shrinks the variance: where the target is wide and a member as narrow as the noise, by more than the average is worth.",
)
def averaged_potential_kl(noise, variances, weights, target_variance) -> Estimate:
    """The gain in KL of averaging potentials, on the line."""
    pooled, members = _averaged(noise, variances, weights)
    target = _centred(target_variance[None, None])
    return sum((weights[k] * kl(target, member) for k, member in enumerate(members)), closed_form(0.0)) - kl(target, pooled)
