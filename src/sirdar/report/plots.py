# SPDX-License-Identifier: Apache-2.0
"""The plots of a report as Vega-Lite specifications, made from plain rows.

Colours are the page's CSS variables, so that one specification serves light and dark. Data enter as values of rows and
never as field names or expressions, so that no product name can mean anything to Vega.
"""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

Spec = dict[str, Any]
Rows = list[dict[str, Any]]

ACCENT, WARM, INK, SOFT, MUTE = "var(--accent)", "var(--warm)", "var(--ink)", "var(--soft)", "var(--mute)"
_GUTTER = 44  # one width for the vertical axes of stacked panels, so that their time axes line up
_LOG_FROM = 20.0  # the ratio of largest to smallest from which a linear axis hides the small
_FONT = '-apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif'
_LARGE = 100_000  # from here on an axis says 100k, for want of room
_HEIGHT = 300
_TONES = alt.Scale(domain=["best", "reference", "other"], range=[ACCENT, SOFT, MUTE])


def bars(rows: Rows, what: str) -> Spec:
    """Horizontal bars of `value` by `name`, in the order given.

    Args:
        rows: name, value, label (the value as text) and tone ("best", "reference" or "other").
        what: the name of the quantity in the tooltip.
    """
    top = max((row["value"] for row in rows), default=1.0) or 1.0
    base = alt.Chart(_data(rows)).encode(
        x=alt.X("value:Q", axis=None, scale=alt.Scale(domain=[0, top * _room(rows)], nice=False)),
        y=_names(),
        tooltip=[alt.Tooltip("name:N", title="Name"), alt.Tooltip("label:N", title=what)],
    )
    bar = base.mark_bar(cornerRadiusEnd=3, height={"band": 0.66}).encode(color=_tone())
    text = base.mark_text(align="left", dx=7, fontSize=13, color=INK).encode(text="label:N")
    return _spec(alt.layer(bar, text), height=_tall(len(rows)))


def calibration(rows: Rows) -> Spec:
    """Observed against nominal share, one line per model, the diagonal being perfect.

    Args:
        rows: model, level, observed and tone.
    """
    share = {"format": "%", "values": [0, 0.2, 0.4, 0.6, 0.8, 1]}
    scale = alt.Scale(domain=[0, 1], nice=False)
    x = alt.X("level:Q", title="Nominal level of the quantile", scale=scale, axis=alt.Axis(**share))
    y = alt.Y("observed:Q", title="Share of demand at or below it", scale=scale, axis=alt.Axis(**share))
    tips = [
        alt.Tooltip("model:N", title="Model"),
        alt.Tooltip("level:Q", title="Nominal", format=".0%"),
        alt.Tooltip("observed:Q", title="Observed", format=".1%"),
    ]
    diagonal = alt.Chart(_data([{"level": 0, "observed": 0}, {"level": 1, "observed": 1}]))
    layers = [diagonal.mark_line(strokeDash=[4, 3], color=SOFT, strokeWidth=1.2).encode(x=x, y=y)]
    for best in (False, True):  # the winner is drawn last, over the others
        part = alt.Chart(_data([row for row in rows if (row["tone"] == "best") == best])).encode(x=x, y=y, tooltip=tips)
        layers.append(part.mark_line(strokeWidth=2.6 if best else 1.3).encode(detail="model:N", color=_tone()))
        layers.append(part.mark_circle(size=60 if best else 22, opacity=1).encode(color=_tone()))
    return _spec(alt.layer(*layers), height=_HEIGHT)


def errors(rows: Rows) -> Spec:
    """The relative error of each layer of a network, from input to output, coloured by its number format.

    Args:
        rows: layer (its place), name, format and error (above zero).
    """
    key = alt.Legend(title=None, orient="top", labelColor=INK, labelFontSize=12)
    points = alt.Chart(_data(rows)).mark_circle(size=40, opacity=1)
    encoded = points.encode(
        x=alt.X("layer:Q", title="Layer, from input to output", axis=alt.Axis(tickMinStep=1, format="d")),
        y=alt.Y("error:Q", title="Relative error", scale=alt.Scale(type="log")),
        color=alt.Color("format:N", legend=key),
        tooltip=["name:N", "format:N", alt.Tooltip("error:Q", format=".2e")],
    )
    return _spec(alt.layer(encoded), height=_HEIGHT)


def fan(history: Rows, forecast: Rows, bands: Sequence[tuple[str, str]], *, bars: bool, bare: bool) -> Spec:
    """History and the nested bands of its forecast.

    Args:
        history: t, y (None where not observed) and zero (whether y is 0).
        forecast: t, one field per bound, `median`, `top` (the highest bound), and for the tooltip the texts `likely`
            (median) and `wide` (range).
        bands: (lower field, upper field) pairs, widest first.
        bars: draw sales as bars and zeros as rings, for products that rarely sell.
        bare: leave the time labels to a panel beneath.
    """
    span = [row["t"] for row in history + forecast]
    past, future = alt.Chart(_data(history)), alt.Chart(_data(forecast))
    large = max([row["y"] or 0 for row in history] + [row["top"] for row in forecast]) >= _LARGE
    x, y = _time(span, labels=not bare), _units("y", large=large)
    layers = [
        future.mark_area(color=ACCENT, opacity=0.2, interpolate="monotone").encode(
            x=x, y=_units(low, large=large), y2=high
        )
        for low, high in bands
    ]
    if bars:
        layers.append(past.mark_bar(width=3, color=INK).encode(x=x, y=y))
        rings = past.transform_filter("datum.zero")
        layers.append(rings.mark_point(size=16, color=SOFT, strokeWidth=1.1).encode(x=x, y=y))
    else:
        line = past.mark_line(color=INK, strokeWidth=1.5, invalid="break-paths-show-path-domains")
        layers += [line.encode(x=x, y=y), past.mark_circle(color=INK, size=9, opacity=1).encode(x=x, y=y)]
    median = future.mark_line(
        color=ACCENT, strokeWidth=2.6, interpolate="monotone", point={"size": 22, "color": ACCENT}
    )
    layers.append(median.encode(x=x, y=_units("median", large=large)))
    layers += [
        _hover(past, x, span, ("y:Q", "Sold")),
        _hover(future, x, span, ("likely:N", "Median"), ("wide:N", "Range")),
    ]
    return _spec(alt.layer(*layers), height=150 if bare else 222)  # as tall with the price panel as without


def price_panel(history: Rows, span: Sequence[str]) -> Spec:
    """Price over time in steps, to stand beneath a fan whose time labels it carries.

    Args:
        history: t and price (None where unknown).
        span: all times of the fan above.
    """
    y = alt.Y("price:Q", title=None, scale=alt.Scale(zero=False, nice=True, padding=4), axis=_axis(2, "~g"))
    x = _time(span, labels=True)
    base = alt.Chart(_data(history))
    line = base.mark_line(
        color=WARM, strokeWidth=1.8, interpolate="step-after", invalid="break-paths-show-path-domains"
    ).encode(x=x, y=y)
    title = alt.Title("Price", anchor="start", fontSize=12, fontWeight="normal", color=SOFT, offset=4)
    return _spec(alt.layer(line, _hover(base, x, span, ("price:Q", "Price")), title=title), height=48)


def orders(rows: Rows, demand: Rows) -> Spec:
    """Stock on hand and the order on top of it, per product, with the demand they are to meet.

    Args:
        rows: name, part ("On hand and under way" or "Order"), units and place (0 for what stands first).
        demand: name and units expected until the next order can arrive.
    """
    color = alt.Color(
        "part:N",
        legend=None,
        scale=alt.Scale(domain=["On hand and under way", "Order", "Expected demand"], range=[MUTE, ACCENT, WARM]),
    )
    tips = [alt.Tooltip(f"{field}:N", title=title) for field, title in (("name", "Product"), ("part", "Part"))]
    tips.append(alt.Tooltip("units:Q", title="Units", format=",.0f"))
    x = alt.X("units:Q", title=None, axis=alt.Axis(tickCount=4, format=",~f", grid=True))
    stack = (
        alt.Chart(_data(rows))
        .mark_bar(height={"band": 0.62})
        .encode(x=x, y=_names(), color=color, order=alt.Order("place:Q"), tooltip=tips)
    )
    ticks = alt.Chart(_data(demand)).mark_tick(thickness=3, height={"band": 0.8}, color=WARM, opacity=1)
    return _spec(alt.layer(stack, ticks.encode(x=x, y=_names(), tooltip=tips)), height=_tall(len(demand)))


def dots(rows: Rows, what: str) -> Spec:
    """A dot per `name`, in the order given, with its range as a line where `low` differs from `high`.

    Args:
        rows: name, low, value, high (all positive), label (the value as text) and tone.
        what: the name of the quantity in the tooltip.
    """
    lowest, highest = min(row["low"] for row in rows), max(row["high"] for row in rows)
    log = highest / lowest > _LOG_FROM
    scale = (
        alt.Scale(type="log", domain=[lowest / 1.3, highest * (highest / lowest) ** 0.3], nice=False)
        if log
        else alt.Scale(domain=[0, highest * _room(rows)], nice=False)
    )
    marks: dict[str, Any] = {"values": _decades(lowest, highest)} if log else {"tickCount": 4}
    axis = alt.Axis(format="~g", grid=True, **marks)
    x = alt.X("value:Q", title=f"{what}, logarithmic" if log else what, scale=scale, axis=axis)
    base = alt.Chart(_data(rows)).encode(
        y=_names(), tooltip=[alt.Tooltip("name:N", title="Chip"), alt.Tooltip("full:N", title=what)]
    )
    span = base.mark_rule(strokeWidth=4, strokeCap="round", opacity=0.45).encode(
        x=alt.X("low:Q", scale=scale), x2="high:Q", color=_tone()
    )
    point = base.mark_circle(size=90, opacity=1).encode(x=x, color=_tone())
    text = base.mark_text(align="left", dx=9, fontSize=12, color=INK).encode(
        x=alt.X("high:Q", scale=scale), text="label:N"
    )
    return _spec(alt.layer(span, point, text), height=_tall(len(rows)))


def stock(rows: Rows) -> Spec:
    """Stock after each step as an area, what was ordered as bars and what was wanted as a line, over time.

    Args:
        rows: t, stock, order and demand.
    """
    span = [row["t"] for row in rows]
    large = max(max(row["stock"], row["order"], row["demand"]) for row in rows) >= _LARGE
    x, base = _time(span, labels=True), alt.Chart(_data(rows))
    layers = [
        base.mark_area(color=MUTE, opacity=0.45, interpolate="step-after").encode(x=x, y=_units("stock", large=large)),
        base.mark_bar(color=ACCENT, width=4).encode(x=x, y=_units("order", large=large)),
        base.mark_line(color=INK, strokeWidth=1.5).encode(x=x, y=_units("demand", large=large)),
        _hover(base, x, span, ("stock:Q", "Left"), ("order:Q", "Ordered"), ("demand:Q", "Wanted")),
    ]
    return _spec(alt.layer(*layers), height=222)


def trade_off(curves: Rows, marks: Rows) -> Spec:
    """Cost against the share of demand served, one line per policy, and policies without a curve as named points.

    Args:
        curves: name, place (rising along the line), service (0..1), cost, label (what was varied), tone, and true
            (whether decided at the true cost).
        marks: name, service, cost and label.
    """
    top = max(row["cost"] for row in curves + marks) * 1.08 or 1.0
    axis = alt.Axis(format=".0%", tickCount=5)
    x = alt.X("service:Q", title="Share of demand served", axis=axis, scale=alt.Scale(zero=False, padding=24))
    style = "~s" if top >= _LARGE else ",~f"
    y = alt.Y("cost:Q", title="Cost", scale=alt.Scale(domain=[0, top]), axis=alt.Axis(tickCount=5, format=style))
    tips = [alt.Tooltip(f"{key}:N", title=title) for key, title in (("name", "Policy"), ("label", "Decided at"))]
    tips += [
        alt.Tooltip("service:Q", title="Served", format=".1%"),
        alt.Tooltip("cost:Q", title="Cost", format=",.0f"),
    ]
    line = alt.Chart(_data(curves)).encode(x=x, y=y, tooltip=tips)
    point = alt.Chart(_data(marks)).encode(x=x, y=y, tooltip=tips)
    layers = [
        line.mark_line(strokeWidth=2).encode(detail="name:N", color=_tone(), order=alt.Order("place:Q")),
        line.mark_circle(size=34, opacity=1).encode(color=_tone()),
        line.transform_filter("datum.true").mark_point(size=150, strokeWidth=2).encode(color=_tone()),
        point.mark_point(shape="diamond", size=80, filled=True, color=WARM, opacity=1),
        point.mark_text(dy=-12, fontSize=12, color=INK).encode(text="name:N"),
    ]
    return _spec(alt.layer(*layers), height=_HEIGHT)


def _room(rows: Rows) -> float:
    """By what factor an axis must reach beyond its largest value for the longest label to fit, on a phone."""
    return 1.1 + 0.05 * max((len(row["label"]) for row in rows), default=0)


def _tall(rows: int) -> int:
    """The height of a plot of so many bars: the same for all in the page, unless they have few bars or many."""
    return min(max(_HEIGHT, 26 * rows), 46 * rows)


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten around a range: the gridlines of a logarithmic axis, with few enough labels for a phone."""
    steps = (1,) if high / low > 1000 else (1, 2, 5) if high / low < 50 else (1, 3)
    first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
    return [step * 10.0**power for power in range(first, last + 1) for step in steps]


def _data(rows: Rows) -> alt.InlineData:
    return alt.InlineData(values=rows)


def _names() -> alt.Y:
    return alt.Y(
        "name:N", sort=None, title=None, axis=alt.Axis(grid=False, labelColor=INK, labelPadding=8, labelLimit=132)
    )


def _tone() -> alt.Color:
    return alt.Color("tone:N", scale=_TONES, legend=None)


def _time(span: Sequence[str], *, labels: bool) -> alt.X:
    scale = alt.Scale(domain=[min(span), max(span)], nice=False)
    axis = alt.Axis(grid=False, labels=labels, ticks=labels, tickCount=6, labelOverlap="greedy", labelFlush=True)
    return alt.X("t:T", title=None, scale=scale, axis=axis)


def _units(field: str, *, large: bool) -> alt.Y:
    return alt.Y(f"{field}:Q", title=None, scale=alt.Scale(zero=True), axis=_axis(4, "~s" if large else ",~f"))


def _axis(ticks: int, style: str) -> alt.Axis:
    return alt.Axis(tickCount=ticks, minExtent=_GUTTER, maxExtent=_GUTTER, format=style)


def _hover(base: alt.Chart, x: alt.X, span: Sequence[str], *fields: tuple[str, str]) -> alt.Chart:
    """Unseen strips, one per time, that carry the tooltip: a finger cannot hit a point of three pixels."""
    hour = "" if all(time.endswith("T00:00:00") for time in span) else ", %H:%M"
    tips = [alt.Tooltip("t:T", title="Period", format=f"%d %b %Y{hour}")]
    tips += [alt.Tooltip(field, title=title) for field, title in fields]
    return base.mark_rule(strokeWidth=9, opacity=0).encode(x=x, tooltip=tips)


def _spec(chart: alt.LayerChart | alt.FacetChart, height: int) -> Spec:
    """The finished specification: as wide as its box, without a background, in the page's type and inks."""
    axis = {"labelColor": SOFT, "titleColor": SOFT, "gridColor": "var(--grid)", "domainColor": "var(--line)"}
    sizes = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 8}
    chart = chart.properties(width="container", height=height, background="transparent", padding=2)
    chart = chart.configure(
        font=_FONT,
        axis={**axis, **sizes, "tickColor": "var(--line)"},
        view={"stroke": None},
        autosize={"type": "fit-x"},
    )
    spec = chart.to_dict()
    del spec["$schema"]  # an address, in a page that promises to have none
    return spec
