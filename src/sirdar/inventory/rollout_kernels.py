# SPDX-License-Identifier: Apache-2.0
"""All steps of a simulation for a block of series that stays in the cache: the loops of `rollout`.

Written for numba over plain memory, as short loops that it turns into vector instructions. `_rollout` is also the whole
of the transitions in one place: who wants to read them reads `sirdar.inventory.reference`.

The scratch memory holds rows of `block` numbers: those named below, then lead + 1 rows of orders under way, then, if a
derivative is wanted, two rows per step: what an order answered to, and stock less demand. Importing this module loads
numba.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import no_type_check

import numpy as np
import torch
from numba import cfunc, njit, types

LEVEL, CAP, REORDER, PACK, LEAST = range(5)  # parameters, in the order in which they are handed over
POSITION, STOCK, HELD, SHORT, ORDERED, PLACED, TO_POSITION, TO_STOCK, TO_LEVEL, TO_CAP = range(5, 15)
ROWS = 15
SIZE, FIRST, LAST, LEAD, TIME, REVIEW, BLOCK, WAITS, ROUNDS, RECOUNTS, DERIVES, SPREAD, BAD = range(13)  # whole numbers
POINTERS = 11


def constants(dtype: torch.dtype) -> tuple[float, ...]:
    """Of the same kind as all the rest, which keeps vectors whole, they follow the weights.

    They are one; the largest order that is rounding error; and the excess for which no pack is begun: some, more per
    pack, at most (as in `backend.round_up`).
    """
    return 1.0, 1e-9, 1e-6, 4 * torch.finfo(dtype).eps, 0.25


@njit(cache=True)
@no_type_check
def _load(scratch, row, source, first, stride, count) -> None:  # noqa: ANN001
    for i in range(count):
        scratch[row + i] = source[stride * (first + i)]


@njit(cache=True)
@no_type_check
def _open(start, scratch, whole, first, count) -> None:  # noqa: ANN001
    """Stock on hand and under way; sums are nothing yet. `start` is [1 + lead, size], or [1 + lead] for all series."""
    block, spread = whole[BLOCK], (whole[SPREAD] >> 5) & 1
    size = whole[SIZE] if spread else 1
    for row in range(HELD, ROWS):
        for i in range(count):
            scratch[row * block + i] = 0
    _load(scratch, STOCK * block, start, first, spread, count)
    _load(scratch, POSITION * block, start, first, spread, count)
    for lane in range(whole[LEAD]):
        ring = (ROWS + lane) * block
        for i in range(count):
            arriving = start[(1 + lane) * size + spread * (first + i)]
            scratch[ring + i] = arriving
            scratch[POSITION * block + i] += arriving


@njit(cache=True)
@no_type_check
def _order(scratch, whole, step, constants, count) -> None:  # noqa: ANN001
    """Up to the level, at most the cap, at or below the reorder point; rounded up to what rules permit."""
    block, lead = whole[BLOCK], whole[LEAD]
    weight = constants[step]
    ring = (ROWS + (step + lead) % (lead + 1)) * block
    answers = (ROWS + lead + 1 + (2 * step if whole[DERIVES] else 0)) * block
    position, level, cap, reorder = POSITION * block, LEVEL * block, CAP * block, REORDER * block
    none, one = weight - weight, constants[whole[TIME]]
    if step % whole[REVIEW]:
        for i in range(count):
            scratch[ring + i] = none
            scratch[answers + i] = none
        return
    if whole[RECOUNTS]:
        _recount(scratch, position, block, step, lead, count)
    for i in range(count):
        missing = scratch[level + i] - scratch[position + i]
        wanted = missing if missing > 0 else none
        wanted = wanted if wanted < scratch[cap + i] else scratch[cap + i]
        scratch[ring + i] = wanted if scratch[position + i] <= scratch[reorder + i] else none
    if whole[DERIVES]:  # 1: to the level, -1: to the cap, 0: to neither
        for i in range(count):
            missing = scratch[level + i] - scratch[position + i]
            wanted = missing if missing > 0 else none
            answer = one if missing >= 0 else none
            answer = -one if wanted >= scratch[cap + i] else answer
            scratch[answers + i] = answer if scratch[position + i] <= scratch[reorder + i] else none
    if whole[ROUNDS]:
        _round_up(scratch, ring, block, constants, whole[TIME], count)
    for i in range(count):
        order = scratch[ring + i]
        scratch[position + i] += order
        scratch[ORDERED * block + i] += weight * order
        scratch[PLACED * block + i] += weight if order > 0 else none


@njit(cache=True)
@no_type_check
def _recount(scratch, position, block, step, lead, count) -> None:  # noqa: ANN001
    """Stock and orders under way, added up anew: carried along, rounding errors stay above a reorder point of zero."""
    for i in range(count):
        scratch[position + i] = 0
    for more in range(lead):
        lane = (ROWS + (step + more) % (lead + 1)) * block
        for i in range(count):
            scratch[position + i] += scratch[lane + i]
    for i in range(count):
        scratch[position + i] += scratch[STOCK * block + i]


@njit(cache=True)
@no_type_check
def _round_up(scratch, ring, block, constants, time, count) -> None:  # noqa: ANN001
    one, dust, hair = constants[time], constants[time + 1], constants[time + 2]
    share, most = constants[time + 3], constants[time + 4]
    for i in range(count):
        wanted, pack, least = scratch[ring + i], scratch[PACK * block + i], scratch[LEAST * block + i]
        raised = wanted if wanted > least else least
        size = pack if pack > 0 else one
        packs = raised / size
        excess = hair + share * packs
        excess = excess if excess < most else most
        packed = np.ceil(packs - excess) * size
        raised = packed if pack > 0 else raised
        scratch[ring + i] = raised if wanted > dust else dust - dust


@njit(cache=True)
@no_type_check
def _serve(demand, scratch, whole, step, weight, first, count) -> None:  # noqa: ANN001
    """What was due arrives, demand comes, and what is left and what is short is added up."""
    block, lead, waits = whole[BLOCK], whole[LEAD], whole[WAITS]
    due = (ROWS + step % (lead + 1)) * block
    rest = (ROWS + lead + 2 + (2 * step if whole[DERIVES] else 0)) * block
    stock, position = STOCK * block, POSITION * block
    here = step * whole[SIZE] + first
    none = weight - weight  # a zero of the same kind
    bad = 0
    for i in range(count):
        full = scratch[stock + i] + scratch[due + i]
        after = full - demand[here + i]
        left = after if waits or after > 0 else none
        scratch[rest + i] = after
        scratch[stock + i] = left
        scratch[position + i] -= full - left
    for i in range(count):
        after = scratch[rest + i]
        scratch[HELD * block + i] += weight * after if after > 0 else none
        scratch[SHORT * block + i] -= weight * after if after < 0 else none
    for i in range(count):
        bad += 0 if demand[here + i] >= 0 else 1  # NaN is not
    whole[BAD] += bad


@njit(cache=True)
@no_type_check
def _back(scratch, whole, step, weight, count) -> None:  # noqa: ANN001
    """One step backwards: what the sums gain from a unit more in stock, on order, in the level and in the cap."""
    block, lead = whole[BLOCK], whole[LEAD]
    answers = (ROWS + lead + 1 + 2 * step) * block
    rest = answers + block
    now = (ROWS + step % (lead + 1)) * block
    then = (ROWS + (step + lead) % (lead + 1)) * block
    to_stock, to_position = TO_STOCK * block, TO_POSITION * block
    none = weight - weight
    if whole[WAITS]:
        for i in range(count):
            after = scratch[rest + i]
            held = weight * scratch[HELD * block + i] if after >= 0 else none
            short = weight * scratch[SHORT * block + i] if after <= 0 else none
            scratch[to_stock + i] += held - short
    else:
        for i in range(count):
            kept = scratch[to_stock + i] + weight * scratch[HELD * block + i]
            gone = -scratch[to_position + i] - weight * scratch[SHORT * block + i]
            scratch[to_stock + i] = kept if scratch[rest + i] > 0 else gone
    for i in range(count):
        scratch[now + i] = scratch[to_stock + i]
    arrives = step + lead < whole[TIME]
    for i in range(count):
        later = scratch[then + i] if arrives else none
        more = scratch[to_position + i] + weight * scratch[ORDERED * block + i] + later
        answer = scratch[answers + i]
        own = more if answer > 0 else none
        scratch[to_position + i] -= own
        scratch[TO_LEVEL * block + i] += own
        scratch[TO_CAP * block + i] += more if answer < 0 else none


@no_type_check
def _rollout(demand, start, level, cap, reorder, pack, least, weights, sums, grads, scratch, whole) -> None:  # noqa: ANN001, PLR0913
    """Every block of series in turn: forward, and back again where a derivative is wanted.

    `sums` are written [4, size], or, for the derivative, read as the derivatives of the first three; `grads` [2, size]
    are those of level and cap. Parameters are one number, or one per series where bit n of SPREAD is set.
    """
    block, size = whole[BLOCK], whole[SIZE]
    for first in range(whole[FIRST], whole[LAST], block):
        count = min(block, whole[LAST] - first)
        for row, source in ((LEVEL, level), (CAP, cap), (REORDER, reorder), (PACK, pack), (LEAST, least)):
            _load(scratch, row * block, source, first, (whole[SPREAD] >> row) & 1, count)
        _open(start, scratch, whole, first, count)
        for step in range(whole[TIME]):
            _order(scratch, whole, step, weights, count)
            _serve(demand, scratch, whole, step, weights[step], first, count)
        if not whole[DERIVES]:
            for n in range(4):
                for i in range(count):
                    sums[n * size + first + i] = scratch[(HELD + n) * block + i]
            continue
        for n in range(3):
            _load(scratch, (HELD + n) * block, sums, n * size + first, 1, count)
        for step in range(whole[TIME] - 1, -1, -1):
            _back(scratch, whole, step, weights[step], count)
        for i in range(count):
            grads[first + i] = scratch[TO_LEVEL * block + i]
            grads[size + first + i] = scratch[TO_CAP * block + i]


@cache
def compiled(dtype: torch.dtype) -> Callable[..., None]:
    """The loops for a kind of number, compiled at their first use: a function of addresses that lets go of the GIL."""
    kind = {torch.float32: types.float32, torch.float64: types.float64}[dtype]
    signature = types.void(*[types.CPointer(kind)] * POINTERS, types.CPointer(types.int64))
    made = cfunc(signature, cache=True)(_rollout)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (POINTERS + 1))(int(made.address or 0))
