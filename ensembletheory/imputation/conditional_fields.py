r"""Fields of what is missing given what is observed, and samplers that follow them: imputation that asks the right question at every noise level.

A row is parted into given coordinates g, whose clean values are known, noised ones n, of which X_t,n = a_t X_0,n + s_t Z_n is at hand, and absent ones, of which nothing is
known. A conditional field maps (t, x, given, noised), x holding x_g and x_t,n, to a vector that is 0 off n, of the kind of a path's field there:

    score      grad_n log p(x_t,n | x_g)        denoiser   E[X_0,n | x_t,n, x_g]
    noise      E[Z_n | x_t,n, x_g]              velocity   E[X'_t,n | x_t,n, x_g].

Given x_g fixed, it is the field of the path that starts from the conditional law of X_0,n, so every scheme that samples the law of a path samples the conditional by it. For a
Gaussian or a mixture it is exact: with q_j = 1, a_t, 0 for j given, noised, absent, (x_g, X_t,n) is jointly Gaussian given each component, of mean q m and covariance q S q
plus s_t^2 on n. With y the inverse of that covariance times what x is off that mean, the component's score is -y_n and its denoiser m_n + (S q y)_n; the components'
probabilities are those given (x_g, x_t,n).
"""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from ensembletheory.covariance import Dense, Isotropic
from ensembletheory.errors import Numbers, as_floats, checked_count, is_concrete, refuse
from ensembletheory.fields import Field, require_origin
from ensembletheory.fitting.rows import read_values
from ensembletheory.imputation.conditionals import Model
from ensembletheory.imputation.replacement import require_finite, row_keys, row_with_holes
from ensembletheory.kernels import AffineKernel
from ensembletheory.latent import Ppca, PpcaMixture
from ensembletheory.laws import Gaussian, GaussianMixture, Law
from ensembletheory.laws.mixture import weighted_components
from ensembletheory.laws.weights import relative_terms
from ensembletheory.processes import GaussianPath
from ensembletheory.samplers import Sampler
from ensembletheory.samplers.grids import check_grid
from ensembletheory.samplers.scheme import Scheme

__all__ = ["ConditionalField", "ConditionalSampler", "ExactConditional"]


class ConditionalField(eqx.Module):
    """A field of noised coordinates given others; see the module."""

    process: eqx.AbstractVar[GaussianPath]
    readout: eqx.AbstractVar[str]

    @abstractmethod
    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"], given: Bool[Array, " d"], noised: Bool[Array, " d"]) -> Float[Array, " d"]:
        """The vector at time t and one row, 0 where not noised."""

    def at(self, values: Float[Array, " d"], given: Bool[Array, " d"]) -> Field:
        """The field on whole rows whose other coordinates are all noised: given ones do not move, whatever they are."""
        return _AtRow(self, values, given)


class _AtRow(Field):
    conditional: ConditionalField
    values: Float[Array, " d"]
    given: Bool[Array, " d"]

    @property
    def kind(self) -> str:
        return self.conditional.readout

    @property
    def origin(self) -> GaussianPath:
        return self.conditional.process

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.conditional(t, jnp.where(self.given, self.values, x), self.given, ~self.given)


class ExactConditional(ConditionalField):
    """The exact conditional field for data of a law: Gaussian, GaussianMixture, Ppca or PpcaMixture.

    Args:
        process: the path.
        law: of whole rows.
        readout: "score", "velocity", "denoiser" or "noise".

    Raises:
        ValueError: if there is no such kind of field.
        TypeError: if the law is of another kind.
    """

    process: GaussianPath
    law: Gaussian | GaussianMixture
    readout: str = eqx.field(static=True)

    def __init__(self, process: GaussianPath, law: Model, readout: str = "score"):
        if not isinstance(law, Model):
            raise TypeError(f"`law`: got {type(law).__name__}; expected Gaussian, GaussianMixture, Ppca or PpcaMixture, whose conditionals are known. Train a network.")
        eqx.filter_eval_shape(process.readout, readout, process.horizon)  # refuses other kinds
        self.process, self.readout = process, readout
        self.law = law.law if isinstance(law, Ppca | PpcaMixture) else law  # pyright: ignore[reportAttributeAccessIssue]

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"], given: Bool[Array, " d"], noised: Bool[Array, " d"]) -> Float[Array, " d"]:
        """The vector at time t and one row, 0 where not noised."""
        a, noise, (alpha, c) = self.process.a(t), self.process.noise_variance(t), self.process.readout(self.readout, t)
        scale = jnp.where(given, 1.0, jnp.where(noised, a, 0.0))
        added = jnp.where(noised, noise, jnp.where(given, 0.0, 1.0))
        seen = jnp.where(given | noised, x, 0.0)
        weights, parts = weighted_components(self.law)

        def joint(component: Gaussian) -> Gaussian:
            return Gaussian(scale * component.mean, Dense(scale[:, None] * component.cov * scale[None, :] + jnp.diag(added)))

        def read(component: Gaussian, law: Gaussian) -> Float[Array, " d"]:
            y = law.covariance.solve(seen - law.mean)
            return alpha * (component.mean + component.covariance.matvec(scale * y)) + c * y

        joints = jax.vmap(joint)(parts)
        shares = relative_terms(weights, jax.vmap(lambda law: law._log_prob(seen))(joints))
        return jnp.where(noised, shares @ jax.vmap(read)(parts, joints), 0.0)


class ConditionalSampler(eqx.Module):
    """Imputation along a conditional field.

    Args:
        process: the path from data to noise.
        field: exact or trained, of the kind that the scheme takes.
        scheme: the step from noise to data.
        grid: decreasing times.

    Raises:
        ValueError: if the grid is not decreasing inside [0, horizon], or the field is of another kind or process.
    """

    process: GaussianPath
    field: ConditionalField
    scheme: Scheme
    grid: Float[Array, " n"]

    def __init__(self, process: GaussianPath, field: ConditionalField, scheme: Scheme, grid: Numbers):
        self.process, self.field, self.scheme, self.grid = process, field, scheme, as_floats("grid", grid)

    def __check_init__(self):
        check_grid(self.grid, self.process)
        if self.field.readout != self.scheme.takes:
            refuse("field", f"a {self.field.readout}", f"a {self.scheme.takes}, which {type(self.scheme).__name__} takes", "Take another scheme, or another readout.")
        require_origin("field", self.field.at(jnp.zeros(1), jnp.zeros(1, bool)), self.process)
        if is_concrete(self.grid, self.process.horizon):
            self.scheme.check(self.process, self.grid)

    def sample(self, key: PRNGKeyArray, X: Numbers, n: int = 1, by_row: bool = False) -> Float[Array, "n rows d"]:
        """`n` completed copies of the rows X (rows, d), NaN = missing; what is observed is kept.

        Args:
            key: of all draws.
            X: the rows.
            n: how many copies.
            by_row: whether the draws of a row follow from the key and the row alone, whichever others there are; equal rows then have equal copies.

        Raises:
            ValueError: if X is not a table of numbers with the field's columns.
            FloatingPointError: naming the step, if a draw leaves the finite numbers.
        """
        values = read_values(X)
        observed = ~np.isnan(values)
        keys = row_keys(key, values, checked_count("n", n, 1), by_row)
        draws, diverged = _sampled(self, keys, jnp.asarray(np.where(observed, values, 0.0)), jnp.asarray(observed))
        require_finite(self.scheme, self.grid, diverged)
        return draws

    def law(self, x: Numbers) -> Law:
        """The exact law of the missing coordinates of `sample` for one row x (d,), when the steps are affine.

        Raises:
            ValueError: as `Sampler.law`; if x is not a row, or nothing in it is missing.
        """
        values, observed = row_with_holes(x)
        field = self.field.at(jnp.asarray(values), jnp.asarray(observed))
        kernel = Sampler(self.process, field, self.scheme, self.grid).kernel(values.size)
        return _from_noise(kernel, self.process, self.grid, tuple(np.flatnonzero(~observed).tolist()))


@eqx.filter_jit
def _from_noise(kernel: AffineKernel, process: GaussianPath, grid: Float[Array, " n"], missing: tuple[int, ...]) -> Law:
    """The law of the missing coordinates after a run that is begun from noise."""
    dim = kernel.b.size
    return kernel.push(Gaussian(jnp.zeros(dim), Isotropic(process.noise_variance(grid[0]), dim))).marginal(missing)


@eqx.filter_jit
def _sampled(
    sampler: ConditionalSampler, keys: Key[Array, "n rows"], values: Float[Array, "rows d"], observed: Bool[Array, "rows d"]
) -> tuple[Float[Array, "n rows d"], Int[Array, ""]]:
    copy = jax.vmap(lambda *row: _one(sampler, *row))
    draws, diverged = jax.vmap(copy, (0, None, None))(keys, values, observed)
    first = jnp.min(jnp.where(diverged < 0, sampler.grid.size, diverged))
    return draws, jnp.where(first < sampler.grid.size, first, -1)


def _one(sampler: ConditionalSampler, key: PRNGKeyArray, values: Float[Array, " d"], observed: Bool[Array, " d"]) -> tuple[Float[Array, " d"], Int[Array, ""]]:
    """One completed copy of one row, and the step that left the finite numbers (-1: none)."""
    field = sampler.field.at(values, observed)
    key_start, key_steps = jax.random.split(key)

    def step(carry, inputs):
        (x, diverged), (t, s, i) = carry, inputs
        z = jax.random.normal(jax.random.fold_in(key_steps, i), (sampler.scheme.draws, x.size), x.dtype)
        x = jnp.where(observed, values, sampler.scheme.step(sampler.process, field, t, s, x, z))
        return (x, jnp.where((diverged < 0) & ~jnp.all(jnp.isfinite(x)), i, diverged)), None

    noise = jnp.sqrt(sampler.process.noise_variance(sampler.grid[0])) * jax.random.normal(key_start, values.shape, values.dtype)
    begin = (jnp.where(observed, values, noise), jnp.asarray(-1))
    return jax.lax.scan(step, begin, (sampler.grid[:-1], sampler.grid[1:], jnp.arange(sampler.grid.size - 1)))[0]
