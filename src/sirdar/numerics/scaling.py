# SPDX-License-Identifier: Apache-2.0
"""Scales that bring a tensor into the range of a format, one for all or one for each channel, and the 448/240 rescale.

A scale is what values are divided by before rounding and multiplied by after: the largest magnitude over the largest
value of the format (Micikevicius et al., "FP8 Formats for Deep Learning", arXiv 2209.05433, section 3).
"""

from typing import Literal

import torch
from jaxtyping import Float

from sirdar.errors import ArgumentError
from sirdar.numerics.formats import BlockFormat, Format
from sirdar.numerics.rounding import Rounding, format_of, quantise

Scaling = Literal["none", "tensor", "channel"]
_WIDE = 8  # bits of fp32's exponent


def scale_of(x: Float[torch.Tensor, "..."], format: str | Format, axis: int | None = None) -> torch.Tensor:  # noqa: A002
    """The scale that makes the largest magnitude the largest value of the format.

    Args:
        x: any tensor; not-a-number and infinities are left out of account.
        format: a name or a row.
        axis: keep this axis, one scale for each of its channels; None for one scale of the whole tensor.

    Returns:
        fp32 of the rank of x, so that it divides x; 1 where all values are zero.

    Raises:
        ArgumentError: the format is a block format, which has scales of its own; x has no such axis; or a finite value
            of fp64 is beyond fp32.
    """
    row = _single(format)
    rank = max(x.ndim, 1)  # torch, too, takes a single value for one axis
    if axis is not None and not -rank <= axis < rank:
        msg = f"axis must be one of the {x.ndim} that x has, got {axis}"
        raise ArgumentError(msg)
    sizes = x.detach().float().abs()
    if x.dtype == torch.float64 and not torch.equal(sizes.isinf(), x.isinf()):
        beyond = x.detach()[sizes.isinf() & x.isfinite()][0]
        msg = f"x holds {beyond:g}, which fp32 cannot, and scales are fp32: divide x by a number first"
        raise ArgumentError(msg)
    sizes = sizes.nan_to_num(0.0, posinf=0.0)
    others = [d for d in range(x.ndim) if axis is None or d != axis % x.ndim]
    largest = sizes.amax(others, keepdim=True) if others and x.numel() else sizes
    scale = (largest / row.largest).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where(largest > 0, scale, torch.ones_like(scale))


def scaled_rounding(
    x: torch.Tensor,
    format: str | Format | BlockFormat,  # noqa: A002
    *,
    scaling: Scaling = "tensor",
    axis: int = 0,
    rounding: Rounding = "nearest",
    seed: int | None = None,
) -> torch.Tensor:
    """A tensor divided by its scale, rounded with saturation, and multiplied again.

    Args:
        x: any tensor, without gradient.
        format: a name or a row.
        scaling: "none", "tensor", or "channel" for one scale for each channel of `axis`. Formats of fp32's range (bf16,
            tf32, fp32) have none: divided by one their values would have more bits than the format keeps.
        axis: the channels; block formats run along the last axis whatever it says.
        rounding: as in `quantise`.
        seed: as in `quantise`.

    Raises:
        ArgumentError: an argument is unknown or missing; the sentence says which.
    """
    if scaling not in ("none", "tensor", "channel"):
        msg = f"scaling must be 'none', 'tensor' or 'channel', got {scaling!r}"
        raise ArgumentError(msg)
    row = format_of(format)
    if scaling == "none" or isinstance(row, BlockFormat) or row.exponent == _WIDE:
        return quantise(x, row, rounding=rounding, seed=seed)
    scale = scale_of(x, row, axis if scaling == "channel" else None)
    found = quantise(x.float() / scale, row, rounding=rounding, seed=seed).mul_(scale)
    kinds = (torch.float32, x.dtype) if x.is_floating_point() else (torch.float32,)
    end = min(torch.finfo(kind).max for kind in kinds)  # the largest code times a scale that was rounded up is beyond
    return found.clamp_(-end, end).to(x.dtype)


def rescale(
    weight: torch.Tensor, scale: torch.Tensor, *, source: str | Format = "e4m3fn", target: str | Format = "e4m3"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move scaled weights to a format of another range: from OCP e4m3fn (448) to the IEEE e4m3 (240) of some chips.

    Dividing by 448/240 and multiplying the scale by it is the documented step for Trainium 1 and 2
    (neuronx-distributed, README_rescaling_fp8_for_neuron.md); values beyond 240 would become infinite otherwise.

    Args:
        weight: values of the source format, before the scale is applied.
        scale: what they are multiplied by.
        source: where they come from.
        target: where they go.

    Returns:
        Values of the target format, and their scale.

    Raises:
        ArgumentError: a format is a block format.
    """
    before, after = _single(source), _single(target)
    ratio = before.largest / after.largest
    return quantise(weight.float() / ratio, after), scale * ratio


def _single(format: str | Format) -> Format:  # noqa: A002
    row = format_of(format)
    if isinstance(row, BlockFormat):
        msg = f"{row.name} carries its own scales: there is none to choose"
        raise ArgumentError(msg)
    return row
