# SPDX-License-Identifier: Apache-2.0
"""Memory that a training frees at one step is kept for the next."""

import ctypes
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT = 2**30  # bytes; larger blocks still go back to the system


@cache
def keep_freed_memory() -> None:
    """Lets glibc keep what is freed, for the whole process; with another C library it does nothing.

    Every step of a training allocates the same activations. By default glibc gives large blocks back to the kernel as
    they are freed and takes them again page by page, which costs the more the larger the activations are.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for parameter in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
        mallopt(parameter, _KEPT)
