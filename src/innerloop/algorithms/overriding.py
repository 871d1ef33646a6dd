"""Which hooks a subclass overrides, and what that means for many tasks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from innerloop.algorithms.apart import first, task_by_task, with_task

Method = TypeVar("Method", bound=Callable[..., Any])


def each(
    *axes: int | None, check: Callable[[Any, str], Any] | None = None
) -> Callable[[Method], Method]:
    """Marks a method `HOOK_each` as what `HOOK` is for T tasks.

    Args:
        axes: for every argument 0 where it has an axis of tasks, None where all tasks share it.
        check: called with what an overridden hook returns, and with its name.
    """

    def mark(together: Method) -> Method:
        name = together.__name__.removesuffix("_each")

        @functools.wraps(together)
        def method(self: Any, *arguments: Any) -> Any:
            if overrides(self, name):
                hook = getattr(self, name)
                what = f"{name} of {type(self).__name__}"
                checked = hook if check is None else lambda *of_one: check(hook(*of_one), what)
                return task_by_task(checked, axes, arguments)
            return together(self, *arguments)

        marked: Any = method
        marked.directly, marked.axes = together, axes
        return cast(Method, method)

    return mark


def directly(method: Method) -> Method:
    """What a bound method marked by `each` computes, whether its hook is overridden or not."""
    marked: Any = method
    return cast(Method, functools.partial(marked.directly, marked.__self__))


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
