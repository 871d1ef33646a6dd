"""The plan of an episode: which images it has, in which order."""

from __future__ import annotations

import numpy as np

from innerloop.data.base import ClassIndexed
from innerloop.tasks.counter import random_bits

# Each random decision of an episode draws from a stream of its own.
_CLASSES, _CLASS_ORDER, _POOLS, _IMAGES, _IMAGE_ORDER, _SUPPORT_ORDER, _QUERY_ORDER = range(7)

# Image numbers, quarter turns and labels, each [T, N*K + N*Q], support sets first.
Plan = tuple[np.ndarray, np.ndarray, np.ndarray]


class EpisodePlan:
    """Draws which images the episodes of an `EpisodeSampler` have.

    `ops/cpu/episodes.inc` does the same, compiled, with these `arrays` and `settings`.

    Args:
        data: the images, of which only the numbers in each class count here.
        classes: indices of the classes to draw from.
        key: of the random numbers, see `make_key`.
        n_way: N, classes a task.
        k_shot: K, support images a class.
        k_query: Q, query images a class.
        turns: 4 where each class counts four times, turned; else 1.
        by_class: labels are 0..num_classes-1; else 0..N-1 in every task.
        pools: the classes of a task all come from one of these; None for one pool of all.
    """

    def __init__(
        self,
        data: ClassIndexed,
        classes: np.ndarray,
        key: int,
        *,
        n_way: int,
        k_shot: int,
        k_query: int,
        turns: int,
        by_class: bool,
        pools: list[np.ndarray] | None = None,
    ) -> None:
        self.key, self.turns, self.by_class = key, turns, by_class
        self.n_way, self.k_shot, self.k_query = n_way, k_shot, k_query
        self.starts, self.counts = data.starts, data.counts
        pools = pools or [classes]
        # Pool p is pooled[pool_start[p] : pool_start[p] + pool_size[p]].
        self.pooled = np.concatenate(pools)
        self.pool_size = np.array([len(pool) for pool in pools])
        self.pool_start = np.cumsum(self.pool_size) - self.pool_size
        # Where each class of the data stands in `classes`.
        self.position = np.zeros(data.num_classes, dtype=np.int64)
        self.position[classes] = np.arange(len(classes))

    def arrays(self) -> dict[str, np.ndarray]:
        """By the names of `kernels.EpisodeSource`."""
        names = ("pooled", "pool_start", "pool_size", "starts", "counts", "position")
        return {name: getattr(self, name) for name in names}

    def settings(self) -> dict[str, int]:
        """By the names of `kernels.EpisodeSource`."""
        names = ("key", "n_way", "k_shot", "k_query", "turns", "by_class")
        return {"pools": len(self.pool_size), **{name: getattr(self, name) for name in names}}

    def batch(self, start: int, count: int) -> Plan:
        """Which images make up the support and the query sets, in which order."""
        images, rotations, classes = self.indices(start, count)
        k, q = self.k_shot, self.k_query
        numbers = classes if self.by_class else np.arange(self.n_way)
        labels = np.broadcast_to(numbers[..., None], images.shape)
        turns = np.broadcast_to(rotations[:, :, None], images.shape)
        sets = []
        for stream, first, last in ((_SUPPORT_ORDER, 0, k), (_QUERY_ORDER, k, k + q)):
            size = self.n_way * (last - first)
            order = self._random(stream, start, count, size).argsort(axis=1)
            # [T, N, k] -> [T, N*k], each task in an order of its own.
            parts = (a[:, :, first:last].reshape(count, size) for a in (images, turns, labels))
            sets.append([_reorder(a, order) for a in parts])
        images, turns, labels = (np.concatenate(pair, axis=1) for pair in zip(*sets, strict=True))
        return images, turns, labels

    def indices(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `EpisodeSampler.indices`."""
        n, per_class = self.n_way, self.k_shot + self.k_query
        chosen, rotations, classes = self.choose_classes(start, count)
        upper = self.counts[chosen].reshape(-1, 1)
        random = self._random(_IMAGES, start, count, n * per_class)
        within = _distinct(random.reshape(count * n, per_class), upper)
        order = self._random(_IMAGE_ORDER, start, count, n * per_class)
        order = order.reshape(count * n, per_class).argsort(axis=1)
        within = _reorder(within, order).reshape(count, n, per_class)
        return self.starts[chosen][:, :, None] + within, rotations, classes

    def choose_classes(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The classes of episodes, `[T, N]` each: in the data, quarter turns, 0..num_classes-1."""
        n = self.n_way
        pool = self._random(_POOLS, start, count, 1) % np.uint64(len(self.pool_size))
        pool = pool.astype(np.int64)
        upper = self.pool_size[pool] * self.turns
        virtual = _distinct(self._random(_CLASSES, start, count, n), upper)
        # _distinct gives a random set in a biased order: shuffle it.
        order = self._random(_CLASS_ORDER, start, count, n).argsort(axis=1)
        virtual = _reorder(virtual, order)
        chosen = self.pooled[self.pool_start[pool] + virtual // self.turns]
        rotations = virtual % self.turns
        return chosen, rotations, self.position[chosen] * self.turns + rotations

    def _random(self, stream: int, start: int, count: int, width: int) -> np.ndarray:
        return random_bits(self.key, stream, start, count, width)


def _reorder(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Each row of `rows` in the order that the same row of `order` says; both `[rows, k]`."""
    count, k = order.shape
    ordered: np.ndarray = rows.take(order + k * np.arange(count)[:, None])
    return ordered


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
