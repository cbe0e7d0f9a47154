# SPDX-License-Identifier: Apache-2.0
"""Random bits as a function of (seed, index): the same for any number of threads and any way to split the work.

A seed and the upper half of the index make two 32-bit keys (splitmix64: Steele, Lea and Flood, OOPSLA 2014). The lower
half of the index goes through a 32-bit permutation with the keys mixed in (Wellons, "Prospecting for Hash Functions",
2018: triple32). It is no cipher: do not use it for secrets.
"""

import numpy as np

MASK_32 = 0xFFFFFFFF
MASK_64 = 0xFFFFFFFFFFFFFFFF
_GOLDEN = 0x9E3779B97F4A7C15


def splitmix64(state: int) -> int:
    """One step of splitmix64: 64 bits in, 64 well mixed bits out."""
    z = (state + _GOLDEN) & MASK_64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK_64
    return z ^ (z >> 31)


def child_seed(seed: int, *path: int) -> int:
    """An independent seed for each path of integers, such as (step, parameter)."""
    for branch in path:
        seed = splitmix64(splitmix64(seed) ^ (branch & MASK_64))
    return seed


def keys(seed: int, index: int) -> tuple[int, int]:
    """The two 32-bit keys that hold for 2**32 neighbouring indices."""
    mixed = splitmix64(splitmix64(seed) ^ (index >> 32))
    return mixed >> 32, mixed & MASK_32


def random_bits(seed: int, index: int) -> int:
    """32 random bits, in plain Python: the definition that every kernel is tested against."""
    first, second = keys(seed, index)
    h = (index & MASK_32) ^ first
    h = ((h ^ (h >> 17)) * 0xED5AD4BB) & MASK_32
    h = ((h ^ (h >> 11)) + second) & MASK_32
    h = (h * 0xAC4C1B51) & MASK_32
    h = ((h ^ (h >> 15)) * 0x31848BAB) & MASK_32
    return h ^ (h >> 14)


def random_array(seed: int, first: int, count: int) -> np.ndarray:
    """`random_bits` of `count` indices from `first` on, as uint32."""
    parts = []
    while count > 0:
        low = first & MASK_32
        size = min(count, MASK_32 + 1 - low)
        one, two = (np.uint32(key) for key in keys(seed, first))
        h = np.arange(low, low + size, dtype=np.uint64).astype(np.uint32) ^ one
        h = (h ^ (h >> np.uint32(17))) * np.uint32(0xED5AD4BB)
        h = ((h ^ (h >> np.uint32(11))) + two) * np.uint32(0xAC4C1B51)
        h = (h ^ (h >> np.uint32(15))) * np.uint32(0x31848BAB)
        parts.append(h ^ (h >> np.uint32(14)))
        first, count = first + size, count - size
    return np.concatenate(parts) if parts else np.empty(0, np.uint32)
