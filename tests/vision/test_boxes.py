# SPDX-License-Identifier: Apache-2.0
"""The same two boxes in every format, as its own documents describe it; whatever is wrong with one is a sentence."""

import json
from pathlib import Path

import pytest

from sirdar.errors import DataError
from sirdar.vision.boxes import read_boxes

IMAGES = ("a.png", "b.png")
WIDTH, HEIGHT = 40, 20
EDGES = {"person": (4.0, 2.0, 20.0, 10.0), "dog": (0.0, 0.0, 40.0, 20.0)}  # both in a.png
VOC = "<annotation>{}</annotation>"
OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
)


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _csv(folder: Path) -> None:
    rows = [",".join(("a.png", *map(str, edges), kind)) for kind, edges in EDGES.items()]
    _put(folder / "boxes.csv", "\n".join(("image,left,top,right,bottom,class", *rows)))


def _coco(folder: Path, **more: int) -> None:
    boxes = [[left, top, right - left, bottom - top] for left, top, right, bottom in EDGES.values()]
    rows = [{"id": n, "image_id": 7, "category_id": n + 1, "bbox": box} | more for n, box in enumerate(boxes)]
    kinds = [{"id": n + 1, "name": kind} for n, kind in enumerate(EDGES)]
    images = [{"id": 7, "file_name": "train/a.png"}, {"id": 8, "file_name": "gone.png"}]
    told = json.dumps({"images": images, "annotations": rows, "categories": kinds})
    _put(folder / "annotations" / "instances.json", told)


def _yolo(folder: Path) -> None:
    middles = [((x + z) / 2, (y + w) / 2, z - x, w - y) for x, y, z, w in EDGES.values()]
    rows = [f"{n} {x / WIDTH} {y / HEIGHT} {w / WIDTH} {h / HEIGHT}\n" for n, (x, y, w, h) in enumerate(middles)]
    _put(folder / "labels" / "a.txt", "".join(rows))
    _put(folder / "labels" / "b.txt", "")
    _put(folder / "labels" / "classes.txt", "person\ndog\n")


def _voc(folder: Path, difficult: int = 0) -> None:
    rows = [OBJECT.format(kind, difficult, x + 1, y + 1, z, w) for kind, (x, y, z, w) in EDGES.items()]
    _put(folder / "Annotations" / "a.xml", VOC.format("".join(rows)))
    _put(folder / "Annotations" / "b.xml", VOC.format(""))


@pytest.mark.parametrize("written", [_csv, _coco, _yolo, _voc])
def test_every_format_tells_the_same_boxes(tmp_path: Path, written: object) -> None:
    written(tmp_path)  # pyright: ignore[reportCallIssue]
    for kind, edges in EDGES.items():
        (box,) = read_boxes(tmp_path, IMAGES, kind)
        unit = (WIDTH, HEIGHT, WIDTH, HEIGHT) if box.shares else (1, 1, 1, 1)
        assert box.image == "a.png"
        assert [edge * each for edge, each in zip(box.edges, unit, strict=True)] == pytest.approx(edges)
        assert not box.doubtful
    with pytest.raises(DataError, match=r"names 2 kinds of objects \(dog, person\), and detection has one class"):
        read_boxes(tmp_path, IMAGES)
    with pytest.raises(DataError, match=r"no box is of the kind 'dogs'; kinds are dog, person\. Did you mean 'dog'"):
        read_boxes(tmp_path, IMAGES, "dogs")


def test_crowds_and_difficult_objects_are_marked(tmp_path: Path) -> None:
    _coco(tmp_path / "coco", iscrowd=1)
    _voc(tmp_path / "voc", difficult=1)
    for name in ("coco", "voc"):
        assert all(box.doubtful for kind in EDGES for box in read_boxes(tmp_path / name, IMAGES, kind))


def test_boxes_stand_in_one_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected boxes\.csv, a JSON file \(COCO\), labels/ \(YOLO\) or annotations/"):
        read_boxes(tmp_path, IMAGES)
    _coco(tmp_path)
    _yolo(tmp_path)
    with pytest.raises(DataError, match=r"got annotations/instances\.json and labels$"):
        read_boxes(tmp_path, IMAGES)
    _csv(tmp_path)
    assert read_boxes(tmp_path, IMAGES, "dog")[0].edges == EDGES["dog"]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.json", "[]", r"a\.json: expected COCO's images, annotations .* and categories"),
        ("a.json", '{"images": [{"id": 1, "file_name": "c.png"}], "annotations": []}', "names no box"),
        (
            "a.json",
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"id": 5, "image_id": 1, "category_id": 1, '
            '"bbox": [0, 0, 5, 5]}]}',
            r"image 'a' is not among the images\. Did you mean 'a\.png'\?",
        ),
        (
            "a.json",
            '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"id": 5, "image_id": 1, "category_id": 1, '
            '"bbox": [0, 0, 5, 0]}]}',
            r"annotation 5: left < right and top < bottom must hold, got \[0\.0, 0\.0, 5\.0, 0\.0\]",
        ),
        ("labels/a.txt", "0 .5 .5 .1\n", r"a\.txt, line 1: expected class, centre x, .* got '0 \.5 \.5 \.1'"),
        ("labels/a.txt", "0 5 5 8 8\n", r"line 1: expected shares of the image from 0 to 1, got '0 5 5 8 8'"),
        ("labels/c.txt", "", r"c\.txt: there is no image 'c'\."),
        ("annotations/a.xml", "<annotation>", r"a\.xml: expected Pascal VOC's objects, each with a bndbox"),
        ("annotations/a.xml", VOC.format("<object></object>"), "each with a bndbox of xmin, ymin, xmax, ymax"),
    ],
)
def test_what_is_no_box_is_named(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    _put(tmp_path / name, text)
    with pytest.raises(DataError, match=sentence):
        read_boxes(tmp_path, IMAGES)
