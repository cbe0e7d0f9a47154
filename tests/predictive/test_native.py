# SPDX-License-Identifier: Apache-2.0
"""Forecasts must be joinable with the table they were made from: the same types of ids and times."""

from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sirdar.forecasting.models.textbook import Textbook
from sirdar.forecasting.panel import Panel
from sirdar.predictive.native import Native, answered

DAYS = pl.date_range(date(2024, 1, 1), date(2024, 3, 10), eager=True)
TABLE = pl.DataFrame(
    {"unique_id": pl.Series([7] * 70 + [70] * 70, dtype=pl.Int32), "ds": [*DAYS, *DAYS], "y": [1.0, 2.0, 3.0, 4.0] * 35}
)


def forecast_of(frame: Any) -> Any:  # noqa: ANN401 - any frame
    return Textbook(3, method="seasonal-naive").fit(panel := Panel.read(frame, freq="D")).predict(panel).to_frame()


@pytest.mark.parametrize("ids", [pl.Int32, pl.UInt16, pl.String, pl.Categorical, pl.Enum(["7", "70"])], ids=str)
@pytest.mark.parametrize("times", [pl.Date, pl.Datetime("ms"), pl.Datetime("us", "Europe/Berlin")], ids=str)
def test_polars_types_come_back(ids: Any, times: Any) -> None:  # noqa: ANN401 - types of polars
    zone = getattr(times, "time_zone", None)
    dated = pl.col("ds").cast(pl.Datetime("us")).dt.replace_time_zone(zone) if zone else pl.col("ds").cast(times)
    given = TABLE.with_columns(pl.Series("unique_id", ["7"] * 70 + ["70"] * 70).cast(ids), dated)
    answer = forecast_of(given)
    assert answer.schema["unique_id"] == given.schema["unique_id"]
    assert answer.schema["ds"] == given.schema["ds"]
    assert answer["unique_id"].cast(pl.String).to_list() == ["7"] * 3 + ["70"] * 3
    expected = [date(2024, 3, 11), date(2024, 3, 12), date(2024, 3, 13)]
    shown = answer["ds"] if times == pl.Date else answer["ds"].dt.date()
    assert shown.to_list() == expected * 2
    assert answer.join(given, on=["unique_id", "ds"], how="anti").height == 6


def test_pandas_types_come_back() -> None:
    given = TABLE.to_pandas().assign(ds=lambda frame: pd.to_datetime(frame["ds"]).dt.tz_localize("America/New_York"))
    answer = forecast_of(given)
    assert answer["unique_id"].dtype == given["unique_id"].dtype
    assert str(answer["ds"].dt.tz) == "America/New_York"
    assert answer["ds"].dt.hour.unique().tolist() == [0]
    assert given.merge(answer, on=["unique_id", "ds"]).empty


@pytest.mark.parametrize(
    "ids",
    [
        lambda ids: ids.astype(object),
        lambda ids: ids.astype("category"),
        lambda ids: ids.astype("float64"),
        lambda ids: ids.astype("Int64"),
        lambda ids: ids == 7,
    ],
)
@pytest.mark.parametrize(
    "times",
    [
        lambda times: times.dt.date,
        lambda times: times.dt.strftime("%Y-%m-%d"),
        lambda times: times.dt.to_period("D"),
        lambda times: times.dt.tz_localize(timezone(timedelta(hours=2))),
        lambda times: times.astype(pd.ArrowDtype(pa.date32())),
    ],
)
def test_whatever_pandas_holds_can_be_joined(
    ids: Callable[[pd.Series], pd.Series], times: Callable[[pd.Series], pd.Series]
) -> None:
    whole = TABLE.to_pandas().assign(ds=lambda frame: pd.to_datetime(frame["ds"]))
    whole = whole.assign(unique_id=ids(whole["unique_id"]), ds=times(whole["ds"]))
    answer = forecast_of(whole.groupby("unique_id", observed=True).head(67))
    assert answer.dtypes["unique_id"] == whole.dtypes["unique_id"]
    assert len(answer.merge(whole, on=["unique_id", "ds"])) == 6


def test_dates_that_polars_holds_as_text_come_back_as_text() -> None:
    answer = forecast_of(given := TABLE.with_columns(pl.col("ds").cast(pl.String), pl.col("unique_id") == 7))
    assert answer.schema["unique_id"] == pl.Boolean
    assert answer["ds"].to_list() == ["2024-03-11", "2024-03-12", "2024-03-13"] * 2
    minutes = given.with_columns(pl.col("ds") + " 00:00")
    assert forecast_of(minutes).schema["ds"] == pl.Datetime("us")


def test_arrow_types_come_back() -> None:
    answer = forecast_of(given := TABLE.to_arrow())
    assert isinstance(answer, pa.Table)
    assert answer.schema.field("unique_id").type == given.schema.field("unique_id").type
    assert answer.schema.field("ds").type == given.schema.field("ds").type


def test_hours_that_a_clock_skips_or_shows_twice() -> None:
    """Berlin, 2024: 2 o'clock did not exist on March 31, and came twice on October 27."""
    local = pl.Series([datetime(2024, 3, 31, 2), datetime(2024, 10, 27, 2)]).to_numpy().astype("datetime64[us]")
    like = Native("polars", zone="Europe/Berlin")
    answer = answered({"id": ["a", "b"], "t": local}, like, "id", "t")
    assert answer["t"].dt.convert_time_zone("UTC").dt.hour().to_list() == [1, 0]


def test_other_ids_than_the_tables_stay_text() -> None:
    """Forecasts of groups, say, made from those of a table with whole numbers as ids."""
    assert answered({"id": ["2"]}, Native("polars", (["1"], pl.Series([1]))), "id")["id"].to_list() == [2]
    assert answered({"id": ["toys"]}, Native("polars", (["1"], pl.Series([1]))), "id")["id"].to_list() == ["toys"]
