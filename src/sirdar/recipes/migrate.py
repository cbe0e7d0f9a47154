# SPDX-License-Identifier: Apache-2.0
"""`sirdar migrate` as a program: open the model, answer the five questions, write the artefacts and the report."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch.export import ExportedProgram

from sirdar.deploy import loading, vendor
from sirdar.deploy.artefacts import Artefact, write_all
from sirdar.deploy.capture import Example
from sirdar.deploy.migrate import Migration, migrate
from sirdar.deploy.opening import opened
from sirdar.errors import DataError, require_positive_integer
from sirdar.recipes.files import write_json
from sirdar.recipes.saved import saved_network
from sirdar.recipes.vision_saved import camera_file, saved_camera
from sirdar.report import page
from sirdar.report.migrate import migration_page

Progress = Callable[[str, float], None]
_SHAPE_LINES = 1_000_000
_SERIES = 64
_ARTEFACTS = (
    vendor.PROGRAM,
    vendor.PLANNED,
    "network.onnx",
    "network.tflite",
    "network_vela.tflite",
    "compile.py",
)


@dataclass(frozen=True)
class Settings:
    """What the user asked for.

    Args:
        model: package.module:factory, a .pt2 file, or the folder of a saved forecaster or camera network.
        chip: where it is to go.
        current: where it runs now.
        tolerance: relative error of the output that is allowed.
        shapes: file of shapes of real inputs, one per line; None for none.
        limit: on the number of buckets.
        rules: a rule file of one's own.
    """

    model: str
    chip: str
    current: str = "this-cpu"
    tolerance: float = 0.01
    shapes: Path | None = None
    limit: int = 4
    rules: Path | None = None

    def __post_init__(self) -> None:
        require_positive_integer(self.limit, "buckets")


def run(settings: Settings, progress: Progress) -> Migration:
    """Answer what is to be known.

    Raises:
        ArgumentError: the model, the chip or a number is not what it should be.
        DataError: a file is missing or wrong.
    """
    shapes = None if settings.shapes is None else read_shapes(settings.shapes)
    progress("Opening the model", 0.0)
    module, example = open_model(settings.model)
    progress("Opening the model", 1.0)
    progress("Checking, rewriting, running in the chip's formats", 0.0)
    made = migrate(
        module,
        example,
        chip=settings.chip,
        current=settings.current,
        tolerance=settings.tolerance,
        shapes=shapes,
        limit=settings.limit,
        rules=settings.rules,
    )
    progress("Checking, rewriting, running in the chip's formats", 1.0)
    return made


def write(made: Migration, folder: Path, progress: Progress) -> tuple[Artefact, ...]:
    """Write artefacts, migration.json and report.html into a folder that exists."""
    progress("Writing and checking files", 0.0)
    artefacts = write_all(made, folder)
    write_json({**made.to_dict(), "artefacts": [row.to_dict() for row in artefacts]}, folder / "migration.json")
    (folder / "report.html").write_text(page.render(migration_page(made, artefacts)), encoding="utf-8")
    progress("Writing and checking files", 1.0)
    return artefacts


def earlier(folder: Path) -> list[str]:
    """Names of the files that an earlier migration wrote into a folder, by its own list."""
    try:
        rows = json.loads((folder / "migration.json").read_text(encoding="utf-8"))["artefacts"]
        return [row["name"] for row in rows if row["name"] in _ARTEFACTS and row["sha256"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def open_model(spec: str) -> tuple[nn.Module | ExportedProgram, Example | None]:
    """A module and its example, or an exported program that carries one.

    Args:
        spec: package.module:factory, a .pt2 file, or the folder of a saved forecaster or camera network (or the
            camera network's network.safetensors itself).

    Raises:
        ArgumentError: the text has none of the forms, or what it names does not exist.
        DataError: a file is missing, wrong, or could run code.
    """
    path = Path(spec)
    if spec.endswith(".pt2"):
        return opened(path), None
    if (weights := camera_file(spec)) is not None:
        return saved_camera(weights)
    if path.is_dir():
        otherwise = f" or camera network; otherwise give {loading.FORMS}"
        return saved_network(path, otherwise).inference(_SERIES)
    return loading.load_with_example(spec)


def read_shapes(path: Path) -> list[tuple[int, ...]]:
    """Shapes from a text file, one per line, sizes apart by x, a comma or a space.

    Raises:
        DataError: the file is missing, empty, or holds something else.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()[:_SHAPE_LINES]]
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: shapes cannot be read ({error})"
        raise DataError(msg) from error
    rows: list[tuple[int, ...]] = []
    for number, line in enumerate(lines, start=1):
        if line and not line.startswith("#"):
            if not re.fullmatch(r"\d{1,9}(\s*[x, ]\s*\d{1,9})*", line):
                msg = f"{path}: line {number} must be a shape such as 8x128, got {line[:40]!r}"
                raise DataError(msg)
            rows.append(tuple(int(part) for part in re.findall(r"\d+", line)))
    if not rows:
        msg = f"{path}: holds no shapes"
        raise DataError(msg)
    return rows
