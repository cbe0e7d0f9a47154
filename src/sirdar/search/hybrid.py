# SPDX-License-Identifier: Apache-2.0
"""Cheap knowledge first: zero-shot scores prune, shared weights rank, and few full trainings finish.

What is kept is all about equally promising, as far as the scores can tell, so the first trainings are spread over it.
A Gaussian process, whose prior belief is the rank so far, learns from them where the scores are wrong and picks others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from sirdar.errors import require_positive_integer
from sirdar.search.multishot import View
from sirdar.search.space import Candidate
from sirdar.search.surrogate import GaussianProcess, expected_improvement
from sirdar.search.task import Trial

Scoring = Callable[[Sequence[Candidate]], Sequence[Mapping[str, float]]]
"""Zero-shot scores of candidates, by name."""
Ranking = Callable[[View, Sequence[Candidate]], np.ndarray]
"""A number per candidate, larger is better, from shared weights."""
_TOLD = 25  # candidates, after which a scoring tells how far it is
_MANY, _AGAIN = 40, 10  # trainings, from which on the process's shape is looked for at every tenth


@dataclass(frozen=True)
class _Pool:
    """Candidates, the most promising first, what is believed of them before any is trained, and numbers for each.

    The rest are those that were scored and not kept, in the order of their scores.
    """

    search: object
    candidates: list[Candidate]
    rest: list[Candidate]
    belief: np.ndarray
    features: np.ndarray


@final
class Hybrid:
    """Zero-shot prunes, the supernet ranks, multishot finishes.

    Args:
        scoring: zero-shot scores; none of them is fitted to anything.
        ranking: of what is kept, by shared weights; left out when None.
        pool: candidates that are scored; all of the space where it is not larger.
        keep: the best of them, which are ranked and of which some are trained; a fiftieth of `pool` (at least 20) when
            None. Where all were trained the others follow in the order of their scores.
        start: trainings that are spread before the process decides.

    Raises:
        ArgumentError: a number is not above zero.
    """

    name = "hybrid"

    def __init__(
        self,
        scoring: Scoring,
        ranking: Ranking | None = None,
        *,
        pool: int = 2000,
        keep: int | None = None,
        start: int = 10,
    ) -> None:
        self.pool = require_positive_integer(pool, "pool")
        self.keep = max(20, pool // 50) if keep is None else require_positive_integer(keep, "keep")
        self.start = require_positive_integer(start, "start")
        self.scoring, self.ranking = scoring, ranking
        self._known: _Pool | None = None
        self._shape: tuple[tuple[bytes, ...], tuple[float, float, float]] | None = None

    def propose(self, view: View) -> Candidate:
        """The next in rank at first, then the one that promises the largest improvement."""
        known = self._known
        if known is None or known.search != view.search:
            known = self._known = self._prune(view)
        place = {candidate: row for row, candidate in enumerate(known.candidates)}
        tried = list({place[trial.candidate] for trial in view.trials if trial.candidate in place})
        rng = view.rng()
        if len(tried) == len(known.candidates):
            seen = {trial.candidate for trial in view.trials}
            left = (candidate for candidate in known.rest if candidate not in seen)
            return next(left, None) or view.first(lambda: view.space.sample(rng), rng)
        judged = [trial for trial in view.judged() if trial.candidate in place]
        if len(judged) < min(self.start, len(known.candidates)):
            return known.candidates[_apart(known.features, tried, rng)]
        promise = self._promise(view, known, np.array([place[trial.candidate] for trial in judged]), judged)
        promise[tried] = -np.inf
        return known.candidates[int(np.argmax(promise))]

    def _promise(self, view: View, known: _Pool, rows: np.ndarray, judged: Sequence[Trial]) -> np.ndarray:
        values = np.array([view.objectives.reward(trial.measures) for trial in judged])
        # Of many, the first tens tell the shape: it hardly changes, and a resumed search finds the same.
        shape, first = None, len(rows) // _AGAIN * _AGAIN
        if first >= _MANY:
            shape = self._shaped(known.features[rows[:first]], known.belief[rows[:first]], values[:first])
        process = GaussianProcess(known.features[rows], known.belief[rows], values, shape)
        mean, deviation = process.predict(known.features, known.belief)
        return expected_improvement(mean, deviation, float(values.max()))

    def _shaped(self, features: np.ndarray, belief: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
        """The likeliest shape of a process over these, looked for once."""
        key = (features.tobytes(), belief.tobytes(), values.tobytes())
        if self._shape is None or self._shape[0] != key:
            self._shape = key, GaussianProcess(features, belief, values).likely
        return self._shape[1]

    def _prune(self, view: View) -> _Pool:
        """The best of a pool by zero-shot scores, in order, with the belief of the ranking added where there is one."""
        drawn = _drawn(view, self.pool)
        scored = [drawn[row] for row in _order(view, self.scoring, drawn)]
        kept, rest = scored[: self.keep], scored[self.keep :]
        belief = ndtri((np.arange(len(kept), 0, -1) - 0.5) / len(kept))
        if self.ranking is not None:
            quality = np.nan_to_num(self.ranking(view, kept), nan=-np.inf)  # shared weights may not suit a candidate
            ranked = ndtri((rankdata(quality) - 0.5) / len(kept))
            belief = (belief + ranked) / np.sqrt(2)
        best_first = np.argsort(-belief, kind="stable")
        ordered = [kept[row] for row in best_first]
        features = np.stack([view.space.encode(candidate) for candidate in ordered])
        return _Pool(view.search, ordered, rest, belief[best_first], features)


@final
class ZeroShot:
    """Trains in the order of the combined zero-shot score, and so is judged by its first trial.

    Args:
        scoring: zero-shot scores.
        pool: candidates that are scored; all of the space where it is not larger.
    """

    name = "zero-shot"

    def __init__(self, scoring: Scoring, pool: int = 2000) -> None:
        self.scoring, self.pool = scoring, require_positive_integer(pool, "pool")
        self._ranked: tuple[object, list[Candidate]] | None = None

    def propose(self, view: View) -> Candidate:
        """The next in rank."""
        known = self._ranked
        if known is None or known[0] != view.search:
            drawn = _drawn(view, self.pool)
            known = self._ranked = (view.search, [drawn[row] for row in _order(view, self.scoring, drawn)])
        tried = {trial.candidate for trial in view.trials}
        rng = view.rng()
        left = (candidate for candidate in known[1] if candidate not in tried)
        return next(left, None) or view.first(lambda: view.space.sample(rng), rng)


def _order(view: View, scoring: Scoring, candidates: Sequence[Candidate]) -> np.ndarray:
    """Best first; networks for images take minutes, so that it tells how far it is."""
    from sirdar.search.zeroshot import combined  # it imports torch

    scores: list[Mapping[str, float]] = []
    for begin in range(0, len(candidates), _TOLD):
        view.tell(f"{begin} of {len(candidates)} untrained networks scored")
        scores += scoring(candidates[begin : begin + _TOLD])
    return np.argsort(-combined(scores), kind="stable")


def _apart(features: np.ndarray, tried: Sequence[int], rng: np.random.Generator) -> int:
    """The row farthest from those tried (Johnson, Moore and Ylvisaker 1990); at first one of the best tenth."""
    if not tried:
        return int(rng.integers(max(1, len(features) // 10)))
    gaps = ((features[:, None] - features[list(tried)][None]) ** 2).sum(axis=2).min(axis=1)
    gaps[list(tried)] = -1.0
    return int(rng.choice(np.flatnonzero(gaps == gaps.max())))


def _drawn(view: View, count: int) -> list[Candidate]:
    """Different feasible candidates: all of a small space, else so many at random."""
    if view.space.size <= count:
        return [candidate for candidate in view.space if view.feasible(candidate)]
    rng = np.random.default_rng((view.seed, 104729))
    found: dict[Candidate, None] = {view.fallback: None}
    for _ in range(20 * count):
        candidate = view.space.sample(rng)
        if candidate not in found and view.feasible(candidate):
            found[candidate] = None
        if len(found) == count:
            break
    return list(found)
