r"""Learners: a family of models with the loss by which it learns a law, and ensembles of what it learned.

A learner holds what is chosen before training (process, widths, weights of the loss). `initialise(key, law)` makes a model, of the law taking no more than location and
scale; `loss(law)` is a module (model, key) -> scalar, an unbiased estimate over draws of the law of what is to be minimised. Everything else is the same for all learners:

    fit_ensemble(key, learner, data, members)  =  train_ensemble of `members` losses on resampled data (`ensembletheory.neural.data`).
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
from jax.tree_util import Partial
from jaxtyping import PRNGKeyArray

from ensembletheory.errors import refuse
from ensembletheory.laws import FiniteLaw, Law
from ensembletheory.neural.data import Data, as_data, bootstrap_sample, subset_sample
from ensembletheory.neural.training import Loss, Recipe, Trained, train, train_ensemble

__all__ = ["Learner", "fit", "fit_ensemble"]


class Learner(eqx.Module):
    """A family of models and the loss by which it learns."""

    @abstractmethod
    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A model before training.

        Raises:
            ValueError: if the law does not suit the family.
        """

    @abstractmethod
    def loss(self, law: Law) -> Loss:
        """What is minimised, a module (model, key) -> scalar that holds the law."""


def fit(key: PRNGKeyArray, learner: Learner, data: Data, recipe: Recipe | None = None, checkpoint: Path | str | None = None) -> Trained:
    """Train one model on a law or on rows (n, d).

    Raises:
        FloatingPointError, ValueError: as `train` and `as_data`.
    """
    law = as_data(data)
    start, run = jax.random.split(key)
    return train(run, eqx.filter_jit(_initialised)(learner, law, start), learner.loss(law), Recipe() if recipe is None else recipe, checkpoint)


def fit_ensemble(
    key: PRNGKeyArray,
    learner: Learner,
    data: Data | list[Law],
    members: int = 5,
    recipe: Recipe | None = None,
    resample: Literal["bootstrap"] | float | None = None,
    checkpoint: Path | str | None = None,
) -> Trained:
    """Train `members` models at once; the result is a stack.

    Args:
        key: of everything; members differ in their initial parameters and in the order of their draws.
        learner: the family.
        data: a law, rows (n, d), or one law a member.
        members: how many.
        recipe: of training; the default one if left out.
        resample: "bootstrap", or the share of the rows that each member sees; all rows if left out.
        checkpoint: as in `train`.

    Raises:
        FloatingPointError, ValueError: as `train_ensemble` and `as_data`; if there is no member, or rows are to be resampled and there are none, or members
            have laws of their own.
    """
    resample_key, run = jax.random.split(key)
    laws = _laws(resample_key, data, members, resample)
    begin = [Partial(_initialised, learner, law) for law in laws]
    return train_ensemble(run, begin, [learner.loss(law) for law in laws], Recipe() if recipe is None else recipe, checkpoint)


def _initialised(learner: Learner, law: Law, key: PRNGKeyArray) -> Any:
    return learner.initialise(key, law)


def _laws(key: PRNGKeyArray, data: Data | list[Law], members: int, resample: Literal["bootstrap"] | float | None) -> list[Law]:
    if members < 1:
        refuse("members", f"{members}", "at least 1", "An ensemble of none predicts nothing.")
    if isinstance(data, list) and data and isinstance(data[0], Law):
        if len(data) != members:
            refuse("data", f"{len(data)} laws for {members} members", "one law a member", "Or one law for all of them.")
        if resample is not None:
            refuse("resample", f"{resample!r} with one law a member", "None", "Members see different data already; resample the laws before.")
        return list(data)
    law = as_data(data)  # pyright: ignore[reportArgumentType]
    if resample is None:
        return [law] * members
    if isinstance(resample, bool) or (isinstance(resample, str) and resample != "bootstrap"):
        refuse("resample", repr(resample), "'bootstrap', a share of the rows, or None", "Spell it so.")
    if not isinstance(law, FiniteLaw):
        refuse("resample", f"{resample!r} of a {type(law).__name__}", "None", "A law of which new draws can be made has no rows to resample; give rows (n, d).")
    keys = jax.random.split(key, members)
    return [bootstrap_sample(k, law) if resample == "bootstrap" else subset_sample(k, law, float(resample)) for k in keys]
