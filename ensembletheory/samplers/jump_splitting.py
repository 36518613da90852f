r"""Splitting samplers of reversed jump processes: drift and random changes of the velocity in turn, by a word that reads the same backwards.

A step from t to s, h = t - s, goes through the letters of the word: D drifts against the flow of the forward process, and every other letter changes the velocity with the
place and the time held (`ensembletheory.processes.pdmp.reverse`). A letter that occurs twice takes h/2 each time, a letter that occurs once takes h; the time is that which
the drift has reached. The words of Bertazzi et al. (2024) are DJD for flips (zig-zag, telegraph), DRD for randomised HMC and RDBDR for the bouncy particle. On the line flips
are exact with place and time held, and DJD is of weak order 2 where rates are smooth; elsewhere a letter also holds what another jump within the step would change: order 1.

Points as data are left on light cones, which a step overshoots: on the line a path turns back at once, and ends within a step of a point; in more dimensions its coordinates
may turn to different points, and paths are lost. Smooth points there: Gaussians of deviation above the last steps' length.

A step costs one evaluation of the rates for each letter but D: 1 for DJD and DRD, 3 for RDBDR. The grid is quadratic in the paper: `quadratic_grid`.
"""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.laws.law import checked_point
from ensembletheory.processes.pdmp.reverse import ReverseJumps
from ensembletheory.samplers.grids import check_grid

__all__ = ["JumpSampler"]


class JumpSampler(eqx.Module):
    """A reversed jump process run along a grid, by a splitting.

    Args:
        reverse: the reversed process.
        grid: (n + 1,) times in the order visited, from noise to data.
        word: a palindrome of D and the letters of `reverse`, such as "DJD".

    Raises:
        ValueError: if the word is no palindrome of these letters with all of them, a letter occurs more than twice, or the grid is not decreasing inside [0, horizon].
    """

    reverse: ReverseJumps
    grid: Float[Array, " n"]
    word: str = eqx.field(static=True)

    def __init__(self, reverse: ReverseJumps, grid: Numbers, word: str):
        self.reverse, self.grid, self.word = reverse, as_floats("grid", grid), word

    def __check_init__(self):
        letters = "D" + self.reverse.letters
        if self.word != self.word[::-1] or set(self.word) != set(letters) or max(self.word.count(letter) for letter in letters) > 2:
            expected = f"a palindrome of the letters {', '.join(letters)}, each once or twice"
            refuse("word", repr(self.word), expected, "See DJD for flips, DRD for refreshment, RDBDR for bounces with refreshment.")
        check_grid(self.grid, self.reverse.process)

    @property
    def evaluations(self) -> int:
        """How often the rates are evaluated for one draw."""
        return (len(self.word) - self.word.count("D")) * (self.grid.size - 1)

    def run(self, key: PRNGKeyArray, positions: Numbers, velocities: Numbers) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
        """The places and velocities at the last time of the grid, of paths that have the given ones (n, d) at the first.

        Raises:
            ValueError: if positions and velocities are not of one shape (n, d).
        """
        return self._followed(key, positions, velocities, keep=False)[0]

    def paths(self, key: PRNGKeyArray, positions: Numbers, velocities: Numbers) -> Float[Array, "n times d"]:
        """The places at every time of the grid; the last are those of `run` with the same key.

        Raises:
            ValueError: as `run`.
        """
        later = self._followed(key, positions, velocities, keep=True)[1]
        return jnp.swapaxes(jnp.concatenate([as_floats("positions", positions)[None], cast(Array, later)]), 0, 1)

    def _followed(self, key: PRNGKeyArray, positions: Numbers, velocities: Numbers, keep: bool):
        x = as_floats("positions", positions)
        x, v = checked_point("positions", x, x.shape[-1] if x.ndim else 1), as_floats("velocities", velocities)
        if x.ndim != 2 or x.shape != v.shape:
            refuse("velocities", f"shapes {x.shape} of positions and {v.shape}", "one shape (n, d) of both", "Give every position a velocity.")
        return _followed(self, key, x, v, keep)

    def _step(self, key: PRNGKeyArray, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> tuple[Array, Array]:
        now, h = t, t - s
        for i, letter in enumerate(self.word):
            share = h / self.word.count(letter)
            if letter == "D":
                (x, v), now = self.reverse.process.flow(x, v, -share), now - share  # pyright: ignore[reportAttributeAccessIssue]
            else:
                v = self.reverse.turn(letter, jax.random.fold_in(key, i), now, share, x, v)
        return x, v


@eqx.filter_jit
def _followed(sampler: JumpSampler, key: PRNGKeyArray, x: Float[Array, "n d"], v: Float[Array, "n d"], keep: bool):
    def step(carry, inputs):
        t, s, i = inputs
        keys = jax.random.split(jax.random.fold_in(key, i), len(x))
        after = jax.vmap(sampler._step, in_axes=(0, None, None, 0, 0))(keys, t, s, *carry)
        return after, after[0] if keep else None

    return jax.lax.scan(step, (x, v), (sampler.grid[:-1], sampler.grid[1:], jnp.arange(sampler.grid.size - 1)))
