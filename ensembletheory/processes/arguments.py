"""What the processes accept: positive numbers, and noise levels in order."""

from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse

__all__ = ["levels", "positive"]


def positive(argument: str, value: Numbers) -> Float[Array, ""]:
    """`value` as a number above 0.

    Raises:
        ValueError: if it is an array, or (where it can be looked at) 0 or less.
    """
    number = as_floats(argument, value)
    if number.ndim:
        refuse(argument, f"shape {number.shape}", "one number", "Make one process for each value.")
    if is_concrete(number) and not float(number) > 0:
        refuse(argument, f"{float(number):.6g}", "a number above 0", "Pass a number such as 1.0.")
    return number


def levels(sigma_min: Numbers, sigma_max: Numbers) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The smallest and the largest noise level.

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max.
    """
    low, high = positive("sigma_min", sigma_min), positive("sigma_max", sigma_max)
    if is_concrete(low, high) and not float(low) < float(high):
        refuse("sigma_min", f"{float(low):.6g}", f"less than sigma_max = {float(high):.6g}", "The noise grows from data to noise.")
    return low, high
