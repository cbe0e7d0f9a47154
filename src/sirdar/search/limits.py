# SPDX-License-Identifier: Apache-2.0
"""Whether any candidate keeps to the limits, and if not, what could be had."""

import math
from collections.abc import Callable, Iterator, Mapping
from decimal import ROUND_CEILING, Context
from itertools import chain, combinations

import numpy as np

from sirdar.errors import ArgumentError
from sirdar.search.objectives import Objectives
from sirdar.search.pricing import Priced
from sirdar.search.space import Candidate, SearchSpace

_SAMPLES = 24
_PRICED = 1000  # candidates that are priced before a limit is called impossible; in a space no larger, all are
_TRADES, _TRADERS = 200, 8  # candidates priced at most in trades of one cost for another, and where these begin
_TRIED = 20  # of the trades from one candidate, the most promising


def feasible_candidate(
    space: SearchSpace, priced: Priced, objectives: Objectives, seed: int, tell: Callable[[int], None] | None = None
) -> Candidate:
    """A candidate within the limits, found by going downhill from the cheapest of a sample, and from others of it.

    Several limits may conflict; then what comes nearest trades one cost for another by two choices at a time.

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

    seen: dict[Candidate, float] = {}
    ways = _ways(space, priced, excess, np.random.default_rng((seed, 7919)))
    for candidate in chain(ways, _trades(space, priced, objectives, seen)):
        seen[candidate] = excess(candidate)
        if seen[candidate] == 0:
            return candidate
    raise ArgumentError(_refusal(space, priced, objectives, min(seen, key=seen.__getitem__)))


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


def _trades(
    space: SearchSpace, priced: Priced, objectives: Objectives, seen: Mapping[Candidate, float]
) -> Iterator[Candidate]:
    """For several limits, what lies downhill of the nearest seen when two choices change at a time."""
    if len(objectives.limits) == 1 or space.size <= _PRICED:
        return
    most = len(priced) + _TRADES
    for start in sorted(seen, key=seen.__getitem__)[:_TRADERS]:
        present: Candidate | None = start if math.isfinite(seen[start]) else None
        while present is not None:
            least = objectives.excess(priced.measures(present))
            others = _traded(space, priced, objectives, present, most)
            present = next((other for other in others if objectives.excess(priced.measures(other)) < least), None)
            if present is not None:
                yield present


def _traded(
    space: SearchSpace, priced: Priced, objectives: Objectives, present: Candidate, most: int
) -> Iterator[Candidate]:
    """Candidates that differ in two choices and would be nearer if the costs of both changes added up, best first."""
    names, limits = zip(*objectives.limits, strict=True)
    values = {choice.name: choice.options[0] for choice in space.choices} | present.as_dict()
    moves = [(name, option) for name, old in present.values for option in space[name].options if option != old]
    costs = []
    for changes in ((), *((move,) for move in moves)):
        if len(priced) >= most:
            return
        measures = priced.measures(space.candidate(values | dict(changes)))
        costs.append([measures.get(name, math.inf) for name in names])
    here, apart = np.array(costs[0]), np.array(costs[1:]) - costs[0]
    pairs = [(i, j) for i, j in combinations(range(len(moves)), 2) if moves[i][0] != moves[j][0]]
    sums = here + apart[[i for i, _ in pairs]] + apart[[j for _, j in pairs]]
    beyond = np.log(np.maximum(sums, 1e-300) / limits).clip(min=0).sum(axis=1)
    for row in np.argsort(beyond, kind="stable")[:_TRIED]:
        if beyond[row] < objectives.excess(dict(zip(names, costs[0], strict=True))) and len(priced) < most:
            yield space.candidate(values | dict(moves[place] for place in pairs[row]))


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
