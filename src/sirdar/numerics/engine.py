# SPDX-License-Identifier: Apache-2.0
"""Between `rounding.py` and the compiled loops: a format's constants, slices, threads.

Threads are Python's own and the loops release its lock: numba's thread layer must not be entered from two threads at
once, and a library cannot promise that. `NUMBA_NUM_THREADS` sets how many there are; the default is every core.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from numba.core import config

from sirdar.errors import ArgumentError
from sirdar.numerics.counter import keys
from sirdar.numerics.formats import BlockFormat, Format
from sirdar.numerics.kernels import (
    Blocks,
    Constants,
    Mode,
    Stored,
    Work,
    encode_slice,
    pack_slice,
    round_blocks,
    round_slice,
)
from sirdar.numerics.reference import encode_value

_SLICE_LEAST = 1 << 16  # values; below, a thread costs more than it saves
_INDEX_SPAN = 1 << 32  # indices that share their random keys

_INFINITY, _NAN, _SIGN = 0x7F800000, 0x7FC00000, 0x80000000


def wide(row: Format) -> bool:
    """Whether the format has the exponent of fp32, so that its stored bits are the first bits of fp32."""
    return row.exponent == 8


def _bits(value: float) -> np.uint32:
    return np.float32(abs(value)).view(np.uint32)


@lru_cache
def constants(row: Format, overflow: str) -> Constants:
    """What the loops need to know of a format."""
    limits = _bits(row.largest), _bits(row.lowest)
    special = {"infinity": np.uint32(_INFINITY), "nan": np.uint32(_NAN)}.get(row.overflow)
    beyond = limits if overflow == "saturate" or special is None else (special, special)
    tiny = 0.0 if wide(row) else row.smallest_normal if row.floating else -row.lowest
    stand_in = _SIGN if row.floating else 0
    return Constants(
        shift=np.uint32(23 - row.mantissa),
        tiny=_bits(tiny),
        steps_per_one=np.float32(1.0 if wide(row) else 1.0 / row.smallest),
        step=np.float32(1.0 if wide(row) else row.smallest),
        limits=limits,
        beyond=beyond,
        nan=np.uint32(_NAN if row.nan else stand_in),
        zero_sign=np.uint32(_SIGN if row.floating else 0),
    )


@lru_cache
def stored(row: Format) -> Stored:
    """What encoding needs to know beside."""
    return Stored(
        shift=np.uint32(32 - row.bits if wide(row) else 23 - row.mantissa),
        sign_shift=np.uint32(row.bits - 1),
        rebias=np.uint32(0 if not row.floating else (127 - row.bias) << row.mantissa),
        infinity=np.uint32(encode_value(np.inf, row) if row.infinity else 0),
        nan=np.uint32(encode_value(np.nan, row) if row.nan else 0),
        mask=np.uint32((1 << row.bits) - 1),
        floating=row.floating,
    )


def code_type(row: Format) -> type[np.unsignedinteger]:
    """The smallest unsigned integer that holds a stored value."""
    return np.uint8 if row.bits <= 8 else np.uint16 if row.bits == 16 else np.uint32


def threads() -> int:
    """How many there are to be; asking numba itself would start its own."""
    return config.NUMBA_NUM_THREADS  # pyright: ignore[reportAttributeAccessIssue] - numba sets it at run time


def _slices(size: int, offset: int, least: int = _SLICE_LEAST) -> Iterator[tuple[int, int]]:
    """Start and stop of each thread's share, cut where the random keys change."""
    share = max(least, 1, -(-size // threads()))
    start = 0
    while start < size:
        room = _INDEX_SPAN - (offset + start) % _INDEX_SPAN
        stop = min(start + share, start + room, size)
        yield start, stop
        start = stop


def _run(task: Callable[[int, int], None], slices: Iterable[tuple[int, int]]) -> None:
    shares = list(slices)
    if not shares:
        return
    first, *others = shares
    if not others:
        task(*first)
        return
    with ThreadPoolExecutor(len(others)) as pool:
        pending = [pool.submit(task, *share) for share in others]
        task(*first)
        for done in pending:
            done.result()


def _work(x: np.ndarray, out: np.ndarray, seed: int | None, index: int) -> Work:
    one, two = keys(seed or 0, index)
    lower = np.uint32(index % _INDEX_SPAN)
    return Work(x, x.view(np.uint32), out, lower, (np.uint32(one), np.uint32(two)))


def round_array(
    x: np.ndarray, out: np.ndarray, row: Format, overflow: str, *, seed: int | None, offset: int = 0
) -> None:
    """Round contiguous fp32 `x` into `out`, which may be `x`; stochastically if there is a seed."""
    flat, target, c = x.reshape(-1), out.reshape(-1).view(np.uint32), constants(row, overflow)

    def task(start: int, stop: int) -> None:
        work = _work(flat[start:stop], target[start:stop], seed, offset + start)
        round_slice(work, c, Mode(wide(row), seed is not None))

    _run(task, _slices(flat.size, offset))


def encode_array(
    x: np.ndarray, codes: np.ndarray, row: Format, overflow: str, *, seed: int | None, offset: int = 0
) -> None:
    """Round contiguous fp32 `x` and store the bits of the results in `codes`."""
    flat, target, c, s = x.reshape(-1), codes.reshape(-1), constants(row, overflow), stored(row)

    def task(start: int, stop: int) -> None:
        work = _work(flat[start:stop], target[start:stop], seed, offset + start)
        encode_slice(work, c, s, Mode(wide(row), seed is not None))

    _run(task, _slices(flat.size, offset))


def pack_array(values: np.ndarray, codes: np.ndarray, row: Format) -> None:
    """Store the bits of contiguous fp32 values that the format represents."""
    flat = values.reshape(-1)
    pack_slice(flat, flat.view(np.uint32), codes.reshape(-1), constants(row, "saturate"), stored(row))


def round_block_array(
    x: np.ndarray,
    out: np.ndarray,
    row: BlockFormat,
    overflow: str,
    *,
    seed: int | None,
    offset: int,
    scaled: bool,
) -> np.ndarray:
    """Round contiguous fp32 `x` in blocks along the last axis; the E8M0 codes of the scales come back."""
    if x.ndim == 0 or offset + x.size > _INDEX_SPAN:
        msg = f"{row.name} takes arrays of one axis or more and at most 2**32 values, got {x.shape} from {offset} on"
        raise ArgumentError(msg)
    width = x.shape[-1]
    per_row = -(-width // row.block)
    scales = np.empty((*x.shape[:-1], per_row), np.uint8)
    flat, target, codes = x.reshape(-1), out.reshape(-1).view(np.uint32), scales.reshape(-1)
    c = constants(row.element, overflow)

    def task(start: int, stop: int) -> None:
        part = slice(start * width, stop * width)
        work = _work(flat[part], target[part], seed, offset + start * width)
        blocks = Blocks(width, row.block, row.element.largest_exponent, codes[start * per_row : stop * per_row], scaled)
        round_blocks(work, c, blocks, Mode(wide=False, stochastic=seed is not None))

    rows = x.size // max(width, 1)
    _run(task, _slices(rows, 0, _SLICE_LEAST // max(width, 1)))
    return scales
