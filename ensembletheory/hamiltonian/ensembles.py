r"""Ensembles of Hamiltonian flows: averaged energies, averaged flows, pools of their laws, and what it costs not to align gauges.

Members Phi_k push the same prior by the same steps. Besides pools of their laws there are

 - the *averaged energy* H = sum_k w_k H_k: potentials and kinetic energies averaged, hence the fields of the members at every point of phase space; a Hamiltonian
   flow again;
 - the *averaged flow* sum_k w_k Phi_k(z): where members take the same z, averaged; affine members give an affine map, no longer a symplectic one. For any map Phi

       E|Phi(z) - mean_k Phi_k(z)|^2 = sum_k w_k E|Phi(z) - Phi_k(z)|^2 - sum_k w_k E|Phi_k(z) - mean_j Phi_j(z)|^2,

   whose left side is at least W_2^2 of the laws. Here Phi and the means are over positions.

**Gauges.** Flows that differ by a gauge (`hamiltonian.gauge`) sample the same law, but their averages do not. Turned into the gauges nearest to each other, the averaged
flow samples the W_2 barycenter of the members' laws, exactly. Unaligned it is narrower: if all members sample N(0, S), Z_k Z_k^* = S, then by Jensen the average has
covariance at most S, and two members in opposite gauges cancel. For averaged energies of one leapfrog step with c = h / m, m scalar, members of covariance S_k give c^2 I
+ M M^T, M = sum_k w_k Q_k (S_k - c^2 I)^{1/2} Q_k^T with signs for gauges: in convex gauges, and on the line, the variance is c^2 + (sum_k w_k (s_k - c^2)^{1/2})^2,
below the barycenter's (sum_k w_k s_k^{1/2})^2 and equal to it as c -> 0. K members in independent random gauges have a variance c^2 + (2 J / K - 1)^2 (s - c^2), J
binomial, and tend to the narrowest law within reach, N(0, c^2). Derived here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import gammaln

from ensembletheory.divergences import kl, w2_squared
from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.fields import differ
from ensembletheory.gains import Gain, gain
from ensembletheory.hamiltonian.flow import HamiltonianFlow
from ensembletheory.hamiltonian.gauge import turned
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.gaussian import singular_gaussian
from ensembletheory.laws.weights import checked_weights
from ensembletheory.processes import Hamiltonian

__all__ = ["AveragedHamiltonian", "FlowAmbiguity", "FlowEnsemble", "gauge_cost"]

_MOST_TURNS = 500


class AveragedHamiltonian(Hamiltonian):
    """H = sum_k w_k H_k.

    Args:
        members: Hamiltonians of one horizon.
        weights: on the simplex; default equal.

    Raises:
        ValueError: if there is no member, their horizons differ, or the weights are off the simplex.
    """

    members: tuple[Hamiltonian, ...]
    weights: Float[Array, " K"]
    horizon: Float[Array, ""]

    def __init__(self, members: Sequence[Hamiltonian], weights: Numbers | None = None):
        if not members:
            refuse("members", "an empty list", "at least one Hamiltonian", "Pass the members' Hamiltonians.")
        self.members, self.weights, self.horizon = tuple(members), checked_weights(weights, len(members)), members[0].horizon
        horizons = [member.horizon for member in members]
        if is_concrete(*horizons) and len({float(horizon) for horizon in horizons}) > 1:
            got = f"horizons {sorted({float(horizon) for horizon in horizons})}"
            refuse("members", got, "one horizon", "Bring them to one time by hamiltonian.rescaled, which changes no flow.")

    @property
    def separable(self) -> bool:
        """Whether all members are."""
        return all(member.separable for member in self.members)

    def energy(self, z: Float[Array, " n"]) -> Float[Array, ""]:
        """The mean of the energies."""
        return self.weights @ jnp.stack([member.energy(z) for member in self.members])

    def slopes(self, q: Float[Array, " d"], p: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """The means of dH/dq and dH/dp."""
        along_q, along_p = zip(*(member.slopes(q, p) for member in self.members), strict=True)
        return self.weights @ jnp.stack(along_q), self.weights @ jnp.stack(along_p)


class FlowAmbiguity(eqx.Module):
    """The ambiguity decomposition: mean squared errors of the members on average and of the averaged flow, their difference, and W_2^2 of the averaged flow's law."""

    average: Estimate
    ensemble: Estimate
    diversity: Estimate
    transport: Estimate


class FlowEnsemble(eqx.Module):
    """Hamiltonian flows of one prior.

    Args:
        members: `HamiltonianFlow`s with the same prior, which take the same number of steps.
        weights: on the simplex; default equal.

    Raises:
        ValueError: if there is no member, their priors or numbers of steps differ, or the weights are off the simplex.
    """

    members: tuple[HamiltonianFlow, ...]
    weights: Float[Array, " K"]

    def __init__(self, members: Sequence[HamiltonianFlow], weights: Numbers | None = None):
        if not members:
            refuse("members", "an empty list", "at least one flow", "Pass the members' flows.")
        self.members, self.weights = tuple(members), checked_weights(weights, len(members))
        for member in members[1:]:
            if differ(members[0].prior, member.prior):
                refuse("members", "flows of different priors", "one prior", "Averages follow one draw of the prior through all members.")
            if member.sampler.grid.size != members[0].sampler.grid.size:
                refuse("members", f"{member.sampler.grid.size - 1} and {members[0].sampler.grid.size - 1} steps", "one number of steps", "Give all members the same.")

    def laws(self) -> list[Law]:
        """The laws of the members' positions."""
        return [member.law() for member in self.members]

    def averaged_energy(self) -> HamiltonianFlow:
        """The flow of the averaged Hamiltonian by the first member's splitting.

        Raises:
            ValueError: if the members' horizons differ.
        """
        first, mean = self.members[0], AveragedHamiltonian([member.hamiltonian for member in self.members], self.weights)
        return HamiltonianFlow(mean, first.prior, self._steps, first.sampler.scheme)  # pyright: ignore[reportArgumentType]

    def averaged_flow(self, aligned: bool = False) -> Gaussian:
        """The law of the averaged positions of affine members of a Gaussian prior; `aligned` turns the members into the gauges nearest to each other first.

        Raises:
            ValueError: if a member is not affine, or `aligned` is asked for where the prior is not N(0, I), of which gauges are the turns.
            TypeError: if the prior is not Gaussian.
        """
        rows, shifts, prior = *self._positions(), self._prior()
        if aligned:
            self._require_standard(prior)
            rows = _aligned(rows, self.weights)
        return singular_gaussian(*_averaged(rows, shifts, self.weights, prior))

    def gain(self, target: Law, rule: str | Callable[..., Law], divergence: Callable[..., Estimate] = kl, **options: Any) -> Gain:
        """How much closer the ensemble is to `target` than its members on average.

        Args:
            target: the law p.
            rule: "averaged energy", "averaged flow", "aligned flow", or a pooling rule of laws such as `linear_pool`.
            divergence: as of `gains.gain`.
            **options: passed on to `gains.gain`.

        Raises:
            ValueError: for another rule; and as `gain`.
        """
        return gain(target, self.laws(), self._rule(rule), divergence, self.weights, **options)

    def ambiguity(self, flow: HamiltonianFlow, aligned: bool = False) -> FlowAmbiguity:
        """The ambiguity decomposition against the positions of `flow`, an affine flow of the same prior; `aligned` turns the members into the gauges nearest to it first.

        Raises:
            ValueError, TypeError: as `averaged_flow`.
        """
        rows, shifts, prior = *self._positions(), self._prior()
        kernel, d = flow.kernel(), flow.dim
        if aligned:
            self._require_standard(prior)
            rows = turned(list(rows), kernel.A[:d])
        average, ensemble, diversity = _errors(rows, shifts, self.weights, prior, kernel.A[:d], kernel.b[:d])
        transport = w2_squared(flow.law(), singular_gaussian(*_averaged(rows, shifts, self.weights, prior)))
        return FlowAmbiguity(closed_form(average), closed_form(ensemble), closed_form(diversity), transport)

    @property
    def _steps(self) -> int:
        return self.members[0].sampler.grid.size - 1

    def _rule(self, rule: str | Callable[..., Law]) -> Callable[..., Law]:
        if not isinstance(rule, str):
            return rule
        rules: dict[str, Callable[[], Law]] = {
            "averaged energy": lambda: self.averaged_energy().law(),
            "averaged flow": self.averaged_flow,
            "aligned flow": lambda: self.averaged_flow(aligned=True),
        }
        if rule not in rules:
            refuse("rule", repr(rule), f"one of {sorted(rules)}, or a pooling rule", "Pooling rules, such as et.linear_pool, are passed themselves.")
        return lambda laws, weights=None: rules[rule]()

    def _prior(self) -> Gaussian:
        prior = self.members[0].prior
        if not isinstance(prior, Gaussian):
            raise TypeError(f"`prior`: got {type(prior).__name__}; expected Gaussian, of which averages of affine maps are Gaussian. Sample the members instead.")
        return prior

    def _require_standard(self, prior: Gaussian) -> None:
        if is_concrete(prior.mean, prior.cov) and (np.any(np.asarray(prior.mean)) or not np.array_equal(np.asarray(prior.cov), np.eye(prior.dim))):
            refuse("aligned", "a prior other than N(0, I)", "N(0, I), which the gauges leave as it is", "Average the flows as they are, or take the barycenter of the laws.")

    def _positions(self) -> tuple[Float[Array, "K d n"], Float[Array, "K d"]]:
        kernels, d = [member.kernel() for member in self.members], self.members[0].dim
        return jnp.stack([kernel.A[:d] for kernel in kernels]), jnp.stack([kernel.b[:d] for kernel in kernels])


def gauge_cost(variance: Numbers, noise_variance: Numbers, members: int) -> Estimate:
    """E KL(N(0, variance) || averaged energy) of `members` one-step flows on the line that all sample N(0, variance), each in one of its two gauges at random; 0 if aligned.

    Args:
        variance: s.
        noise_variance: c^2 = (h / m)^2, at most s.
        members: K.

    Raises:
        ValueError: unless 0 < noise_variance <= variance and there is a member.
    """
    s, c2 = jnp.asarray(variance, jnp.result_type(float)), jnp.asarray(noise_variance, jnp.result_type(float))
    if members < 1:
        refuse("members", str(members), "at least 1", "The number of flows averaged.")
    if is_concrete(s, c2) and not 0 < float(c2) <= float(s):
        refuse("noise_variance", f"{float(c2):.6g}", f"above 0 and at most the variance {float(s):.6g}", "One step samples no law narrower than h / m.")
    J = np.arange(members + 1)
    log_chances = gammaln(members + 1) - gammaln(J + 1) - gammaln(members - J + 1) - members * np.log(2)
    ratios = s / (c2 + (2 * J / members - 1) ** 2 * (s - c2))
    return closed_form(np.exp(log_chances) @ (ratios - 1 - jnp.log(ratios)) / 2)


@eqx.filter_jit
def _averaged(rows: Float[Array, "K d n"], shifts: Float[Array, "K d"], weights: Float[Array, " K"], prior: Gaussian) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    Z = jnp.tensordot(weights, rows, axes=1)
    return Z @ prior.mean + weights @ shifts, Z @ prior.cov @ Z.T


@jax.jit
def _aligned(rows: Float[Array, "K d n"], weights: Float[Array, " K"]) -> Float[Array, "K d n"]:
    """The rows in the gauges nearest to their mean: turned to it, averaged, and again until it stays."""
    rounding = 64 * jnp.finfo(rows.dtype).eps * jnp.max(jnp.abs(rows))

    def turn(state):
        mean, _, i = state
        new = jnp.tensordot(weights, turned(list(rows), mean), axes=1)
        return new, jnp.max(jnp.abs(new - mean)), i + 1

    start = (rows[0], jnp.asarray(jnp.inf, rows.dtype), 0)
    mean = jax.lax.while_loop(lambda state: (state[1] > rounding) & (state[2] < _MOST_TURNS), turn, start)[0]
    return turned(list(rows), mean)


@eqx.filter_jit
def _errors(rows, shifts, weights, prior: Gaussian, row: Float[Array, "d n"], shift: Float[Array, " d"]) -> tuple[Array, Array, Array]:
    """Mean squared distances of the members' positions from those of a map, of their mean from it, and of the members from their mean."""

    def apart(A: Float[Array, "d n"], b: Float[Array, " d"]) -> Float[Array, ""]:
        return jnp.sum((A @ prior.mean + b) ** 2) + jnp.sum((A @ prior.covariance.factor()) ** 2)

    mean, centre = jnp.tensordot(weights, rows, axes=1), weights @ shifts
    members = weights @ jax.vmap(lambda A, b: apart(A - row, b - shift))(rows, shifts)
    spread = weights @ jax.vmap(lambda A, b: apart(A - mean, b - centre))(rows, shifts)
    return members, apart(mean - row, centre - shift), spread
