"""The episode sampler: episode i is a pure function of (seed, split, i)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from innerloop.data.base import ImageClasses
from innerloop.data.on_device import DeviceImages, scaled
from innerloop.errors import UserError, at_least, one_of
from innerloop.ops import kernels
from innerloop.tasks.counter import make_key
from innerloop.tasks.episodes import Episodes
from innerloop.tasks.plan import EpisodePlan

INPUTS = {
    "ink": "1 - x/255 for dark ink on light paper, x/255 otherwise: ink is 1, paper 0",
    "unit": "x/255",
    "raw": "x as it is, 0 to 255",
}


class EpisodeSampler:
    """Draws N-way K-shot episodes from a data set of images.

    Episode `i` is a pure function of `(seed, split, i)`: it does not depend on
    how many episodes are drawn at a time, on their order, or on what was drawn
    before, so any process can make any episode.  Classes are drawn without
    replacement, then `k_shot + k_query` images of each without replacement;
    which class gets which label, and the order within the support and query
    sets, are random too.

    Args:
        data: the images.
        classes: indices of the classes to draw from, e.g. one part of a split;
            None for all.
        n_way: N, classes a task.
        k_shot: K, support images a class.
        k_query: Q, query images a class.
        seed: any integer.
        split: name of the part, `"train"`, `"val"` or `"test"`; episodes of
            different parts are independent even for the same seed.
        split_name: name of the split that the part belongs to, for results only.
        rotate: count each class turned by 90, 180 and 270 degrees as three
            further classes (for square images).
        within_group: take all classes of a task from one group (alphabet); groups
            with fewer than `n_way` classes are left out.
        inputs: `"ink"`, `"unit"` or `"raw"`, how 0..255 becomes float32.
        labels: `"task"`, 0..N-1 in every task; or `"class"`, the number of the
            class (turned ones counted) among all `num_classes` that there are.
        device: where the tensors go.

    Raises:
        UserError: too few classes or images for the tasks asked for, or a value
            out of range.

    Example:
        >>> from innerloop.data.random_images import random_images
        >>> sampler = EpisodeSampler(random_images(classes=20), n_way=5, k_shot=1, k_query=3)
        >>> sampler.batch(0, 8).query_x.shape
        torch.Size([8, 15, 1, 28, 28])
    """

    def __init__(
        self,
        data: ImageClasses,
        classes: np.ndarray | None = None,
        *,
        n_way: int = 5,
        k_shot: int = 1,
        k_query: int = 15,
        seed: int = 0,
        split: str = "train",
        split_name: str = "",
        rotate: bool = False,
        within_group: bool = False,
        inputs: str = "ink",
        labels: str = "task",
        device: str | torch.device = "cpu",
    ) -> None:
        self.data = data
        # The indices of those that are asked for: none but classes that there are.
        self.classes = np.arange(data.num_classes)[slice(None) if classes is None else classes]
        self.n_way, self.k_shot, self.k_query = n_way, k_shot, k_query
        self.seed, self.split, self.rotate, self.inputs = seed, split, rotate, inputs
        self.within_group, self.split_name, self.labels = within_group, split_name, labels
        self.device = torch.device(device)
        self._num_turns = 4 if rotate else 1
        self._check()
        self._plan = EpisodePlan(
            data,
            self.classes,
            make_key(seed, split),
            n_way=n_way,
            k_shot=k_shot,
            k_query=k_query,
            turns=self._num_turns,
            by_class=labels == "class",
            pools=self._group_pools() if within_group else None,
        )
        # Without the subclass of memory-mapped arrays, which costs time at every use.
        self._images = np.ascontiguousarray(data.images)
        # A byte b becomes zero + b / unit.
        self._zero, self._unit = (0.0, 1.0 if inputs == "raw" else 255.0)
        if inputs == "ink" and data.dark_ink:
            self._zero, self._unit = 1.0, -255.0
        self._on_device = None
        if DeviceImages.fit(data, self.device):
            self._on_device = DeviceImages(data, self.device, self._zero, self._unit)
        self._compiled = kernels.EpisodeSource(
            {"images": self._images, **self._plan.arrays()},
            {"zero": self._zero, "unit": self._unit, **self._plan.settings()},
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
        """`(C, H, W)`."""
        return self.data.image_shape

    @property
    def num_classes(self) -> int:
        """Classes to draw from, turned ones counted."""
        return len(self.classes) * self._num_turns

    def protocol(self) -> dict[str, Any]:
        """What a result needs to say of its tasks, as plain values."""
        return {
            "data": self.data.name,
            "split": self.split_name,
            "part": self.split,
            "classes": len(self.classes),
            "n_way": self.n_way,
            "k_shot": self.k_shot,
            "k_query": self.k_query,
            "rotated_classes": self.rotate,
            "within_group": self.within_group,
            "inputs": self.inputs,
            "seed": self.seed,
        }

    def indices(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which images the episodes are made of, without touching the images.

        Returns:
            `images` `[T, N, K+Q]`, indices into `data.images`, the first K for
            support; `rotations` `[T, N]`, quarter turns 0..3; `classes` `[T, N]`,
            0..num_classes-1.
        """
        return self._plan.indices(start, count)

    def _group_pools(self) -> list[np.ndarray]:
        """The classes of each group that has enough of them for a task."""
        groups = np.array([self.data.groups[int(c)] for c in self.classes])
        pools = [self.classes[groups == name] for name in np.unique(groups)]
        need = -(-self.n_way // 4) if self.rotate else self.n_way
        large = [pool for pool in pools if len(pool) >= need]
        if not large:
            raise UserError(
                f"tasks within one group need {need} classes in a group, but the largest group in "
                f"the {self.split} part of {self.data.name} has {max(map(len, pools))}: lower n_way"
            )
        return large

    def _check(self) -> None:
        at_least(2, n_way=self.n_way)
        found, counts = np.unique(self.classes, return_counts=True)
        if len(found) and counts.max() > 1:
            raise UserError(
                f"class {int(found[counts.argmax()])} stands {counts.max()} times among the "
                "classes: a task could have it under two labels"
            )
        at_least(1, k_shot=self.k_shot, k_query=self.k_query)
        one_of(INPUTS, inputs=self.inputs)
        if self.labels not in ("task", "class"):
            raise UserError(f"labels must be 'task' or 'class', not {self.labels!r}")
        height, width = self.data.image_shape[1:]
        if self.rotate and height != width:
            raise UserError(
                f"rotated classes need square images, not {height} x {width}: set rotate to false"
            )
        available = self.num_classes
        if available < self.n_way:
            raise UserError(
                f"{self.n_way}-way tasks need {self.n_way} classes, but the {self.split} part of "
                f"{self.data.name} has {available}: lower n_way or use another split"
            )
        counts = self.data.counts[self.classes]
        need = self.k_shot + self.k_query
        if counts.min() < need:
            worst = int(self.classes[int(counts.argmin())])
            raise UserError(
                f"{self.k_shot}-shot tasks with {self.k_query} queries need {need} images a class, "
                f"but class {self.data.names[worst]!r} of {self.data.name} has {counts.min()}: "
                "lower k_shot, or k_query (in training) and eval_k_query (in validation and test)"
            )

    def batch(self, start: int, count: int) -> Episodes:
        """Episodes `start` to `start + count - 1`.

        Args:
            start: number of the first episode, from 0.
            count: T, how many.

        Returns:
            `Episodes` with `support_x` `[T, N*K, C, H, W]`, `query_x` `[T, N*Q, C, H, W]`
            as float32, labels as int64.

        Raises:
            UserError: `start` is below 0, or `count` below 1.
        """
        if start < 0 or count < 1:
            raise UserError(
                f"a batch has at least one episode, from 0 on: not {count} from {start}"
            )
        n_way = self.n_way if self.labels == "task" else None
        if self.device.type == "cpu" and kernels.ready():
            return Episodes(*self._compiled.make(start, count), n_way=n_way)
        plan = self._compiled.plan if kernels.ready() else self._plan.batch
        cut = self.n_way * self.k_shot
        # [3, T, N*K + N*Q] -> support sets of all tasks, then query sets of all tasks.
        planned = np.stack(plan(start, count))
        parts = (planned[:, :, :cut], planned[:, :, cut:])
        planned = np.concatenate([part.reshape(3, -1) for part in parts], axis=1)
        there = self._to_device(torch.from_numpy(planned))
        if self._on_device is None:
            x = self._pixels(*planned[:2])
        else:
            x = self._on_device.fetch(there[0], there[1] if self.rotate else None)
        sets = []
        for part in (slice(0, count * cut), slice(count * cut, None)):
            sets += [x[part].view(count, -1, *self.input_shape), there[2, part].view(count, -1)]
        return Episodes(*sets, n_way=n_way)

    def _pixels(self, index: np.ndarray, turns: np.ndarray) -> torch.Tensor:
        """Images `[M]` by index, turned and scaled: float32 `[M, C, H, W]`."""
        images = self._images.take(index, axis=0)
        if self.rotate:
            for quarter in (1, 2, 3):
                turned = turns == quarter
                images[turned] = np.rot90(images[turned], quarter, axes=(-2, -1))
        # Bytes travel to the device: a quarter of the traffic.
        return scaled(self._to_device(torch.from_numpy(images)), self._zero, self._unit)

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """Send a new tensor on its way, without waiting for what the device still does."""
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)
