# SPDX-License-Identifier: Apache-2.0
"""Folders written by Pillow come back as they were; whatever is wrong with one is said in a sentence."""

import io
import struct
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from sirdar.errors import DataError
from sirdar.vision.images import (
    VOID,
    decoded,
    decoded_mask,
    read_boxed,
    read_classes,
    read_labelled,
    read_masked,
    signed,
)


def _png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def _picture(seed: int, height: int = 8, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for place, name in enumerate(("cat", "dog", "dog")):
        _png(tmp_path / name / f"{place}.png", _picture(place))
    data = read_labelled(tmp_path, (8, 12))
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 1, 1]
    assert np.array_equal(data.images[1].permute(1, 2, 0).numpy(), _picture(1))
    assert data.take([2, 0]).labels.tolist() == [1, 0]
    assert data.take(np.array([False, True, True])).labels.tolist() == [1, 1]
    assert data.take([]).images.shape == (0, 3, 8, 12)
    assert signed(data.images).abs().max() <= 1


def test_hidden_files_and_folders_are_none_of_the_data(tmp_path: Path) -> None:
    for name in ("cat", "dog", ".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        _png(tmp_path / name / "0.png", _picture(0))
    (tmp_path / "cat" / "._0.png").write_bytes(b"\0\5\x16\7")  # a Mac's note on the file of that name
    data = read_labelled(tmp_path, (8, 12))
    assert (data.classes, data.labels.tolist()) == (("cat", "dog"), [0, 1])


def test_what_lets_light_through_stands_before_white(tmp_path: Path) -> None:
    pixels = np.full((8, 12, 4), (10, 200, 30, 255), np.uint8)
    pixels[:, 6:, 3] = 0  # whatever colour hides there
    for name in ("cat", "dog"):
        _png(tmp_path / name / "0.png", pixels)
    Image.fromarray(pixels[..., :3]).quantize(2).save(tmp_path / "dog" / "1.gif", transparency=0)
    image = read_labelled(tmp_path, (8, 12)).images[0]
    assert image[:, 0, 0].tolist() == [10, 200, 30]
    assert image[:, 0, 6].tolist() == [255, 255, 255]


def test_images_of_a_class_lie_in_its_folder_alone(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        _png(tmp_path / name / "0.png", _picture(0))
    Image.fromarray(_picture(1)).save(tmp_path / "dog" / "1.TIF")
    assert read_labelled(tmp_path, (8, 12)).labels.tolist() == [0, 1, 1]
    _png(tmp_path / "dog" / "__MACOSX" / "2.png", _picture(2))
    assert len(read_labelled(tmp_path, (8, 12)).images) == 3
    Image.fromarray(np.full((8, 12), 0.5, np.float32)).save(tmp_path / "dog" / "3.tif")
    with pytest.raises(DataError, match=r"3\.tif: its pixels are fractions; give whole numbers from 0 to 255"):
        read_labelled(tmp_path, (8, 12))
    (tmp_path / "dog" / "3.tif").unlink()
    _png(tmp_path / "dog" / "more" / "2.png", _picture(2))
    with pytest.raises(DataError, match="more: is a folder where images are expected; put them into .*dog itself"):
        read_labelled(tmp_path, (8, 12))


def test_a_name_may_be_written_with_another_accent(tmp_path: Path) -> None:
    _png(tmp_path / "images" / unicodedata.normalize("NFD", "é.png"), _picture(0, 20, 40))
    (tmp_path / "boxes.csv").write_text("image,left,top,right,bottom\né.png,4,2,20,10\n")
    assert read_boxed(tmp_path, (20, 40)).boxes.tolist() == [[[4, 2, 20, 10]]]
    _png(tmp_path / "masks" / unicodedata.normalize("NFC", "é.png"), np.ones((20, 40), np.uint8))
    assert read_masked(tmp_path, (20, 40), ["road", "sky"]).masks.min() == 1


def test_boxes_are_scaled_with_their_images(tmp_path: Path) -> None:
    _png(tmp_path / "images" / "a.png", _picture(0, 20, 40))
    _png(tmp_path / "images" / "b.png", _picture(1, 10, 10))
    (tmp_path / "boxes.csv").write_text("image,left,top,right,bottom\na.png,4,2,20,10\na.png,0,0,40,20\n")
    data = read_boxed(tmp_path, (10, 20))
    assert torch.equal(data.boxes[0], torch.tensor([[2.0, 1, 10, 5], [0, 0, 20, 10]]))
    assert data.boxes[1].isnan().all()


def test_a_table_by_excel_is_read(tmp_path: Path) -> None:
    _png(tmp_path / "images" / "a.png", _picture(0, 20, 40))
    (tmp_path / "boxes.csv").write_text("\ufeffimage,left,top,right,bottom\na.png,-1,2,20,10\n")
    assert read_boxed(tmp_path, (20, 40)).boxes.tolist() == [[[0, 2, 20, 10]]]  # what reaches over the edge is cut


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("", "names no box"),
        ("a.png,4,2,20,10\na.png,20,2,4,10\n", r"line 3: left < right .* got \[20.0, 2.0, 4.0, 10.0\]"),
        ("a.png,4,nan,20,10\n", "line 2: left < right and top < bottom must hold"),
        ("a.png,4,2,inf,10\n", "line 2: left < right and top < bottom must hold"),
        ('"a.png,4,2,20,10\n' + "a.png,4,2,20,10\n" * 9000, r"expected the columns .* \(Error\('field larger than"),
        ("a.png,1\n\n,1\n", "expected the columns image, left, top, right, bottom with numbers"),
        ("a.png,.1,.2,.5,1\na.png,0,0,1,1\n", "edges lie between 0 and 1; give them in pixels"),
        ("a.png,50,2,60,10\n", r"the box 50.0, 2.0, 60.0, 10.0 is outside its image 'a\.png'"),
    ],
)
def test_a_box_that_is_none_is_named(tmp_path: Path, rows: str, sentence: str) -> None:
    _png(tmp_path / "images" / "a.png", _picture(0, 20, 40))
    (tmp_path / "boxes.csv").write_text(f"image,left,top,right,bottom\n{rows}")
    with pytest.raises(DataError, match=sentence):
        read_boxed(tmp_path, (10, 20))


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("image;left;top;right;bottom\na.png;4;2;20;10\n", "apart by commas, got 'image;left;top;right;bottom'"),
        ("image,xmin,ymin,xmax,ymax\na.png,4,2,20,10\n", "got 'image', 'xmin', 'ymin', 'xmax', 'ymax'"),
        (
            "image,left,top,right,bottom,id,Label\na.png,4,2,20,10,1,cat\na.png,0,0,9,9,2,dog\n",
            r"'Label' names 2 kinds of objects \(cat, dog\), and detection has one class",
        ),
        (
            "image,left,top,right,bottom,Species\na.png,4,2,20,10,cat\na.png,0,0,9,9,dog\n",
            r"'Species' names 2 kinds of objects \(cat, dog\)",
        ),
    ],
)
def test_a_table_of_other_columns_says_which(tmp_path: Path, table: str, sentence: str) -> None:
    _png(tmp_path / "images" / "a.png", _picture(0, 20, 40))
    (tmp_path / "boxes.csv").write_text(table)
    with pytest.raises(DataError, match=sentence):
        read_boxed(tmp_path, (20, 40))


def test_one_kind_of_objects_may_be_named_and_columns_may_stand_apart(tmp_path: Path) -> None:
    _png(tmp_path / "images" / "a.png", _picture(0, 20, 40))
    rows = "image, left, top, right, bottom, class_id, class\na.png, 4, 2, 20, 10, 0, cat\n"
    (tmp_path / "boxes.csv").write_text(rows)
    assert read_boxed(tmp_path, (20, 40)).boxes.tolist() == [[[4, 2, 20, 10]]]


def test_an_image_without_boxes_may_have_a_line(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        _png(tmp_path / "images" / name, _picture(0, 20, 40))
    (tmp_path / "boxes.csv").write_text("image,left,top,right,bottom,difficult\na.png,4,2,20,10,0\nb.png,,,,,\n")
    assert read_boxed(tmp_path, (20, 40)).boxes[:, 0, 0].isnan().tolist() == [False, True]


def test_an_image_with_a_crowd_is_left_out(tmp_path: Path) -> None:
    for place, name in enumerate(("a.png", "b.png")):
        _png(tmp_path / "images" / name, _picture(place, 20, 40))
    rows = "image,left,top,right,bottom,iscrowd\na.png,4,2,20,10,1\nb.png,1,2,3,4,0\n"
    (tmp_path / "boxes.csv").write_text(rows)
    with pytest.warns(UserWarning, match="left out 1 images with a crowd or a difficult object, .*; 1 are kept"):
        data = read_boxed(tmp_path, (20, 40))
    assert data.boxes.tolist() == [[[1, 2, 3, 4]]]
    assert np.array_equal(data.images[0].permute(1, 2, 0).numpy(), _picture(1, 20, 40))
    (tmp_path / "images" / "b.png").unlink()
    (tmp_path / "boxes.csv").write_text(rows.replace("b.png", "a.png"))
    with pytest.raises(DataError, match="has 1 images with a crowd .*, and no other"):
        read_boxed(tmp_path, (20, 40))


def test_shares_of_an_image_are_of_its_new_size(tmp_path: Path) -> None:
    _png(tmp_path / "images" / "a.png", _picture(0, 20, 40))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .2 .4\n")
    assert read_boxed(tmp_path, (10, 30)).boxes[0, 0].tolist() == pytest.approx([12, 3, 18, 7])


@pytest.mark.parametrize("name", ["images/a.png", "a", "A.png"])
def test_a_name_that_is_nearly_an_image_s_is_told(tmp_path: Path, name: str) -> None:
    _png(tmp_path / "images" / "a.png", _picture(0, 20, 40))
    (tmp_path / "boxes.csv").write_text(f"image,left,top,right,bottom\n{name},4,2,20,10\n")
    with pytest.raises(DataError, match=rf"image '{name}' is not among the images\. Did you mean 'a\.png'\?"):
        read_boxed(tmp_path, (20, 40))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("road\n\nsky\n", "line 2: is empty; a line's place is its"), ("sky\nroad\nsky\n", "names the class 'sky' twice")],
)
def test_a_class_is_numbered_by_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("\ufeffroad\nsky\n\n")
    assert read_classes(path) == ("road", "sky")
    path.write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_classes(path)


def test_masks_are_classes_or_void(tmp_path: Path) -> None:
    mask = np.array([[0, 1], [VOID, 1]], np.uint8)
    _png(tmp_path / "images" / "a.png", _picture(0, 4, 4))
    _png(tmp_path / "masks" / "a.png", mask)
    data = read_masked(tmp_path, (4, 4), ["road", "sky"])
    assert torch.equal(data.masks[0, 0], torch.from_numpy(mask.repeat(2, 0).repeat(2, 1)))
    (tmp_path / "masks" / "a.png").rename(tmp_path / "masks" / "a.PNG")
    assert torch.equal(read_masked(tmp_path, (4, 4), ["road", "sky"]).masks, data.masks)
    with pytest.raises(DataError, match="value 1 is none of the 1 classes and not 255"):
        read_masked(tmp_path, (4, 4), ["road"])


def test_a_mask_has_the_proportions_of_its_image(tmp_path: Path) -> None:
    _png(tmp_path / "images" / "a.png", _picture(0, 75, 100))
    for height, width in ((75, 100), (38, 50), (37, 50), (150, 200)):
        _png(tmp_path / "masks" / "a.png", np.zeros((height, width), np.uint8))
        assert read_masked(tmp_path, (4, 4), ["road", "sky"]).masks.shape == (1, 1, 4, 4)
    _png(tmp_path / "masks" / "a.png", np.zeros((100, 75), np.uint8))  # lying beside a standing image
    with pytest.raises(
        DataError, match=r"a\.png: not a mask of its image: 75 x 100 pixels have other .* than 100 x 75"
    ):
        read_masked(tmp_path, (4, 4), ["road", "sky"])


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing: cannot be read"):
        read_labelled(tmp_path / "missing", (4, 4))
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="images: holds no image"):
        read_boxed(tmp_path, (4, 4))
    (tmp_path / "images" / "a.jpg").write_bytes(b"no image")
    (tmp_path / "boxes.csv").write_text("image,left\na.jpg,3\n")
    with pytest.raises(DataError, match="expected the columns image, left, top, right, bottom"):
        read_boxed(tmp_path, (4, 4))
    (tmp_path / "boxes.csv").write_text("image,left,top,right,bottom\nz.jpg,0,0,2,2\n")
    with pytest.raises(DataError, match="image 'z.jpg' is not among the images"):
        read_boxed(tmp_path, (4, 4))
    (tmp_path / "boxes.csv").write_text("image,left,top,right,bottom\na.jpg,0,0,2,2\n")
    with pytest.raises(DataError, match=r"a\.jpg: not an image"):
        read_boxed(tmp_path, (4, 4))
    (tmp_path / "classes.txt").write_text("road\n")
    with pytest.raises(DataError, match="at least two class names, one a line, got 1"):
        read_classes(tmp_path / "classes.txt")


def _encoded(array: np.ndarray, mode: str | None = None) -> bytes:
    file, picture = io.BytesIO(), Image.fromarray(array)
    (picture if mode is None else picture.convert(mode)).save(file, "PNG")
    return file.getvalue()


def test_sixteen_bits_of_grey_become_eight() -> None:
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for wide in (grey * 257, grey * 257 + 100 * (grey < 255)):
        assert np.array_equal(decoded(_encoded(wide.astype(np.uint16)))[0], grey[..., None].repeat(3, 2))


def test_a_depth_that_would_come_out_black_is_refused() -> None:
    assert not decoded(_encoded(np.zeros((4, 4), np.uint16)))[0].any()  # what is black is
    with pytest.raises(DataError, match="its 16 bits of grey reach no further than 4095"):
        decoded(_encoded(np.full((4, 4), 4095, np.uint16)))
    Image.fromarray(np.full((4, 4), 200, np.int32)).save(file := io.BytesIO(), "TIFF")
    with pytest.raises(DataError, match="its pixels have 32 bits, of which nothing says what is white"):
        decoded(file.getvalue())


def _sixteen(values: np.ndarray) -> bytes:
    """A PNG of 16 bits of 2 (grey, opacity) or 3 (colour) channels, which Pillow cannot write."""
    height, width, channels = values.shape
    facts = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = ((b"IHDR", facts), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(x)) + name + x + struct.pack(">I", zlib.crc32(name + x)) for name, x in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(("channels", "what"), [(3, "colour and would be black"), (2, "opacity and would be white")])
def test_twelve_bits_in_a_file_of_sixteen_are_refused(channels: int, what: str) -> None:
    whole = np.full((4, 4, channels), 65535)
    assert (decoded(_sixteen(whole))[0] == 255).all()
    whole[..., -1 if channels == 2 else slice(None)] = 4095
    part, seen = what.split(" and ")
    with pytest.raises(DataError, match=f"its 16 bits of {part} reach no further than 4095 and {seen}"):
        decoded(_sixteen(whole))


def test_a_link_to_nothing_is_named_once(tmp_path: Path) -> None:
    _png(tmp_path / "images" / "a.png", _picture(0))
    (tmp_path / "images" / "b.png").symlink_to(tmp_path / "gone")
    (tmp_path / "boxes.csv").write_text("image,left,top,right,bottom\na.png,4,2,8,6\n")
    with pytest.raises(DataError, match=r"^[^:]*b\.png: cannot be read \(No such file or directory\)$"):
        read_boxed(tmp_path, (8, 12))


def test_a_camera_s_file_that_nobody_can_read_is_not_passed_over(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        _png(tmp_path / name / "0.png", _picture(0))
    (tmp_path / "dog" / "1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(DataError, match=r"1\.HEIC: not an image: of no known format; PNG and JPEG are"):
        read_labelled(tmp_path, (8, 12))


def test_what_pillow_cannot_open_is_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _encoded(_picture(0))
    for length in (b"\xff\0\0\x0d", b"\0\0\0\x05"):  # of the first chunk
        for read in (decoded, decoded_mask):
            with pytest.raises(DataError, match="not an image|not a mask"):
                read(whole[:8] + length + whole[12:])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match="exceeds limit"):
        decoded(whole)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_mask_of_colours_is_refused(mode: str) -> None:
    with pytest.raises(DataError, match=f"single values from 0 to 255, got mode {mode}$"):
        decoded_mask(_encoded(_picture(0), mode), (4, 4))


def test_a_mask_of_sixteen_bits_holds_no_more_than_eight() -> None:
    assert decoded_mask(_encoded(np.full((2, 2), 2, np.uint16))).tolist() == [[2, 2], [2, 2]]
    with pytest.raises(DataError, match=r"got mode I;16 with values up to 257"):
        decoded_mask(_encoded(np.full((2, 2), 257, np.uint16)))


@pytest.mark.parametrize("note", range(1, 9))
def test_an_image_is_read_as_the_camera_was_held(note: int) -> None:
    picture, file = Image.fromarray(_picture(0)), io.BytesIO()
    exif = picture.getexif()
    exif[0x0112] = note
    picture.save(file, "PNG", exif=exif)
    found, scale = decoded(file.getvalue(), (4, 6))
    shown = ImageOps.exif_transpose(Image.open(file))
    assert scale == (4 / shown.height, 6 / shown.width)
    assert np.array_equal(found, np.array(shown.resize((6, 4), resample=2)))
    picture.convert("L").save(file := io.BytesIO(), "PNG", exif=exif)
    assert np.array_equal(decoded_mask(file.getvalue()), np.array(ImageOps.exif_transpose(Image.open(file))))


def test_a_note_of_the_camera_that_nobody_can_read_is_none() -> None:
    picture, file = Image.fromarray(_picture(0)), io.BytesIO()
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(file, "JPEG", exif=exif)
    assert decoded(file.getvalue())[0].shape == (12, 8, 3)
    assert decoded(file.getvalue().replace(b"MM\0*", b"MM\0?"))[0].shape == (8, 12, 3)
