"""What the closed forms of this folder accept: sizes of ensembles, positive scales, probabilities and correlations."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse

__all__ = ["ensemble_size", "fraction", "mean_variance", "positive"]


def _demand(argument: str, value: Numbers, holds: Callable[[np.ndarray], np.ndarray], expected: str, remedy: str) -> Float[Array, "..."]:
    array = as_floats(argument, value)
    if is_concrete(array) and not np.all(holds(np.asarray(array))):
        first = np.asarray(array)[~holds(np.asarray(array))].ravel()[0]
        refuse(argument, f"{first:g}", expected, remedy)
    return array


def ensemble_size(value: Numbers) -> Float[Array, "..."]:
    """`value` as numbers of members: whole and at least 1.

    Raises:
        ValueError: if a size (that can be looked at) is below 1 or not whole.
    """
    return _demand("members", value, lambda k: (k >= 1) & (k == np.round(k)), "whole numbers of members, at least 1", "Pass K such as 5 or [1, 2, 3].")


def positive(argument: str, value: Numbers) -> Float[Array, "..."]:
    """`value` as numbers above 0.

    Raises:
        ValueError: if one of them (that can be looked at) is 0 or less.
    """
    return _demand(argument, value, lambda x: x > 0, "numbers above 0", "Pass a scale such as 1.0.")


def fraction(argument: str, value: Numbers) -> Float[Array, "..."]:
    """`value` as numbers in [0, 1].

    Raises:
        ValueError: if one of them (that can be looked at) lies outside.
    """
    return _demand(argument, value, lambda x: (x >= 0) & (x <= 1), "numbers in [0, 1]", "Pass a probability or a correlation such as 0.5.")


def mean_variance(members: Numbers, sd: Numbers, correlation: Numbers) -> Float[Array, "..."]:
    """Variance sd^2 (rho + (1 - rho) / K) of the mean of K members, any two correlated by rho; rho >= 0, as in an infinite exchangeable sequence.

    Raises:
        ValueError: if K is not a whole number >= 1, sd is not positive or rho (that can be looked at) lies outside [0, 1].
    """
    size, rho = ensemble_size(members), fraction("correlation", correlation)
    return positive("sd", sd) ** 2 * (rho + (1 - rho) / size)
