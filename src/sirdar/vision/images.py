# SPDX-License-Identifier: Apache-2.0
"""Labelled images in memory as bytes, from arrays or from folders on disk.

==============  =================================================================================================
task            folder
==============  =================================================================================================
classification  one sub-folder per class, images inside
detection       `images/` and beside it boxes of a format that `sirdar.vision.boxes` lists
segmentation    `images/` and `masks/`, PNG files of the same stem; a mask's values are classes, 255 is void
==============  =================================================================================================

Images, boxes and masks are meant as viewers show them: turned where a camera noted (in EXIF) how it was held, and
before white where they let something through.
"""

import io
import re
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from sirdar.errors import ArgumentError, DataError
from sirdar.vision.boxes import Box, read_boxes
from sirdar.vision.files import composed, content, listed, text

VOID = 255
_SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"}
_SUFFIXES |= {".avif", ".heic", ".heif"}  # of cameras; one that Pillow does not know is refused, not passed over
_SHALLOW = 4096  # 12 bits in a file of 16 come out nearly black
_DEEP = re.compile(r"'(RGB|LA)\w*;16")  # how Pillow unpacks 16 bits of each colour, of which it keeps the upper 8


@dataclass(frozen=True)
class Labelled:
    """Images with one class each.

    Args:
        images: [image, 3, height, width], bytes.
        labels: [image], class numbers.
        classes: their names.
    """

    images: UInt8[Tensor, "image 3 height width"]
    labels: Int64[Tensor, " image"]
    classes: tuple[str, ...]

    def take(self, chosen: Sequence[int] | np.ndarray) -> "Labelled":
        """The images with these numbers, or those where a mask is true."""
        index = _numbers(chosen, len(self.images))
        return Labelled(self.images[index], self.labels[index], self.classes)

    def to(self, device: str) -> "Labelled":
        """The same on another device."""
        return Labelled(self.images.to(device), self.labels.to(device), self.classes)


@dataclass(frozen=True)
class Boxed:
    """Images with boxes around the objects of one class.

    Args:
        images: [image, 3, height, width], bytes.
        boxes: [image, box, 4] as left, top, right, bottom in pixels of these images; rows of NaN where an image has
            fewer boxes than the most crowded one.
        masks: [image, 1, height, width], 1 on objects and 0 elsewhere, for pasting them into other images; None
            without them.
    """

    images: UInt8[Tensor, "image 3 height width"]
    boxes: Float[Tensor, "image box 4"]
    masks: UInt8[Tensor, "image 1 height width"] | None = None

    def take(self, chosen: Sequence[int] | np.ndarray) -> "Boxed":
        """The images with these numbers, or those where a mask is true."""
        index = _numbers(chosen, len(self.images))
        return Boxed(self.images[index], self.boxes[index], None if self.masks is None else self.masks[index])

    def to(self, device: str) -> "Boxed":
        """The same on another device."""
        masks = None if self.masks is None else self.masks.to(device)
        return Boxed(self.images.to(device), self.boxes.to(device), masks)


@dataclass(frozen=True)
class Masked:
    """Images with a class for every pixel.

    Args:
        images: [image, 3, height, width], bytes.
        masks: [image, 1, height, width], class numbers; 255 is void and counts for nothing.
        classes: their names.
    """

    images: UInt8[Tensor, "image 3 height width"]
    masks: UInt8[Tensor, "image 1 height width"]
    classes: tuple[str, ...]

    def take(self, chosen: Sequence[int] | np.ndarray) -> "Masked":
        """The images with these numbers, or those where a mask is true."""
        index = _numbers(chosen, len(self.images))
        return Masked(self.images[index], self.masks[index], self.classes)

    def to(self, device: str) -> "Masked":
        """The same on another device."""
        return Masked(self.images.to(device), self.masks.to(device), self.classes)


def _numbers(chosen: Sequence[int] | np.ndarray, count: int) -> Int64[Tensor, " chosen"]:
    picked = np.asarray(chosen)
    return torch.from_numpy(np.arange(count)[picked if picked.size else picked.astype(np.int64)])


def signed(images: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
    """Bytes as the networks read them: 0..255 becomes -1..1."""
    return images.float() / 127.5 - 1


def read_labelled(folder: Path, size: tuple[int, int]) -> Labelled:
    """A folder with one sub-folder of images per class.

    Args:
        folder: to read.
        size: height and width that every image is resized to.

    Raises:
        DataError: the folder has no sub-folders with images, or a file is no image.
    """
    names = class_folders(folder)
    paths = [(path, place) for place, name in enumerate(names) for path in _pictures(folder / name)]
    if len(names) < 2 or not paths:
        msg = f"{folder}: expected one sub-folder of images per class, found {len(names)} with {len(paths)} images"
        raise DataError(msg)
    images = torch.stack([_picture(path, size)[0] for path, _ in paths])
    return Labelled(images, torch.tensor([place for _, place in paths]), tuple(names))


def class_folders(folder: Path) -> list[str]:
    """Names of the sub-folders, but for those that archives and file servers leave, such as __MACOSX and @eaDir.

    Raises:
        DataError: the folder cannot be read.
    """
    return sorted(path.name for path in listed(folder) if path.is_dir() and not path.name.startswith(("__", "@")))


def read_boxed(folder: Path, size: tuple[int, int], kind: str | None = None) -> Boxed:
    """A folder with `images/` and boxes in it; images with a crowd or a difficult object are left out, with a warning.

    Args:
        folder: to read, see `sirdar.vision.boxes`.
        size: height and width that every image, and with it its boxes, is resized to.
        kind: of the objects to find; None where they are of a single one.

    Raises:
        DataError: see `sirdar.vision.boxes.read_boxes`; a box is outside its image, or no image is left.
    """
    paths = _pictures(folder / "images")
    rows: dict[str, list[Box]] = {path.name: [] for path in paths}
    for box in read_boxes(folder, [*rows], kind):
        rows[box.image].append(box)
    paths = [path for path in paths if not any(box.doubtful for box in rows[path.name])]
    _tell_left_out(folder, len(rows) - len(paths), len(paths))
    pictures = [_picture(path, size) for path in paths]
    boxes = torch.full((len(paths), max(1, *(len(rows[path.name]) for path in paths)), 4), torch.nan)
    for place, (path, (_, scale)) in enumerate(zip(paths, pictures, strict=True)):
        for number, box in enumerate(rows[path.name]):
            unit = size if box.shares else scale
            left, top, right, bottom = (edge * unit[1 - turn % 2] for turn, edge in enumerate(box.edges))
            if right <= 0 or bottom <= 0 or left >= size[1] or top >= size[0]:
                msg = f"{folder}: the box {', '.join(map(str, box.edges))} is outside its image {path.name!r}"
                raise DataError(msg)
            # What lies beyond the edge nobody can see.
            boxes[place, number] = torch.tensor([max(left, 0), max(top, 0), min(right, size[1]), min(bottom, size[0])])
    return Boxed(torch.stack([image for image, _ in pictures]), boxes)


def _tell_left_out(folder: Path, doubtful: int, kept: int) -> None:
    told = f"{doubtful} images with a crowd or a difficult object, of which nobody can say what is to be found"
    if not kept:
        msg = f"{folder}: has {told}, and no other"
        raise DataError(msg)
    if doubtful:
        warnings.warn(f"{folder}: left out {told}; {kept} are kept", UserWarning, stacklevel=3)


def read_masked(folder: Path, size: tuple[int, int], classes: Sequence[str]) -> Masked:
    """A folder with `images/` and `masks/`.

    Args:
        folder: to read.
        size: height and width that every image and mask is resized to.
        classes: names of the mask's values 0, 1, ...; 255 is void.

    Raises:
        DataError: an image has no mask, or a mask is none, has other proportions or a value that is no class.
    """
    paths = _pictures(folder / "images")
    pictures = [_picture(path, size) for path in paths]
    images = torch.stack([image for image, _ in pictures])
    known = {composed(path.stem): path for path in listed(folder / "masks") if path.suffix.lower() == ".png"}
    owners = [known.get(composed(path.stem), folder / "masks" / f"{path.stem}.png") for path in paths]
    masks = np.stack([_mask(path, size, scale) for path, (_, scale) in zip(owners, pictures, strict=True)])
    strange = sorted({int(value) for value in np.unique(masks)} - {*range(len(classes)), VOID})
    if strange:
        msg = f"{folder}/masks: value {strange[0]} is none of the {len(classes)} classes and not {VOID} (void)"
        raise DataError(msg)
    return Masked(images, torch.from_numpy(masks)[:, None], tuple(classes))


def decoded(
    data: bytes, size: tuple[int, int] | None = None
) -> tuple[UInt8[np.ndarray, "height width 3"], tuple[float, float]]:
    """An image file's bytes as an array, resized if `size` (height, width) is given, and by how much it was scaled.

    Raises:
        DataError: the bytes are no image, or one too large.
    """
    pillow, errors = _pillow()
    try:
        picture = _upright(data)
        if picture.mode.startswith("I"):
            picture = pillow.fromarray(_eight_bits(picture, data))
        if _DEEP.search(str(pillow.open(io.BytesIO(data)).tile)):
            _require_depth(picture)
        if picture.mode == "F":
            msg = "its pixels are fractions; give whole numbers from 0 to 255"
            raise DataError(msg)
        if picture.has_transparency_data:  # whose hidden colours may be anything
            front = picture.convert("RGBA")
            picture = pillow.alpha_composite(pillow.new("RGBA", front.size, "white"), front)
        picture = picture.convert("RGB")
    except errors as error:
        msg = f"not an image: {_reason(error)}"
        raise DataError(msg) from error
    height, width = (picture.height, picture.width) if size is None else size
    scale = height / picture.height, width / picture.width
    if size is not None and scale != (1, 1):
        picture = picture.resize((width, height), resample=2)
    return np.array(picture), scale


def _eight_bits(picture: Any, data: bytes) -> UInt8[np.ndarray, "height width"]:  # noqa: ANN401 - Pillow's image
    """16 bits of grey, which Pillow would cut at 255."""
    values = np.array(picture)
    most = int(values.max())
    if picture.mode == "I" and data.startswith((b"II", b"MM")):  # TIFF; other formats of that mode have 16 bits
        msg = "its pixels have 32 bits, of which nothing says what is white; give 8 or 16 bits"
        raise DataError(msg)
    if 0 < most < _SHALLOW:
        msg = f"its 16 bits of grey reach no further than {most} and would be black; give it with white at 65535"
        raise DataError(msg)
    return np.rint(values / 257).clip(0, 255).astype(np.uint8)


def _require_depth(picture: Any) -> None:  # noqa: ANN401 - Pillow's image
    """Colours of 16 bits, of which Pillow kept the upper 8, are not those of a file of 12."""
    values = np.array(picture)
    colours = 1 if picture.mode == "LA" else 3
    for part, where, seen in ((values[..., :colours], "colour", "black"), (values[..., colours:], "opacity", "white")):
        most = int(part.max(initial=0))
        if 0 < most < _SHALLOW // 256:
            msg = f"its 16 bits of {where} reach no further than {256 * most + 255} and would be {seen}; "
            raise DataError(msg + "give it with the greatest at 65535")


def decoded_mask(data: bytes, size: tuple[int, int] | None = None) -> UInt8[np.ndarray, "height width"]:
    """A mask file's bytes as an array of its values; resized, if at all, to the nearest pixel.

    Raises:
        DataError: the bytes are no image, or a pixel's value is no single whole number from 0 to 255.
    """
    _, errors = _pillow()
    try:
        picture = _upright(data)
    except errors as error:
        msg = f"not a mask: {_reason(error)}"
        raise DataError(msg) from error
    if size is not None:
        picture = picture.resize((size[1], size[0]), resample=0)
    values = np.array(picture)
    if values.ndim != 2 or values.dtype.kind == "f" or values.min() < 0 or values.max() > VOID:
        msg = f"not a mask: its pixels must be single values from 0 to {VOID}, got mode {picture.mode}"
        raise DataError(msg + (f" with values up to {values.max()}" if values.ndim == 2 else ""))
    return values.astype(np.uint8)


def _upright(data: bytes) -> Any:  # noqa: ANN401 - Pillow's image
    """A file's image as viewers show it."""
    from PIL import Image, ImageOps

    picture = Image.open(io.BytesIO(data))
    picture.load()
    try:
        return ImageOps.exif_transpose(picture)
    except (OSError, SyntaxError, ValueError, struct.error):  # notes that nobody can read; the pixels are whole
        return picture


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    return "of no known format; PNG and JPEG are" if isinstance(error, UnidentifiedImageError) else str(error)


def _pillow() -> tuple[Any, tuple[type[Exception], ...]]:
    """The module that opens images, and what opening may raise."""
    try:
        from PIL import Image
    except ImportError as error:
        msg = 'reading image files needs Pillow: pip install "sirdar[vision]"'
        raise ArgumentError(msg) from error
    return Image, (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def _pictures(folder: Path) -> list[Path]:
    shown = listed(folder)
    # Archives and file servers leave folders of their own, such as __MACOSX and @eaDir.
    inner = next((path for path in shown if path.is_dir() and not path.name.startswith(("_", "@"))), None)
    if inner is not None:
        msg = f"{inner}: is a folder where images are expected; put them into {folder} itself"
        raise DataError(msg)
    paths = [path for path in shown if path.suffix.lower() in _SUFFIXES]
    if not paths:
        msg = f"{folder}: holds no image ({', '.join(sorted(_SUFFIXES))})"
        raise DataError(msg)
    return paths


def _picture(path: Path, size: tuple[int, int]) -> tuple[Tensor, tuple[float, float]]:
    data = content(path)
    try:
        array, scale = decoded(data, size)
    except DataError as error:
        msg = f"{path}: {error}"
        raise DataError(msg) from error
    return torch.from_numpy(array).permute(2, 0, 1).contiguous(), scale


def _mask(path: Path, size: tuple[int, int], scale: tuple[float, float]) -> np.ndarray:
    data = content(path)
    try:
        rows, columns = decoded_mask(data).shape
        height, width = round(size[0] / scale[0]), round(size[1] / scale[1])  # of the image
        if abs(rows * width - columns * height) > max(width, height):  # more than a pixel
            msg = f"not a mask of its image: {columns} x {rows} pixels have other proportions than {width} x {height}"
            raise DataError(msg)
        return decoded_mask(data, size)
    except DataError as error:
        msg = f"{path}: {error}"
        raise DataError(msg) from error


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names, one a line: the first is that of the value 0.

    Raises:
        DataError: the file is missing or names fewer than two, a name is there twice, or a line before the last is
            empty.
    """
    names = tuple(line.strip() for line in text(path).rstrip().splitlines())
    if "" in names:
        msg = f"{path}, line {names.index('') + 1}: is empty; a line's place is its class's number"
        raise DataError(msg)
    if twice := next((name for name in names if names.count(name) > 1), None):
        msg = f"{path}: names the class {twice!r} twice"
        raise DataError(msg)
    if len(names) < 2:
        msg = f"{path}: expected at least two class names, one a line, got {len(names)}"
        raise DataError(msg)
    return names
