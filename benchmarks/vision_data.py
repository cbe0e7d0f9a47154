# SPDX-License-Identifier: Apache-2.0
"""The three image sets of the search benchmarks, read from compressed archives into byte tensors.

CIFAR-10 (Krizhevsky 2009), Penn-Fudan pedestrians (Wang et al. 2007) and CamVid (Brostow et al. 2009), each as one
``.npz`` of concatenated JPEG and PNG files: ``jpg[offsets[i]:offsets[i + 1]]`` is image i. `packed` writes CIFAR-10
again with the JPEG header, the same in every file, kept once: a third of the bytes, the same pixels.
"""

import io
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sirdar.vision.images import VOID, Boxed, Labelled, Masked

_END = b"\xff\xda"  # the JPEG marker in front of the compressed pixels


def _parts(data: np.ndarray, offsets: np.ndarray) -> list[bytes]:
    return [data[a:b].tobytes() for a, b in pairwise(offsets)]


def _picture(data: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    if size is not None:
        picture = picture.resize((size[1], size[0]), resample=2)
    return np.array(picture)


def _stacked(pictures: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def packed(source: Path, target: Path) -> None:
    """Writes CIFAR-10 with one JPEG header instead of 60,000 equal ones."""
    stored = np.load(source)
    files = _parts(stored["jpg"], stored["offsets"])
    cut = files[0].index(_END)
    if any(not file.startswith(files[0][:cut]) for file in files):
        msg = f"{source}: the files do not share a header"
        raise ValueError(msg)
    bodies = [file[cut:] for file in files]
    np.savez(
        target,
        header=np.frombuffer(files[0][:cut], np.uint8),
        jpg=np.frombuffer(b"".join(bodies), np.uint8),
        offsets=np.cumsum([0, *map(len, bodies)]).astype(np.int64),
        **{name: stored[name] for name in ("label", "is_test", "classes")},
    )


def cifar10(folder: Path) -> tuple[Labelled, Labelled]:
    """The 50,000 training and 10,000 test images, 32 x 32."""
    path = folder / "cifar10_packed.npz"
    stored = np.load(path if path.exists() else folder / "cifar10_jpg.npz")
    header = stored["header"].tobytes() if "header" in stored else b""
    images = _stacked([_picture(header + body) for body in _parts(stored["jpg"], stored["offsets"])])
    every = Labelled(images, torch.from_numpy(stored["label"].astype(np.int64)), tuple(map(str, stored["classes"])))
    return every.take(np.flatnonzero(~stored["is_test"])), every.take(np.flatnonzero(stored["is_test"]))


def penn_fudan(folder: Path, size: tuple[int, int]) -> Boxed:
    """All 170 images at one size, with boxes and the mask of all people."""
    stored = np.load(folder / "pennfudan_320.npz")
    files = _parts(stored["jpg"], stored["offsets"])
    sizes = np.array([Image.open(io.BytesIO(file)).size for file in files], float)  # width, height
    masks = [
        Image.open(io.BytesIO(m)).resize(size[::-1], resample=0)
        for m in _parts(stored["mask_png"], stored["mask_offsets"])
    ]
    owner, boxes = stored["box_image"], stored["boxes_xyxy"]
    padded = np.full((len(files), int(np.bincount(owner).max()), 4), np.nan, np.float32)
    for place in range(len(files)):
        scale = np.array([size[1], size[0]]) / sizes[place]
        own = boxes[owner == place] * np.tile(scale, 2)
        padded[place, : len(own)] = own
    people = torch.from_numpy(np.stack([np.array(m) > 0 for m in masks]).astype(np.uint8))[:, None]
    return Boxed(_stacked([_picture(file, size) for file in files]), torch.from_numpy(padded), people)


def penn_fudan_split(count: int = 170, held_out: int = 60, validation: int = 30) -> dict[str, np.ndarray]:
    """Numbers of the images for search ("train", "validation") and for the last word ("test"), fixed once by a hash."""
    order = np.argsort([zlib.crc32(f"penn-fudan {n}".encode()) for n in range(count)])
    test, rest = order[:held_out], order[held_out:]
    return {"test": test, "validation": rest[:validation], "train": rest[validation:], "development": rest}


def camvid(folder: Path) -> dict[str, Masked]:
    """The parts "train" (367), "validation" (101) and "test" (233), 180 x 240, 11 classes."""
    stored = np.load(folder / "camvid_240x180.npz")
    images = _stacked([_picture(file) for file in _parts(stored["jpg"], stored["offsets"])])
    masks = np.stack([np.array(Image.open(io.BytesIO(m))) for m in _parts(stored["mask_png"], stored["mask_offsets"])])
    masks = np.where(masks >= 11, VOID, masks).astype(np.uint8)
    every = Masked(images, torch.from_numpy(masks)[:, None], tuple(map(str, stored["classes"][:11])))
    names = ("train", "validation", "test")
    return {name: every.take(np.flatnonzero(stored["split"] == place)) for place, name in enumerate(names)}
