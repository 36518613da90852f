r"""Imputation by a sampler that knows no condition: what is observed is put in its place at every step (replacement), and steps are undone and done again (RePaint).

A path X_t = a_t X_0 + s_t Z, a field for its law p_t, a scheme that steps from t to s < t, a row with observed coordinates o and missing ones m. One step of replacement is

    x <- scheme(t -> s, x),     x_o <- a_s x_o* + s_s z    (the observed values x_o*, noised afresh).

RePaint parts the grid into blocks of j steps (the jump length). A block is run r times, and before it is run again, its end is noised forward to its beginning,
x <- N((a_t / a_s) x, s_t^2 - (a_t / a_s)^2 s_s^2). So r = 1 is replacement, and the cost is r evaluations of the field a step of the grid.

**The exact law.** Where a step is affine, as for the field of a Gaussian, each of the three moves is a Gaussian kernel on the whole vector; `law` composes them. It is not the
conditional law, however exact the field: the scheme draws x_m given the whole x_t, not given x_o at time s, which comes from elsewhere.

**r -> infinity.** A block run again and again is a Markov chain of x_m at its end: what came before is forgotten, and only the last block counts (`limit`). With the exact
reverse kernel, j = 1, p_s = N(m, S), L = S^{-1} and h = (s_t / a_t)^2 a_s^2 - s_s^2 the noise of the jump, the chain is x -> N(m + B (x - m), S - B S B^T) with
B = (I + h L)^{-1} and x_o redrawn each time. Its stationary mean is

    m_m - [L_mm - h L_mo (I + h L_oo)^{-1} L_om]^{-1} L_mo (I + h L_oo)^{-1} (a_s x_o* - m_o),

the regression on a_s x_o* for h -> 0 only: a jump that ends in the data leaves a bias of order h. For any law and h -> 0 the redrawn x_o is averaged out, and x_m tends to the
density in proportion to exp E log p_s(x_m, x_o), over x_o ~ N(a_s x_o*, s_s^2 I): a log pool of the conditionals, which at s_s = 0 is the conditional itself.

Sources: Song et al. (2021) for replacement, Lugmayr et al. (2022) for resampling; a bias in a linear model is in Rout et al. (2023); laws and limits are derived here. See
`ensembletheory.imputation.replacement_limits` for infinitely many steps.
"""

import zlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PRNGKeyArray, UInt32

from ensembletheory.covariance import Dense, Diagonal, Isotropic
from ensembletheory.errors import Numbers, as_floats, checked_count, is_concrete, refuse
from ensembletheory.fields import Batching, Field, require_field, require_origin
from ensembletheory.fitting.rows import read_values
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Gaussian, Law
from ensembletheory.linalg import symmetrised
from ensembletheory.processes import GaussianPath
from ensembletheory.samplers.grids import check_grid, padded
from ensembletheory.samplers.linearisation import Move, Run, dense, rounding
from ensembletheory.samplers.scheme import Scheme

__all__ = ["Repaint", "require_finite", "row_keys", "row_with_holes"]

_SHORTEST = 1024  # moves of a run that is compiled for


class Repaint(eqx.Module):
    """Replacement sampling, with resampling if r > 1; see the module.

    Args:
        process: the path from data to noise.
        field: (t, x) -> vector for the law of whole rows, exact, trained or combined, of the kind that the scheme takes.
        scheme: the step from noise to data.
        grid: (n + 1,) decreasing times.
        resamplings: r, how often a block is run.
        jump: j, the steps of a block; it divides n.

    Raises:
        ValueError: if the grid is not decreasing inside [0, horizon], jump does not divide its steps, a count is below 1, or the field is known to be of another
            kind or process.
    """

    process: GaussianPath
    field: Field
    scheme: Scheme
    grid: Float[Array, " n"]
    resamplings: int = eqx.field(static=True)
    jump: int = eqx.field(static=True)

    def __init__(self, process: GaussianPath, field: Field, scheme: Scheme, grid: Numbers, resamplings: int = 1, jump: int = 1):
        self.process, self.field, self.scheme, self.grid = process, field, scheme, as_floats("grid", grid)
        self.resamplings, self.jump = checked_count("resamplings", resamplings, 1), checked_count("jump", jump, 1)

    def __check_init__(self):
        check_grid(self.grid, self.process)
        if (self.grid.size - 1) % self.jump:
            refuse("jump", f"{self.jump} for {self.grid.size - 1} steps", "a divisor of the number of steps", "Blocks have equal numbers of steps; see samplers.padded.")
        if self.field.kind not in (None, self.scheme.takes):
            remedy = f"Convert it: processes.convert(process, field, {self.scheme.takes!r})."
            refuse("field", f"a {self.field.kind}", f"a {self.scheme.takes}, which {type(self.scheme).__name__} takes", remedy)
        require_origin("field", self.field, self.process)
        if is_concrete(self.grid, self.process.horizon):
            self.scheme.check(self.process, self.grid)

    @property
    def times(self) -> Float[Array, " visited"]:
        """All times in the order visited: down a block, up again by a jump, and down."""
        blocks = np.arange(self.grid.size - 1).reshape(-1, self.jump)
        visited = np.repeat(np.c_[blocks, blocks[:, -1:] + 1], self.resamplings, axis=0).ravel()
        repeated = np.r_[False, (visited[1:] == visited[:-1])]
        kept = visited[~repeated]
        return self._part_of_grid(kept)

    def sample(self, key: PRNGKeyArray, X: Numbers, n: int = 1, start: Law | None = None, by_row: bool = False) -> Float[Array, "n rows d"]:
        """`n` completed copies of the rows X (rows, d), NaN = missing; what is observed is kept.

        Args:
            key: of all draws.
            X: the rows.
            n: how many copies.
            start: the law of a row at the first time, N(0, s_t^2 I) if left out.
            by_row: whether the draws of a row follow from the key and the row alone, whichever others there are; equal rows then have equal copies.

        Raises:
            ValueError: if X is not a table of numbers, or the field's vectors are not of its dimension.
            FloatingPointError: naming the step, if a draw leaves the finite numbers.
        """
        values = read_values(X)
        self._check(values.shape[1], start)
        observed = ~np.isnan(values)
        keys = row_keys(key, values, checked_count("n", n, 1), by_row)
        draws, diverged = _sampled(self, keys, jnp.asarray(np.where(observed, values, 0.0)), jnp.asarray(observed), start)
        require_finite(self.scheme, self.times, diverged)
        return draws

    def law(self, x: Numbers, start: Law | None = None) -> Law:
        """The exact law of the missing coordinates of `sample` for one row x (d,), NaN = missing, when the steps are affine.

        Raises:
            ValueError: naming the scheme and the field if a step is not affine; if nothing is missing, or the field's vectors are not of the row's dimension.
            FloatingPointError: naming the step, if one is not finite.
        """
        values, observed = self._checked(x, start)
        run = self._run(self.times, values, observed)
        return _law(self.process, self._part_of_grid(0), run, values, observed, start)

    def limit(self, x: Numbers) -> Gaussian:
        """The law of the missing coordinates for infinitely many resamplings, that at which the last block leaves off again and again, when its steps are affine.

        Raises:
            ValueError: as `law`, or if the chain of the last block does not forget where it began.
            FloatingPointError: naming the step, if one is not finite.
        """
        values, observed = self._checked(x, None)
        run = self._run(self._part_of_grid(slice(-1 - self.jump, None)), values, observed)
        chain, mean, cov = _limit(self.process, self._part_of_grid(-1 - self.jump), self._part_of_grid(-1), run, values, observed)
        largest = float(np.max(np.abs(np.linalg.eigvals(np.asarray(chain)))))
        if not largest < 1:
            refuse("grid", f"a last block that multiplies gaps by {largest:.6g}", "a factor below 1", "Take a longer block, or a scheme that contracts.")
        return Gaussian(mean, cov)

    def _part_of_grid(self, places: int | slice | np.ndarray) -> Float[Array, "..."]:
        """Times of the grid; known ones compile nothing."""
        return jnp.asarray(np.asarray(self.grid)[places]) if is_concrete(self.grid) else self.grid[places]

    def _check(self, dim: int, start: Law | None) -> None:
        require_field("field", self.field, self.scheme.takes, dim)
        if start is not None and start.dim != dim:
            refuse("start", f"dimension {start.dim}", f"{dim}, that of a row", "Missing coordinates begin there too.")

    def _checked(self, x: Numbers, start: Law | None) -> tuple[Float[Array, " d"], tuple[bool, ...]]:
        """A row, 0 where missing, and what is observed of it, where a run may be affine."""
        values, observed = row_with_holes(x)
        self._check(values.size, start)
        if self.field.piecewise or len(self.scheme.branches(self.field)) > 1:
            got = f"{type(self.scheme).__name__} with {type(self.field).__name__}, which may be affine in pieces only"
            refuse("field", got, "an affine step", "Sample it; nothing less tells its law.")
        return jnp.asarray(values), tuple(observed.tolist())

    def _run(self, times: Float[Array, " visited"], values: Float[Array, " d"], observed: tuple[bool, ...]) -> AffineKernel:
        """The kernel of the moves along the times, verified to be affine."""
        padded = _lengthened(times)
        run = _composed(self.process, self.field, self.scheme, padded, values, np.asarray(observed))
        require_finite(self.scheme, padded, run.diverged)
        if not float(run.defect) <= rounding(run.defect):
            names = f"{type(self.scheme).__name__} with {type(self.field).__name__}"
            refuse("field", f"a step of {names} that is off its linearisation by {float(run.defect):.3g}", "an affine step", "Sample it, or use a Gaussian's field.")
        return run.kernel


def _moving(process: GaussianPath, field: Field, scheme: Scheme, t: Float[Array, ""], s: Float[Array, ""], values: Float[Array, " d"], observed: Bool[Array, " d"]) -> Move:
    """The move from time t to s as a function of a point and draws: one for the replaced coordinates, or the jump, and those of the scheme."""

    def down(x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        fresh = process.a(s) * values + jnp.sqrt(process.noise_variance(s)) * z[0]
        return jnp.where(observed, fresh, scheme.step(process, field, t, s, x, z[1:]))

    def up(x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        ratio = process.a(s) / process.a(t)
        return ratio * x + jnp.sqrt(jnp.maximum(process.noise_variance(s) - ratio**2 * process.noise_variance(t), 0.0)) * z[0]

    return lambda x, z: jax.lax.cond(s > t, up, down, x, z)


def _lengthened(times: Float[Array, " visited"]) -> Float[Array, " more"]:
    """The times, begun by steps of length zero, which leave missing coordinates where they are, up to the next length that is compiled for."""
    return padded(times, max(_SHORTEST, 4 ** -(-(times.size - 1).bit_length() // 2)))


@eqx.filter_jit
def _composed(
    process: GaussianPath, field: Field, scheme: Scheme, times: Float[Array, " visited"], values: Float[Array, " d"], observed: Bool[Array, " d"] | Bool[np.ndarray, " d"]
) -> Run[AffineKernel]:
    return dense(lambda t, s: _moving(process, field, scheme, t, s, values, jnp.asarray(observed)), times, values.size, scheme.draws + 1)


@eqx.filter_jit
def _law(process: GaussianPath, t: Float[Array, ""], run: AffineKernel, values: Float[Array, " d"], observed: tuple[bool, ...], start: Law | None) -> Law:
    whole = run.after(_replacement(process, t, values, observed))
    return _part(whole, ~np.asarray(observed)).push(_begun(process, t, start, values.size))


@eqx.filter_jit
def _limit(
    process: GaussianPath, t: Float[Array, ""], s: Float[Array, ""], down: AffineKernel, values: Float[Array, " d"], observed: tuple[bool, ...]
) -> tuple[Float[Array, "m m"], Float[Array, " m"], Dense]:
    """The matrix by which a cycle of a block from t to s moves missing coordinates, and their stationary mean and covariance: m = A m + b, C = A C A^T + Q."""
    missing = ~np.asarray(observed)
    cycle = down.after(process.kernel(s, t, values.size)).after(_replacement(process, s, values, observed))
    chain = _part(cycle, missing, missing)
    m = chain.b.size
    covariance = jnp.linalg.solve(jnp.eye(m * m) - jnp.kron(chain.A, chain.A), chain.C.as_matrix().ravel()).reshape(m, m)
    return chain.A, jnp.linalg.solve(jnp.eye(m) - chain.A, chain.b), Dense(symmetrised(covariance))


def _begun(process: GaussianPath, t: Float[Array, ""], start: Law | None, dim: int) -> Law:
    return Gaussian(jnp.zeros(dim), Isotropic(process.noise_variance(t), dim)) if start is None else start


@eqx.filter_jit
def _sampled(
    sampler: Repaint, keys: Key[Array, "n rows"], values: Float[Array, "rows d"], observed: Bool[Array, "rows d"], start: Law | None
) -> tuple[Float[Array, "n rows d"], Int[Array, ""]]:
    parts = sampler.process, Batching(sampler.field), sampler.scheme
    known, seen = (jnp.tile(table, (len(keys), 1)) for table in (values, observed))
    each, d, times = keys.ravel(), values.shape[1], sampler.times
    begun = _begun(sampler.process, times[0], start, d)

    def noise(i: ArrayLike, count: int) -> Float[Array, "copies count d"]:
        return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, i), (count, d), values.dtype))(each)

    fresh = sampler.process.a(times[0]) * known + jnp.sqrt(sampler.process.noise_variance(times[0])) * noise(times.size, 1)[:, 0]
    first = jnp.where(seen, fresh, jax.vmap(lambda key: begun.sample(jax.random.fold_in(key, times.size + 1), 1)[0])(each))

    def move(carry, inputs):
        (x, diverged), (t, s, i) = carry, inputs
        z = noise(i, sampler.scheme.draws + 1)
        x = jax.vmap(lambda x, z, values, observed: _moving(*parts, t, s, values, observed)(x, z))(x, z, known, seen)
        return (x, jnp.where((diverged < 0) & ~jnp.all(jnp.isfinite(x)), i, diverged)), None

    last, diverged = jax.lax.scan(move, (first, jnp.asarray(-1)), (times[:-1], times[1:], jnp.arange(times.size - 1)))[0]
    return jnp.where(seen, known, last).reshape(*keys.shape, d), diverged


def row_keys(key: PRNGKeyArray, X: Float[np.ndarray, "rows d"], n: int, by_row: bool) -> Key[Array, "n rows"]:
    """The keys (n, rows) of the copies of each row: of its own, or made of what it holds."""
    if not by_row:
        return jax.random.split(key, (n, len(X)))
    contents = jnp.asarray([zlib.crc32(row.tobytes()) for row in X], jnp.uint32)
    return _made(jax.random.split(key, n), contents)


@jax.jit
def _made(keys: Key[Array, " n"], contents: UInt32[Array, " rows"]) -> Key[Array, "n rows"]:
    return jax.vmap(lambda key: jax.vmap(lambda content: jax.random.fold_in(key, content))(contents))(keys)


def row_with_holes(x: Numbers) -> tuple[Float[np.ndarray, " d"], Bool[np.ndarray, " d"]]:
    """One row with 0 where missing, and what is observed of it.

    Raises:
        ValueError: if it is no row of numbers, or nothing is missing.
    """
    if np.ndim(x) != 1:  # pyright: ignore[reportArgumentType]
        refuse("x", f"shape {np.shape(x)}", "one row (d,)", "The law is that of one row; `sample` takes tables.")  # pyright: ignore[reportArgumentType]
    values = read_values(np.asarray(x)[None])[0]
    observed = ~np.isnan(values)
    if observed.all():
        refuse("x", "a row without a missing value", "NaN where a value is missing", "There is nothing to impute.")
    return np.where(observed, values, 0.0), observed


def require_finite(scheme: Scheme, times: Float[Array, " visited"], diverged: Int[Array, ""]) -> None:
    """Refuse draws of which some left the finite numbers at a step.

    Raises:
        FloatingPointError: naming the step, unless it is -1.
    """
    if int(diverged) >= 0:
        t, s = float(times[diverged]), float(times[diverged + 1])
        remedy = "Use shorter steps, or end the grid later where the field is not defined at its last time."
        raise FloatingPointError(f"{type(scheme).__name__} left the finite numbers at a step from time {t:.6g} to {s:.6g}. {remedy}")


def _replacement(process: GaussianPath, t: Float[Array, ""], values: Float[Array, " d"], observed: tuple[bool, ...]) -> AffineKernel:
    """The kernel that puts the noised observed values in their place."""
    seen = np.asarray(observed, dtype=values.dtype)
    return AffineKernel(np.diag(1 - seen), process.a(t) * seen * values, Diagonal(process.noise_variance(t) * seen))


def _part(kernel: AffineKernel, rows: Bool[np.ndarray, " d"], columns: Bool[np.ndarray, " d"] | None = None) -> AffineKernel:
    """Some coordinates of the output; and of the input, if it does not matter what the others are."""
    out = np.flatnonzero(rows)
    A = kernel.A[out] if columns is None else kernel.A[out][:, np.flatnonzero(columns)]
    return AffineKernel(A, kernel.b[out], kernel.C.marginal(out.tolist()))
