"""Changing the examples of training tasks, as a function of (seed, split, episode)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.data.augment import Augment, Augmentation
from innerloop.errors import UserError
from innerloop.tasks.counter import random_bits
from innerloop.tasks.episodes import Episodes

# A stream of random numbers beside those of `plan.py` and `shapes.py`.
_AUGMENT = 14


def augmented(augment: Augment, episodes: Episodes, key: int, start: int) -> Episodes:
    """The episodes with their support and query examples changed.

    Args:
        augment: one of `innerloop.data.augment`, or a function of the examples of one task,
            support and query, and a generator.
        episodes: those from `start` on.
        key: of the random numbers, see `make_key`.
        start: number of the first episode.

    Raises:
        UserError: the function gives another shape or dtype, or images are needed.
    """
    tasks, support = episodes.support_x.shape[:2]
    x = torch.cat([episodes.support_x, episodes.query_x], dim=1)
    rows = x.shape[1]
    if isinstance(augment, Augmentation):
        if x.ndim != 5 or not x.is_floating_point():
            raise UserError(
                f"augment {augment} is for images [C, H, W], not for {x.dtype} examples of shape "
                f"{list(x.shape[2:])}: give a function of your own"
            )
        u = _uniform(key, start, tasks, rows * augment.numbers).to(x.device)
        changed = augment.apply(x.flatten(0, 1), u.view(tasks * rows, augment.numbers))
        x = changed.view_as(x)
    else:
        seeds = random_bits(key, _AUGMENT, start, tasks, 1)[:, 0] >> np.uint64(1)
        generator = torch.Generator(x.device)
        changes = []
        for task, seed in zip(x, seeds.tolist(), strict=True):
            changed = augment(task, generator.manual_seed(seed))
            if (
                not isinstance(changed, Tensor)
                or changed.shape != task.shape
                or changed.dtype != task.dtype
            ):
                found = (
                    f"{changed.dtype} {list(changed.shape)}"
                    if isinstance(changed, Tensor)
                    else type(changed).__name__
                )
                raise UserError(
                    f"augment {name_of(augment)} must give examples of the same shape and dtype: "
                    f"it got {task.dtype} {list(task.shape)} and gave {found}"
                )
            changes.append(changed)
        x = torch.stack(changes)
    support_x, query_x = (part.contiguous() for part in x.split([support, rows - support], dim=1))
    return episodes._replace(support_x=support_x, query_x=query_x)


def name_of(augment: Any) -> str:
    """How results name an augmentation: the same in every process."""
    if isinstance(augment, Augmentation):
        return repr(augment)
    named = augment if hasattr(augment, "__qualname__") else type(augment)
    return ".".join(filter(None, (named.__module__, named.__qualname__)))


def _uniform(key: int, start: int, count: int, width: int) -> Tensor:
    """Uniform float32 `[count, width]`, 0 <= u < 1, with the 24 bits that float32 has."""
    bits = random_bits(key, _AUGMENT, start, count, width) >> np.uint64(40)
    return torch.from_numpy(bits.astype(np.float32) * np.float32(2.0**-24))
