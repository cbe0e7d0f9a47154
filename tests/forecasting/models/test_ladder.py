# SPDX-License-Identifier: Apache-2.0
"""The ladder: what it chooses on panels whose best rung is known, why, and what it survives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sirdar.errors import ArgumentError, DataError, OutputError
from sirdar.forecasting import ladder
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.models.ladder import Ladder
from sirdar.forecasting.models.textbook import Textbook
from sirdar.forecasting.panel import Panel
from sirdar.predictive import Forecast
from sirdar.testing.forecasters import NullForecaster, example_panel, panel_of


def seasonal(series: int = 12, years: int = 6) -> Panel:
    """Months that repeat exactly, so that the seasonal naive is right and all else is not."""
    rng = np.random.default_rng(0)
    return panel_of([np.tile(rng.permutation(12) * 10.0 + 5, years) for _ in range(series)], unit="M")


def noisy(series: int = 30) -> Panel:
    rng = np.random.default_rng(1)
    return panel_of(rng.poisson(rng.uniform(3, 30, (series, 1)), (series, 40)))


class Broken(NullForecaster):
    """A rung that fails."""

    def fit(self, panel: Panel) -> "Broken":  # noqa: ARG002 - the protocol's shape
        msg = "out of its depth.\nsecond line"
        raise RuntimeError(msg)


def patched(monkeypatch: pytest.MonkeyPatch, **rungs: object) -> None:
    build = ladder.build
    monkeypatch.setattr(
        ladder,
        "build",
        lambda name, horizon, **kw: rungs[name](horizon) if name in rungs else build(name, horizon, **kw),
    )


def test_it_picks_the_rung_that_is_right() -> None:
    panel = seasonal()
    found = Ladder(6, ["tsb", "seasonal-naive", "croston"]).fit(panel)
    assert found.weights == {"seasonal-naive": 1.0}
    np.testing.assert_array_equal(
        found.predict(panel).values, Textbook(6, "seasonal-naive").fit(panel).predict(panel).values
    )
    why = found.why()
    assert "validated on 36 forecasts at 3 origins;" in why
    assert "tsb: loss" in why
    assert "left out" in why
    assert "seasonal-naive alone: no average was better" in why


def test_it_is_the_weighted_mean_of_its_rungs() -> None:
    panel = noisy()
    found = Ladder(3, ["tsb", "theta", "seasonal-naive"], windows=2).fit(panel)
    assert "validated on 60 forecasts at 2 origins" in found.why()
    assert sum(found.weights.values()) == pytest.approx(1)
    parts = [weight * Textbook(3, name).predict(panel).values for name, weight in found.weights.items()]
    np.testing.assert_allclose(found.predict(panel).values, np.sum(parts, axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("series", "steps", "windows"), [(600, 90, 1), (300, 90, 2), (20, 90, 3), (20, 50, 2), (20, 9, 1)]
)
def test_few_series_are_judged_at_more_origins_where_histories_are_long(series: int, steps: int, windows: int) -> None:
    panel = panel_of(np.ones((series, steps)))
    assert Ladder(12, ["tsb"])._windows(panel) == windows


def test_validation_sees_nothing_of_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Panel] = []

    class Spy(NullForecaster):
        def fit(self, panel: Panel) -> "Spy":
            shown.append(panel)
            return self

    patched(monkeypatch, tsb=Spy)
    panel = noisy()
    Ladder(4, ["tsb", "theta"], windows=2).fit(panel)
    assert [int(past.history.max()) for past in shown[:2]] == [32, 36]
    # The last horizon of history decides the weights; what the panel stores after it does not.
    later = panel.cut(5)
    offset = np.arange(len(later.target)) - later.indptr[:-1][later.step_series]
    changed = replace(later, target=np.where(offset >= 35, np.float32(9999), later.target))
    first, second = (Ladder(4, ["theta", "croston"]).fit(part) for part in (later, changed))
    assert first.weights == second.weights
    assert first.reasons == second.reasons


def test_a_rung_that_fails_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    patched(monkeypatch, **{"add-ons": Broken})
    panel = noisy()
    found = Ladder(3, ["add-ons", "tsb"]).fit(panel)
    assert found.weights == {"tsb": 1.0}
    assert "add-ons: left out, since it failed in validation: out of its depth." in found.why()
    assert "second line" not in found.why()
    with pytest.raises(ArgumentError, match="no rung works on this panel: add-ons: left out"):
        Ladder(3, ["add-ons"]).fit(panel)


class Late(Textbook):
    """A rung that is right, but fails where the history is long: on all of it."""

    def fit(self, panel: Panel) -> "Late":
        if panel.history.max() >= 72:
            msg = "out of memory"
            raise RuntimeError(msg)
        self.learned = None
        return self


def test_where_all_the_chosen_fail_on_all_history_the_next_best_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    patched(monkeypatch, theta=lambda horizon: Late(horizon, "seasonal-naive", season=12))
    panel = seasonal()
    found = Ladder(6, ["croston", "theta", "tsb"]).fit(panel)
    assert "theta: left out, since it failed on all history: out of memory." in found.reasons
    assert list(found.weights.values()) == [1.0]
    best = min(("croston", "tsb"), key=lambda name: next(i for i, r in enumerate(found.reasons) if r.startswith(name)))
    assert list(found.weights) == [best]  # reasons stand in the order of losses
    assert f"{best} stands in for the chosen" in found.why()


def test_too_little_history_to_validate_makes_all_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    patched(monkeypatch, **{"add-ons": Broken})
    panel = panel_of([[1.0, 2.0, 3.0], [4.0, 5.0]])
    found = Ladder(6, ["tsb", "theta", "add-ons"]).fit(panel)
    assert found.weights == pytest.approx({"tsb": 0.5, "theta": 0.5})
    assert "all rungs weigh the same: no series was observed both in the last 6 steps" in found.why()
    assert "add-ons: left out, since it failed on all history" in found.why()


def test_a_killed_fit_goes_on_to_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panel, names = noisy(), ["tsb", "theta", "seasonal-naive"]
    whole = Ladder(3, names, windows=2).fit(panel)

    class Killed(BaseException):
        pass

    def kill(_horizon: int) -> Forecaster:
        raise Killed

    with monkeypatch.context() as patch:
        patched(patch, **{"seasonal-naive": kill})
        with pytest.raises(Killed):
            Ladder(3, names, windows=2, checkpoint=tmp_path / "kept").fit(panel)
    kept = sorted(path.name.rsplit("-", 1)[0] for path in (tmp_path / "kept").iterdir())
    assert kept == ["theta", "theta", "tsb", "tsb"]
    made: list[int] = []
    predict = Textbook.predict
    monkeypatch.setattr(Textbook, "predict", lambda self, panel: made.append(1) or predict(self, panel))
    again = Ladder(3, names, windows=2, checkpoint=tmp_path / "kept").fit(panel)
    assert len(made) == 2  # those that were missing
    assert again.weights == whole.weights
    assert again.reasons == whole.reasons
    Ladder(3, names, windows=1, checkpoint=tmp_path / "kept").fit(panel.cut(1))
    assert len(made) == 5  # another panel: nothing of it is kept


def test_what_ends_a_fit_early_leaves_the_ladder_as_it_was() -> None:
    def ended(done: float) -> None:
        if done >= 0.7:
            raise KeyboardInterrupt

    panel = example_panel()
    model = Ladder(3, ["theta", "seasonal-naive"]).fit(panel)
    expected, why = model.predict(panel).values, model.why()
    model.progress = ended
    with pytest.raises(KeyboardInterrupt):
        model.fit(panel.cut(5))
    assert np.array_equal(model.predict(panel).values, expected)
    assert model.why() == why


def test_what_befalls_the_checkpoint_is_not_laid_on_the_rungs(tmp_path: Path) -> None:
    panel, names = noisy(), ["seasonal-naive", "theta"]
    whole = Ladder(3, names, windows=1, checkpoint=tmp_path / "kept").fit(panel)
    first, second = (tmp_path / "kept").iterdir()
    (first / "weights.safetensors").write_bytes(b"half")
    (second / "weights.safetensors").unlink()
    again = Ladder(3, names, windows=1, checkpoint=tmp_path / "kept").fit(panel)
    assert (again.weights, again.reasons) == (whole.weights, whole.reasons)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="cannot be written"):
        Ladder(3, names, windows=1, checkpoint=tmp_path / "file").fit(panel)


def test_forecasts_made_blind_to_a_plan_are_not_those_that_know_it(tmp_path: Path) -> None:
    panel = noisy()
    plan = {"plan": np.random.default_rng(0).random(len(panel.target)).astype(np.float32)}
    for known in (replace(panel, past=plan), replace(panel, future=plan)):
        Ladder(3, ["seasonal-naive", "theta"], windows=1, checkpoint=tmp_path).fit(known)
    assert len(list(tmp_path.iterdir())) == 4


def test_one_short_series_is_told_plainly() -> None:
    found = Ladder(3, ["seasonal-naive", "theta"], windows=1).fit(noisy().select(np.array([0])))
    assert "nan" not in found.why()
    assert "too little to weigh by" in found.why()


def test_it_is_stored_with_its_reasons(tmp_path: Path) -> None:
    panel = noisy()
    found = Ladder(3, ["tsb", "theta"], levels=(0.1, 0.5, 0.9)).fit(panel)
    found.save(tmp_path / "ladder")
    again = Ladder.load(tmp_path / "ladder")
    assert again.why() == found.why()
    assert again.weights == found.weights
    assert np.array_equal(again.predict(panel).values, found.predict(panel).values)
    with pytest.raises(DataError, match="holds a 'ladder', not a 'textbook'"):
        Textbook.load(tmp_path / "ladder")


def test_an_update_keeps_the_choice() -> None:
    panel = noisy()
    model = Ladder(3, ["tsb", "theta"]).fit(panel.cut(3))
    weights = dict(model.weights)
    assert model.update(panel) is model
    assert model.weights == weights
    assert np.isfinite(model.predict(panel).values).all()


def test_progress_rises_to_one() -> None:
    told: list[float] = []
    Ladder(3, ["tsb", "theta"], progress=told.append).fit(noisy())
    assert told == sorted(told)
    assert told[-1] == 1


def test_new_products_and_unvalidated_ones_are_forecast() -> None:
    panel = example_panel()
    forecast: Forecast = Ladder(3, ["tsb", "theta"]).fit(panel).predict(panel)
    assert np.isfinite(forecast.values).all()


def test_wrong_arguments_are_refused_in_a_sentence() -> None:
    with pytest.raises(ArgumentError, match="a ladder cannot be a rung of itself"):
        Ladder(3, ["theta", "ladder"])
    with pytest.raises(ArgumentError, match="unknown model 'thet'"):
        Ladder(3, ["thet"])
    assert Ladder(3, "theta").rungs == ("theta",)
    with pytest.raises(ArgumentError, match="windows must be a positive integer, got 0"):
        Ladder(3, windows=0)
    with pytest.raises(ArgumentError, match="has not learned anything yet"):
        Ladder(3).predict(noisy())
    with pytest.raises(ArgumentError, match="no observed step"):
        Ladder(3).fit(panel_of([[np.nan] * 9]))
    assert "auto-arima" not in Ladder(3).rungs
