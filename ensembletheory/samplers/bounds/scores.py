r"""Bounds on the KL divergence of data p from the law p_theta that a model's score s samples.

Data X_0 ~ p, X_t = a_t X_0 + s_t Z of law p_t, s* = grad log p_t; the model is generated from the horizon T, begun at a law pi. The reverse SDE driven by s has

    KL(p || p_theta) <= 1/2 int_0^T E |G_t^T (s - s*)(t, X_t)|^2 dt + KL(p_T || pi)

(Song, Durkan, Murray & Ermon 2021): the divergence of the laws of whole paths, by Girsanov's theorem, is no less than that of their ends. It is an equality if s is the exact
score of another law noised alike, whose noised end is pi. Of the probability flow driven by s it says nothing, and can be false.

Run by the exponential integrator over times T = t_0 > t_1 > ... the score is frozen over every step, and (Chen et al. 2023; here with the constants of their proof)

    KL(p || p_theta) <= 1/2 sum_k int_{t_{k+1}}^{t_k} g_t^2 E |s(t_k, X_{t_k}) - s*(t, X_t)|^2 dt + KL(p_T || pi);

for dX = -X dt + 2^{1/2} dW the weight g^2 / 2 is 1. With r = a_{t_k} / a_t, E[s*(t, X_t) | X_{t_k}] = r s*(t_k, X_{t_k}), so that no joint law is needed:

    E |s(t_k, X_{t_k}) - s*(t, X_t)|^2 = E |s - r s*|^2 (t_k, X_{t_k}) + F_t - r^2 F_{t_k},     F_t = E |s*(t, X_t)|^2.

The last two terms are what freezing costs even the exact score, of the order of the step: the bound falls as 1/N in the number of steps, the divergence of Gaussian data as
1/N^2. For product data and a product model both are sums over coordinates, hence linear in the dimension (Benton et al. 2024).
"""

import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.divergences import kl
from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.fields import Field
from ensembletheory.laws import Law, standard_normal
from ensembletheory.processes import GaussianPath, Process
from ensembletheory.samplers.bounds.mean_squares import FieldError, Sized, mean_product, over_time, panels
from ensembletheory.samplers.exponential import ExponentialIntegrator
from ensembletheory.samplers.sampler import Sampler

__all__ = ["girsanov_bound", "song_bound"]


def song_bound(process: Process, law: Law, score: Field, start: Law | None = None, end: Numbers = 0.0, rtol: float | None = None) -> Estimate:
    """The bound on KL(p_end || model) in nats, for what the reverse SDE driven by `score` makes in continuous time.

    Args:
        process: the noising process, from whose horizon the model is generated.
        law: of the data.
        score: the model's.
        start: the law at the horizon from which the model is generated; default N(0, I).
        end: the time at which generation stops.
        rtol: relative error asked of the quadrature over time (default 1e-10).

    Raises:
        ValueError: if the field is no score, the SDE has no finite horizon, the data have no density at the end, or there are more than two dimensions and the data are not
            Gaussian or the score not affine.
        TypeError: if the exact score of the data is not known.
    """
    end, begin = process.checked_interval(end, process.horizon)
    times = panels(end, begin)
    error = FieldError(process, law, score, "score", times)
    return over_time(_while_followed, error, times, rtol) + _of_the_start(process, law, begin, start)


def girsanov_bound(sampler: Sampler, law: Law, start: Law | None = None, rtol: float | None = None) -> Estimate:
    """The bound on KL(p_end || draws) in nats, for the draws of an exponential integrator, whose score is frozen over every step of its grid.

    Args:
        sampler: a Gaussian path, the model's score, `ExponentialIntegrator` and the grid.
        law: of the data.
        start: the law from which the sampler is begun, at the first time of the grid; default N(0, I).
        rtol: relative error asked of the quadrature over time (default 1e-10).

    Raises:
        ValueError: if the scheme is another, or as `song_bound`.
        TypeError: if the exact score of the data is not known.
    """
    if not isinstance(sampler.scheme, ExponentialIntegrator) or not isinstance(sampler.process, GaussianPath):
        got = f"{type(sampler.scheme).__name__} on {type(sampler.process).__name__}"
        refuse("sampler", got, "ExponentialIntegrator on a Gaussian path", "The bound is about a score frozen over a step, with all else solved exactly.")
    steps = sampler.grid[::-1]
    times = jnp.sort(jnp.concatenate([steps, panels(steps[0], steps[-1])]))
    error = FieldError(sampler.process, law, sampler.field, "score", times)
    return over_time(_while_frozen, error, times, rtol, steps) + _of_the_start(sampler.process, law, steps[-1], start)


def _of_the_start(process: Process, law: Law, begin: Float[Array, ""], start: Law | None) -> Estimate:
    kept = process.a(begin) if isinstance(process, GaussianPath) else jnp.ones(())
    if is_concrete(kept) and float(kept) == 0:
        got = f"{type(process).__name__}, which keeps nothing of its data at time {float(begin):.6g}"
        refuse("process", got, "an SDE with a finite horizon", "Its drift is infinite there. Begin at an earlier time, or take a diffusion such as VariancePreserving.")
    return kl(process.marginal(law, begin), standard_normal(law.dim) if start is None else start)


def _while_followed(error: FieldError, t: Float[Array, ""]) -> Sized:
    """Half E |G^T (s - s*)|^2."""
    value, size = mean_product(error.process.marginal(error.law, t), Partial(_spread_gap, error, t))
    return value / 2, size / 2


def _spread_gap(error: FieldError, t: Float[Array, ""], x: Float[Array, " d"]):
    """The vectors s - s* and G G^T (s - s*)."""
    s, exact = error.field(t, x), error.exact(t, x)
    return s - exact, error.process.spread(t, s - exact), jnp.abs(s) + jnp.abs(exact)


def _while_frozen(error: FieldError, steps: Float[Array, " n"], t: Float[Array, ""]) -> Sized:
    """Half g^2 E |s(t_k, X_{t_k}) - s*(t, X_t)|^2, where t_k is the first time of the increasing steps beyond t."""
    process, begun = error.process, steps[jnp.minimum(jnp.searchsorted(steps, t, side="right"), steps.shape[0] - 1)]
    assert isinstance(process, GaussianPath)
    frozen, size = mean_product(process.marginal(error.law, begun), Partial(_frozen, error, process.a(begun) / process.a(t), begun))
    moving, moving_size = mean_product(process.marginal(error.law, t), Partial(_moving, error, t))
    half = process.diffusion(t) / 2
    return half * (frozen + moving), half * (size + moving_size)


def _frozen(error: FieldError, r: Float[Array, ""], t: Float[Array, ""], x: Float[Array, " d"]):
    """The vectors s - 2 r s* and s, whose mean product is E |s - r s*|^2 - r^2 F."""
    s, exact = error.field(t, x), error.exact(t, x)
    return s - 2 * r * exact, s, jnp.abs(s) + 2 * r * jnp.abs(exact)


def _moving(error: FieldError, t: Float[Array, ""], x: Float[Array, " d"]):
    """The vector s* twice, whose mean product is F."""
    exact = error.exact(t, x)
    return exact, exact, jnp.abs(exact)
