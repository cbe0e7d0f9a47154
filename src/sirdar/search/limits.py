# SPDX-License-Identifier: Apache-2.0
"""Whether any candidate keeps to the limits, and if not, what could be had."""

import math
from collections.abc import Callable, Iterator, Mapping
from decimal import ROUND_CEILING, Context

import numpy as np

from sirdar.errors import ArgumentError
from sirdar.search.objectives import Objectives
from sirdar.search.pricing import Priced
from sirdar.search.space import Candidate, SearchSpace

_SAMPLES = 24
_PRICED = 1000  # candidates that are priced before a limit is called impossible; in a space no larger, all are


def feasible_candidate(
    space: SearchSpace, priced: Priced, objectives: Objectives, seed: int, tell: Callable[[int], None] | None = None
) -> Candidate:
    """A candidate within the limits, found by going downhill from the cheapest of a sample, and from others of it.

    Args:
        space: of candidates.
        priced: their costs.
        objectives: with the limits.
        seed: of the sample.
        tell: called with the number of candidates priced in vain so far: a compiler takes minutes for hundreds.

    Raises:
        ArgumentError: a limit is on what the costs do not tell, or none was found; the sentence names the nearest value
            of each limit that does not hold.
    """
    if not objectives.limits:
        return space.smallest()
    few = (space.smallest, space.largest, lambda: space.sample(np.random.default_rng(seed)))
    known = next(filter(None, (priced.measures(made()) for made in few)), {})
    if not known:
        msg = f"{space.smallest()}: {priced.failure(space.smallest())}"
        raise ArgumentError(msg)
    _require_known(objectives, known)

    def excess(candidate: Candidate) -> float:
        found = objectives.excess(priced.measures(candidate))
        if tell is not None and found > 0:
            tell(len(priced))
        return found

    best, least = space.smallest(), math.inf
    for candidate in _ways(space, priced, excess, np.random.default_rng((seed, 7919))):
        beyond = excess(candidate)
        if beyond == 0:
            return candidate
        best, least = (candidate, beyond) if beyond < least else (best, least)
    raise ArgumentError(_refusal(space, priced, objectives, best))


def _require_known(objectives: Objectives, known: Mapping[str, float]) -> None:
    for name, limit in objectives.limits:
        if name not in known:
            msg = f"limit {name} <= {limit:g} cannot be kept: the chip's costs tell only {', '.join(known)}"
            raise ArgumentError(msg)


def _ways(
    space: SearchSpace, priced: Priced, excess: Callable[[Candidate], float], rng: np.random.Generator
) -> Iterator[Candidate]:
    """A sample, what lies downhill of each of it until many are priced, and all of a small space."""
    sample = [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(_SAMPLES))]
    yield from sample
    begin = len(priced)
    for start in sorted(dict.fromkeys(sample), key=excess):
        present: Candidate | None = start
        while present is not None:
            yield present
            if len(priced) - begin >= _PRICED:
                break
            nearby = list(space.neighbours(present))
            shuffled = (nearby[row] for row in rng.permutation(len(nearby)))
            least = excess(present)
            present = next((other for other in shuffled if excess(other) < least), None)
    if space.size <= _PRICED:
        yield from space


def _refusal(space: SearchSpace, priced: Priced, objectives: Objectives, best: Candidate) -> str:
    found = {name: priced.measures(best).get(name, math.inf) for name, _ in objectives.limits}
    broken = [
        f"{name} <= {limit:g} (nearest {_rounded_up(found[name]):.4g})"
        for name, limit in objectives.limits
        if found[name] > limit
    ]
    if space.size <= _PRICED:
        told = f"no candidate of space {space.name!r} keeps to {' and '.join(broken)}; {len(priced)} were priced"
    else:
        told = (
            f"no candidate was found that keeps to {' and '.join(broken)} "
            f"among {len(priced):,} priced of {space.size:,} of space {space.name!r}"
        )
    return f"{told}, the nearest is {best}"


def _rounded_up(value: float) -> float:
    """To four digits, so that what is named is a limit that can be kept to."""
    return float(Context(prec=4, rounding=ROUND_CEILING).create_decimal(repr(float(value))))
