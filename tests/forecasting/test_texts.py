# SPDX-License-Identifier: Apache-2.0
"""Text covariates: values as columns of 0 and 1, worked out by hand; what rungs make of them, by a known effect."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sirdar.errors import ArgumentError, DataError
from sirdar.forecasting.covariates import Encoding
from sirdar.forecasting.models.addons import AddOns
from sirdar.forecasting.models.feedforward import FeedForward
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.sqrf import SparseQuantileForest
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.windows import Windows
from sirdar.testing.forecasters import panel_of


def days(events: Sequence[str | None], known: int, *, weather: Sequence[str | None] | None = None) -> pl.DataFrame:
    """One series of a row a day, its demand known on the first days."""
    columns = {
        "unique_id": "a",
        "ds": pl.date_range(dt.date(2024, 1, 1), dt.date(2024, 1, 1) + dt.timedelta(days=len(events) - 1), eager=True),
        "y": [float(day) if day < known else None for day in range(len(events))],
        "event": pl.Series(events, dtype=pl.String),
    }
    return pl.DataFrame(columns | ({} if weather is None else {"weather": weather}))


@pytest.mark.parametrize("kind", ["text", "category", "file"])
def test_every_value_of_a_text_is_a_covariate(kind: str, tmp_path: Path) -> None:
    frame = days(["fair", None, " sale", "fair", "", "sale", "once"], 5, weather=["wet", "dry"] * 3 + [None])
    if kind == "category":
        frame = frame.with_columns(pl.col("event", "weather").cast(pl.Categorical))
    if kind == "file":
        frame.write_csv(tmp_path / "days.csv")
    panel = Panel.read(tmp_path / "days.csv" if kind == "file" else frame, future=["event"], past=["weather"])
    assert panel.texts == ("weather", "event")
    assert {name: column.tolist() for name, column in panel.future.items()} == {
        "event=fair": [1, 0, 0, 1, 0, 0, 0],
        "event=once": [0, 0, 0, 0, 0, 0, 1],
        "event=sale": [0, 0, 1, 0, 0, 1, 0],
    }
    assert sorted(panel.past) == ["weather=dry", "weather=wet"]
    assert panel.past["weather=dry"].tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert panel.notes == ()


def test_a_promotion_may_be_text_and_is_known_where_it_is_planned() -> None:
    frame = days(["half price", "none"] * 3, 6)
    assert sorted(Panel.read(frame, promotion="event").past) == ["event=half price", "event=none"]
    planned = Panel.read(frame.with_columns(y=pl.when(pl.col("y") < 4).then("y")), promotion="event")
    assert sorted(planned.future) == ["event=half price", "event=none"]


def test_texts_of_finer_rows_are_gathered_as_shares_and_numbers_of_rows() -> None:
    frame = days(["fair", None, "fair", None, None, None, None] * 4, 28, weather=["wet", "dry"] * 14)
    panel = Panel.read(frame, freq="W", future=["event"], past=["weather"])
    np.testing.assert_allclose(panel.future["event=fair"], [2 / 7] * 4, rtol=1e-6)
    assert panel.past["weather=wet"].tolist() == [4, 3, 4, 3]


def test_the_commonest_values_are_told_apart() -> None:
    words = [f"word {number:02d}" for number in range(40) for _ in range(3 if number >= 20 else 2)]
    panel = Panel.read(days(words, len(words)), future=["event"])
    assert list(panel.future) == [f"event=word {number:02d}" for number in [*range(12), *range(20, 40)]]
    assert panel.notes == ("8 of the 40 values of 'event' are rare and count as none",)


@pytest.mark.parametrize("value", ["1,5", "10 %", "$ 3.50", "-7 €", "1 000"])
def test_what_looks_like_a_number_is_not_a_word(value: str) -> None:
    with pytest.raises(DataError, match=r"column 'event', row [12]: '.*' is not a number"):
        Panel.read(days([value, *["fair"] * 5], 6), future=["event"])


def test_a_word_beside_a_number_is_a_word() -> None:
    assert list(Panel.read(days(["size 3", *["fair"] * 5], 6), future=["event"]).future) == [
        "event=fair",
        "event=size 3",
    ]


def test_one_word_among_numbers_is_refused_and_so_is_a_price_in_words() -> None:
    with pytest.raises(DataError, match="column 'event', row 3: 'fair' is not a number"):
        Panel.read(days(["0", "1", "fair", "0"], 4), future=["event"])
    with pytest.raises(DataError, match="column 'event', row 1: 'cheap' is not a number"):
        Panel.read(days(["cheap"] * 4, 4), price="event")
    twin = days(["fair"] * 4, 4).with_columns(pl.lit(1.0).alias("event=fair"))
    with pytest.raises(DataError, match="column 'event' holds 'fair', but column 'event=fair' exists; rename one"):
        Panel.read(twin, future=["event"])


def test_files_of_one_table_agree_on_what_is_text(tmp_path: Path) -> None:
    frame = days(["fair", None, "fair", None, None, None], 6)
    for part in range(3):  # the last without any value
        frame[2 * part : 2 * part + 2].write_csv(tmp_path / f"{part}.csv")
    assert Panel.read(tmp_path, future=["event"]).future["event=fair"].tolist() == [1, 0, 1, 0, 0, 0]
    frame[4:].with_columns(event=pl.lit("7")).write_csv(tmp_path / "2.csv")
    with pytest.raises(DataError, match=r"0.csv: column 'event', row 1: 'fair' is not a number"):
        Panel.read(tmp_path, future=["event"])


@pytest.mark.parametrize("text", ["event", "a=b"])
def test_a_value_that_a_later_panel_never_takes_is_zero_there(text: str) -> None:
    def read(events: Sequence[str | None], **roles: list[str]) -> Panel:
        return Panel.read(days(events, 12).rename({"event": text}), **roles)

    learned = Encoding.fit(read(["fair", None, "sale"] * 4, future=[text]))
    nothing = days([None] * 12, 12).with_columns(pl.lit(float("nan")).alias(text))  # a column of no kind
    for later in (read(["sale", None] * 6, future=[text]), Panel.read(nothing, future=[text])):
        learned.require(later)
        assert later.covariate(f"{text}=fair").tolist() == [0] * 12
    for other in (read([None] * 12), read(["sale", None] * 6, past=[text])):  # seen afterwards is not known ahead
        with pytest.raises(ArgumentError, match=f"future covariate '{text}=fair', which this panel does not have"):
            learned.require(other)
    # A column that held nothing while learning may hold words later; one of numbers may not.
    Encoding.fit(read([None] * 12, future=[text])).require(read(["sale", None] * 6, future=[text]))


def test_a_column_of_numbers_may_not_become_text() -> None:
    numbers = Encoding.fit(Panel.read(days(["1", "2"] * 6, 12), future=["event"]))
    with pytest.raises(ArgumentError, match="future covariate 'event', which this panel does not have"):
        numbers.require(Panel.read(days(["sale", None] * 6, 12), future=["event"]))


def test_nothing_is_learned_of_a_value_that_history_holds_once() -> None:
    later = days(["fair", "fair", "once", None, "plan", "plan"], 4)
    assert [name for name, *_ in Encoding.fit(Panel.read(later, future=["event"])).known] == ["event=fair"]
    # Nor is anything of what is seen after the cut: a backtest does not change with the future.
    panel = Panel.read(days(["wet", "wet", "dry", "dry", "snow", "snow"], 6), past=["event"])
    assert [name for name, *_ in Encoding.fit(panel.cut(2)).past] == ["event=dry", "event=wet"]


def test_an_event_does_not_last_where_rows_are_absent() -> None:
    frame = pl.concat(
        [days([None, "fair", None, None, None], 2), days(["fair"], 1).with_columns(unique_id=pl.lit("b"))]
    )
    frame = frame.filter(~((pl.col("unique_id") == "a") & (pl.col("ds") == dt.date(2024, 1, 3))))
    for roles in ({"future": ["event"]}, {"promotion": "event"}):
        panel = Panel.read(frame, **roles)
        assert panel.future["event=fair"].tolist() == [0, 1, 0, 0, 0, 1]
    encoding = Encoding(yearly=False, known=(("event=fair", 0.0, 1.0),))
    known = Windows(panel, encoding, 2, 3).inputs(np.array([0, 1])).known[..., -1]
    assert known.tolist() == [[0, 1, 0, 0, 0], [0, 1, 0, 0, 0]]  # "b" has no row after the first


def test_promotions_by_the_name_of_their_column(fairs: Panel) -> None:
    both = AddOns(10).fit(fairs).predict(fairs).values
    np.testing.assert_array_equal(AddOns(10, promotions=["event"]).fit(fairs).predict(fairs).values, both)
    with pytest.raises(ArgumentError, match=r"no covariate 'event=fare'; it has .* Did you mean 'event=fair'\?"):
        AddOns(10, promotions=["event=fare"]).fit(fairs)


@pytest.fixture(scope="module")
def fairs() -> Panel:
    """Twenty series of 100 days whose demand triples at a fair and all but ends in rain; 10 days are planned."""
    events = {10: "fair", 24: "fair", 39: "fair", 57: "fair", 75: "fair", 90: "fair", 103: "fair"}
    events |= {5: "rain", 20: "rain", 44: "rain", 60: "rain", 82: "rain", 95: "rain", 107: "rain"}
    effect = {"fair": 3.0, "rain": 0.2, None: 1.0}
    told = [events.get(day) for day in range(110)]
    rng = np.random.default_rng(0)
    means = 20 * np.array([effect[event] for event in told])
    panel = panel_of([rng.poisson(means).astype(np.float32) for _ in range(20)], history=[100] * 20, unit="D")
    columns = {
        f"event={word}": np.tile(np.array([event == word for event in told], dtype=np.float32), 20)
        for word in ("fair", "rain")
    }
    return replace(panel, future=columns, texts=("event",)).known()


@pytest.mark.parametrize("rung", [MQCNN, FeedForward, SparseQuantileForest, AddOns])
def test_rungs_learn_what_a_text_does(
    rung: type[MQCNN | FeedForward | SparseQuantileForest | AddOns], fairs: Panel, tmp_path: Path
) -> None:
    model = rung(10).fit(fairs)
    median = np.median(model.predict(fairs).values[:, :, 4], axis=0)
    plain = np.median(np.delete(median, [3, 7]))
    assert median[3] > 1.5 * plain  # a fair, on the fourth of the planned days
    assert median[7] < 0.6 * plain  # rain, on the eighth
    quiet = replace(fairs, future={"event": np.full(len(fairs.target), np.nan, dtype=np.float32)})
    model.save(tmp_path / "model")
    assert np.ptp(np.median(rung.load(tmp_path / "model").predict(quiet).values[:, :, 4], axis=0)) < 0.5 * plain
