# SPDX-License-Identifier: Apache-2.0
"""Forecasters on disk: what is written is read back, and nothing else is ever overwritten."""

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from sirdar.errors import ArgumentError, DataError, OutputError
from sirdar.forecasting import ladder, storage
from sirdar.forecasting.covariates import Encoding
from sirdar.forecasting.models.addons import AddOns
from sirdar.forecasting.models.ladder import Ladder
from sirdar.predictive import Frequency
from sirdar.testing.forecasters import example_panel

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(1.5)}
FILES = ["config.json", "weights.safetensors"]


def test_config_and_weights_come_back(tmp_path: Path) -> None:
    config = {"model": "m", "frequency": Frequency("M", -1), "levels": (np.float64(0.1), 0.5), "seed": np.int64(3)}
    storage.write(tmp_path / "deep" / "er", config, WEIGHTS)
    read, weights = storage.read(tmp_path / "deep" / "er", model="m")
    assert read == {"model": "m", "frequency": {"unit": "M", "offset": -1, "phase": 0}, "levels": [0.1, 0.5], "seed": 3}
    assert weights.keys() == WEIGHTS.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in WEIGHTS.items())


def test_an_encoding_survives_json(tmp_path: Path) -> None:
    encoding = Encoding(
        yearly=True,
        past=(("p", 0.1, 2.0),),
        known=(("k", 1e-9, 3.0),),
        static=(("s", 1.0, 1.0),),
        categories=(("c", ("x", "ü")),),
        logged=("p",),
        flags=("k",),
        usual=(("k", 0.25),),
    )
    storage.write(tmp_path / "m", {"model": "m", "encoding": encoding}, {})
    assert storage.as_encoding(storage.read(tmp_path / "m", model="m")[0]["encoding"]) == encoding


def test_a_saved_forecaster_is_replaced_whole(tmp_path: Path) -> None:
    storage.write(tmp_path / "m", {"model": "m", "version": 1}, WEIGHTS)
    storage.write(tmp_path / "m", {"model": "m", "version": 2}, {})
    config, weights = storage.read(tmp_path / "m", model="m")
    assert (config["version"], weights) == (2, {})
    (tmp_path / "empty").mkdir()
    storage.write(tmp_path / "empty", {"model": "m"}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "m"]


def test_what_fails_within_leaves_the_whole_forecaster_that_stood_there(tmp_path: Path) -> None:
    """As a ladder keeps its rungs: none of the new one's may stand beside the old one's, nor may these be gone."""

    def member(path: Path, version: int = 1) -> None:
        storage.write(path, {"model": "member", "version": version}, {})

    def full(path: Path) -> None:
        member(path, 2)
        msg = f"{path}: No space left on device"
        raise OutputError(msg)

    def deep(path: Path) -> None:
        storage.write(path, {"model": "deep"}, {}, {"b": full})

    storage.write(tmp_path / "m", {"model": "m", "version": 1}, {}, {"a": member, "b": member})
    with pytest.raises(OutputError, match=f"^{tmp_path}/m/deep/b: No space"):
        storage.write(tmp_path / "m", {"model": "m", "version": 2}, {}, {"a": member, "deep": deep})
    assert storage.read(tmp_path / "m", model="m")[0]["version"] == 1
    for name in ("a", "b"):
        assert storage.read(tmp_path / "m" / name, model="member")[0]["version"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


class Killed(BaseException):
    """What a process that is no more meets wherever it would still do something."""


def killed_at(moment: int, patch: pytest.MonkeyPatch) -> None:
    """Lets so many changes to the disk happen, and none after them, so that nothing is cleared away either."""
    left = [moment]

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any, **options: Any) -> object:  # noqa: ANN401
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return change(*arguments, **options)

        return done

    for owner, name in ((os, "link"), (os, "unlink"), (os, "rmdir"), (os, "mkdir"), (os, "rename")):
        patch.setattr(owner, name, counted(getattr(owner, name)))


@pytest.mark.parametrize("before", [{"inner": 1}, {"other": 1}, {}])
def test_killed_at_any_moment_the_old_one_or_the_new_one_is_found(before: dict[str, int], tmp_path: Path) -> None:
    def write(version: int, folders: Iterable[str]) -> None:
        within = {name: lambda path: storage.write(path, {"model": "m", "version": version}, {}) for name in folders}
        storage.write(tmp_path / "m", {"model": "m", "version": version}, {"v": torch.tensor(version)}, within)

    moment, found, ended = 0, set(), False
    while not ended:
        shutil.rmtree(tmp_path / "m", ignore_errors=True)
        write(1, before)
        (tmp_path / "m" / "notes.txt").write_text("mine")
        with pytest.MonkeyPatch.context() as patch, suppress(Killed):
            killed_at(moment, patch)
            write(2, ["inner"])
            ended = True
        config, weights = storage.read(tmp_path / "m", model="m")
        assert weights["v"] == config["version"]
        for name in config.get("folders", ()):
            inner = storage.standing(tmp_path / "m") / name
            assert storage.read(inner, model="m")[0]["version"] == config["version"]
        found.add(config["version"])
        write(3, [])
        assert storage.read(tmp_path / "m", model="m")[0]["version"] == 3
        assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [*FILES[:1], "notes.txt", *FILES[1:]]
        moment += 1
    assert found == {1, 2}
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("there", [True, False])
def test_what_a_killed_first_write_left_goes_with_the_next(tmp_path: Path, *, there: bool) -> None:
    for moment in range(12):
        shutil.rmtree(tmp_path / "m", ignore_errors=True)
        if there:
            (tmp_path / "m").mkdir()
        with pytest.MonkeyPatch.context() as patch, suppress(Killed):
            killed_at(moment, patch)
            storage.write(tmp_path / "m", {"model": "m"}, WEIGHTS)
        storage.write(tmp_path / "m", {"model": "m"}, {})
        assert [path.name for path in tmp_path.iterdir()] == ["m"]
        assert sorted(path.name for path in (tmp_path / "m").iterdir()) == FILES


@pytest.mark.parametrize("model", [AddOns(3), Ladder(3, ["seasonal-naive"])])
def test_killed_while_it_is_replaced_the_old_forecaster_is_found(
    model: AddOns | Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = example_panel()
    expected = model.fit(panel).predict(panel).values
    model.save(tmp_path / "m")

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(storage, "_clear", killed)
        model.save(tmp_path / "m")
    shutil.rmtree(tmp_path / "m" / ("around" if isinstance(model, AddOns) else "ensemble"))
    (tmp_path / "m" / "config.json").unlink()
    assert np.array_equal(type(model).load(tmp_path / "m").predict(panel).values, expected)
    assert storage.model_of(tmp_path / "m") == ladder.kind_of(model)


def test_a_forecaster_whose_config_names_no_folders_is_put_back_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As earlier versions wrote it."""
    within = {"inner": lambda path: storage.write(path, {"model": "inner"}, {})}
    storage.write(tmp_path / "m", {"model": "m"}, {}, within)
    (tmp_path / "m" / "config.json").write_text('{"model": "m"}')
    clear = storage._clear

    def refused(names: list[str], folder: Path) -> None:
        clear(names, folder)
        if not (folder / "inner").exists() and list(folder.glob(".sirdar-*/kept")):
            monkeypatch.undo()
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(storage, "_clear", refused)
    with pytest.raises(OutputError, match="m: cannot be written .Permission denied"):
        storage.write(tmp_path / "m", {"model": "m"}, {}, within)
    assert storage.read(tmp_path / "m" / "inner", model="inner")


def test_what_others_keep_beside_and_within_is_left_alone(tmp_path: Path) -> None:
    storage.write(tmp_path / "m.old", {"model": "m", "version": 0}, {})
    with pytest.raises(DataError, match="m: holds no 'm'"):
        storage.read(tmp_path / "m", model="m")
    (tmp_path / "m.part").mkdir()
    for version in (1, 2):
        storage.write(tmp_path / "m", {"model": "m", "version": version}, {})
        (tmp_path / "m" / "notes.txt").write_text("mine")
    storage.write(tmp_path / "m", {"model": "m", "version": 3}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "m.old", "m.part"]
    assert storage.read(tmp_path / "m.old", model="m")[0]["version"] == 0
    assert (tmp_path / "m" / "notes.txt").read_text() == "mine"


def test_a_name_of_another_folder_in_a_config_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    storage.write(tmp_path / "m", {"model": "m", "folders": ["../thesis", "..", ".", ["x"], 3]}, {})
    storage.write(tmp_path / "m", {"model": "m"}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "thesis"]


def test_what_a_link_leads_to_is_replaced_and_not_the_link(tmp_path: Path) -> None:
    storage.write(tmp_path / "v1", {"model": "m", "version": 1}, {})
    (tmp_path / "current").symlink_to("v1")
    for version in (2, 3):
        storage.write(tmp_path / "current", {"model": "m", "version": version}, {})
        assert storage.read(tmp_path / "v1", model="m")[0]["version"] == version
    (tmp_path / "next").symlink_to("to/v2")
    for path in (tmp_path / "next", tmp_path / "not" / ".." / "yet"):
        storage.write(path, {"model": "m", "version": 4}, {})
        assert storage.read(path, model="m")[0]["version"] == 4
    assert (tmp_path / "current").is_symlink()
    assert (tmp_path / "next").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "next", "not", "to", "v1", "yet"]


def test_a_folder_that_is_there_stays_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the working directory, or a disk of its own, which cannot be renamed."""
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    for version in (1, 2):
        storage.write(Path(), {"model": "m", "version": version}, {})
        assert storage.read(Path(), model="m")[0]["version"] == version
    assert Path.cwd() == tmp_path
    assert tmp_path.stat().st_ino == before
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), KeyboardInterrupt()])
def test_what_cannot_be_moved_leaves_what_stood_there(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write(tmp_path / "m", {"model": "m", "version": 1}, {})
    linked = storage._linked

    def refused(source: str | Path, target: str | Path) -> None:
        if Path(source).parent.name == "new":
            raise error
        linked(source, target)

    monkeypatch.setattr(storage, "_linked", refused)
    with pytest.raises((OutputError, KeyboardInterrupt), match="^$|m: cannot be written .Permission denied"):
        storage.write(tmp_path / "m", {"model": "m", "version": 2}, {})
    assert storage.read(tmp_path / "m", model="m")[0]["version"] == 1
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == FILES


def test_a_file_system_without_second_names_does_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    for version in (1, 2):
        storage.write(tmp_path / "m", {"model": "m", "version": version}, {})
    assert storage.read(tmp_path / "m", model="m")[0]["version"] == 2


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(OutputError, match="thesis: exists and is nothing that Sirdar saved"):
        storage.write(tmp_path / "thesis", {"model": "m"}, {})
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file: exists and is nothing that Sirdar saved"):
        storage.write(tmp_path / "file", {"model": "m"}, {})
    with pytest.raises(OutputError, match="cannot be written"):
        storage.write(tmp_path / "file" / "below", {"model": "m"}, {})


def test_a_full_disk_ends_in_a_sentence_and_leaves_what_stood_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write(tmp_path / "m", {"model": "m", "first": True}, {})

    def full(*_: object) -> None:
        msg = "Error while serializing: I/O error: No space left on device (os error 28)"  # as safetensors 0.6 says it
        raise SafetensorError(msg)

    monkeypatch.setattr(storage, "save_file", full)
    with pytest.raises(OutputError, match="m: cannot be written .*No space left"):
        storage.write(tmp_path / "m", {"model": "m", "first": False}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert "true" in (tmp_path / "m" / "config.json").read_text()


def test_what_cannot_be_stored_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot be stored"):
        storage.write(tmp_path / "m", {"model": object()}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["absent", "truncated", "nonsense", "binary", "list"])
def test_what_is_no_forecaster_is_refused_by_name(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    storage.write(path, {"model": "m"}, WEIGHTS)
    if damage == "absent":
        path = tmp_path / "nowhere"
    if damage == "truncated":
        (path / "weights.safetensors").write_bytes((path / "weights.safetensors").read_bytes()[:20])
    if damage in {"nonsense", "binary", "list"}:
        (path / "config.json").write_bytes({"nonsense": b"{", "binary": b"\xff\xfe", "list": b"[]"}[damage])
    with pytest.raises(DataError, match=str(path)):
        storage.read(path, model="m")


def test_another_kind_of_forecaster_is_refused(tmp_path: Path) -> None:
    storage.write(tmp_path / "m", {"model": "textbook"}, {})
    with pytest.raises(DataError, match="holds a 'textbook', not a 'mq-cnn'"):
        storage.read(tmp_path / "m", model="mq-cnn")


@pytest.mark.parametrize("model", ["textbook", "add-ons", "sqrf", "feed-forward", "mq-cnn", "ladder", "ensemble"])
def test_a_config_that_lacks_something_is_refused_in_a_sentence(model: str, tmp_path: Path) -> None:
    absent = {}, {"arguments": None, "members": None}, {"arguments": {"horizons": 3}}
    wrong = {"arguments": {"horizon": -3}, "members": []}
    for number, config in enumerate((*absent, wrong)):
        storage.write(tmp_path / str(number), {"model": model, **config}, {})
        with pytest.raises(DataError, match=f"{number}: not as this version saves a '.*'"):
            ladder.class_of(model).load(tmp_path / str(number))


def test_weights_of_another_network_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}: its weights are those of another network .* train it again"):
        storage.fill(torch.nn.Linear(2, 2), WEIGHTS, tmp_path)


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path) -> None:
    weights = {"weight": torch.ones(2, 2), "bias": torch.tensor([0.0, torch.nan])}
    with pytest.raises(DataError, match=f"{tmp_path}: its weights 'bias' are not all numbers"):
        storage.fill(torch.nn.Linear(2, 2), weights, tmp_path)


def test_what_is_raised_on_the_way_is_refused_in_a_sentence(tmp_path: Path) -> None:
    storage.write(tmp_path / "m", {"model": "m"}, {})
    for error in (RuntimeError("numbers must not be negative\nat 0x1"), MemoryError(), NotImplementedError()):
        refused = pytest.raises(DataError, match="m: not as this version saves a '.*' .* train it again$")
        with refused as found, storage.opened(tmp_path / "m", model="m"):
            raise error
        assert "0x1" not in str(found.value)


def test_holidays_of_no_country_are_refused() -> None:
    stored = {"yearly": True, "past": [], "known": [], "static": [], "categories": [], "logged": [], "holidays": "x"}
    with pytest.raises(ArgumentError, match="holidays must be the code of a country"):
        storage.as_encoding(stored)
