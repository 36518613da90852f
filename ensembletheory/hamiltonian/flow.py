r"""Hamiltonian flows as generative models (Neural Hamiltonian Flows): a prior on phase space z = (q, p), pushed by L steps of a palindromic splitting of H.

Data are the positions q at the end; momenta are latent. The steps Phi keep volume and Phi^{-1} is the same steps backward, so the joint density is exact,

    log p(q, p) = log prior( Phi^{-1}(q, p) ),

and with an encoder f(p | q) the evidence lower bound has no Jacobian:

    log p(q) >= E_{p ~ f(.|q)} [ log prior(Phi^{-1}(q, p)) - log f(p | q) ],     gap = KL( f(.|q) || p(.|q) ).

For quadratic H and a Gaussian prior everything is Gaussian, and exact. Sources: Toth et al. (2020); Souveton et al. (2024), where the kinetic energy is fixed.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.fields import Field
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.laws.law import checked_point
from ensembletheory.linalg import solve_spd, symmetrised
from ensembletheory.processes.hamiltonian import Hamiltonian
from ensembletheory.samplers import Leapfrog, Sampler, Scheme, uniform_grid
from ensembletheory.samplers.splitting import KickDrift

__all__ = ["HamiltonianFlow"]

Encoder = AffineKernel | Callable[[Float[Array, " d"]], Law]


class HamiltonianFlow(eqx.Module):
    """A prior pushed by `steps` steps of a splitting of `hamiltonian`, over its horizon.

    Args:
        hamiltonian: separable.
        prior: a law on R^{2d}, such as a `Gaussian` or `SoftUniform`.
        steps: how many.
        scheme: the splitting; leapfrog if left out.
        gradient: a field to step with in place of grad H, such as the `MeanField` of several.

    Raises:
        ValueError: if the scheme is no splitting, the prior has an odd dimension, H is not separable, or the steps are unstable and not asked for.
    """

    sampler: Sampler
    prior: Law

    def __init__(self, hamiltonian: Hamiltonian, prior: Law, steps: int, scheme: Scheme | None = None, gradient: Field | None = None):
        scheme, field = Leapfrog() if scheme is None else scheme, hamiltonian.gradient() if gradient is None else gradient
        if not isinstance(scheme, KickDrift):
            refuse("scheme", type(scheme).__name__, "a palindromic splitting, which keeps volume and is undone by steps backward", "Use Leapfrog or Splitting.")
        if prior.dim % 2:
            refuse("prior", f"dimension {prior.dim}", "an even dimension", "Phase space is z = (q, p): positions and as many momenta.")
        self.sampler, self.prior = Sampler(hamiltonian, field, scheme, uniform_grid(hamiltonian, steps)), prior

    @property
    def dim(self) -> int:
        """The dimension d of the data."""
        return self.prior.dim // 2

    @property
    def hamiltonian(self) -> Hamiltonian:
        """H."""
        assert isinstance(self.sampler.process, Hamiltonian)
        return self.sampler.process

    def generate(self, z: Numbers) -> Float[Array, "... n"]:
        """Where the steps take points (..., 2d) of the prior: forward in the time of H."""
        return _moved(self.sampler, checked_point("z", z, self.prior.dim), False)

    def encode(self, z: Numbers) -> Float[Array, "... n"]:
        """Where points (..., 2d) came from: the inverse of `generate`."""
        return _moved(self.sampler, checked_point("z", z, self.prior.dim), True)

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent positions."""
        return self.sampler.sample(key, n, self.prior)[:, : self.dim]

    def kernel(self) -> AffineKernel:
        """`generate` as an affine map, where it is one.

        Raises:
            ValueError: if it is none.
        """
        return self.sampler.kernel(self.prior.dim)

    def joint(self) -> Law:
        """The exact law of (q, p), where the steps are affine and the prior is Gaussian or a mixture.

        Raises:
            ValueError: if the steps are not affine.
            TypeError: if the prior is of another kind.
        """
        return self.kernel().push(self.prior)

    def law(self) -> Law:
        """The exact law of the positions.

        Raises:
            ValueError, TypeError: as `joint`.
        """
        return self.joint().marginal(range(self.dim))

    def posterior(self) -> AffineKernel:
        """The exact kernel q -> law of p given q, where the joint law is Gaussian.

        Raises:
            ValueError, TypeError: as `joint`, or if the prior is a mixture.
        """
        joint = self.joint()
        if not isinstance(joint, Gaussian):
            raise TypeError(f"`prior`: got {type(self.prior).__name__}; expected Gaussian, with which the posterior is an affine kernel. Condition the joint law instead.")
        return _posterior(joint)

    def log_prob(self, z: Numbers) -> Float[Array, "..."]:
        """The exact joint log-density at points (..., 2d)."""
        return _log_prob(self, checked_point("z", z, self.prior.dim))

    def elbo(self, q: Numbers, encoder: Encoder, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
        """The evidence lower bound at one point of data, in nats: by quadrature for d <= 2, else Monte Carlo.

        Args:
            q: (d,).
            encoder: an `AffineKernel`, or a function that gives the law of p at one point q.
            key: needed for d > 2; with `samples`, asks for Monte Carlo in any dimension.
            samples: number of draws.

        Raises:
            ValueError: if only Monte Carlo can answer and no key is given, or the encoder has another dimension.
        """
        point = as_floats("q", q)
        if point.shape != (self.dim,):
            refuse("q", f"shape {point.shape}", f"({self.dim},)", "Give one point of data; use vmap for more.")
        law = encoder.at(point) if isinstance(encoder, AffineKernel) else encoder(point)
        if law.dim != self.dim:
            refuse("encoder", f"a law in dimension {law.dim}", f"dimension {self.dim}, that of the momenta", "It gives p, as many as q.")
        return expectation(law, _evidence, (self, point, law), key, samples)


def _evidence(p: Float[Array, " d"], flow: HamiltonianFlow, q: Float[Array, " d"], law: Law) -> tuple[Float[Array, ""], Float[Array, ""]]:
    joint, own = _log_density(flow, jnp.concatenate([q, p])), law._log_prob(p)
    return joint - own, jnp.abs(joint) + jnp.abs(own)


def _log_density(flow: HamiltonianFlow, z: Float[Array, " n"]) -> Float[Array, ""]:
    return flow.prior._log_prob(_end(flow.sampler, z, True))


def _end(sampler: Sampler, z: Float[Array, " n"], backward: bool) -> Float[Array, " n"]:
    """The end of the steps from one point; backward, each step goes from its later time to its earlier one."""
    no_draws = jnp.zeros((0, z.shape[0]), z.dtype)
    grid = sampler.grid[::-1] if backward else sampler.grid

    def step(x, times):
        t, s = times
        return sampler.scheme.step(sampler.process, sampler.field, t, s, x, no_draws), None

    return jax.lax.scan(step, z, (grid[:-1], grid[1:]))[0]


@eqx.filter_jit
def _moved(sampler: Sampler, z: Float[Array, "... n"], backward: bool) -> Float[Array, "... n"]:
    return jnp.vectorize(lambda point: _end(sampler, point, backward), signature="(n)->(n)")(z)


@eqx.filter_jit
def _log_prob(flow: HamiltonianFlow, z: Float[Array, "... n"]) -> Float[Array, "..."]:
    return jnp.vectorize(lambda point: _log_density(flow, point), signature="(n)->()")(z)


@eqx.filter_jit
def _posterior(joint: Gaussian) -> AffineKernel:
    P, d = joint.cov, joint.dim // 2
    q, p = np.arange(d), np.arange(d, 2 * d)
    gain = solve_spd(P[np.ix_(q, q)], P[np.ix_(q, p)]).T
    remainder = symmetrised(P[np.ix_(p, p)] - gain @ P[np.ix_(q, p)])
    return AffineKernel(gain, joint.mean[p] - gain @ joint.mean[q], remainder)
