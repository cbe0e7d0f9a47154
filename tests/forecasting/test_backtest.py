# SPDX-License-Identifier: Apache-2.0
"""Rolling origins: alignment by hand, scores by the functions of `predictive.scores`, and a spy for leaks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sirdar.errors import ArgumentError, DataError
from sirdar.forecasting.backtest import Backtest, _build_all, backtest
from sirdar.forecasting.ladder import ENSEMBLE, LADDER, NAIVE
from sirdar.forecasting.models.ladder import Ladder
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.textbook import Textbook
from sirdar.forecasting.panel import Panel
from sirdar.predictive import DECILES, Forecast, Frequency, msis, scores
from sirdar.testing.forecasters import NullForecaster, panel_of


class Constant:
    """Forecasts one number with a spread, and keeps the panels that it was given."""

    def __init__(self, horizon: int, value: float, levels: tuple[float, ...] = DECILES) -> None:
        self.horizon, self.value, self.levels = horizon, value, levels
        self.fitted: list[Panel] = []
        self.shown: list[Panel] = []

    def fit(self, panel: Panel) -> "Constant":
        self.fitted.append(panel)
        return self

    def predict(self, panel: Panel) -> Forecast:
        self.shown.append(panel)
        row = np.float32(self.value) + np.arange(len(self.levels), dtype=np.float32)
        values = np.tile(row, (len(panel), self.horizon, 1))
        return Forecast(panel.ids, panel.end, panel.frequency, self.levels, values)

    def save(self, path: object) -> None: ...

    @classmethod
    def load(cls, path: object) -> "Constant":
        raise NotImplementedError


def counting(lengths: list[int], **keywords: list[int]) -> Panel:
    """Demand that counts its own steps: 100, 101, ... in the first series, 200, 201, ... in the second."""
    return panel_of([100.0 * (i + 1) + np.arange(length) for i, length in enumerate(lengths)], **keywords)


def test_actuals_are_the_last_steps_of_every_series_wherever_it_ends() -> None:
    panel = counting([12, 9], start=[0, 50])
    found = backtest({"a": Constant(2, 0)}, panel, windows=3)
    assert [origin.actual.tolist() for origin in found.origins] == [
        [[106, 107], [203, 204]],
        [[108, 109], [205, 206]],
        [[110, 111], [207, 208]],
    ]
    assert [origin.forecasts["a"].start.tolist() for origin in found.origins] == [[6, 53], [8, 55], [10, 57]]
    # The label is the last period seen by any series: week 56 is the one that ends on 1971-01-28.
    assert found.origins[-1].label == "1971-01-28"
    assert (found.horizon, found.season) == (2, 1)


def test_the_stride_may_be_shorter_than_the_horizon() -> None:
    found = backtest({"a": Constant(3, 0)}, counting([12]), windows=2, stride=1)
    assert [origin.actual.tolist() for origin in found.origins] == [[[108, 109, 110]], [[109, 110, 111]]]


def test_a_series_takes_part_once_it_was_observed() -> None:
    panel = counting([12, 5, 3])
    panel = replace(panel, target=np.where(panel.target == 200, np.float32(np.nan), panel.target))
    found = backtest({"a": Constant(2, 0)}, panel, windows=2)
    # Before the first origin the second series has one step, unobserved, and the third none.
    assert [origin.ids for origin in found.origins] == [["product 0"], ["product 0", "product 1", "product 2"]]


def test_models_see_nothing_after_the_origin() -> None:
    panel = counting([15, 11])
    stock = np.ones(len(panel.target), dtype=bool)
    stock[[4, 13]] = False  # long before the end of the first series, and after its last origin
    panel = replace(panel, past={"orders": panel.target.copy()}, future={"plan": panel.target.copy()}, in_stock=stock)
    spy = Constant(3, 0)
    found = backtest({"spy": spy}, panel, windows=2)
    for origin, fitted, shown in zip(found.origins, spy.fitted, spy.shown, strict=True):
        assert fitted is shown
        for row in range(len(shown)):
            begin, end = shown.indptr[row], shown.indptr[row + 1]
            now = begin + shown.history[row]
            assert not shown.observed[now:end].any()
            # Nor may a caller's own model that reads the arrays past the end of history.
            assert np.isnan(shown.target[now:end]).all()
            assert np.isnan(shown.past["orders"][now:end]).all()
            assert shown.in_stock is not None
            assert shown.in_stock[now:end].all()
            assert np.isfinite(shown.future["plan"][now:end]).all()
            assert shown.target[shown.observed][-1] < origin.actual[-1, 0]
            assert shown.series(row)[1].max() < origin.actual[row, 0]


def test_a_network_s_forecast_does_not_depend_on_what_followed() -> None:
    panel = counting([16, 14])
    columns = {"orders": np.random.default_rng(0).normal(size=len(panel.target)).astype(np.float32)}
    panel = replace(panel, past=columns)
    model = MQCNN(2, steps=2, width=8)
    found = backtest({"net": model}, panel, windows=1, ensemble=False)
    offset = np.arange(len(panel.target)) - panel.indptr[:-1][panel.step_series]
    later = offset >= panel.history[panel.step_series] - 2
    changed = replace(panel, target=np.where(later, np.float32(7), panel.target))
    again = backtest({"net": MQCNN(2, steps=2, width=8)}, changed, windows=1, ensemble=False)
    assert np.array_equal(found.origins[0].forecasts["net"].values, again.origins[0].forecasts["net"].values)
    # Past covariates after the origin: out of reach of a trained network.
    spoilt = replace(panel, past={"orders": np.where(later, np.float32(5), columns["orders"])})
    expected, seen = (model.predict(p.cut(2)).values for p in (panel, spoilt))
    assert np.array_equal(expected, seen)


def test_scores_are_those_of_the_pooled_origins() -> None:
    panel = counting([12, 9])
    found = backtest({"a": Constant(2, 104), "b": Constant(2, 150)}, panel, windows=2, ensemble=False)
    for row in found.scores:
        parts = [(origin.actual, origin.forecasts[row.model].values) for origin in found.origins]
        actual, values = (np.concatenate(part) for part in zip(*parts, strict=True))
        assert row.wql == pytest.approx(scores.wql(actual, values, DECILES))
        assert row.wql_by_origin == pytest.approx([scores.wql(y, q, DECILES) for y, q in parts])
        # Demand rises by one a step, so that the scale of MASE is 1 and it is the mean absolute error of the median.
        assert row.mase == pytest.approx(np.abs(actual - values[..., 4]).mean())
        assert row.coverage_80 == pytest.approx(scores.coverage(actual, values, DECILES))
        assert row.closed_coverage_80 == ((actual >= values[..., 0]) & (actual <= values[..., 8])).mean()
        assert row.crossing_rate == 0
        assert row.sql == pytest.approx(scores.sql(actual, values, DECILES, np.ones(len(actual))))
        assert row.msis_80 == pytest.approx(
            msis(actual, values[..., 0], values[..., 8], np.ones(len(actual)), alpha=0.2)
        )
        assert row.cpu_seconds >= 0
        assert row.peak_memory_bytes > 10_000_000
    assert [row.wql for row in found.scores] == sorted(row.wql for row in found.scores)
    assert found.winner == found.scores[0].model == "b"
    assert [level for level, _ in found.calibration("a")] == list(DECILES)
    assert -1 < found.correlation("a") < 1


def test_the_ensemble_is_the_mean_of_all_but_the_naive() -> None:
    panel = panel_of(np.random.default_rng(0).poisson(5, (4, 20)))
    models = {NAIVE: Textbook(2, NAIVE), "a": Constant(2, 3), "b": Textbook(2, "theta"), "null": NullForecaster}
    found = backtest({**models, "null": lambda: NullForecaster(2)}, panel, windows=2)
    assert {row.model for row in found.scores} == {NAIVE, "a", "b", "null", ENSEMBLE}
    for origin in found.origins:
        mean = np.mean([origin.forecasts[name].values for name in ("a", "b", "null")], axis=0)
        np.testing.assert_allclose(origin.forecasts[ENSEMBLE].values, mean, rtol=1e-6)
    seconds = {row.model: row.seconds for row in found.scores}
    assert min(seconds.values()) > 0
    assert seconds[ENSEMBLE] >= seconds["a"] + seconds["b"] + seconds["null"]


def test_the_ladder_is_no_member_of_the_plain_ensemble() -> None:
    found = backtest({LADDER: Constant(2, 9), "a": Constant(2, 3), "b": Constant(2, 5)}, counting([12]), windows=1)
    assert found.origins[0].forecasts[ENSEMBLE].values[0, 0, 0] == 4


def test_a_ladder_says_why() -> None:
    steady = panel_of([[5.0, 6.0] * 8, [3.0] * 16])
    found = backtest({"l": Ladder(2, ("seasonal-naive", "theta")), "a": Constant(2, 3)}, steady, windows=1)
    assert set(found.why) == {"l"}
    assert "theta" in found.why["l"]


def test_the_season_of_the_scale_can_be_given() -> None:
    panel = counting([12])
    steps = [backtest({"a": Constant(2, 104)}, panel, windows=1, season=season).scores[0].mase for season in (1, 3)]
    assert steps[0] == pytest.approx(3 * steps[1])  # demand rises by one a step


def test_one_model_beside_the_naive_makes_no_ensemble() -> None:
    def rows(found: Backtest) -> set[str]:
        return {row.model for row in found.scores}

    panel = counting([12])
    assert rows(backtest({NAIVE: Constant(2, 1), "a": Constant(2, 2)}, panel, windows=1)) == {NAIVE, "a"}
    assert rows(backtest({"a": Constant(2, 1), "b": Constant(2, 2)}, panel, windows=1, ensemble=False)) == {"a", "b"}
    # A class is built, even one that shows its horizon before it is.
    assert rows(backtest({"null": NullForecaster}, panel, windows=1)) == {"null"}


def test_without_demand_a_model_has_no_score_and_stands_last() -> None:
    panel = panel_of([[1.0] * 8 + [0.0] * 4])
    found = backtest({"a": Constant(2, 1), "b": NullForecaster(2)}, panel, windows=1)
    assert all(np.isnan(row.wql) for row in found.scores)


def test_other_levels_have_no_eighty_percent_interval() -> None:
    row = backtest({"a": Constant(2, 105, (0.25, 0.5, 0.75))}, counting([12]), windows=1).scores[0]
    assert np.isnan(row.coverage_80)
    assert np.isfinite(row.wql)
    wide = Constant(1, 105, (0.01, 0.1, 0.5, 0.9, 0.99))
    row = backtest({"a": wide}, counting([12]), windows=1).scores[0]
    assert row.closed_coverage_80 == 0  # 111 lies above the 0.9 quantile of 108


def test_a_lone_quantile_is_no_point_forecast() -> None:
    panel = counting([40, 40])
    high, middle = (backtest({"one": Constant(3, 1.0, (level,))}, panel, ensemble=False).scores for level in (0.9, 0.5))
    assert [np.isnan(row.mase) for row in (*high, *middle) if row.model == "one"] == [True, False]
    assert all(np.isfinite(row.wql) for row in high)


def test_progress_rises_to_one() -> None:
    told: list[tuple[str, float]] = []
    backtest(
        {"a": Constant(2, 1), "b": Constant(2, 2)}, counting([12]), windows=2, progress=lambda *what: told.append(what)
    )
    assert told == [
        ("origin 1/2: a", 0.0),
        ("origin 1/2: b", 0.25),
        ("origin 2/2: a", 0.5),
        ("origin 2/2: b", 0.75),
        ("scores", 1.0),
    ]


def test_a_short_history_is_refused_with_its_length_and_series() -> None:
    message = (
        "the history is too short for the backtest: 3 origins of horizon 2 need 10 steps, but the longest series, "
        "'product 1', has 9; lower the horizon or the number of windows"
    )
    with pytest.raises(DataError) as caught:
        backtest({"a": Constant(2, 0)}, counting([4, 9]), windows=3)
    assert str(caught.value) == message
    backtest({"a": Constant(2, 0)}, counting([4, 10]), windows=3)


def test_nothing_to_score_or_to_learn_from_is_refused() -> None:
    with pytest.raises(DataError, match="nothing was observed in the last 2 steps"):
        backtest({"a": Constant(2, 0)}, panel_of([[1.0] * 10 + [np.nan] * 2]), windows=1)
    with pytest.raises(DataError, match="no series to backtest on"):
        backtest({"a": Constant(2, 0)}, panel_of([]))
    with pytest.raises(DataError, match="nothing was observed before origin 1 of 2"):
        backtest({"a": Constant(2, 0)}, panel_of([[np.nan] * 9 + [1.0] * 3]), windows=2)


class Shown:
    """A model of one's own, which cannot be saved, and answers what a function makes of the right forecast."""

    horizon = 2

    def __init__(self, answer: Callable[[Forecast], object], *, fitted: bool = True) -> None:
        self.answer, self.fitted = answer, fitted

    def fit(self, panel: Panel) -> Any:  # noqa: ANN401, ARG002 - None in one case
        return self if self.fitted else None

    def predict(self, panel: Panel) -> Any:  # noqa: ANN401 - anything
        return self.answer(NullForecaster(2).predict(panel))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Shown(lambda made: made.values), "a Forecast, such as .*, got ndarray"),
        (Shown(lambda made: made.take(np.array([1, 0]))), "the 2 series .* in its order, got 2: 'product 1', 'product"),
        (Shown(lambda made: made.take(np.array([0]))), "the 2 series of the panel in its order, got 1: 'product 0'"),
        (Shown(lambda made: replace(made, start=made.start - 5)), "from the step after each series' history on"),
        (Shown(lambda made: replace(made, frequency=Frequency("D"))), "from the step after each series' history on"),
        (Shown(lambda made: replace(made, values=made.values[:, :1])), "2 steps, its horizon, got 1"),
        (Shown(lambda made: made, fitted=False), "fit must answer the forecaster itself, got NoneType"),
    ],
)
def test_an_answer_for_other_series_or_steps_is_refused(model: Shown, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"model 'mine': .*{message}"):
        backtest({"mine": model}, counting([12, 12]), windows=1)


def test_a_model_that_cannot_be_saved_is_scored() -> None:
    whole, found = (
        backtest({"mine": model}, counting([12, 12]), windows=1).scores[0].wql
        for model in (NullForecaster(2), Shown(lambda made: made))
    )
    assert found == whole


def test_what_is_no_model_is_refused_in_a_sentence() -> None:
    for models in ([NullForecaster(2)], NullForecaster(2)):
        with pytest.raises(ArgumentError, match=f"models must be forecasters by name, .*, got {type(models).__name__}"):
            _build_all(models)
    wanted = "model 'mine' must be a forecaster, with horizon, fit and predict, or a function that builds one"
    for model, got in (
        ("theta", ", got 'theta'"),
        (Textbook, " without arguments, got one that needs horizon"),
        (lambda panel: panel, " without arguments, got one that needs panel"),
        (dict, ", got one of dict"),
    ):
        with pytest.raises(ArgumentError, match=f"{wanted}{got}"):
            _build_all({"mine": model})


def test_wrong_arguments_are_refused_in_a_sentence() -> None:
    panel = counting([30])
    with pytest.raises(ArgumentError, match="no model to backtest"):
        backtest({}, panel)
    with pytest.raises(
        ArgumentError, match=r"no model 'mean' was backtested; there are mean2\. Did you mean 'mean2'\?"
    ):
        backtest({"mean2": Constant(2, 0)}, panel).calibration("mean")
    with pytest.raises(ArgumentError, match="windows must be a positive integer, got 0"):
        backtest({"a": Constant(2, 0)}, panel, windows=0)
    with pytest.raises(ArgumentError, match="stride must be a positive integer, got -1"):
        backtest({"a": Constant(2, 0)}, panel, stride=-1)
    with pytest.raises(ArgumentError, match=r"must share one horizon, got \{'a': 2, 'b': 3\}"):
        backtest({"a": Constant(2, 0), "b": Constant(3, 0)}, panel)
    with pytest.raises(ArgumentError, match="no model may be called 'ensemble'"):
        backtest({"a": Constant(2, 0), ENSEMBLE: Constant(2, 0)}, panel)
    with pytest.raises(ArgumentError, match="must share their levels"):
        backtest({"a": Constant(2, 0), "b": Constant(2, 0, (0.5, 0.6))}, panel)
