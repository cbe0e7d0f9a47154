# SPDX-License-Identifier: Apache-2.0
"""Forecasters on disk: what is written is read back, and nothing else is ever overwritten."""

from pathlib import Path

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

    storage.write(tmp_path / "m", {"model": "m", "version": 1}, {}, {"a": member, "b": member})
    with pytest.raises(OutputError, match="No space"):
        storage.write(tmp_path / "m", {"model": "m", "version": 2}, {}, {"a": member, "b": full})
    assert storage.read(tmp_path / "m", model="m")[0]["version"] == 1
    for name in ("a", "b"):
        assert storage.read(tmp_path / "m" / name, model="member")[0]["version"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("model", [AddOns(3), Ladder(3, ["seasonal-naive"])])
def test_killed_between_its_renames_the_old_forecaster_is_found(model: AddOns | Ladder, tmp_path: Path) -> None:
    panel = example_panel()
    expected = model.fit(panel).predict(panel).values
    model.save(tmp_path / "m")
    (tmp_path / "m").rename(tmp_path / "m.old")
    (tmp_path / "m.part").mkdir()
    assert np.array_equal(type(model).load(tmp_path / "m").predict(panel).values, expected)
    assert storage.model_of(tmp_path / "m") == ladder.kind_of(model)
    model.save(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_cannot_be_renamed_leaves_what_stood_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write(tmp_path / "m", {"model": "m", "version": 1}, {})
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path.suffix == ".part":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OutputError, match="m: cannot be written .Permission denied"):
        storage.write(tmp_path / "m", {"model": "m", "version": 2}, {})
    assert storage.read(tmp_path / "m", model="m")[0]["version"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


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
        with pytest.raises(DataError, match=f"{number}: not as this version saves a forecaster"):
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
        refused = pytest.raises(DataError, match="m: not as this version saves a forecaster .* train it again$")
        with refused as found, storage.opened(tmp_path / "m", model="m"):
            raise error
        assert "0x1" not in str(found.value)


def test_holidays_of_no_country_are_refused() -> None:
    stored = {"yearly": True, "past": [], "known": [], "static": [], "categories": [], "logged": [], "holidays": "x"}
    with pytest.raises(ArgumentError, match="holidays must be the code of a country"):
        storage.as_encoding(stored)
