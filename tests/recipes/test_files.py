# SPDX-License-Identifier: Apache-2.0
"""Results on disk are whole or absent."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from sirdar.errors import DataError, OutputError
from sirdar.predictive import Forecast, Frequency
from sirdar.recipes import files


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with files.output_folder(tmp_path / "out") as scratch:
            (scratch / "half.json").write_text("{")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    def fail() -> None:
        with files.output_folder(tmp_path / "out"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match=r"out: cannot be written \(No space left on device\)"):
        fail()


def test_a_later_run_replaces_files_and_keeps_others(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "model").mkdir(parents=True)
    (out / "mine.txt").write_text("kept")
    (out / "run.json").write_text("old")
    with files.output_folder(out) as scratch:
        (scratch / "run.json").write_text("new")
        (scratch / "model").mkdir()
        (scratch / "model" / "config.json").write_text("{}")
    assert (out / "run.json").read_text() == "new"
    assert (out / "mine.txt").read_text() == "kept"
    assert [item.name for item in (out / "model").iterdir()] == ["config.json"]


@pytest.mark.parametrize("below", ["file/out", "file"])
def test_a_folder_that_cannot_be_is_refused_at_once(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")

    def enter() -> None:
        with files.output_folder(tmp_path / below):
            pytest.fail("the block must not run")

    with pytest.raises(OutputError, match="choose another --out"):
        enter()


def test_an_existing_folder_is_written_from_within(tmp_path: Path) -> None:
    """It may be a disk of its own, or stand in a folder that may not be written."""
    out, link = tmp_path / "out", tmp_path / "link"
    out.mkdir()
    link.symlink_to(out)
    with files.output_folder(link) as scratch:
        assert scratch.parent == out
        (scratch / "a.txt").write_text("a")
    assert link.is_symlink()
    assert [item.name for item in out.iterdir()] == ["a.txt"]


def test_a_link_in_the_place_of_a_folder_is_replaced_and_what_it_points_at_is_not(tmp_path: Path) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    for folder in (elsewhere, out):
        folder.mkdir()
    (elsewhere / "mine.txt").write_text("kept")
    (out / "model").symlink_to(elsewhere)
    with files.output_folder(out) as scratch:
        (scratch / "model").mkdir()
    assert (out / "model").is_dir()
    assert not (out / "model").is_symlink()
    assert (elsewhere / "mine.txt").read_text() == "kept"


def test_what_an_earlier_run_left_goes_where_it_is_not_written_again(tmp_path: Path) -> None:
    for names in (("old", "both"), ("both",)):
        with files.output_folder(tmp_path / "out", stale=["old", "both"]) as scratch:
            for name in names:
                (scratch / name).mkdir()
    assert [item.name for item in (tmp_path / "out").iterdir()] == ["both"]


def test_scratch_folders_of_killed_runs_are_swept_and_those_in_use_are_not(tmp_path: Path) -> None:
    with files.output_folder(tmp_path / "out") as killed:
        pass  # what it was called is free by now
    (tmp_path / "out").rmdir()
    killed.mkdir()
    with files.output_folder(tmp_path / "out") as scratch:
        assert not killed.exists()
        with files.output_folder(tmp_path / "out"):
            assert scratch.exists()
    killed.mkdir()
    assert (tmp_path / "out").exists()  # by now: what was killed before lies beside it
    with files.output_folder(tmp_path / "out"):
        assert not killed.exists()


def test_a_table_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    import polars as pl

    for name in ("x.parquet", "x.csv"):
        with pytest.raises(OutputError, match=f"{name}: cannot be written"):
            files.write_table(pl.DataFrame({"a": [1]}), tmp_path / "nowhere" / name)


def test_a_forecast_survives_the_disk(tmp_path: Path) -> None:
    frequency = Frequency("M", offset=-1)
    values = np.sort(np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32), axis=2)
    levels = (1e-5, 1 / 3, 0.5, 0.75, 0.9999999)
    forecast = Forecast(["b", "a", "c"], np.array([600, 601, 602]), frequency, levels, values, correlation=0.25)
    files.write_forecast(forecast, tmp_path / "forecast.parquet")
    again = files.read_forecast(tmp_path / "forecast.parquet")
    assert list(again.ids) == ["b", "a", "c"]
    assert (again.frequency, again.levels, again.floor, again.correlation) == (
        frequency,
        forecast.levels,
        -np.inf,
        0.25,
    )
    np.testing.assert_array_equal(again.start, forecast.start)
    np.testing.assert_array_equal(again.values, values)


def test_a_floor_of_each_series_survives_the_disk(tmp_path: Path) -> None:
    values, floor = np.ones((2, 1, 1), dtype=np.float32), np.array([0.0, -np.inf], dtype=np.float32)
    forecast = Forecast(["b", "a"], np.array([600, 600]), Frequency("M"), (0.5,), values, floor)
    files.write_forecast(forecast, tmp_path / "forecast.parquet")
    np.testing.assert_array_equal(files.read_forecast(tmp_path / "forecast.parquet").floor, floor)


def test_another_table_is_no_forecast(tmp_path: Path) -> None:
    import polars as pl

    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="not a forecast"):
        files.read_forecast(tmp_path / "other.parquet")


def test_json_has_no_nan(tmp_path: Path) -> None:
    files.write_json({"a": [float("nan"), np.float32(1.5)], "b": (np.int64(2), float("inf"))}, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, 1.5], "b": [2, None]}


def test_parents_that_were_made_go_with_a_failed_block(tmp_path: Path) -> None:
    def fail() -> None:
        with files.output_folder(tmp_path / "a" / "b" / "c"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not list(tmp_path.iterdir())
