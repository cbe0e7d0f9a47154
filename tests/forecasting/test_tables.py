# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a file or a column is said in one sentence: the file, the column, the row and the value."""

import datetime as dt
import gzip
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sirdar.errors import DataError
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.tables import load_table, plain_times
from sirdar.testing.forecasters import NullForecaster

GOOD = "unique_id,ds,y\na,2024-01-01,1\na,2024-01-02,2\n"


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "table.csv: the file is empty"),
        ("\n", "table.csv: not a readable csv file"),
        ("unique_id,ds,y\n", "table.csv: the table has no rows"),
        ("unique_id,date,y\na,2024-01-01,1\n", "no column 'ds'; the columns are unique_id, date, y."),
        ("unique_ids,ds,y\na,2024-01-01,1\n", "no column 'unique_id'; .* Did you mean 'unique_ids'\\?"),
        (GOOD + "a,2024-01-03,three\n", "table.csv: column 'y', row 3: 'three' is not a number"),
        (
            GOOD + "a,2024-01-03,inf\n",
            "table.csv: column 'y', row 3: inf is infinite or too large; give a finite number",
        ),
        (GOOD + "a,2024-01-03,1e39\n", "column 'y', row 3: 1e\\+39 is infinite or too large"),
        (GOOD + "a,03/01/2024,3\n", "column 'ds', row 3: '03/01/2024' is not a date; write dates as YYYY-MM-DD"),
        (GOOD.replace("2024-01-0", "0").replace(",01,", ",01.01.2024,").replace(",02,", ",02.01.2024,"), None),
        (GOOD + 'a,2024-01-03,"1,008"\n', "row 3: '1,008' is not a number; write decimals with a point"),
        (GOOD + 'a,2024-01-03,"1,5"\na,2024-01-04,2.5\n', "row 3: '1,5' is not a number; write decimals with a point"),
        (GOOD + "a,2024-02-30,3\n", "column 'ds', row 3: '2024-02-30' is not a date"),
        (GOOD + "a,9999-12-31,3\n", "column 'ds', row 3: 9999-12-31 lies outside the years 1678 to 2261; correct it"),
        (GOOD + "a,2224-01-01,3\na,2224-01-02,3\n", None),
        (GOOD + "a,,3\n", "column 'ds' has no value in row 3; every row needs a date"),
        (GOOD + ",2024-01-03,3\n", "column 'unique_id' has no value in row 3; every row needs a series id"),
        (GOOD + "a,2024-01-02,3\n", "series 'a' has 2 rows for 2024-01-02 00:00:00 \\(row 2 and row 3\\); keep one"),
        ("unique_id,ds,y\na,2024-01-01,\na,2024-01-02,NaN\n", "column 'y' holds no value at all"),
        (GOOD + "a,2024-01-03,3,4\n", "table.csv: a row has more fields than the header; remove titles above it"),
        ("\nunique_id;ds;y\na;2024-01-01;1\na;2024-01-02;2\n", None),
        ('unique_id;ds;y;"price, net, a, b"\na;2024-01-01;1;1\na;2024-01-02;2;1\n', None),
        ("unique_id,ds,y,,\na,2024-01-01,1,,\na,2024-01-02,2,,\n", None),
        (GOOD.encode("utf-16-le"), "table.csv: the text is not UTF-8; save the table as UTF-8"),
        (GOOD.replace("\n", "\r"), "table.csv: its lines end in CR, or CR CR LF"),
        (GOOD + "a,2024-01-03,995\na,2024-01-04,1.008\n", "row 4: '1.008' may have a point that groups thousands"),
        (GOOD + "a,2024-01-03,99\na,2024-01-04,1.008\n", None),
        (GOOD + "a,2024-01-03,220\na,2024-01-04,12.125\n", None),
        (GOOD + "a,2024-01-03,995.0\na,2024-01-04,1.008\n", None),
        (GOOD + "a,2024-01-03,9950\na,2024-01-04,1.008\n", None),
        (GOOD + "a,2024-01-03,1.008\na,2024-01-04,1.250\n", "row 3: '1.008' may have a point that groups thousands"),
        ((GOOD + "a,2024-01-03,1.008\n").replace(",", ";"), "row 3: '1.008' may have a point that groups thousands"),
        ((GOOD + "a,2024-01-03,1.25\n").replace(",", ";"), None),
        (GOOD.replace(",1\n", ",1.250\n").replace(",2\n", ",2.008\n"), None),
        (GOOD + "a,45292,3\n", "row 3: '45292' is not a date; write dates as YYYY-MM-DD, not as Excel's count of days"),
        (GOOD.replace("1\n", "#N/A\n"), None),
        (GOOD.replace("unique_id,ds,y", " unique_id, ds, y"), None),
        ("unique_id, ds,y, y\na,2024-01-01,1,2\n", "no column 'ds'"),
        ("unique_id,ds,y\n\xe9,2024-01-01,1\n".encode("latin-1"), "table.csv: the text is not UTF-8; save"),
        (  # behind what Python decodes at once
            ("unique_id,ds,y\n" + "a,2024-01-01,1\n" * 9999 + "\xe9,2024-01-01,1\n").encode("latin-1"),
            "table.csv: the text is not UTF-8; save the table as UTF-8 CSV or Parquet",
        ),
        ("\xe9,ds,y\na,2024-01-01,1\n".encode("latin-1"), "table.csv: the text is not UTF-8; save the table as UTF-8"),
        ("unique_id,ds,y,y\na,2024-01-01,1,2\n", "table.csv: column 'y' comes 2 times; rename or remove all but one"),
        (b"PAR1\x00\x00PAR1", "table.csv: holds Parquet, not text; rename it to table.parquet"),
    ],
)
def test_bad_text_is_refused(tmp_path: Path, content: str | bytes, sentence: str | None) -> None:
    path = written(tmp_path / "table.csv", content)
    if sentence is None:
        assert len(Panel.read(path)) == 1
        return
    with pytest.raises(DataError, match=sentence) as caught:
        Panel.read(path)
    assert str(path) in str(caught.value)


def test_a_long_life_of_few_rows_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"s{i},1700-01-01,1\ns{i},1700-01-02,1\ns{i},2250-01-01,1\n" for i in range(6))
    path = written(tmp_path / "table.csv", "unique_id,ds,y\n" + rows)
    with pytest.raises(DataError, match="series 's0' has 3 rows over 200884 periods; check its dates"):
        Panel.read(path)


def test_files_in_disguise_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table.parquet: not Parquet, .* if it is text, rename it to table.csv"):
        Panel.read(written(tmp_path / "table.parquet", GOOD))
    with pytest.raises(
        DataError, match=r"table.xlsx: expected a .parquet or .csv file or a folder of them, got '.xlsx'"
    ):
        Panel.read(written(tmp_path / "table.xlsx", GOOD))
    with pytest.raises(DataError, match=r"nothing.csv: no such file or folder"):
        Panel.read(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match="cannot be read \\(File name too long\\)"):
        Panel.read(tmp_path / ("x" * 300 + ".csv"))


def test_text_may_be_packed(tmp_path: Path) -> None:
    packed = gzip.compress(GOOD.replace(",", ";").encode())
    written(tmp_path / "table.csv.gz", packed)
    for source in (tmp_path, tmp_path / "table.csv.gz"):
        assert Panel.read(source).target.tolist() == [1, 2]
    with pytest.raises(DataError, match=r"table.csv: holds gzip, not text; rename it to table.csv.gz"):
        Panel.read(written(tmp_path / "table.csv", packed))
    with pytest.raises(DataError, match=r"plain.csv.gz: holds text, not gzip; rename it to plain.csv"):
        Panel.read(written(tmp_path / "plain.csv.gz", GOOD))
    for damaged in (packed[:20], packed[:14] + b"\xff" * 20):
        with pytest.raises(DataError, match=r"half.csv.gz: (not a readable csv file|the text is not)"):
            Panel.read(written(tmp_path / "half.csv.gz", damaged))
    with pytest.raises(DataError, match=r"table.parquet.gz: expected a .parquet or .csv file"):
        Panel.read(written(tmp_path / "table.parquet.gz", packed))


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    load_table(written(tmp_path / "good.csv", GOOD)).write_parquet(tmp_path / "table.parquet")
    content = (tmp_path / "table.parquet").read_bytes()
    path = written(tmp_path / "table.parquet", content[: len(content) // 2])
    with pytest.raises(DataError, match=r"table.parquet: not a readable parquet file \(truncated or damaged\?\)"):
        Panel.read(path)


def test_a_folder_is_one_table(tmp_path: Path) -> None:
    written(tmp_path / "1.csv", GOOD)
    written(tmp_path / "2.csv", "ds;unique_id;y\n2024-01-03;a;3\n")
    written(tmp_path / "notes.md", "no table")
    assert Panel.read(tmp_path).target.tolist() == [1, 2, 3]
    pl.DataFrame({"unique_id": ["a"], "ds": [dt.date(2024, 1, 4)], "y": [4]}).write_parquet(tmp_path / "3.parquet")
    assert Panel.read(str(tmp_path)).target.tolist() == [1, 2, 3, 4]


def test_a_folder_names_the_file_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the folder holds no .parquet or .csv file"):
        Panel.read(tmp_path)
    written(tmp_path / "1.csv", GOOD)
    written(tmp_path / "2.csv", GOOD)
    with pytest.raises(DataError, match=r"2 rows for 2024-01-01 00:00:00 \(row 1 of 1.csv and row 1 of 2.csv\)"):
        Panel.read(tmp_path)
    written(tmp_path / "2.csv", "unique_id,ds,y\na,2024-01-03,x\n")
    with pytest.raises(DataError, match=r"2.csv: column 'y', row 1: 'x' is not a number"):
        Panel.read(tmp_path)
    written(tmp_path / "2.csv", "unique_id,ds,sales\na,2024-01-03,1\n")
    with pytest.raises(DataError, match=r"2.csv: column '(y|sales)' is in only one of it and 1.csv"):
        Panel.read(tmp_path)


def test_names_that_look_like_patterns_are_names(tmp_path: Path) -> None:
    folder = tmp_path / "year=2024"
    folder.mkdir()
    load_table(written(folder / "sales[1]*.csv", GOOD)).write_parquet(folder / "sales[1]*.parquet")
    assert Panel.read(folder / "sales[1]*.parquet").target.tolist() == [1, 2]
    assert load_table(folder / "sales[1]*.csv").columns == ["unique_id", "ds", "y"]


def test_a_message_stays_one_line_and_short() -> None:
    frame = pl.DataFrame({f"column\n{place}": [1] for place in range(500)})
    with pytest.raises(DataError, match="and 480 more") as caught:
        Panel.read(frame)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("column", "values", "dtype", "sentence"),
    [
        (
            "unique_id",
            [1.5, 2.0],
            pl.Float64,
            "column 'unique_id' holds Float64; series ids must be text or whole numbers",
        ),
        ("unique_id", [[1], [2]], pl.List(pl.Int64), "column 'unique_id' holds List"),
        ("unique_id", ["", "b"], pl.String, "no value in row 1"),
        ("ds", [20240101, 20241301], pl.Int64, "column 'ds' holds Int64, not dates; write them as YYYY-MM-DD"),
        ("ds", [1899, 1900], pl.Int64, "column 'ds' holds Int64, not dates; write them as YYYY-MM-DD"),
        ("ds", ["20240101", "20241301"], pl.String, "column 'ds', row 2: '20241301' is not a date"),
        ("ds", ["202453", "202501"], pl.String, "column 'ds', row 1: '202453' is not a date"),
        ("ds", ["2022-W52", "2022-W53"], pl.String, "column 'ds', row 2: '2022-W53' is not a date"),
        ("ds", ["1-Jan-2024", "2-Jan-24"], pl.String, "column 'ds', row 2: '2-Jan-24' is not a date"),
        ("ds", ["2024-01-01 00:00+02:00", "2024-13-01 00:00+02:00"], pl.String, r"'2024-13-01 00:00\+02:00' is not a"),
        ("ds", ["Jan-05", "Jan-12"], pl.String, "column 'ds', row 1: 'Jan-05' is not a date"),  # of which year?
        ("ds", ["24.01.31", "24.02.29"], pl.String, "column 'ds', row 1: '24.01.31' is not a date"),
        ("ds", ["24/01/07", "24/01/08"], pl.String, "column 'ds', row 1: '24/01/07' is not a date"),
        ("ds", [None, None], pl.Null, "column 'ds' has no value in row 1"),
        ("ds", [2**30, 0], pl.Date, "column 'ds', row 1: 2941775-04-07 lies outside"),
        ("y", [b"1", b"2"], pl.Binary, "column 'y' holds Binary, not numbers"),
        ("y", [float("inf"), 1.0], pl.Float64, "column 'y', row 1: inf is infinite"),
        ("y", [None, float("nan")], pl.Float64, "column 'y' holds no value at all"),
    ],
)
def test_columns_of_the_wrong_kind_are_refused(column: str, values: list, dtype: pl.DataType, sentence: str) -> None:
    frame = pl.DataFrame({"unique_id": ["a", "a"], "ds": [dt.date(2024, 1, 1), dt.date(2024, 1, 2)], "y": [1, 2]})
    bad = (
        pl.Series(column, values, dtype=pl.Int32).cast(pl.Date)
        if dtype == pl.Date
        else pl.Series(column, values, dtype)
    )
    with pytest.raises(DataError, match=sentence):
        Panel.read(frame.with_columns(bad))


@pytest.mark.parametrize(
    ("values", "dates"),
    [
        (["2024-07-01 00:00:00+00:00", "2024-07-02 00:00:00+00:00"], ["2024-07-01", "2024-07-02"]),
        (["2024-03-31 00:00:00+01:00", "2024-04-01 00:00:00+02:00"], ["2024-03-31", "2024-04-01"]),
        (["2024-07-01T00:00:00.000Z", "2024-07-02T00:00:00.000Z"], ["2024-07-01", "2024-07-02"]),
        (["2024-07-01 00:00:00.0 UTC", "2024-07-02 00:00:00 UTC"], ["2024-07-01", "2024-07-02"]),
        (["2024-07-01T00:00-0500", "2024-07-02T00:00-0500"], ["2024-07-01", "2024-07-02"]),
        (["20240131", "20240201"], ["2024-01-31", "2024-02-01"]),
        ([20240131, 20240201], ["2024-01-31", "2024-02-01"]),
        (["202312", "202401"], ["2023-12-01", "2024-01-01"]),
        ([2001, 2002], ["2001-01-01", "2002-01-01"]),
        (["2020-W53", "2021W01"], ["2020-12-28", "2021-01-04"]),
        (["2023-12-24/2023-12-30", "2023-12-31/2024-01-06"], ["2023-12-30", "2024-01-06"]),
        (["2019Q4", "2020-Q1"], ["2019-10-01", "2020-01-01"]),
        (["31-Jan-2024", "1 feb 2024"], ["2024-01-31", "2024-02-01"]),
        (["2024/01/07", "2024/1/8"], ["2024-01-07", "2024-01-08"]),
        (["2024/01/07 08:30", "2024/01/07T09:00:00Z"], ["2024-01-07", "2024-01-07"]),
        (["Dec-21", "Jan-22"], ["2021-12-01", "2022-01-01"]),
        (["Dec 2021", "Jan-2022"], ["2021-12-01", "2022-01-01"]),
        (["31.12.12", "1.1.13"], ["2012-12-31", "2013-01-01"]),
        (["31-Dec-12", "1-Jan-13"], ["2012-12-31", "2013-01-01"]),
    ],
)
def test_dates_as_other_programs_write_them(values: list, dates: list[str]) -> None:
    for several in (1, 5):  # dates that recur are read once
        found = plain_times(pl.Series("ds", values * several), "")
        assert found.dt.strftime("%Y-%m-%d").to_list() == dates * several
    assert plain_times(pl.Series("ds", values, strict=False).clear(), "").is_empty()


def test_the_index_and_the_periods_of_a_pandas_frame() -> None:
    rows = {"sku": ["a", "a", "b", "b"], "month": [*pd.period_range("2023-12", periods=2, freq="M")] * 2, "y": 1.0}
    frame = pd.DataFrame(rows)
    indexed = frame.set_index(["sku", "month"])
    for source in (frame, indexed, frame.set_index("month")):
        panel = Panel.read(source, id="sku", time="month")
        assert panel.frequency.written(panel.series(1)[0]) == ["2023-12-01", "2024-01-01"]
    assert (list(indexed.columns), str(frame["month"].dtype)) == (["y"], "period[M]")  # the caller's stay as they are
    weeks = frame.assign(month=[*pd.period_range("2024-01-01", periods=2, freq="W")] * 2)
    panel = Panel.read(weeks, id="sku", time="month")
    assert panel.frequency.written(panel.series(1)[0]) == ["2024-01-07", "2024-01-14"]  # weeks that end on Sundays do


def test_weeks_that_end_on_mondays_do(tmp_path: Path) -> None:
    """Dates alone would be taken for the first days of weeks."""
    weeks = pd.Series(pd.period_range("2024-01-02", periods=20, freq="W-MON"))
    table = pd.DataFrame({"unique_id": "a", "ds": weeks, "y": range(20)})
    table.assign(ds=weeks.astype(str)).to_csv(tmp_path / "table.csv", index=False)
    for source in (table, table.set_index("ds"), tmp_path / "table.csv"):
        panel = Panel.read(source, holidays="US")
        assert (panel.frequency.phase, panel.frequency.written(panel.series(0)[0])[0]) == (0, "2024-01-08")
        assert "weeks are taken to end on the Monday" in panel.notes[0]


def test_two_columns_that_name_the_series_together(tmp_path: Path) -> None:
    path = written(tmp_path / "table.csv", "store,brand,ds,y\n1,x,2024-01-01,1\n")
    with pytest.raises(DataError, match=r"no column 'store,brand'; .* y\. Join these into one column first\.$"):
        Panel.read(path, id="store,brand")


def test_a_clock_that_goes_back_is_named() -> None:
    # On 2024-10-27 at 02:00 London's clocks went back to 01:00.
    times = pl.datetime_range(
        dt.datetime(2024, 10, 26, 22), dt.datetime(2024, 10, 27, 4), "1h", time_zone="UTC", eager=True
    )
    frame = pl.DataFrame({"unique_id": "a", "ds": times.dt.convert_time_zone("Europe/London"), "y": range(len(times))})
    with pytest.raises(DataError, match="2024-10-27 01:00:00 comes twice, as the clocks of Europe/London go back"):
        Panel.read(frame)
    assert len(Panel.read(frame.with_columns(pl.col("ds").dt.convert_time_zone("UTC"))).target) == len(times)


def test_a_table_of_a_country_with_decimal_commas(tmp_path: Path) -> None:
    rows = "unique_id;ds;y\na;31.12.2023;1,5\na;01.01.2024;2\na;02.01.2024;0,125\n"
    (tmp_path / "table.csv").write_text(rows)
    panel = Panel.read(tmp_path / "table.csv")
    assert panel.series(0)[1].tolist() == [1.5, 2, 0.125]
    assert panel.frequency.written(panel.frequency.labels(panel.end - 1)) == ["2024-01-02"]


def test_folders_that_name_a_column_and_its_value(tmp_path: Path) -> None:
    rows = pl.DataFrame(
        {"sku": ["007", "007", "8"], "ds": [dt.date(2024, 1, day) for day in (1, 2, 3)], "y": [1.0, 2.0, 3.0]}
    )
    for sku, part in rows.group_by("sku"):
        (folder := tmp_path / "shop=1" / f"sku={sku[0]}").mkdir(parents=True)
        part.drop("sku").write_parquet(folder / "0.parquet")
    panel = Panel.read(tmp_path, id="sku", static=["shop"], freq="D")
    assert (panel.ids, panel.target.tolist()) == (["007", "8"], [1, 2, 3])
    assert panel.static["shop"].tolist() == ["1", "1"]
    assert load_table(tmp_path).height == 3
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"none: the folder holds no \.parquet or \.csv file"):
        Panel.read(tmp_path / "none")


def test_what_a_frame_lacks_is_told_with_a_way_out() -> None:
    frame = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=3), "y": 1.0})
    with pytest.raises(DataError, match="no column 'unique_id'; .* for one series alone add a column 'unique_id' of"):
        Panel.read(frame)
    indexed = frame.assign(unique_id="a").set_index("ds")
    with pytest.raises(DataError, match=r"an index of dates without a name; name it: frame\.rename_axis\('ds'\)"):
        Panel.read(indexed.rename_axis(None))
    with pytest.raises(DataError, match=r"got Series; make it one: series\.reset_index\(\)"):
        Panel.read(indexed["y"])


def test_a_batch_of_arrow_is_a_table() -> None:
    batch = pa.RecordBatch.from_pydict(
        {"unique_id": ["a"] * 3, "ds": [dt.date(2024, 1, day) for day in (1, 2, 3)], "y": [1.0, 2.0, 3.0]}
    )
    panel = Panel.read(batch)
    assert panel.target.tolist() == [1, 2, 3]
    assert isinstance(NullForecaster().predict(panel).to_frame(), pa.Table)
