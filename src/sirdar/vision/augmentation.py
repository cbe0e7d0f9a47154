# SPDX-License-Identifier: Apache-2.0
"""Random changes of a batch of images that keep its labels true, computed where the images are (CPU or GPU).

Every function draws from the generator it is given and from nothing else.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Warp:
    """How far images are moved.

    Args:
        scale: the smallest and largest zoom; above 1 objects grow.
        stretch: the largest relative change of the aspect ratio.
        shift: the largest move, as a share of the image's side.
        flip: the probability of a mirror image.
    """

    scale: tuple[float, float] = (0.6, 1.6)
    stretch: float = 0.15
    shift: float = 0.2
    flip: float = 0.5


def uniform(generator: torch.Generator, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
    """Numbers between `low` and `high` on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device) * (high - low) + low


def draw_warp(generator: torch.Generator, batch: int, warp: Warp) -> Float[Tensor, "batch 4"]:
    """Zoom across and down (negative across: mirrored) and shift across and down, in units of half the image's side."""
    zoom = torch.exp(uniform(generator, (batch,), *torch.log(torch.tensor(warp.scale)).tolist()))
    stretch = torch.exp(uniform(generator, (batch,), -warp.stretch, warp.stretch) / 2)
    mirror = torch.where(uniform(generator, (batch,)) < warp.flip, -1.0, 1.0)
    # A shift that grows with the zoom lets every part of an enlarged image come into view.
    reach = 2 * warp.shift + (zoom - 1).abs()
    shift = uniform(generator, (batch, 2), -1.0, 1.0) * reach[:, None]
    return torch.stack([zoom * stretch * mirror, zoom / stretch, shift[:, 0], shift[:, 1]], dim=1)


def warped(
    images: Float[Tensor, "batch channel height width"],
    drawn: Float[Tensor, "batch 4"],
    size: tuple[int, int] | None = None,
    *,
    nearest: bool = False,
) -> Float[Tensor, "batch channel rows columns"]:
    """Images moved by what `draw_warp` drew, resampled to `size` (height, width), zero outside.

    Args:
        images: to move.
        drawn: zooms and shifts.
        size: of the result; None keeps it.
        nearest: take the nearest pixel instead of interpolating, for masks.
    """
    # The sampling grid is the inverse map: output position to input position.
    zero = torch.zeros_like(drawn[:, 0])
    across = torch.stack([1 / drawn[:, 0], zero, -drawn[:, 2] / drawn[:, 0]], dim=1)
    down = torch.stack([zero, 1 / drawn[:, 1], -drawn[:, 3] / drawn[:, 1]], dim=1)
    rows, columns = (images.shape[2], images.shape[3]) if size is None else size
    matrix = torch.stack([across, down], dim=1)
    grid = functional.affine_grid(matrix, [len(images), images.shape[1], rows, columns], align_corners=False)
    mode = "nearest" if nearest else "bilinear"
    return functional.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)


def warped_boxes(
    boxes: Float[Tensor, "batch box 4"], drawn: Float[Tensor, "batch 4"], size: tuple[int, int], seen: float = 0.3
) -> Float[Tensor, "batch box 4"]:
    """Boxes moved like their images and cut at the edges; NaN where less than a share `seen` of one is left.

    Args:
        boxes: left, top, right, bottom in pixels.
        drawn: what the images were moved by.
        size: height and width of the images.
        seen: the least share of a box's area that must stay in view.
    """
    height, width = size
    half = torch.tensor([width / 2, height / 2], device=boxes.device)
    corners = boxes.unflatten(-1, (2, 2)) / half - 1
    moved = (corners * drawn[:, None, None, :2] + drawn[:, None, None, 2:] + 1) * half
    low, high = moved.amin(dim=2), moved.amax(dim=2)
    limit = torch.tensor([width, height], device=boxes.device, dtype=boxes.dtype)
    inside_low, inside_high = low.clamp(min=0).minimum(limit), high.clamp(min=0).minimum(limit)
    left = (inside_high - inside_low).clamp(min=0).prod(-1)
    lost = ~(left >= seen * (high - low).prod(-1)) | ~(left > 4)
    return torch.cat([inside_low, inside_high], dim=-1).masked_fill(lost[..., None], torch.nan)


def coloured(
    images: Float[Tensor, "batch 3 height width"], generator: torch.Generator, strength: float = 0.3
) -> Float[Tensor, "batch 3 height width"]:
    """Images in -1..1 with other brightness, contrast and saturation, each changed by up to `strength`."""
    batch = len(images)
    contrast = 1 + uniform(generator, (batch, 1, 1, 1), -strength, strength)
    brightness = uniform(generator, (batch, 1, 1, 1), -strength, strength)
    saturation = 1 + uniform(generator, (batch, 1, 1, 1), -strength, strength)
    grey = images.mean(dim=1, keepdim=True)
    mean = grey.mean(dim=(2, 3), keepdim=True)
    vivid = grey + (images - grey) * saturation
    return ((vivid - mean) * contrast + mean + brightness).clamp(-1, 1)


def cropped(
    images: Float[Tensor, "batch channel height width"], generator: torch.Generator, margin: int = 4
) -> Float[Tensor, "batch channel height width"]:
    """Images shifted by up to `margin` whole pixels each way and mirrored every other time (He et al. 2016, 4.2)."""
    batch, _, height, width = images.shape
    padded = functional.pad(images, (margin,) * 4)
    reach = 2 * margin + 1
    top = torch.randint(reach, (batch, 1), generator=generator, device=images.device)
    left = torch.randint(reach, (batch, 1), generator=generator, device=images.device)
    rows = top + torch.arange(height, device=images.device)
    columns = left + torch.arange(width, device=images.device)
    mirrored = uniform(generator, (batch, 1)) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    number = torch.arange(batch, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(
    images: Float[Tensor, "batch channel height width"], generator: torch.Generator, side: int
) -> Float[Tensor, "batch channel height width"]:
    """Images with a grey square of `side` pixels at a random place (DeVries and Taylor 2017)."""
    batch, _, height, width = images.shape
    middle = uniform(generator, (batch, 2, 1)) * torch.tensor([[height], [width]], device=images.device)
    rows = (torch.arange(height, device=images.device) - middle[:, 0]).abs() < side / 2
    columns = (torch.arange(width, device=images.device) - middle[:, 1]).abs() < side / 2
    hidden: Bool[Tensor, "batch height width"] = rows[:, :, None] & columns[:, None, :]
    return images.masked_fill(hidden[:, None], 0.0)
