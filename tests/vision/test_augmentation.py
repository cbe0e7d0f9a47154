# SPDX-License-Identifier: Apache-2.0
"""Labels stay true: a warped box must lie where the warped pixels of its object lie; shifts against slices."""

import pytest
import torch

from sirdar.vision.augmentation import Warp, coloured, cropped, cut_out, draw_warp, warped, warped_boxes


@pytest.mark.parametrize("seed", range(4))
def test_boxes_move_with_the_pixels_they_frame(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(8, 1, 96, 128)
    images[:, :, 30:60, 40:90] = 1
    boxes = torch.tensor([[[40.0, 30, 90, 60], [torch.nan] * 4]]).expand(8, 2, 4)
    drawn = draw_warp(generator, 8, Warp())
    moved = warped_boxes(boxes, drawn, (96, 128), seen=0.3)
    pixels = warped(images, drawn)[:, 0] > 0.5
    assert moved[:, 1].isnan().all()
    for mask, box in zip(pixels, moved[:, 0], strict=True):
        if box.isnan().any():
            continue
        rows, columns = torch.nonzero(mask.any(1))[:, 0], torch.nonzero(mask.any(0))[:, 0]
        framed = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
        assert (framed - box).abs().max() <= 1.01


def test_what_leaves_the_image_is_lost() -> None:
    boxes = torch.tensor([[[0.0, 0, 20, 20]]])
    drawn = torch.tensor([[1.0, 1.0, -0.3, 0.0]])  # 0.15 of 100 pixels to the left: a quarter of the box is left
    assert warped_boxes(boxes, drawn, (100, 100), seen=0.3).isnan().all()
    kept = warped_boxes(boxes, drawn, (100, 100), seen=0.2)
    assert torch.allclose(kept, torch.tensor([[[0.0, 0, 5, 20]]]), atol=1e-4)


def test_no_warp_is_the_image_itself() -> None:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    still = torch.tensor([[1.0, 1, 0, 0]]).expand(2, 4)
    assert torch.allclose(warped(images, still), images, atol=1e-5)
    assert torch.equal(warped(images, still, nearest=True), images)


def test_crops_are_shifts_and_mirrors() -> None:
    image = torch.arange(1.0, 65).reshape(1, 1, 8, 8)
    found = cropped(image.expand(32, 1, 8, 8), torch.Generator().manual_seed(1), 2)
    padded = torch.nn.functional.pad(image, (2,) * 4)[0, 0]
    shifts = [padded[top : top + 8, left : left + 8] for top in range(5) for left in range(5)]
    allowed = [shift for one in shifts for shift in (one, one.flip(1))]
    assert all(any(torch.equal(one[0], good) for good in allowed) for one in found)
    assert len({tuple(one.flatten().tolist()) for one in found}) > 5


def test_a_square_is_hidden_and_colours_stay_in_range() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = cut_out(torch.ones(16, 3, 32, 32), generator, 8) == 0
    assert (hidden[:, 0] == hidden[:, 1]).all()
    assert hidden[:, 0].sum((1, 2)).max() <= 81
    assert hidden[:, 0].sum((1, 2)).min() >= 16
    images = torch.rand(4, 3, 8, 8, generator=generator) * 2 - 1
    assert coloured(images, generator).abs().max() <= 1
    assert torch.allclose(coloured(images, generator, 0.0), images, atol=1e-6)


def test_the_same_generator_state_gives_the_same_images() -> None:
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def once(seed: int) -> torch.Tensor:
        return coloured(cropped(images, torch.Generator().manual_seed(seed)), torch.Generator().manual_seed(seed))

    assert torch.equal(once(3), once(3))
    assert not torch.equal(once(3), once(4))
