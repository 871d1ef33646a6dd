"""Counter-based random numbers: any number of any episode without those before it.

A hash of (key, stream, episode, slot), so that a thousand episodes cost one pass of
vector arithmetic; NumPy's own generators would need one object an episode.
"""

from __future__ import annotations

import hashlib

import numpy as np


def make_key(seed: int, split: str) -> int:
    """The key of a sampler: episodes of other seeds and splits are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{split}".encode()).digest()[:8], "little")


def random_bits(key: int, stream: int, start: int, count: int, width: int) -> np.ndarray:
    """Random `uint64` `[count, width]` for the episodes from `start`.

    Args:
        key: of `make_key`.
        stream: 0..255, one for each random decision.
        start: the first episode.
        count: how many episodes.
        width: how many numbers for each.
    """
    episode = np.arange(start, start + count, dtype=np.uint64)[:, None]
    slot = np.arange(width, dtype=np.uint64)[None, :]
    state = _mix(episode + np.uint64(key))
    return _mix(state + (slot << np.uint64(8)) + np.uint64(stream))


def random_uniform(key: int, stream: int, start: int, count: int, width: int) -> np.ndarray:
    """Random `float64` `[count, width]`, uniform in 0 <= u < 1; arguments as `random_bits`."""
    return (random_bits(key, stream, start, count, width) >> np.uint64(11)) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al. 2014): spreads every bit over all 64."""
    x = x + np.uint64(0x9E3779B97F4A7C15)  # The only new array: x itself is not changed.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(31)
    return x
