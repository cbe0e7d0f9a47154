# SPDX-License-Identifier: Apache-2.0
"""The peers of `forecasting_m5.py`: neuralforecast's NHITS and TFT, LightGBM with one model a quantile, AutoGluon.

neuralforecast is given the same covariates (events, SNAP, price known ahead; department, category, store and state as
static one-hot columns; days not on sale masked), eight weeks of input, its own scaler and the multi-quantile loss, and
as many steps as the budget allows, so that its learning-rate decays where it should. LightGBM is given the feature rows
of our sparse forest, targets in units of each series' level, and an equal share of the budget for each quantile.
AutoGluon is given the same covariates and weighs the seasonal naive and those models of its default preset that learn
from covariates and need nothing from the net, few enough to leave time for each; three quarters of the budget are its
limit for that, the rest is for the forecast.
"""

import logging
import multiprocessing
import sys
import tempfile
import time
import types
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from m5_budget import Budget
from m5_packed import HORIZON, KNOWN, Daily, panel

LEVELS = tuple(round(0.1 * k, 1) for k in range(1, 10))
_INPUT = 56
_PROBE = 12  # steps
_ROWS = 600_000  # of LightGBM
_PART = 4000  # series that AutoGluon forecasts at a time: all at once took more than 24 GB
_FIT = 0.75  # of the budget for AutoGluon's training
_AUTOGLUON = ("SeasonalNaive", "RecursiveTabular", "DirectTabular", "TemporalFusionTransformer")


def without_ray() -> None:
    """Stands in for ray, which neuralforecast imports for its searches alone, which are not used."""
    try:
        import ray  # noqa: F401
    except ImportError:
        for name in (
            "ray",
            "ray.air",
            "ray.tune",
            "ray.tune.integration",
            "ray.tune.integration.pytorch_lightning",
            "ray.tune.search",
            "ray.tune.search.basic_variant",
        ):
            sys.modules[name] = _Anything(name)


class _Anything(types.ModuleType):
    """A module in which every name stands for something callable."""

    __path__ = []  # noqa: RUF012 - a module has one

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name.startswith("__"):
            raise AttributeError(name)
        return sys.modules.get(f"{self.__name__}.{name}", _anything)


def _anything(*_: object, **__: object) -> Any:  # noqa: ANN401
    return _anything


def network(name: str, daily: Daily, budget: Budget) -> tuple[np.ndarray, dict[str, Any]]:
    """Quantiles [series, day, level] of NHITS or TFT, and its settings."""
    without_ray()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    from neuralforecast import NeuralForecast
    from pytorch_lightning.callbacks import Callback

    frame, static, future = frames(daily)
    told = budget.tell

    class Stop(Callback):
        """Ends training when the budget is spent."""

        def on_train_batch_end(self, trainer: Any, *_: object) -> None:  # noqa: ANN401
            try:
                told(0.0)
            except Exception:  # noqa: BLE001 - Spent
                trainer.should_stop = True

    def made(steps: int) -> Any:  # noqa: ANN401
        return NeuralForecast(models=[_model(name, steps, list(static.columns[1:]), Stop())], freq="D")

    few = static.iloc[:: max(1, len(static) // 1024)]
    parts = [table[table["unique_id"].isin(few["unique_id"])] for table in (frame, future)]
    tried = made(_PROBE)
    steps = budget.probe(
        lambda: tried.fit(frame, static_df=static),
        predict=lambda: tried.predict(parts[0], static_df=few, futr_df=parts[1]),
        share=len(few) / len(static),
    )
    model = made(steps)
    model.fit(frame, static_df=static)
    done = len(budget.told)
    answer = model.predict(futr_df=future)
    columns = [column for column in answer.columns if column not in {"unique_id", "ds"}]
    values = answer[columns].to_numpy().reshape(len(static), HORIZON, len(LEVELS))
    order = {one: row for row, one in enumerate(answer["unique_id"].to_numpy()[::HORIZON])}
    return values[[order[one] for one in daily.ids]], {"steps": done, "planned": steps}


def _model(name: str, steps: int, static: list[str], stop: Any) -> Any:  # noqa: ANN401
    from neuralforecast.losses.pytorch import MQLoss
    from neuralforecast.models import NHITS, TFT

    shared: dict[str, Any] = {
        "h": HORIZON,
        "input_size": _INPUT,
        "loss": MQLoss(quantiles=list(LEVELS)),
        "futr_exog_list": [*KNOWN, *_calendar_names()],
        "stat_exog_list": static,
        "max_steps": steps,
        "scaler_type": "standard",
        "random_seed": 0,
        "enable_progress_bar": False,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "callbacks": [stop],
    }
    if name == "nhits":
        return NHITS(**shared, batch_size=128, windows_batch_size=512, inference_windows_batch_size=1024)
    return TFT(**shared, hidden_size=64, batch_size=128, windows_batch_size=128, inference_windows_batch_size=512)


def _calendar_names() -> list[str]:
    return [f"{wave}{k}" for k in (1, 2, 3) for wave in ("sin", "cos")]


def frames(daily: Daily) -> tuple[Any, Any, Any]:
    """History, statics and known future as pandas frames in neuralforecast's form."""
    import pandas as pd

    days = daily.sales.shape[1]
    on_sale = np.isfinite(daily.known["sell_price"])
    begun = np.arange(days) >= on_sale.argmax(axis=1)[:, None]
    dates = (daily.first + np.arange(days)).astype("datetime64[ns]")
    angle = 2 * np.pi * np.arange(days) / 7
    waves = {
        f"{name}{k}": function(k * angle).astype(np.float32)
        for k in (1, 2, 3)
        for name, function in (("sin", np.sin), ("cos", np.cos))
    }
    price = daily.known["sell_price"].copy()
    index = np.maximum.accumulate(np.where(np.isfinite(price), np.arange(days), 0), axis=1)
    price = np.nan_to_num(np.take_along_axis(price, index, axis=1))

    names = daily.ids.astype(object)  # the rows of a series share one text

    def table(part: slice, *, target: bool) -> Any:  # noqa: ANN401
        keep = begun[:, part]
        owner, day = np.nonzero(keep)
        columns: dict[str, Any] = {"unique_id": names[owner], "ds": dates[part][day]}
        if target:
            known = daily.sales[:, part][keep]
            columns |= {"y": np.nan_to_num(known), "available_mask": np.isfinite(known).astype(np.float32)}
        for name in KNOWN:
            columns[name] = (price if name == "sell_price" else daily.known[name])[:, part][keep]
        return pd.DataFrame(columns | {name: values[part][day] for name, values in waves.items()})

    static = pd.DataFrame({"unique_id": names})
    for name in ("dept_id", "cat_id", "store_id", "state_id"):
        for value in np.unique(daily.static[name]):
            static[f"{name}_{value}"] = (daily.static[name] == value).astype(np.float32)
    history = slice(0, days - HORIZON)
    return table(history, target=True), static, table(slice(days - HORIZON, days), target=False)


def boosted(daily: Daily, budget: Budget, threads: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Quantiles [series, day, level] of LightGBM, sorted, and its settings."""
    import lightgbm

    from sirdar.forecasting.features import Features

    some = panel(daily)
    features = Features.fit(some)
    source = features.on(some)
    series, origin, step = features.sample(some, HORIZON, _ROWS, np.random.default_rng(0))
    rows = source.rows(series, origin, step)
    data = lightgbm.Dataset(rows.matrix, rows.target / rows.scale, free_raw_data=False)
    ahead = np.broadcast_to(np.arange(1, HORIZON + 1), (len(some), HORIZON))
    later = source.rows(np.arange(len(some)), some.history, ahead)
    begin = time.process_time()
    data.construct()
    share = (budget.left[0] - (time.process_time() - begin)) / (len(LEVELS) + 0.5)
    values, trees = [], []
    for level in LEVELS:
        began = time.process_time()

        def stop(environment: Any, began: float = began) -> None:  # noqa: ANN401
            if time.process_time() - began > 0.8 * share:
                raise lightgbm.callback.EarlyStopException(environment.iteration, [])

        model = lightgbm.train(
            {
                "objective": "quantile",
                "alpha": level,
                "learning_rate": 0.05,
                "num_leaves": 127,
                "min_data_in_leaf": 100,
                "feature_fraction": 0.5,
                "bagging_fraction": 0.8,
                "bagging_freq": 1,
                "seed": 0,
                "num_threads": threads,
                "verbose": -1,
            },
            data,
            num_boost_round=2000,
            callbacks=[stop],
        )
        trees.append(model.num_trees())
        values.append(model.predict(later.matrix) * later.scale)
    answer = np.sort(np.stack(values, axis=-1), axis=-1).reshape(len(some), HORIZON, len(LEVELS))
    return np.maximum(answer, 0), {"trees": trees, "rows": int(rows.matrix.shape[0])}


def automl(daily: Daily, budget: Budget) -> tuple[np.ndarray, dict[str, Any]]:
    """Quantiles [series, day, level] of AutoGluon's ensemble, and what it is made of."""
    warnings.filterwarnings("ignore")
    import pandas as pd
    from autogluon.timeseries import TimeSeriesDataFrame, TimeSeriesPredictor

    history, _, future = frames(daily)
    history["target"] = history["y"].where(history["available_mask"] > 0)
    statics = ("dept_id", "cat_id", "store_id", "state_id")
    kinds = {name: pd.Categorical(daily.static[name]) for name in statics}
    static = pd.DataFrame({"unique_id": daily.ids.astype(object)} | kinds)
    names = {"id_column": "unique_id", "timestamp_column": "ds"}

    def told(ids: np.ndarray) -> tuple[Any, Any]:
        past, later, fixed = (table[table["unique_id"].isin(ids)] for table in (history, future, static))
        seen = past[["unique_id", "ds", "target", *KNOWN]]
        return (
            TimeSeriesDataFrame.from_data_frame(seen, **names, static_features_df=fixed),
            TimeSeriesDataFrame.from_data_frame(later[["unique_id", "ds", *KNOWN]], **names),
        )

    with tempfile.TemporaryDirectory() as folder:
        predictor = TimeSeriesPredictor(
            prediction_length=HORIZON,
            freq="D",
            eval_metric="SQL",
            known_covariates_names=list(KNOWN),
            quantile_levels=list(LEVELS),
            path=folder,
            verbosity=2,
        )
        limit = _FIT * float(budget.left.min())
        models = {name: {} for name in _AUTOGLUON}
        predictor.fit(told(daily.ids)[0], hyperparameters=models, time_limit=limit, random_seed=0)
        facts = {"limit_s": limit, "models": predictor.model_names(), "best": predictor.model_best}
        del predictor
        parts = np.array_split(daily.ids, -(-len(daily.ids) // _PART))
        # Each part in a process of its own: what a forecast takes is not given back before its process ends.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
            values = [pool.submit(_automl_part, folder, *told(ids), ids).result() for ids in parts]
    return np.concatenate(values), facts


def _automl_part(folder: str, past: Any, ahead: Any, ids: np.ndarray) -> np.ndarray:  # noqa: ANN401
    """Quantiles [series, day, level] of some series, by a predictor on disk."""
    warnings.filterwarnings("ignore")
    from autogluon.timeseries import TimeSeriesPredictor

    answer = TimeSeriesPredictor.load(folder).predict(past, known_covariates=ahead, random_seed=0)
    return np.stack([answer.loc[one, [str(level) for level in LEVELS]].to_numpy() for one in ids])
