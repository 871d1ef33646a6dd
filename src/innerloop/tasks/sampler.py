"""The episode sampler: episode i is a pure function of (seed, split, i)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.data.augment import Augment
from innerloop.data.base import ClassIndexed, check_data
from innerloop.data.paper import is_on_paper
from innerloop.errors import UserError, at_least, true_or_false
from innerloop.ops import kernels
from innerloop.tasks.augmenting import augmented, check_augment, name_of
from innerloop.tasks.counter import make_key
from innerloop.tasks.episodes import Episodes
from innerloop.tasks.fetch import INPUTS, Fetch
from innerloop.tasks.normalization import Normalization, normalization
from innerloop.tasks.plan import EpisodePlan
from innerloop.tasks.shapes import Shapes, UnevenPlan, as_range

__all__ = ["INPUTS", "EpisodeSampler"]


class EpisodeSampler:
    """Draws N-way K-shot episodes from a data set.

    Episode `i` is a pure function of `(seed, split, i)`: it does not depend on
    how many episodes are drawn at a time, on their order, or on what was drawn
    before, so any process can make any episode.  Classes are drawn without
    replacement, then `k_shot + k_query` examples of each without replacement;
    which class gets which label, and the order within the support and query
    sets, are random too.

    Ways and shots may vary from task to task, as in Meta-Dataset (Triantafillou et al. 2020,
    section 3.2).  Tasks of a meta-batch lie in one tensor, so they need one shape: `block` says
    how many consecutive episodes have the same, in training the meta-batch size.

    Args:
        data: images, or examples of any dtype and shape.
        classes: indices of the classes to draw from, e.g. one part of a split;
            None for all.
        n_way: N, classes a task; or the least and the greatest, between which it is uniform.
        k_shot: K, support examples a class; or the least and the greatest.
        k_query: Q, query examples a class.
        seed: any integer.
        split: name of the part, `"train"`, `"val"` or `"test"`; episodes of
            different parts are independent even for the same seed.
        split_name: name of the split that the part belongs to, for results only.
        rotate: count each class turned by 90, 180 and 270 degrees as three
            further classes (for square images).
        within_group: take all classes of a task from one group (alphabet); groups
            with fewer than `n_way` classes are left out.
        inputs: `"ink"`, `"unit"` or `"raw"`, how 0..255 becomes float32; without effect where
            examples are no `uint8` images.
        labels: `"task"`, 0..N-1 in every task; or `"class"`, the number of the
            class (turned ones counted) among all `num_classes` that there are.
        augment: changes the examples of training tasks: one of `innerloop.data.augment`, or a
            function of the support and query examples of one task, `[M, ...]`, and a
            `torch.Generator` on their device, to as many of the same shape.
        imbalanced: some classes have more support examples than others; each has at least one,
            and all together N*K, or fewer where classes are too small for that.
        max_support: most support examples a task, where `k_shot` is a range.
        block: how many consecutive episodes have one number of ways and support examples.
        device: where the tensors go.

    Raises:
        UserError: too few classes or examples for the tasks asked for, or a value
            out of range.

    Example:
        >>> from innerloop.data.random_images import random_images
        >>> sampler = EpisodeSampler(random_images(classes=20), n_way=5, k_shot=1, k_query=3)
        >>> sampler.batch(0, 8).query_x.shape
        torch.Size([8, 15, 1, 28, 28])
    """

    def __init__(
        self,
        data: ClassIndexed,
        classes: np.ndarray | None = None,
        *,
        n_way: int | tuple[int, int] = 5,
        k_shot: int | tuple[int, int] = 1,
        k_query: int = 15,
        seed: int = 0,
        split: str = "train",
        split_name: str = "",
        rotate: bool = False,
        within_group: bool = False,
        inputs: str = "ink",
        labels: str = "task",
        augment: Augment | None = None,
        imbalanced: bool = False,
        max_support: int | None = None,
        block: int = 1,
        device: str | torch.device = "cpu",
    ) -> None:
        check_data(data)
        check_augment(augment)
        self.data, self.classes = data, data.class_numbers(classes)
        self.ways, self.shots = as_range(n_way, 2, "n_way"), as_range(k_shot, 1, "k_shot")
        self.n_way, self.k_shot, self.k_query = self.ways[1], self.shots[1], k_query
        self.seed, self.split, self.rotate, self.inputs = seed, split, rotate, inputs
        self.within_group, self.split_name, self.labels = within_group, split_name, labels
        self.augment, self.imbalanced = augment, imbalanced
        self.max_support, self.block = max_support, block
        self.device = torch.device(device)
        self._num_turns = 4 if rotate else 1
        self._check()
        self._key = make_key(seed, split)
        self._shapes = Shapes(self._key, self.ways, self.shots, max_support, block)
        self._fetch = Fetch(data, inputs, self.device)
        self._sources: dict[tuple[int, int], _Source] = {}
        self._source(self.n_way, self.k_shot)  # raises for groups that are too small

    def __reduce__(self) -> Any:
        return _again, (
            self.data,
            self.classes,
            {
                "n_way": self.ways,
                "k_shot": self.shots,
                **{name: getattr(self, name) for name in _SETTINGS},
            },
        )

    @property
    def data_name(self) -> str:
        """Short name of the data."""
        return self.data.name

    @property
    def class_names(self) -> list[str]:
        """Names of the classes to draw from."""
        return [self.data.names[int(c)] for c in self.classes]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, `(C, H, W)` for images."""
        return self.data.example_shape

    @property
    def num_classes(self) -> int:
        """Classes to draw from, turned ones counted."""
        return len(self.classes) * self._num_turns

    @property
    def inverted(self) -> bool:
        """True if bytes are inverted: dark ink on light paper, which `inputs="ink"` makes 1."""
        return self._fetch.inverted

    @functools.cached_property
    def normalization(self) -> Normalization | None:
        """Mean and deviation of the images before any augmentation; None where there are none."""
        if not self.data.pixels:
            return None
        return normalization(self.data, self.classes, self._fetch.zero, self._fetch.unit)

    @functools.cached_property
    def on_paper(self) -> bool:
        """True if a picture shows if its ink is dark or light, see `is_on_paper`."""
        return self.inputs == "ink" and is_on_paper(self.data)

    def protocol(self) -> dict[str, Any]:
        """The description of the tasks for a result, as plain values."""
        ways, shots = (low if low == high else [low, high] for low, high in (self.ways, self.shots))
        protocol: dict[str, Any] = {
            "data": self.data.name,
            "split": self.split_name,
            "part": self.split,
            "classes": len(self.classes),
            "n_way": ways,
            "k_shot": shots,
            "k_query": self.k_query,
            "rotated_classes": self.rotate,
            "within_group": self.within_group,
            "inputs": self.inputs if self.data.pixels else "raw",
            "seed": self.seed,
        }
        if self.augment is not None:
            protocol["augment"] = name_of(self.augment)
        if self._varies():
            protocol |= {"imbalanced": self.imbalanced, "block": self.block}
            protocol |= {} if self.max_support is None else {"max_support": self.max_support}
        return protocol

    def indices(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The indices of the examples of episodes, without reading them.

        Returns:
            `images` `[T, N, K+Q]`, numbers of examples of `data`, the first K for
            support; `rotations` `[T, N]`, quarter turns 0..3; `classes` `[T, N]`,
            0..num_classes-1.

        Raises:
            UserError: `start` is below 0, `count` below 1, or ways or shots vary.
        """
        _check_episodes(start, count)
        if self._varies():
            raise UserError("indices is for tasks of one shape: n_way and k_shot without a range")
        return self._source(self.n_way, self.k_shot).plan.indices(start, count)

    def stackable(self, start: int, count: int) -> int:
        """How many of the episodes `start` to `start + count - 1` one batch can have for certain.

        All of them where ways and shots do not vary, else those up to the end of a block.
        """
        return min(count, self._shapes.rest(start)) if self._varies() else count

    def batch(self, start: int, count: int) -> Episodes:
        """Episodes `start` to `start + count - 1`.

        Args:
            start: number of the first episode, from 0.
            count: T, how many.

        Returns:
            `Episodes` with `support_x` `[T, N*K, C, H, W]`, `query_x` `[T, N*Q, C, H, W]`
            as float32, labels as int64.  Examples that are not images have their own shape,
            and integers are int64.

        Raises:
            UserError: `start` is below 0, or `count` below 1, or the episodes differ in
                shape, where ways or shots vary.
        """
        _check_episodes(start, count)
        if self._varies():
            return self._varied(start, count)
        source = self._source(self.n_way, self.k_shot)
        return self._stacked(source, start, count, self.n_way * self.k_shot)

    def _varied(self, start: int, count: int) -> Episodes:
        """`batch`, one piece for each block."""
        pieces: list[Episodes] = []
        while count:
            size = self.stackable(start, count)
            n_way, k_shot = self._shapes.of(start)
            source = self._source(n_way, k_shot)
            cut = n_way * k_shot
            if self.imbalanced:
                cut = source.uneven.size(*self._shapes.block_of(start))
            pieces.append(self._stacked(source, start, size, cut))
            start, count = start + size, count - size
        shapes = {(piece.n_way, piece.support_x.shape[1:]) for piece in pieces}
        if len(shapes) > 1:
            raise UserError(
                f"episodes {start - sum(p.num_tasks for p in pieces)} to {start - 1} differ in "
                "the number of ways or shots: make them one by one, or set block (meta_batch_size "
                f"of split_tasks, now {self.block}) to as many episodes as a meta-batch has, and "
                "begin at a multiple of it"
            )
        joined = (torch.cat(tensors) for tensors in zip(*pieces, strict=True))
        return pieces[0] if len(pieces) == 1 else Episodes(*joined, n_way=pieces[0].n_way)

    def _stacked(self, source: _Source, start: int, count: int, cut: int) -> Episodes:
        """Episodes of one shape, with `cut` support examples each."""
        n_way = source.plan.n_way if self.labels == "task" else None
        if self.imbalanced:
            planned = np.stack(source.uneven.batch(start, count, cut))
        elif not kernels.ready():
            planned = np.stack(source.plan.batch(start, count))
        elif self.device.type == "cpu" and self._fetch.images is not None:
            return self._augmented(Episodes(*source.compiled.make(start, count)), n_way, start)
        else:
            planned = np.stack(source.compiled.plan(start, count))
        # [3, T, N*K + N*Q] -> support sets of all tasks, then query sets of all tasks.
        parts = (planned[:, :, :cut], planned[:, :, cut:])
        planned = np.concatenate([part.reshape(3, -1) for part in parts], axis=1)
        there = self._fetch.send(torch.from_numpy(planned))
        x = self._fetch(planned[0], planned[1] if self.rotate else None, there)
        sets: list[Tensor] = []
        for part in (slice(0, count * cut), slice(count * cut, None)):
            sets += [x[part].view(count, -1, *self.input_shape), there[2, part].view(count, -1)]
        return self._augmented(Episodes(*sets), n_way, start)

    def _augmented(self, episodes: Episodes, n_way: int | None, start: int) -> Episodes:
        episodes.n_way = n_way
        if self.augment is None:
            return episodes
        return augmented(self.augment, episodes, self._key, start)

    def _varies(self) -> bool:
        return self.imbalanced or self.ways[0] < self.ways[1] or self.shots[0] < self.shots[1]

    def _source(self, n_way: int, k_shot: int) -> _Source:
        """The drawer of episodes of one shape."""
        if (n_way, k_shot) not in self._sources:
            plan = EpisodePlan(
                self.data,
                self.classes,
                self._key,
                n_way=n_way,
                k_shot=k_shot,
                k_query=self.k_query,
                turns=self._num_turns,
                by_class=self.labels == "class",
                pools=self._group_pools(n_way) if self.within_group else None,
            )
            self._sources[n_way, k_shot] = _Source(plan, self._fetch)
        return self._sources[n_way, k_shot]

    def _group_pools(self, n_way: int) -> list[np.ndarray]:
        """The classes of each group that has enough of them for a task."""
        groups = np.array([self.data.groups[int(c)] for c in self.classes])
        pools = [self.classes[groups == name] for name in np.unique(groups)]
        need = -(-n_way // 4) if self.rotate else n_way
        large = [pool for pool in pools if len(pool) >= need]
        if not large:
            raise UserError(
                f"tasks within one group need {need} classes in a group, but the largest group in "
                f"the {self.split} part of {self.data.name} has {max(map(len, pools))}: "
                + _fewer_ways(4 * max(map(len, pools)) if self.rotate else max(map(len, pools)))
                + "set within_group to false"
            )
        return large

    def _check(self) -> None:
        found, counts = np.unique(self.classes, return_counts=True)
        if len(found) and counts.max() > 1:
            raise UserError(
                f"class {int(found[counts.argmax()])} is {counts.max()} times among the "
                "classes: a task could have it under two labels"
            )
        at_least(1, k_query=self.k_query, block=self.block, max_support=self.max_support)
        true_or_false(rotate=self.rotate, imbalanced=self.imbalanced)
        true_or_false(within_group=self.within_group)
        if self.within_group and not any(self.data.groups):
            raise UserError(
                f"within_group takes the classes of a task from one group, and {self.data.name} "
                "has no groups: leave it out, or give groups= to the data"
            )
        if self.labels not in ("task", "class"):
            raise UserError(f"labels must be 'task' or 'class', not {self.labels!r}")
        shape = self.data.example_shape
        if self.rotate and (len(shape) != 3 or shape[1] != shape[2]):
            what = f"{shape[1]} x {shape[2]}" if len(shape) == 3 else f"of shape {list(shape)}"
            raise UserError(f"rotated classes need square images, not {what}: set rotate to false")
        available = self.num_classes
        if available < self.n_way:
            raise UserError(
                f"{self.n_way}-way tasks need {self.n_way} classes, but the {self.split} part of "
                f"{self.data.name} has {available}{', counting four turns' * self.rotate}: "
                f"{_fewer_ways(available)}use another split, or add classes"
            )
        counts = self.data.counts[self.classes]
        # Where shots vary by class, a small class gives as many as it has.
        most = 1 if self.imbalanced else self._most_shots()
        need = most + self.k_query
        if counts.min() < need:
            worst = int(self.classes[int(counts.argmin())])
            lower = "lower k_shot or k_query (of a run's validation and test: eval_k_query), "
            things = "images" if self.data.pixels else "examples"
            raise UserError(
                f"tasks of k_shot {most} and k_query {self.k_query} need {need} {things} a class, "
                f"but class {self.data.names[worst]!r} of {self.data.name} has {counts.min()}: "
                + (lower if need > 2 else "")
                + f"add {things}, or leave the class out"
            )

    def _most_shots(self) -> int:
        low, high = self.shots
        return high if self.max_support is None else max(low, min(high, self.max_support // 2))


_SETTINGS = (
    "k_query seed split split_name rotate within_group inputs labels augment imbalanced "
    "max_support block device"
).split()


def _again(data: ClassIndexed, classes: np.ndarray, settings: dict[str, Any]) -> EpisodeSampler:
    return EpisodeSampler(data, classes, **settings)


def _check_episodes(start: int, count: int) -> None:
    at_least(0, start=start)
    at_least(1, count=count)


class _Source:
    """The plan of episodes of one shape, and what does the same compiled."""

    def __init__(self, plan: EpisodePlan, fetch: Fetch) -> None:
        self.plan, self.uneven = plan, UnevenPlan(plan)
        # The compiled plan looks at numbers alone, so without images it gets none.
        images = np.empty((0, 1, 1, 1), np.uint8) if fetch.images is None else fetch.images
        self.compiled = kernels.EpisodeSource(
            {"images": images, **plan.arrays()},
            {"zero": fetch.zero, "unit": fetch.unit, **plan.settings()},
        )


def _fewer_ways(available: int) -> str:
    """To lower `n_way`, where that leaves a task: one of two ways or more."""
    return f"lower n_way to {available} or less, or " if available >= 2 else ""
