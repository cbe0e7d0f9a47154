# SPDX-License-Identifier: Apache-2.0
"""The specifications are valid Vega-Lite, carry their rows, and hold no address."""

import json

import pytest
import vl_convert

from sirdar.report import plots
from sirdar.report.plots import Rows, Spec

HOSTILE = "datum['x'] + \"'</script>\\"
DAYS = [f"2011-0{month}-02T00:00:00" for month in range(1, 8)]


def _fan(top: float = 9.0, *, bars: bool = False, bare: bool = False) -> Spec:
    history: Rows = [{"t": day, "y": y, "zero": y == 0} for day, y in zip(DAYS[:4], (3, None, 0, 5), strict=True)]
    future: Rows = [
        {"t": day, "q0": 1, "q1": 2, "q2": top, "median": 2, "top": top, "likely": "2", "wide": "1 – 9"}
        for day in DAYS[4:]
    ]
    return plots.fan(history, future, [("q0", "q2")], bars=bars, bare=bare)


def _dots(*values: float) -> Spec:
    rows: Rows = [
        {"name": f"{HOSTILE}{i}", "low": v / 2, "value": v, "high": 2 * v, "label": "x", "full": "x", "tone": "best"}
        for i, v in enumerate(values)
    ]
    return plots.dots(rows, "kWh")


SPECS = {
    "bars": plots.bars([{"name": HOSTILE, "value": 0.5, "label": "0.5", "tone": "best"}], "Loss"),
    "no bars": plots.bars([], "Loss"),
    "calibration": plots.calibration([{"model": HOSTILE, "level": 0.5, "observed": 0.4, "tone": "best"}]),
    "fan": _fan(),
    "intermittent": _fan(bars=True),
    "fan over a panel": _fan(bare=True),
    "price": plots.price_panel([{"t": DAYS[0], "price": 2.5}, {"t": DAYS[1], "price": None}], DAYS),
    "orders": plots.orders(
        [{"name": HOSTILE, "part": "Order", "units": 3, "place": 1}],
        [{"name": HOSTILE, "part": "Expected demand", "units": 2}],
    ),
    "errors": plots.errors([{"layer": 1, "name": HOSTILE, "format": "bf16", "error": 1e-3}]),
    "stock": plots.stock([{"t": day, "stock": 3, "order": 2, "demand": 1.5} for day in DAYS]),
    "trade-off": plots.trade_off(
        [
            {"name": HOSTILE, "place": i, "service": i / 3, "cost": 9, "label": "1", "tone": "best", "true": i == 1}
            for i in range(3)
        ],
        [{"name": HOSTILE, "service": 0.5, "cost": 7, "label": "1"}],
    ),
    "dots": _dots(1.0, 2.0),
    "dots far apart": _dots(1e-5, 3.0),
}


@pytest.mark.parametrize("name", SPECS)
def test_vega_lite_draws_it(name: str) -> None:
    fixed = {**SPECS[name], "width": 300}  # "container" means nothing outside a page

    assert vl_convert.vegalite_to_svg(fixed).count("role-mark") > 0
    assert "http" not in json.dumps(SPECS[name])
    assert SPECS[name]["width"] == "container"


def test_an_axis_shortens_large_numbers_only() -> None:
    assert '"~s"' not in json.dumps(_fan())
    assert '"~s"' in json.dumps(_fan(top=250_000.0))


def test_a_tooltip_tells_the_hour_where_there_is_one() -> None:
    hourly = plots.stock([{"t": f"2024-01-01T0{hour}:00", "stock": 3, "order": 2, "demand": 1} for hour in range(3)])
    assert "%d %b %Y, %H:%M" in json.dumps(hourly)
    assert "%H" not in json.dumps(SPECS["stock"])


def test_a_wide_range_gets_a_logarithmic_axis() -> None:
    assert '"log"' not in json.dumps(_dots(1.0, 2.0))
    assert '"log"' in json.dumps(_dots(1e-5, 3.0))


def test_names_are_data_only() -> None:
    spec = json.loads(json.dumps(SPECS["bars"]))

    assert any(HOSTILE in json.dumps(rows) or rows[0]["name"] == HOSTILE for rows in spec.pop("datasets").values())
    assert "datum['x']" not in json.dumps(spec)
