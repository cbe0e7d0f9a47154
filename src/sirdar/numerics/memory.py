# SPDX-License-Identifier: Apache-2.0
"""Large results in memory that earlier results left behind.

The kernel of an operating system clears every page of fresh memory, which takes longer than rounding into it: at 64M
floats up to three times as long. So the memory of a large result that nobody uses any more is kept for the next one of
the same size, as torch does on GPUs. At most `KEPT_BYTES` are kept; smaller results come from numpy as ever.
"""

import ctypes
import threading
import weakref

import numpy as np

SMALLEST_BYTES = 1 << 25  # below, fresh memory comes from a process's own store and is not cleared anew
KEPT_BYTES = 1 << 29

_free: list[np.ndarray] = []
_lock = threading.Lock()


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """An fp32 array of undefined values, like `numpy.empty`.

    Args:
        shape: sizes of its axes.

    Returns:
        An array that owns its memory as far as the caller can tell; when the last view of it is gone, the memory is
        kept for the next one.
    """
    size = 4 * int(np.prod(shape, dtype=np.int64))
    if size < SMALLEST_BYTES or size > KEPT_BYTES:
        return np.empty(shape, np.float32)
    memory = _taken(size)
    # A ctypes array is what every view of the result holds on to; when it goes, nobody sees the memory any more.
    handle = (ctypes.c_char * size).from_buffer(memory.data)
    weakref.finalize(handle, _returned, memory).atexit = False
    return np.frombuffer(memoryview(handle), np.float32).reshape(shape)


def release() -> None:
    """Give all kept memory back to the system."""
    with _lock:
        _free.clear()


def _taken(size: int) -> np.ndarray:
    with _lock:
        for place, memory in enumerate(_free):
            if memory.nbytes == size:
                return _free.pop(place)
    return np.empty(size, np.uint8)


def _returned(memory: np.ndarray) -> None:
    """The newest stays; the oldest go until all fit."""
    with _lock:
        _free.append(memory)
        while sum(kept.nbytes for kept in _free) > KEPT_BYTES:
            _free.pop(0)
