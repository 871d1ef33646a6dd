"""Trees of tensors of T tasks: apart, one by one, and together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from innerloop.algorithms import noise
from innerloop.ops.vmapped import vmap
from innerloop.tasks.episodes import Episodes
from innerloop.trees import mapped

T = TypeVar("T")


def first(tree: T) -> T:
    """The only task of a tree of tensors `[1, ...]`."""
    return cast(T, mapped(lambda t: t.squeeze(0) if isinstance(t, Tensor) else t, tree))


def task_by_task(hook: Callable[..., T], axes: Sequence[int | None], arguments: Sequence[Any]) -> T:
    """Call `hook` task by task, and stack the results."""
    apart = [None if axis is None else _tasks(a) for a, axis in zip(arguments, axes, strict=True)]
    count = next(len(tasks) for tasks in apart if tasks is not None)
    found = []
    for i in range(count):
        with noise.task(i):
            found.append(
                hook(*(a if t is None else t[i] for a, t in zip(arguments, apart, strict=True)))
            )
    return stack(found)


def stack(trees: Sequence[T]) -> T:
    """Trees of tensors `[...]`, one a task, as one with `[T, ...]`."""
    if len(trees) == 1:
        return with_task(trees[0])

    def together(t: Any, *others: Any) -> Any:
        return torch.stack((t, *others)) if isinstance(t, Tensor) else t

    return cast(T, mapped(together, *trees))


def with_task(tree: T) -> T:
    if hasattr(tree, "with_task"):
        return cast(T, tree.with_task())
    return cast(T, mapped(lambda t: t.unsqueeze(0) if isinstance(t, Tensor) else t, tree))


def _tasks(tree: Any) -> list[Any] | None:
    """One tree for each task; None for a tree without tensors, which all tasks share."""
    if hasattr(tree, "tasks"):
        return list(tree.tasks())
    if isinstance(tree, Tensor):
        # Not by index, whose derivative fills a tensor of all tasks for each of them.
        return [tree.squeeze(0)] if len(tree) == 1 else list(tree.unbind(0))
    parts: list[Any] = []
    mapped(lambda leaf: parts.append(_tasks(leaf)) if isinstance(leaf, Tensor) else None, tree)
    if not parts:
        return None

    def of_task(i: int) -> Any:
        of_leaf = iter(parts)
        return mapped(lambda leaf: next(of_leaf)[i] if isinstance(leaf, Tensor) else leaf, tree)

    return [of_task(i) for i in range(len(parts[0]))]


def one_by_one(way: str, function: Callable[[Episodes], T], episodes: Episodes) -> T:
    """`function` of each task on its own, stacked."""
    n_way = episodes.n_way
    if way == "vmap":

        def of_task(index: Tensor, *sets: Tensor) -> T:
            with noise.task(0, index):
                return function(Episodes(*sets, n_way=n_way))

        places = torch.arange(episodes.num_tasks, device=episodes.support_x.device)
        return vmap(of_task, places, *episodes)
    found = []
    for i, task in enumerate(episodes.tasks()):
        with noise.task(i):
            found.append(function(task))
    return stack(found)
