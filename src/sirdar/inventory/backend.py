# SPDX-License-Identifier: Apache-2.0
"""One arithmetic for two kinds of array: what numpy and torch spell alike is used as it is, the rest is here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

Array = Shaped[Any, "..."]  # numpy's or torch's
Values = int | float | np.ndarray  # one for all series, or one per series
Parameter = Values | Array  # the same, or a tensor that may require a gradient


def match(value: Parameter, like: Array) -> Parameter:
    """A number, or one number per series, as the kind of array that `like` is (numpy or torch)."""
    if not isinstance(value, np.ndarray) or isinstance(like, np.ndarray):
        return value
    return like.new_tensor(value)


def precision(like: Array) -> float:
    """The distance from 1 to the next larger number of its kind; float64's for whole numbers."""
    if isinstance(like, np.ndarray):
        return float(np.finfo(like.dtype if like.dtype.kind == "f" else np.float64).eps)
    import torch  # as below

    return torch.finfo(like.dtype if like.is_floating_point() else torch.float64).eps


def round_up(value: Array, precise: float) -> Array:
    """The next whole number; rounding error must not buy one more (12.0000001 is 12).

    Args:
        value: not negative.
        precise: the `precision` of the numbers that the value comes from.
    """
    excess = (1e-6 + 4 * precise * value).clip(max=0.25)  # a quarter is never rounding error
    return -(-(value - excess) // 1)


def round_down(value: Array, excess: Array) -> Array:
    """The last whole number; rounding error, up to `excess`, must not cost one (11.9999999 is 12)."""
    return (value + excess.clip(max=0.25)) // 1  # a quarter is never rounding error


def round_nearest(value: Array) -> Array:
    """The nearest whole number, halves up."""
    return (value + 0.5) // 1


def along_last(planes: Sequence[Array]) -> Array:
    """Arrays of one shape as one whose last axis counts them; each stays contiguous, which is faster than it looks."""
    if isinstance(planes[0], np.ndarray):
        return np.moveaxis(np.stack(planes), 0, -1)
    import torch  # here, not above: a tensor came, so that it is loaded already

    return torch.stack(tuple(planes)).movedim(0, -1)
