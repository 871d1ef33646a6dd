"""One task and many: a hook says what is computed for one task, `HOOK_each` does it for T.

Inside the inner loop everything has a leading axis of T tasks.  What a subclass may override, the
hooks, is written for one task.  Beside each hook stands a method of the same name with `_each`,
which computes the same for T tasks together, usually much faster.  A subclass that overrides the
hook alone has thereby changed what is computed: its tasks go through the hook one by one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from innerloop.algorithms import noise

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def each(*axes: int | None) -> Callable[[F], F]:
    """Marks a method `HOOK_each` as what `HOOK` is for T tasks.

    Args:
        axes: for every argument 0 where it has an axis of tasks, None where all tasks share it.
    """

    def mark(together: F) -> F:
        name = together.__name__.removesuffix("_each")

        @functools.wraps(together)
        def method(self: Any, *arguments: Any) -> Any:
            if overrides(self, name):
                return task_by_task(getattr(self, name), axes, arguments)
            return together(self, *arguments)

        marked: Any = method
        marked.directly, marked.axes = together, axes
        return cast(F, method)

    return mark


def directly(method: F) -> F:
    """What a bound method marked by `each` computes, whether its hook is overridden or not."""
    marked: Any = method
    return cast(F, functools.partial(marked.directly, marked.__self__))


def overrides(algorithm: Any, hook: str, together: str = "") -> bool:
    """True if `hook` was overridden without `together`, which stands for it for many tasks.

    Args:
        algorithm: an object; the class counts, and what is set on the object itself.
        hook: name of a method of one task.
        together: name of that of many tasks; by default `hook` with `_each`.
    """
    kind: Any = type(algorithm)
    return hook in vars(algorithm) or _overrides(kind, hook, together or f"{hook}_each")


@functools.cache
def _overrides(kind: type, hook: str, together: str) -> bool:
    def place(name: str) -> int:
        return next((i for i, c in enumerate(kind.__mro__) if name in vars(c)), len(kind.__mro__))

    return place(hook) < place(together)


def is_own(algorithm: Any, method: str, usual: type) -> bool:
    """True if a class below `usual`, or the object itself, has a `method` of its own."""
    return method in vars(algorithm) or getattr(type(algorithm), method) is not getattr(
        usual, method
    )


def alone(algorithm: Any, hook: str, *arguments: Any) -> Any:
    """A hook as `HOOK_each` of a single task: the default of most hooks."""
    together = getattr(type(algorithm), f"{hook}_each")
    # A subclass may have written it without the mark.
    marked: Any = (vars(c).get(together.__name__) for c in type(algorithm).__mro__)
    axes = next(method.axes for method in marked if hasattr(method, "axes"))
    given = [a if axis is None else with_task(a) for a, axis in zip(arguments, axes, strict=True)]
    return first(getattr(together, "directly", together)(algorithm, *given))


def first(tree: T) -> T:
    """The only task of a tree of tensors `[1, ...]`."""
    return cast(T, tree_map(lambda t: t.squeeze(0) if isinstance(t, Tensor) else t, tree))


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

    return cast(T, tree_map(together, *trees))


def with_task(tree: T) -> T:
    if hasattr(tree, "with_task"):
        return cast(T, tree.with_task())
    return cast(T, tree_map(lambda t: t.unsqueeze(0) if isinstance(t, Tensor) else t, tree))


def _tasks(tree: Any) -> list[Any] | None:
    """One tree for each task; None for a tree without tensors, which all tasks share."""
    if hasattr(tree, "tasks"):
        return list(tree.tasks())
    if isinstance(tree, Tensor):
        # Not by index, whose derivative fills a tensor of all tasks for each of them.
        return [tree.squeeze(0)] if len(tree) == 1 else list(tree.unbind(0))
    leaves, structure = tree_flatten(tree)
    apart = [_tasks(leaf) if isinstance(leaf, Tensor) else None for leaf in leaves]
    count = next((len(tasks) for tasks in apart if tasks is not None), None)
    if count is None:
        return None
    return [
        tree_unflatten(
            [leaf if t is None else t[i] for leaf, t in zip(leaves, apart, strict=True)], structure
        )
        for i in range(count)
    ]
