"""Tasks of varying sizes: how many ways and shots each has, and how shots differ by class."""

from __future__ import annotations

import numpy as np

from innerloop.errors import UserError, at_least
from innerloop.tasks.counter import random_bits, random_uniform
from innerloop.tasks.plan import EpisodePlan, Plan

# Streams of random numbers beside those of `plan.py`.
_WAYS, _SHOTS, _WEIGHTS, _IMAGES, _IMAGE_ORDER, _SUPPORT_ORDER, _QUERY_ORDER = range(7, 14)
Range = tuple[int, int]


def as_range(value: int | tuple[int, int], least: int, name: str) -> Range:
    """A number, or the least and the greatest, as a range.

    Raises:
        UserError: it is neither, or begins below `least`.
    """
    ends = (value, value) if isinstance(value, (int, np.integer)) else value
    whole = isinstance(ends, (tuple, list)) and all(isinstance(e, (int, np.integer)) for e in ends)
    if not whole or len(ends) != 2:
        raise UserError(f"{name} must be a whole number or (least, greatest), not {value!r}")
    low, high = int(ends[0]), int(ends[1])
    at_least(least, **{name: low})
    if low > high:
        raise UserError(f"{name} goes from the least to the greatest number, not {value!r}")
    return low, high


class Shapes:
    """Which ways and shots the episodes have.

    Episodes `block * b` to `block * b + block - 1` have the same.

    Args:
        key: of the random numbers, see `make_key`.
        ways: least and greatest number of classes.
        shots: least and greatest number of support examples a class.
        max_support: most support examples a task; fewer shots are drawn where there are many
            ways, but never fewer than the least.
        block: so many consecutive episodes have one shape.
    """

    def __init__(
        self, key: int, ways: Range, shots: Range, max_support: int | None, block: int
    ) -> None:
        self._key, self._ways, self._shots = key, ways, shots
        self._max_support, self._block = max_support, block

    def of(self, episode: int) -> Range:
        """Ways and shots of an episode."""
        number = episode // self._block
        n_way = self._draw(_WAYS, number, self._ways)
        low, high = self._shots
        if self._max_support is not None:
            high = max(low, min(high, self._max_support // n_way))
        return n_way, self._draw(_SHOTS, number, (low, high))

    def rest(self, episode: int) -> int:
        """Episodes from this one to the end of its block."""
        return self._block - episode % self._block

    def block_of(self, episode: int) -> Range:
        """The first episode of its block, and how many there are in it."""
        return episode - episode % self._block, self._block

    def _draw(self, stream: int, number: int, ends: Range) -> int:
        low, high = ends
        if low == high:
            return low
        return low + int(random_bits(self._key, stream, number, 1, 1)[0, 0] % (high - low + 1))


class UnevenPlan:
    """Support sets with more examples of some classes than of others.

    Meta-Dataset's protocol: each class weighs its number of examples times a factor drawn
    log-uniformly from 0.5 to 2; each has one support example, and the others are shared out by
    weight, as far as a class has them.

    Args:
        plan: whose classes the tasks have; with its `k_shot`, a task would have N*K support
            examples, fewer where classes are too small.

    References:
        Triantafillou et al. (2020), Meta-Dataset, ICLR, section 3.2.
    """

    def __init__(self, plan: EpisodePlan) -> None:
        self._plan = plan

    def size(self, start: int, count: int) -> int:
        """How many support examples all of these tasks can have."""
        chosen, _, _ = self._plan.choose_classes(start, count)
        room = self._plan.counts[chosen] - self._plan.k_query
        return int(np.minimum(room, self._plan.k_shot).sum(axis=1).min())

    def batch(self, start: int, count: int, size: int) -> Plan:
        """As `EpisodePlan.batch`, with `size` support examples in each task."""
        plan, n, q = self._plan, self._plan.n_way, self._plan.k_query
        chosen, rotations, classes = plan.choose_classes(start, count)
        shots = self._shots(start, count, plan.counts[chosen], size)
        each = shots.reshape(-1, 1) + q
        most = int(each.max())
        # [T, most, N] -> [T*N, most]: the first numbers do not depend on how many there are.
        draws, order = (
            random_bits(plan.key, stream, start, count, most * n)
            .reshape(count, most, n)
            .swapaxes(1, 2)
            .reshape(count * n, most)
            for stream in (_IMAGES, _IMAGE_ORDER)
        )
        within = _distinct_rows(draws, plan.counts[chosen].reshape(-1, 1), each)
        order = np.where(np.arange(most) < each, order >> np.uint64(1), np.uint64(2**63))
        within = np.take_along_axis(within, order.argsort(axis=1, kind="stable"), axis=1)
        images = plan.starts[chosen][:, :, None] + within.reshape(count, n, most)
        labels = np.broadcast_to(
            (classes if plan.by_class else np.arange(n))[..., None], images.shape
        )
        turns = np.broadcast_to(rotations[:, :, None], images.shape)
        # Queries come first in each row, then support examples.
        place = np.arange(most)
        is_query = np.broadcast_to(place < q, images.shape)
        is_support = (place >= q) & (place < q + shots[:, :, None])
        sets = []
        for stream, there, number in (
            (_SUPPORT_ORDER, is_support, size),
            (_QUERY_ORDER, is_query, n * q),
        ):
            shuffle = random_bits(plan.key, stream, start, count, number).argsort(axis=1)
            parts = (a[there].reshape(count, number) for a in (images, turns, labels))
            sets.append([np.take_along_axis(a, shuffle, axis=1) for a in parts])
        images, turns, labels = (np.concatenate(pair, axis=1) for pair in zip(*sets, strict=True))
        return images, turns, labels

    def _shots(self, start: int, count: int, counts: np.ndarray, size: int) -> np.ndarray:
        """Support examples of each class, `[T, N]`, `size` in each row, at least 1 each."""
        n = self._plan.n_way
        room = counts - self._plan.k_query
        factor = 2.0 ** (2 * random_uniform(self._plan.key, _WEIGHTS, start, count, n) - 1)
        # Whole numbers, so that no rounding of another machine's library shares out otherwise.
        weight = np.round(factor * 2**20).astype(np.int64) * counts
        shots: np.ndarray = np.minimum(
            1 + weight * (size - n) // weight.sum(axis=1, keepdims=True), room
        )
        while True:
            missing = size - shots.sum(axis=1, keepdims=True)
            if not missing.any():
                return shots
            # One more to the heaviest classes that have room.
            heavy = np.where(shots < room, weight, -1)
            rank = (-heavy).argsort(axis=1, kind="stable").argsort(axis=1)
            shots = shots + ((rank < missing) & (shots < room))


def _distinct_rows(random: np.ndarray, upper: np.ndarray, each: np.ndarray) -> np.ndarray:
    """Rows of distinct numbers by Floyd's algorithm, where rows have different lengths.

    Args:
        random: `uint64` `[rows, most]`.
        upper: `[rows, 1]`, numbers are drawn from 0..upper-1.
        each: `[rows, 1]`, how many of each row count, at most `upper`.

    Returns:
        `int64` `[rows, most]`; what follows the first `each` of a row is 0.
    """
    rows, most = random.shape
    chosen = np.full((most, rows), -1, dtype=np.int64)
    upper, each = upper.ravel(), each.ravel()
    for j in range(most):
        there = j < each
        top = np.where(there, upper - each + j, 0)
        drawn = (random[:, j] % (top + 1).astype(np.uint64)).astype(np.int64)
        taken = (chosen[:j] == drawn).any(axis=0)
        chosen[j] = np.where(there, np.where(taken, top, drawn), -1)
    return np.maximum(chosen.T, 0)
