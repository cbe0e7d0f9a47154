# SPDX-License-Identifier: Apache-2.0
"""`plot`: demand and its forecasts as a chart for a notebook."""

from collections.abc import Sequence

import altair as alt
import numpy as np

from sirdar.errors import ArgumentError, nearest
from sirdar.forecasting.panel import Panel
from sirdar.predictive import Forecast
from sirdar.report.plots import Rows

_SHOWN = 6  # series, unless they are named
_SEASONS = 4  # of history at most: what is ahead would be a sliver beside more


def plot(panel: Panel, forecast: Forecast | None = None, ids: Sequence[str] | None = None) -> alt.FacetChart:
    """Draws demand and what was forecast of it, one frame for each series.

    A forecast is its median and bands between levels of the same distance from it. Demand after the history of a `cut`
    panel is drawn beside the forecast.

    Args:
        panel: the demand.
        forecast: of these series; None for the history alone.
        ids: series to draw; the first six when None.

    Returns:
        An Altair chart: a notebook shows it, ``.save("demand.html")`` (or .png, .svg) keeps it.

    Raises:
        ArgumentError: a series is not in the panel, or not in the forecast.
    """
    chosen = _rows(panel.ids, list(panel.ids[:_SHOWN]) if ids is None else ids, "panel")
    ahead = 0 if forecast is None else forecast.horizon
    rows = [row for place in chosen for row in _history(panel, place, ahead)]
    base, seen = alt.Chart().encode(x=alt.X("t:T", title=None)), alt.datum.part == "demand"
    layers: list[alt.Chart] = []
    if forecast is not None:
        places = _rows(list(forecast.ids), [panel.ids[place] for place in chosen], "forecast")
        rows += [row for place in places for row in _ahead(forecast, place)]
        future = base.transform_filter(~seen)
        layers += [
            future.mark_area(opacity=0.2).encode(y=alt.Y(f"q{low}:Q", title=None), y2=f"q{high}:Q")
            for low, high in _bands(forecast.levels)
        ]
        layers.append(future.mark_line().encode(y=alt.Y("median:Q", title=None)))
    demand = base.transform_filter(seen).mark_line(
        color="black", strokeWidth=1, point={"size": 12, "color": "black"}, invalid="break-paths-show-path-domains"
    )
    layers.append(demand.encode(y=alt.Y("y:Q", title=None), tooltip=["t:T", "y:Q"]))
    chart = alt.layer(*layers, data=alt.InlineData(values=rows)).properties(width=360, height=160)
    names = alt.Facet("id:N", title=None, sort=[panel.ids[place] for place in chosen])
    return chart.facet(facet=names, columns=2).resolve_scale(x="independent", y="independent")


def _rows(known: list[str], wanted: Sequence[str], what: str) -> list[int]:
    places = {name: place for place, name in enumerate(known)}
    strange = next((name for name in wanted if name not in places), None)
    if strange is not None:
        msg = f"the {what} has no series {strange!r}.{nearest(str(strange), known)}"
        raise ArgumentError(msg)
    return [places[name] for name in wanted]


def _history(panel: Panel, place: int, ahead: int) -> Rows:
    """Demand of one series to the end of the forecast, as far as it is known."""
    begin, past = int(panel.indptr[place]), int(panel.history[place])
    first = max(0, past - _SEASONS * max(panel.frequency.season, 13))
    last = min(past + ahead, int(panel.indptr[place + 1]) - begin)
    seen = panel.target[begin + first : begin + last]
    labels = panel.frequency.labels(panel.start[place] + np.arange(first, last))
    return [
        {"part": "demand", "id": panel.ids[place], "t": str(t), "y": float(y) if np.isfinite(y) else None}
        for t, y in zip(labels, seen, strict=True)
    ]


def _ahead(forecast: Forecast, place: int) -> Rows:
    labels, middle = forecast.times()[place], forecast.median()[place]
    return [
        {"part": "forecast", "id": forecast.ids[place], "t": str(t), "median": float(m)}
        | {f"q{n}": float(v) for n, v in enumerate(values)}
        for t, m, values in zip(labels, middle, forecast.values[place], strict=True)
    ]


def _bands(levels: Sequence[float]) -> list[tuple[int, int]]:
    """Numbers of the levels of each band, the widest first."""
    return [
        (low, high)
        for low, level in enumerate(levels)
        for high, other in enumerate(levels)
        if level < other and round(level + other, 9) == 1
    ]
