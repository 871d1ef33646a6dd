"""Changing the examples of training tasks, as a function of (seed, split, episode)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.data.augment import Augment, Augmentation, Conditions
from innerloop.data.augmentation import checked
from innerloop.errors import UserError
from innerloop.keywords import check_takes
from innerloop.tasks.counter import random_bits
from innerloop.tasks.episodes import Episodes

# A stream of random numbers beside those of `plan.py` and `shapes.py`.
_AUGMENT = 14

# Numbers of images that are changed at a time: 1 MiB of float32.
_CACHED = 2**18


def check_augment(augment: Any, what: str = "augment") -> None:
    """Raise a `UserError` for what is neither an augmentation nor a function; None passes."""
    if augment is None:
        return
    if callable(augment) and not isinstance(augment, type):
        if not isinstance(augment, Augmentation):
            check_takes(what, augment, "examples and a generator", None, None)
        return
    if isinstance(augment, type):
        hint = f"the class {augment.__name__}: make one of it, {augment.__name__}()"
    elif isinstance(augment, str):
        hint = f"{augment!r}: innerloop.data.augment.named makes one of such a text"
    elif isinstance(augment, list | tuple):
        hint = f"a {type(augment).__name__}: make one of several by innerloop.data.augment.Compose"
    else:
        hint = type(augment).__name__
    raise UserError(
        f"{what} must be one of innerloop.data.augment or a function of examples and a generator, "
        f"not {hint}"
    )


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
    if isinstance(augment, Augmentation):
        return _by_image(augment, episodes, key, start)
    return _by_task(augment, episodes, key, start)


def _by_image(augment: Augmentation, episodes: Episodes, key: int, start: int) -> Episodes:
    tasks, support = episodes.support_x.shape[:2]
    rows = support + episodes.query_x.shape[1]
    numbers = _uniform(key, start, tasks, rows * augment.count()).view(tasks, rows, -1)
    numbers = augment.shared(numbers)
    parts = []
    for x, u in (
        (episodes.support_x, numbers[:, :support]),
        (episodes.query_x, numbers[:, support:]),
    ):
        if x.ndim != 5 or not x.is_floating_point():
            raise UserError(
                f"augment {augment} is for images [C, H, W], not for {x.dtype} examples of shape "
                f"{list(x.shape[2:])}: give a function of your own"
            )
        images, u = x.flatten(0, 1), u.flatten(0, 1).to(x.device)
        # A few images at a time stay in a processor's cache from one operation to the next.
        few = max(1, _CACHED // x.shape[2:].numel()) if x.device.type == "cpu" else len(images)
        changed = torch.empty_like(images)
        for out, some, by in zip(changed.split(few), images.split(few), u.split(few), strict=True):
            out.copy_(checked(repr(augment), augment.apply(some, by), some))
        parts.append(changed.view_as(x))
    return episodes._replace(support_x=parts[0], query_x=parts[1])


def _by_task(augment: Augment, episodes: Episodes, key: int, start: int) -> Episodes:
    tasks, support = episodes.support_x.shape[:2]
    seeds = random_bits(key, _AUGMENT, start, tasks, 1)[:, 0] >> np.uint64(1)
    generator = torch.Generator(episodes.support_x.device)
    changes = []
    for task, seed in zip(
        torch.cat([episodes.support_x, episodes.query_x], dim=1), seeds.tolist(), strict=True
    ):
        changed = augment(task, generator.manual_seed(seed))
        changes.append(checked(name_of(augment), changed, task))
    x = torch.stack(changes)
    return episodes._replace(
        support_x=x[:, :support].contiguous(), query_x=x[:, support:].contiguous()
    )


def name_of(augment: Any) -> str:
    """How results name an augmentation: the same in every process."""
    if isinstance(augment, Augmentation | Conditions):
        return repr(augment)
    named = augment if hasattr(augment, "__qualname__") else type(augment)
    return ".".join(filter(None, (named.__module__, named.__qualname__)))


def _uniform(key: int, start: int, count: int, width: int) -> Tensor:
    """Uniform float32 `[count, width]`, 0 <= u < 1, with the 24 bits that float32 has."""
    bits = random_bits(key, _AUGMENT, start, count, width) >> np.uint64(40)
    return torch.from_numpy(bits.astype(np.float32) * np.float32(2.0**-24))
