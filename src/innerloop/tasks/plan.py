"""The plan of an episode: which images it has, in which order."""

from __future__ import annotations

import numpy as np

# Image numbers, quarter turns and labels, each [T, N*K + N*Q], support sets first.
Plan = tuple[np.ndarray, np.ndarray, np.ndarray]


def _reorder(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Each row of `rows` in the order that the same row of `order` says; both `[rows, k]`."""
    count, k = order.shape
    return rows.take(order + k * np.arange(count)[:, None])


def _distinct(random: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Rows of distinct numbers by Floyd's algorithm, all rows at once.

    Args:
        random: `uint64` `[rows, k]`.
        upper: `[rows, 1]`, numbers are drawn from 0..upper-1, at least k.

    Returns:
        `int64` `[rows, k]`; each row a uniformly random set, its order not uniform.
    """
    rows, k = random.shape
    # [k, rows], so that each step works on memory in one piece.
    top = np.ascontiguousarray(upper.T - k + np.arange(k)[:, None])
    draws = (random.T % (top + 1).astype(np.uint64)).astype(np.int64)
    chosen = np.empty((k, rows), dtype=np.int64)
    for j in range(k):
        taken = (chosen[:j] == draws[j]).any(axis=0)
        chosen[j] = np.where(taken, top[j], draws[j])
    return chosen.T
