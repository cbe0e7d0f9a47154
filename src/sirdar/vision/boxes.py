# SPDX-License-Identifier: Apache-2.0
"""Boxes around the objects in a folder of images, as the field's tools write them.

==========  ==========================================================================================================
format      beside `images/`
==========  ==========================================================================================================
CSV         `boxes.csv` with the columns image, left, top, right, bottom, in pixels; others are not looked for then
COCO        a JSON file, in the folder or in `annotations/`; bbox is left, top, width, height, in pixels
YOLO        `labels/`, a text file per image: class, centre x and y, width and height as shares of the image; names of
            the classes in `classes.txt`, if at all
Pascal VOC  `annotations/`, an XML file per image: xmin, ymin, xmax, ymax, in pixels that are counted from 1
==========  ==========================================================================================================
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from sirdar.errors import DataError, nearest
from sirdar.vision.files import composed, content, listed, text

_COLUMNS = ("image", "left", "top", "right", "bottom")
_KINDS = {"class", "class_id", "class_name", "label", "category", "category_id"}  # of numbers; any text tells kinds
_DOUBTFUL = {"iscrowd", "difficult"}
_NOTES = ("annotations", "Annotations")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Box:
    """A box around an object.

    Args:
        image: name of its image's file.
        edges: left, top, right, bottom, in pixels or as shares of the image.
        kinds: what is said of the object, by column.
        doubtful: whether it is around a crowd, or an object that others do not count.
        shares: whether the edges are shares.
    """

    image: str
    edges: tuple[float, float, float, float]
    kinds: tuple[tuple[str, str], ...] = ()
    doubtful: bool = False
    shares: bool = False


def read_boxes(folder: Path, images: Sequence[str], kind: str | None = None) -> list[Box]:
    """The boxes in a folder.

    Args:
        folder: holds one of the formats above.
        images: names of the image files.
        kind: of the objects to keep; None where they are of a single one.

    Raises:
        DataError: there are boxes of no format or of two, one that is none or of an unknown image, none at all or of
            the kind, or several kinds and no `kind`.
    """
    source, read = _source(folder)
    boxes = list(read(_Images(source, images)))
    if not boxes:
        msg = f"{source}: names no box"
        raise DataError(msg)
    if all(0 <= edge <= 1 for box in boxes for edge in box.edges) and not boxes[0].shares:
        msg = f"{source}: all edges lie between 0 and 1; give them in pixels, not as shares of the image"
        raise DataError(msg)
    if kind is None:
        _require_one_kind(source, boxes)
        return boxes
    names = {value for box in boxes for _, value in box.kinds}
    if kind not in names:
        msg = f"{source}: no box is of the kind {kind!r}; kinds are {', '.join(sorted(names)[:20]) or 'not told'}."
        raise DataError(msg + nearest(kind, names))
    return [box for box in boxes if kind in dict(box.kinds).values()]


class _Images:
    """The images that boxes may be of."""

    def __init__(self, source: Path, names: Sequence[str]) -> None:
        self._source, self._names = source, {composed(name): name for name in names}
        self._stems = {composed(Path(name).stem): name for name in names}

    def named(self, name: str) -> str:
        """The image file of that name."""
        if name in self._names.values():
            return name
        if composed(name) not in self._names:
            msg = f"{self._source}: image {name!r} is not among the images.{self._meant(name)}"
            raise DataError(msg)
        return self._names[composed(name)]

    def beside(self, path: Path) -> str:
        """The image file that goes by the name of another file."""
        if composed(path.stem) not in self._stems:
            msg = f"{path}: there is no image {path.stem!r}.{nearest(path.stem, self._stems)}"
            raise DataError(msg)
        return self._stems[composed(path.stem)]

    def _meant(self, name: str) -> str:
        """The image that a folder before a name or an ending that is missing hides, as a question."""
        last, names = name.replace("\\", "/").rsplit("/", 1)[-1], sorted(self._names.values())
        alike = next((one for one in names if last in (one, Path(one).stem)), None)
        return nearest(name, names) if alike is None else f" Did you mean {alike!r}?"


_Reader = Callable[[_Images], Iterator[Box]]


def _source(folder: Path) -> tuple[Path, _Reader]:
    """Where the boxes are, and who reads them."""
    table = folder / "boxes.csv"
    if table.exists():
        return table, partial(_csv, table)
    noted = next((folder / name for name in _NOTES if (folder / name).is_dir()), folder)
    found: list[tuple[Path, _Reader]] = [
        (path, partial(_coco, path)) for place in dict.fromkeys((folder, noted)) for path in _of(place, ".json")
    ]
    if files := _of(noted, ".xml"):
        found.append((noted, partial(_voc, files)))
    if (folder / "labels").is_dir():
        files = [path for path in _of(folder / "labels", ".txt") if path.name != "classes.txt"]
        found.append((folder / "labels", partial(_yolo, files, _yolo_names(folder))))
    if len(found) == 1:
        return found[0]
    msg = (
        f"{folder}: expected boxes.csv, a JSON file (COCO), labels/ (YOLO) or annotations/ with XML files (Pascal VOC)"
    )
    raise DataError(
        msg + (", got " + " and ".join(str(path.relative_to(folder)) for path, _ in found) if found else "")
    )


def _of(folder: Path, suffix: str) -> list[Path]:
    return [path for path in listed(folder) if path.suffix.lower() == suffix]


def _csv(path: Path, images: _Images) -> Iterator[Box]:
    rows = csv.DictReader(text(path).splitlines(), skipinitialspace=True)
    try:
        if not set(_COLUMNS) <= set(rows.fieldnames or ()):
            got = ", ".join(map(repr, rows.fieldnames or ()))
            msg = f"{path}: expected the columns {', '.join(_COLUMNS)}, apart by commas, got {got}"
            raise DataError(msg)
        for row in rows:
            if row["image"] is None:
                msg = "a line without a name"
                raise ValueError(msg)
            image = images.named(row["image"])
            if all(row[column] == "" for column in _COLUMNS[1:]):  # an image without a box
                continue
            left, top, right, bottom = (float(row[column]) for column in _COLUMNS[1:])
            box = Box(image, (left, top, right, bottom), _kinds(row), _is_doubtful(row))
            yield _sound(f"{path}, line {rows.line_num}", box)
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        msg = f"{path}: expected the columns {', '.join(_COLUMNS)} with numbers ({error!r})"
        raise DataError(msg) from error


def _kinds(row: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What a line says of its object beside the box: any text, and numbers in columns that are known for it."""
    others = [(name, value) for name, value in row.items() if name and name not in _COLUMNS and value]
    return tuple((name, value) for name, value in others if name.lower() in _KINDS or not _is_number(value))


def _is_doubtful(row: Mapping[str, str]) -> bool:
    told = [value for column, value in row.items() if column and column.lower() in _DOUBTFUL]
    return any(value and value.lower() not in ("0", "0.0", "false") for value in told)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _coco(path: Path, images: _Images) -> Iterator[Box]:
    """https://cocodataset.org/#format-data, "Object Detection"."""
    try:
        told = json.loads(text(path))
        files = {row["id"]: Path(row["file_name"]).name for row in told["images"]}
        names = {row["id"]: str(row["name"]) for row in told.get("categories", ())}
        for row in told["annotations"]:
            left, top, width, height = map(float, row["bbox"])
            kind = names.get(row["category_id"], str(row["category_id"]))
            edges = left, top, left + width, top + height
            box = Box(images.named(files[row["image_id"]]), edges, (("category", kind),), bool(row.get("iscrowd", 0)))
            yield _sound(f"{path}, annotation {row.get('id')}", box)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        msg = f"{path}: expected COCO's images, annotations (image_id, category_id, bbox) and categories ({error!r})"
        raise DataError(msg) from error


def _yolo(paths: Sequence[Path], names: Mapping[str, str], images: _Images) -> Iterator[Box]:
    """https://docs.ultralytics.com/datasets/detect, "Ultralytics YOLO format"."""
    for path in paths:
        image = images.beside(path)
        for number, line in enumerate(text(path).splitlines(), 1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                kind, x, y, width, height = line.split()
                x, y, width, height = map(float, (x, y, width, height))
            except ValueError as error:
                msg = f"{place}: expected class, centre x, centre y, width and height, got {line[:80]!r}"
                raise DataError(msg) from error
            if max(x, y, width, height) > 1:
                msg = f"{place}: expected shares of the image from 0 to 1, got {line[:80]!r}"
                raise DataError(msg)
            edges = x - width / 2, y - height / 2, x + width / 2, y + height / 2
            yield _sound(place, Box(image, edges, (("class", names.get(kind, kind)),), shares=True))


def _yolo_names(folder: Path) -> dict[str, str]:
    """Names of the classes by number, if a file tells them."""
    path = next((path for path in (folder / "classes.txt", folder / "labels" / "classes.txt") if path.exists()), None)
    return {} if path is None else {str(n): name.strip() for n, name in enumerate(text(path).splitlines())}


def _voc(paths: Sequence[Path], images: _Images) -> Iterator[Box]:
    """Everingham et al. 2010, "The Pascal Visual Object Classes Challenge"; its development kit's annotations."""
    for path in paths:
        image = images.beside(path)
        try:
            root = ET.fromstring(content(path))
            for number, row in enumerate(root.iter("object"), 1):
                left, top, right, bottom = (float(row.findtext(f"bndbox/{edge}", "")) for edge in _CORNERS)
                kinds = (("name", row.findtext("name", "").strip()),)
                doubtful = row.findtext("difficult", "0").strip() not in ("", "0")
                box = Box(image, (left - 1, top - 1, right, bottom), kinds, doubtful)
                yield _sound(f"{path}, object {number}", box)
        except (ET.ParseError, ValueError) as error:
            msg = f"{path}: expected Pascal VOC's objects, each with a bndbox of {', '.join(_CORNERS)} ({error})"
            raise DataError(msg) from error


def _sound(place: str, box: Box) -> Box:
    left, top, right, bottom = box.edges
    if not (np.isfinite(box.edges).all() and left < right and top < bottom):
        msg = f"{place}: left < right and top < bottom must hold, got {list(box.edges)}"
        raise DataError(msg)
    return box


def _require_one_kind(source: Path, boxes: Sequence[Box]) -> None:
    """Detection has one class: others would be taken for it without a word."""
    told = {told for box in boxes for told in box.kinds}
    for column in sorted({column for column, _ in told}):
        values = sorted(value for name, value in told if name == column)
        if len(values) > 1:
            msg = (
                f"{source}: {column!r} names {len(values)} kinds of objects ({', '.join(values[:3])}), and detection "
                "has one class; choose one with kind (--kind)"
            )
            raise DataError(msg)
