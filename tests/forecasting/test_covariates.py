# SPDX-License-Identifier: Apache-2.0
"""Covariates as channels; expected numbers by hand from the definition of each channel."""

from dataclasses import replace

import numpy as np
import pytest

from sirdar.errors import ArgumentError
from sirdar.forecasting.covariates import Encoding, against_usual, calendar_features, is_flag, unknown_ahead
from sirdar.forecasting.features import Features
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.windows import Windows
from sirdar.predictive import Frequency
from sirdar.testing.forecasters import panel_of


def with_columns(**roles: dict[str, np.ndarray]) -> Panel:
    return replace(panel_of([[1, 2, 3, 4], [5, 6]]), **roles)


@pytest.mark.parametrize(
    ("unit", "yearly", "channels"),
    [
        ("h", False, 10),
        ("D", False, 6),
        ("D", True, 12),
        ("W", False, 0),
        ("W", True, 6),
        ("M", True, 4),
        ("Y", True, 0),
    ],
)
def test_the_calendar_has_a_sine_and_a_cosine_per_harmonic(unit: str, yearly: bool, channels: int) -> None:  # noqa: FBT001
    found = calendar_features(Frequency(unit), np.arange(12).reshape(3, 4), yearly=yearly)
    assert found.shape == (3, 4, channels)
    assert found.dtype == np.float32


def test_the_calendar_repeats() -> None:
    weekdays = calendar_features(Frequency("D"), np.arange(19_000, 19_014), yearly=False)
    np.testing.assert_allclose(weekdays[:7], weekdays[7:], atol=1e-4)
    assert len(np.unique(weekdays[:7].round(3), axis=0)) == 7
    months = calendar_features(Frequency("M"), np.arange(24), yearly=True)
    np.testing.assert_allclose(months[:12], months[12:], atol=1e-5)
    np.testing.assert_allclose(months[3, :2], [1, 0], atol=1e-6)  # a quarter of the year: sine 1, cosine 0


def test_the_year_is_told_once_it_was_seen_twice() -> None:
    assert not Encoding.fit(panel_of([np.ones(104)])).yearly  # 104 weeks are less than twice 52.18
    assert Encoding.fit(panel_of([np.ones(105)])).yearly


def test_a_covariate_is_brought_to_zero_mean_and_unit_spread() -> None:
    temperature = np.array([-2, 0, 2, 4, 6, np.nan], dtype=np.float32)
    encoding = Encoding.fit(with_columns(past={"temperature": temperature}))
    assert encoding.past == (("temperature", 2.0, pytest.approx(np.sqrt(8))),)
    assert encoding.logged == ()  # negative values have no logarithm
    found = encoding.scaled("temperature", temperature, *encoding.past[0][1:])
    np.testing.assert_allclose(found, [*(np.array([-4, -2, 0, 2, 4]) / np.sqrt(8)), 0], rtol=1e-6)
    assert encoding.scaled("temperature", np.array([1e9, -np.inf]), 2.0, 1.0).tolist() == [5, -5]


def test_what_never_varied_in_history_tells_nothing_later() -> None:
    """A first event in the plan: no weight has seen what it does."""
    event = np.array([0, 0, 0, 1, 0, 0], dtype=np.float32)
    panel = with_columns(future={"event": event})
    assert Encoding.fit(panel).known[0][2] > 0
    planned = panel.cut(1)  # the event is then a step ahead
    encoding = Encoding.fit(planned)
    assert not encoding.scaled("event", event, *encoding.known[0][1:]).any()


def test_a_skewed_positive_covariate_is_taken_as_a_logarithm() -> None:
    price = np.array([1, 1, 2, 2, 100, 3], dtype=np.float32)
    encoding = Encoding.fit(with_columns(future={"price": price}))
    assert encoding.logged == ("price",)
    assert encoding.known[0][1] == pytest.approx(np.log1p(price).mean(), rel=1e-6)
    flag = np.array([0, 0, 0, 0, 0, 1], dtype=np.float32)
    assert Encoding.fit(with_columns(future={"promotion": flag})).logged == ()  # two values are a flag


def test_constant_and_unknown_covariates_are_harmless() -> None:
    nothing, same = np.full(6, np.nan, dtype=np.float32), np.full(6, 3, dtype=np.float32)
    encoding = Encoding.fit(with_columns(past={"nothing": nothing, "same": same}))
    for (name, centre, spread), column in zip(encoding.past, (nothing, same), strict=True):
        assert (encoding.scaled(name, column, centre, spread) == 0).all()


def test_statics_are_numbers_or_shared_categories() -> None:
    panel = replace(
        panel_of([[1], [2], [3], [4]]),
        static={
            "colour": np.array(["red", "blue", "red", "blue"], dtype=object),
            "name": np.array(["a", "b", "c", "d"], dtype=object),  # tells each series apart: nothing to share
            "size": np.array([1, 2, 3, np.nan], dtype=np.float32),
        },
    )
    encoding = Encoding.fit(panel)
    assert encoding.categories == (("colour", ("blue", "red")),)
    np.testing.assert_allclose(
        encoding.static_channels(panel),
        np.array([[-1, 0, 1], [0, 1, 0], [1, 0, 1], [0, 1, 0]]) * [np.sqrt(1.5), 1, 1],
        rtol=1e-6,
    )
    other = replace(panel, static=panel.static | {"colour": np.array([None, "green", "red", "blue"], dtype=object)})
    assert encoding.static_channels(other)[:, 1:].tolist() == [[0, 0], [0, 0], [0, 1], [1, 0]]


def test_a_panel_that_lacks_a_covariate_is_refused() -> None:
    price = np.ones(6, dtype=np.float32)
    encoding = Encoding.fit(with_columns(past={"price": price}, static={"size": np.ones(2, dtype=np.float32)}))
    with pytest.raises(ArgumentError, match="past covariate 'price', which this panel does not have"):
        encoding.require(with_columns(static={"size": np.ones(2, dtype=np.float32)}))
    with pytest.raises(ArgumentError, match="knew 'price' for the past alone, but this panel tells it ahead"):
        encoding.require(with_columns(future={"price": price}, static={"size": np.ones(2, dtype=np.float32)}))
    with pytest.raises(ArgumentError, match="static covariate 'size'"):
        encoding.require(with_columns(past={"price": price}))
    ahead = Encoding.fit(with_columns(future={"price": price}))
    with pytest.raises(ArgumentError, match="was told 'price' ahead, but this panel knows it for the past alone"):
        ahead.require(with_columns(past={"price": price}))


def test_past_covariates_of_the_future_are_not_learned_from() -> None:
    panel = replace(with_columns(past={"orders": np.arange(6, dtype=np.float32)}), history=np.array([2, 1]))
    later = np.array([0, 1, 500, 600, 4, 700], dtype=np.float32)
    assert Encoding.fit(panel) == Encoding.fit(replace(panel, past={"orders": later}))


def test_a_flag_is_off_where_no_row_tells_of_it_and_a_price_holds() -> None:
    """Two series of three steps end with the flag on and the price at 7; of the first, one step is planned."""
    panel = panel_of([[1, 2, 3, 4], [5, 6, 7]], history=[3, 3])
    flag, price = np.array([0, 0, 1, 1, 0, np.nan, 1], np.float32), np.array([9, 9, 7, 7, 9, 9, 7], np.float32)
    panel = replace(panel, future={"flag": flag, "price": price, "rival": price / 10}, price="price")
    features = Features.fit(panel)
    encoding = features.encoding
    assert encoding.flags == ("flag",)

    def ahead(panel: Panel) -> tuple[np.ndarray, np.ndarray]:
        """What networks and forests see of flag and price in the three steps ahead."""
        known = Windows(panel, encoding, 2, 3).inputs(np.array([0, 1])).known.numpy()[:, 2:]
        names = features.names
        rows = features.rows(panel, np.arange(2), panel.history, np.tile([1, 2, 3], (2, 1))).matrix.toarray()
        seen = rows[:, [names.index("flag at step"), names.index("price at step")]].reshape(2, 3, 2)
        return known[..., :2], seen

    off, on = encoding.scaled("flag", np.array([0, 1]), *encoding.known[0][1:])
    cheap = encoding.scaled("price", np.array([7]), *encoding.known[1][1:])
    for seen in ahead(panel):
        np.testing.assert_allclose(seen[..., 0], [[on, off, off], [off, off, off]], rtol=1e-5)
        np.testing.assert_allclose(seen[..., 1], np.full((2, 3), cheap), rtol=1e-5)
    for seen in ahead(panel.cut(2)):  # within the table, a step that is not told is as the last one
        np.testing.assert_allclose(seen[..., 0], [[off, on, on], [off, on, off]], rtol=1e-5)


def test_what_is_on_most_of_the_time_is_no_flag() -> None:
    assert is_flag(np.array([0, 1, np.nan, 0]))
    assert not is_flag(np.array([1, 1, np.nan, 0]))  # open or closed: a shop stays open
    assert not is_flag(np.array([0, 0.5, 0]))
    assert not is_flag(np.array([np.nan]))


def test_a_note_says_of_which_series_a_covariate_is_not_known_ahead() -> None:
    panel = panel_of([[1, 2, 3, 4], [5, 6, 7]], history=[3, 3])
    flag, same, price = np.array([0, 0, 1, 1, 0, 0, 1]), np.zeros(7), np.array([9, 9, 7, 7, 9, 9, 7])
    columns = {"promo": flag, "never": same, "price": price, "event=fair": flag, "event=sale": 1 - flag}
    panel = replace(panel, future={k: v.astype(np.float32) for k, v in columns.items()}, texts=("event",))
    note, off = "covariate {!r} is not known for the whole horizon of {} of 2 series; ", "taken as off where it is not"
    held = "the forecast holds its last value, where a backtest knows the true one"
    for ahead in (1, 2):
        named = (("promo", off), ("price", held), ("event", off))
        assert unknown_ahead(panel, ahead) == tuple(note.format(name, ahead) + what for name, what in named)
    assert unknown_ahead(panel.cut(1), 1) == ()


def priced(prices: list[list[float]], role: str) -> Panel:
    panel = panel_of([[1, 2, 3, 4]] * len(prices), history=[3] * len(prices))
    return replace(panel, price="price", **{role: {"price": np.array(prices, dtype=np.float32).reshape(-1)}})


@pytest.mark.parametrize("role", ["past", "future"])
def test_a_price_is_told_against_the_usual_one(role: str) -> None:
    """A fifth off is the same for a dear product, and later prices tell nothing of earlier steps."""
    panel = priced([[1, 0.8, 1, 0.8], [100, 80, 100, 80], [7, np.nan, 0, 7]], role)
    cut = np.log(0.8)
    found = against_usual(panel, "price").reshape(3, 4)
    np.testing.assert_allclose(found[0], [0, cut / 2, -cut / 3, cut / 2], atol=1e-6)
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    np.testing.assert_array_equal(found[2], [0, np.nan, np.nan, 0])
    encoding = Encoding.fit(panel, usual=True)
    ((name, spread),) = encoding.usual
    inputs = Windows(panel, encoding, 3, 1).inputs(np.arange(3))
    channel = (inputs.past if role == "past" else inputs.known)[..., -1].numpy()
    ahead = 0 if role == "past" else 1
    np.testing.assert_allclose(channel[0], found[0, : 3 + ahead] / spread, rtol=1e-4)
    assert name == "price"
    assert (channel[2] == 0).all()  # what is not known holds


def test_a_price_that_never_moves_is_told_once() -> None:
    assert Encoding.fit(priced([[1, 1, 1, 1], [9, 9, 9, 9]], "future"), usual=True).usual == ()
