# SPDX-License-Identifier: Apache-2.0
"""Whether any candidate keeps to the limits, and if not, what could be had."""

import math
from collections.abc import Mapping

import numpy as np

from sirdar.errors import ArgumentError
from sirdar.search.objectives import Objectives
from sirdar.search.pricing import Priced
from sirdar.search.space import Candidate, SearchSpace

_SAMPLES, _STEPS, _NEARBY = 24, 40, 24


def feasible_candidate(space: SearchSpace, priced: Priced, objectives: Objectives, seed: int) -> Candidate:
    """A candidate within the limits, found by going downhill from the cheapest of a sample.

    Raises:
        ArgumentError: a limit is on what the costs do not tell, or none was found; the sentence names the nearest value
            of each limit that does not hold.
    """
    if not objectives.limits:
        return space.smallest()
    _require_known(objectives, priced.measures(space.smallest()))
    rng = np.random.default_rng((seed, 7919))
    best, least = space.smallest(), math.inf
    for candidate in (best, space.largest(), *(space.sample(rng) for _ in range(_SAMPLES))):
        excess = objectives.excess(priced.measures(candidate))
        if excess == 0:
            return candidate
        best, least = (candidate, excess) if excess < least else (best, least)
    for _ in range(_STEPS):
        excess = objectives.excess(priced.measures(best))
        if excess == 0:
            return best
        nearby = list(space.neighbours(best))
        if len(nearby) > _NEARBY:
            nearby = [nearby[row] for row in rng.choice(len(nearby), _NEARBY, replace=False)]
        better = min(nearby, key=lambda candidate: objectives.excess(priced.measures(candidate)), default=best)
        if objectives.excess(priced.measures(better)) >= excess:
            break
        best = better
    if objectives.excess(priced.measures(best)) == 0:
        return best
    raise ArgumentError(_refusal(space, priced, objectives, best))


def _require_known(objectives: Objectives, known: Mapping[str, float]) -> None:
    for name, limit in objectives.limits:
        if name not in known:
            msg = f"limit {name} <= {limit:g} cannot be kept: the chip's costs tell only {', '.join(known)}"
            raise ArgumentError(msg)


def _refusal(space: SearchSpace, priced: Priced, objectives: Objectives, best: Candidate) -> str:
    found = priced.measures(best)
    broken = [
        f"{name} <= {limit:g} (nearest {found[name]:.4g})" for name, limit in objectives.limits if found[name] > limit
    ]
    return (
        f"no candidate of space {space.name!r} keeps to {' and '.join(broken)}; "
        f"{len(priced)} were priced, the nearest is {best}"
    )
