# SPDX-License-Identifier: Apache-2.0
"""The unified ladder: every rung is validated on the panel itself, and a weighted mean of the best ones forecasts.

Validation is by rolling origins inside the history; the weights are chosen by `selection.select` on the mean of WQL and
SQL, each relative to the seasonal naive's, since the first follows the best sellers and the second counts every series
alike. The chosen rungs are then trained again on all history.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from sirdar.errors import ArgumentError, DataError, OutputError, require_positive_integer, require_seed
from sirdar.forecasting import ladder, storage
from sirdar.forecasting.forecaster import Explained, Forecaster
from sirdar.forecasting.models.ensemble import Ensemble
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.seasons import scale_of, season_of
from sirdar.forecasting.selection import BAGS, Selection, Validation, reference_of, select
from sirdar.predictive import DECILES, Forecast
from sirdar.predictive.forecast import require_levels

_SLOW = "auto-arima"
_FORECASTS = 500  # that are enough to choose by
_MOST = 3  # windows


class Ladder(Explained):
    """Picks and averages rungs by their own record on the panel, and says why.

    Args:
        horizon: steps to forecast.
        rungs: names known to `forecasting.ladder`; all but auto-arima, which is slow, when None. A rung that fails on
            the panel is left out, and `reasons` says so.
        levels: quantile levels.
        windows: validation origins, a horizon apart, the last one a horizon before the end of history. When None as
            many as it takes to judge 500 forecasts, at most three, in the later half of a typical history.
        seed: of everything random.
        progress: called with the share of work done.
        checkpoint: a folder that keeps the validation forecasts of finished rungs, so that a killed fit goes on
            from there to the same result. Forecasts of other panels or arguments in it are not used.
    """

    def __init__(
        self,
        horizon: int,
        rungs: Sequence[str] | None = None,
        *,
        levels: Sequence[float] = DECILES,
        windows: int | None = None,
        seed: int = 0,
        progress: Callable[[float], None] | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        self.horizon = require_positive_integer(horizon, "horizon")
        every = [name for name in ladder.RUNGS if name not in {ladder.LADDER, _SLOW}]
        self.rungs = tuple(every if rungs is None else ladder.check_names(rungs))
        if ladder.LADDER in self.rungs:
            msg = f"a ladder cannot be a rung of itself, got {self.rungs}"
            raise ArgumentError(msg)
        self.levels = require_levels(levels)
        self.windows = None if windows is None else require_positive_integer(windows, "windows")
        self.seed, self.progress = require_seed(seed), progress
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.ensemble: Ensemble | None = None
        self.weights: dict[str, float] = {}
        self.reasons: list[str] = []

    def fit(self, panel: Panel) -> "Ladder":
        """Validates every rung, chooses, and trains the chosen on the whole panel.

        Raises:
            ArgumentError: nothing was observed, or no rung works on the panel.
            OutputError: the checkpoint cannot be written.
        """
        panel.require_observed()
        before, self.reasons = self.reasons, []
        try:
            self.ensemble = self._chosen(panel)
        except BaseException:
            self.reasons = before  # those of what stays
            raise
        self.weights = dict(zip(self.ensemble.members, self.ensemble.weights, strict=True))
        self._tell(1.0)
        return self

    def update(self, panel: Panel) -> "Ladder":
        """Brings the chosen rungs up to new data, see `Ensemble.update`; which they are, and their weights, stays."""
        self._fitted().update(panel)
        return self

    def predict(self, panel: Panel) -> Forecast:
        """The weighted mean of the chosen rungs' quantiles."""
        return self._fitted().predict(panel)

    def why(self) -> str:
        """The choice in plain lines: every rung's record, the greedy steps, the weights, and what was left out."""
        self._fitted()
        return "\n".join(self.reasons)

    def save(self, path: str | Path) -> None:
        """Writes config.json into the folder `path`, and the chosen rungs into the folder `ensemble` in it."""
        ensemble = self._fitted()
        names = ("horizon", "rungs", "levels", "windows", "seed")
        arguments = {name: getattr(self, name) for name in names}
        config = {"model": "ladder", "arguments": arguments, "weights": self.weights, "reasons": self.reasons}
        storage.write(Path(path), config, {}, {"ensemble": ensemble.save})

    @classmethod
    def load(cls, path: str | Path) -> "Ladder":
        """Reads what `save` wrote."""
        path = storage.standing(Path(path))
        with storage.opened(path, model="ladder") as (config, _):
            forecaster = cls(**config["arguments"])
            forecaster.weights, forecaster.reasons = config["weights"], config["reasons"]
            forecaster.ensemble = Ensemble.load(path / "ensemble")
            return forecaster

    def _fitted(self) -> Ensemble:
        if self.ensemble is None:
            msg = "this Ladder has not learned anything yet: call fit(panel) first"
            raise ArgumentError(msg)
        return self.ensemble

    def _chosen(self, panel: Panel) -> Ensemble:
        """The rungs of choice, trained on the whole panel."""
        selection = self._validated(panel)
        wanted = dict.fromkeys(self.rungs, 1 / len(self.rungs)) if selection is None else selection.weights
        members: dict[str, Forecaster] = {}
        for number, name in enumerate(wanted):
            members |= self._trained(name, panel, forecasts=selection is None)
            self._tell(0.7 + 0.3 * (number + 1) / len(wanted))
        if not members and selection is not None:
            members = self._stand_in(panel, selection)
        if not members:
            msg = f"no rung works on this panel: {' '.join(self.reasons)}"
            raise ArgumentError(msg)
        return Ensemble(members, [wanted.get(name, 1.0) for name in members])

    def _build(self, name: str) -> Forecaster:
        return ladder.build(name, self.horizon, levels=self.levels, seed=self.seed)

    def _tell(self, done: float) -> None:
        if self.progress is not None:
            self.progress(done)

    def _trained(self, name: str, panel: Panel, *, forecasts: bool) -> dict[str, Forecaster]:
        """The rung by its name, trained on the whole panel; nothing, with the reason, when it fails."""
        try:
            built = self._build(name).fit(panel)
            if forecasts:  # a rung may fail only then, and must not be among the members
                built.predict(panel)
        except Exception as error:  # noqa: BLE001 - whatever a rung's library raises, the others go on
            self.reasons.append(f"{name}: left out, since it failed on all history: {_told(error)}")
            return {}
        return {name: built}

    def _stand_in(self, panel: Panel, selection: Selection) -> dict[str, Forecaster]:
        """The best rung that was not chosen, for when all that were chosen failed on all history."""
        losses = selection.losses
        for name in sorted(losses, key=lambda name: losses[name]):
            found = {} if name in selection.weights else self._trained(name, panel, forecasts=True)
            if found:
                self.reasons.append(f"{name} stands in for the chosen, all of which failed on all history")
                return found
        return {}

    def _validated(self, panel: Panel) -> Selection | None:
        """The choice; None, with the reason, when no series is long enough to validate on."""
        pasts = self._pasts(panel)
        if not pasts:
            self.reasons.append(
                f"all rungs weigh the same: no series was observed both in the last {self.horizon} steps of history "
                "and before them, so nothing could be validated"
            )
            return None
        forecasts = {}
        for number, name in enumerate(self.rungs):
            try:
                forecasts[name] = self._record(name, pasts)
            except OutputError:
                raise  # the checkpoint's, not the rung's
            except Exception as error:  # noqa: BLE001 - whatever a rung's library raises, the others go on
                self.reasons.append(f"{name}: left out, since it failed in validation: {_told(error)}")
            self._tell(0.7 * (number + 1) / len(self.rungs))
        if not forecasts:
            msg = f"no rung works on this panel: {' '.join(self.reasons)}"
            raise ArgumentError(msg)
        naive = forecasts.get(ladder.NAIVE)
        validation = self._validation(panel, pasts, self._record(ladder.NAIVE, pasts) if naive is None else naive)
        selection = select(forecasts, validation, self.seed)
        self.reasons += told(selection, series=len(validation.actual), windows=len(pasts))
        return selection

    def _pasts(self, panel: Panel) -> list[Panel]:
        """The panel at each validation origin, oldest first, with the series that can be judged there."""
        pasts = []
        for window in range(self._windows(panel) if self.windows is None else self.windows, 0, -1):
            past = panel.cut(window * self.horizon)
            after = np.isfinite(_after(past, panel, self.horizon)).any(axis=1)
            past = past.select((past.observations() > 0) & after)
            pasts += [past] if len(past) else []
        return pasts

    def _windows(self, panel: Panel) -> int:
        """One window says little of which rung is better when few series stand in it."""
        wanted = math.ceil(_FORECASTS / len(panel))
        possible = int(np.median(panel.history)) // (2 * self.horizon)
        return max(1, min(wanted, possible, _MOST))

    def _validation(self, panel: Panel, pasts: list[Panel], naive: np.ndarray) -> Validation:
        row = {name: number for number, name in enumerate(panel.ids)}
        actual = np.concatenate(
            [_after(past, panel.select(np.array([row[name] for name in past.ids])), self.horizon) for past in pasts]
        )
        season = season_of(pasts[-1])
        scale = np.concatenate([scale_of(past, season) for past in pasts])
        return Validation(actual, scale, self.levels, reference_of(actual, naive, self.levels, scale))

    def _record(self, name: str, pasts: list[Panel]) -> np.ndarray:
        """Quantiles of a rung at all validation origins, one below the other."""
        return np.concatenate([self._forecast(name, past) for past in pasts])

    def _forecast(self, name: str, past: Panel) -> np.ndarray:
        """A rung's quantiles at one origin, from the checkpoint when they stand there."""
        folder = None
        if self.checkpoint is not None:
            folder = self.checkpoint / f"{name}-{_key(past, (self.horizon, self.levels, self.seed))}"
            with suppress(DataError, KeyError):  # what is not whole is forecast again
                return storage.read(folder, model="ladder-validation")[1]["values"].numpy()
            shutil.rmtree(folder, ignore_errors=True)
        begin = time.process_time()
        values = np.ascontiguousarray(self._build(name).fit(past).predict(past).values)
        if folder is not None:
            config = {"model": "ladder-validation", "rung": name, "cpu_seconds": time.process_time() - begin}
            storage.write(folder, config, {"values": torch.from_numpy(values)})
        return values


def told(selection: Selection, *, series: int, windows: int) -> list[str]:
    """A choice in plain lines."""
    lines = [
        f"validated on {series} forecasts at {windows} origin{'s' if windows > 1 else ''}; loss is the mean of WQL and "
        "SQL relative to the seasonal naive (1 = no better), lower is better"
    ]
    for name, loss in sorted(selection.losses.items(), key=lambda item: item[1]):
        weight = selection.weights.get(name)
        lines.append(f"{name}: loss {loss:.4f}, " + (f"weight {weight:.2f}" if weight else "left out: adds nothing"))
    previous = None
    for name, loss in selection.path:
        gain = "" if previous is None else f", {1 - loss / previous:.2%} less" if previous else ""
        lines.append(f"greedy step: add {name}, loss {loss:.4f}{gain}")
        previous = loss
    best = min(selection.losses.values())
    if not selection.path:
        lines.append("too little to weigh by: all rungs that are not hopeless count alike")
    elif len(selection.weights) == 1:
        lines.append(f"{next(iter(selection.weights))} alone: no average was better")
    else:
        lines.append(
            f"weighted mean of {len(selection.weights)} rungs ({BAGS} bags, a quarter of the weight shared equally): "
            f"loss {selection.loss:.4f} against {best:.4f} of the best rung alone"
        )
    return lines


def _after(past: Panel, panel: Panel, horizon: int) -> np.ndarray:
    """Demand after the history of `past`, as far as it is history of `panel`."""
    values = past.actuals(horizon)
    known = (panel.history - past.history)[:, None]
    return np.where(np.arange(horizon) < known, values, np.float32(np.nan))


def _told(error: Exception) -> str:
    return f"{str(error) or type(error).__name__}".splitlines()[0].rstrip(".") + "."


def _key(past: Panel, arguments: tuple[object, ...]) -> str:
    """Equal for equal panels, as far as a rung may see them, and equal arguments."""
    digest = hashlib.sha256(json.dumps([*arguments, past.frequency.unit, past.ids, past.price, past.holidays]).encode())
    digest.update(np.where(past.observed, past.target, np.float32(np.nan)).tobytes())
    digest.update(past.start.tobytes() + past.history.tobytes())
    roles = {"static": past.static, "past": past.past, "future": past.future}
    for role, name, column in ((role, *item) for role, columns in roles.items() for item in sorted(columns.items())):
        digest.update(f"{role} {name}".encode())
        digest.update(repr(column.tolist()).encode() if column.dtype == object else column.tobytes())
    return digest.hexdigest()[:16]
