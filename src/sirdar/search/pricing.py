# SPDX-License-Identifier: Apache-2.0
"""What candidates cost on the chip, each priced once."""

from typing import final

from sirdar.chips import Chip, Estimator, load
from sirdar.deploy.estimating import estimator_of
from sirdar.search.objectives import measures_of
from sirdar.search.space import Candidate
from sirdar.search.task import Pricing, Task
from sirdar.units import Cost

ERRORS = (Exception,)
"""What a candidate may fail with: a task's mistake that only some networks meet must not end a search either."""
UNPRICED = "it cannot be priced"
_MOST = 3  # candidates that cannot be priced before any that can


@final
class Priced:
    """Costs by candidate, kept once known.

    Args:
        pricing: asked once for each candidate; everything is free when None.
    """

    def __init__(self, pricing: Pricing | None) -> None:
        self.pricing = pricing
        self._known: dict[Candidate, Cost] = {}
        self._failures: dict[Candidate, str] = {}

    def __len__(self) -> int:
        return len(self._known)

    def cost(self, candidate: Candidate) -> Cost:
        """What it costs."""
        if candidate not in self._known:
            self._known[candidate] = Cost() if self.pricing is None else self.pricing(candidate)
        return self._known[candidate]

    def measures(self, candidate: Candidate) -> dict[str, float]:
        """The known parts of the cost by name; none of a candidate that cannot be priced."""
        if candidate in self._failures:
            return {}
        try:
            return measures_of(self.cost(candidate))
        except ERRORS as error:
            if not self._known and len(self._failures) + 1 >= _MOST:
                raise  # the chip, and not the candidates, is to blame
            self._failures[candidate] = f"{UNPRICED}: {type(error).__name__}: {error}"
            return {}

    def failure(self, candidate: Candidate) -> str:
        """Why a candidate that was asked for could not be priced; empty where it could."""
        return self._failures.get(candidate, "")


def estimated(task: Task, chip: str | Chip, estimator: Estimator | None = None, dtype: str | None = None) -> Pricing:
    """Costs by an estimator, from the task's graphs.

    Args:
        task: gives the graphs.
        chip: a name of the catalogue or a chip.
        estimator: that of `sirdar.estimate` when None: Arm's compiler for an Ethos-U of the catalogue, else
            `sirdar.chips.Tiled`.
        dtype: number format to run in; where None, bf16 or what takes its place, or else the chip's own. A given
            estimator gets it as it is.

    Raises:
        ArgumentError: the chip or the format is unknown, or nothing of the chip's takes the place of the format.
    """
    sheet = chip if isinstance(chip, Chip) else load(chip)
    used = sheet.usual_dtype() if dtype is None else dtype
    if estimator is None:
        sheet.usable_dtype(used)  # a slip is refused before any candidate is traced
    judge = estimator_of(sheet) if estimator is None else estimator
    return lambda candidate: judge.estimate(task.graph(candidate), sheet, used)
