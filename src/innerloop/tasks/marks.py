"""What tells examples of the same class names apart from others."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from innerloop.data.base import ClassIndexed
from innerloop.tasks.protocol import Tasks

# Mean and deviation of one example of each of some classes.
Marks = list[list[float]]

_CLASSES, _PARTS = 16, 4
# By sampler, as examples that are computed when they are read may take long.
_known: weakref.WeakKeyDictionary[Any, Marks] = weakref.WeakKeyDictionary()


def marks_of(tasks: Tasks) -> Marks:
    """Marks of the classes that tasks are drawn from; none for tasks without such."""
    data, classes = getattr(tasks, "data", None), getattr(tasks, "classes", None)
    if not isinstance(data, ClassIndexed) or classes is None:
        return []
    if tasks not in _known:
        _known[tasks] = marks(data, classes)
    return _known[tasks]


def marks(data: ClassIndexed, classes: Sequence[int] | np.ndarray) -> Marks:
    """Marks of the first example of some classes, the same ones for the same number.

    No digest: other versions of a decoder differ in last digits, and the data is the same.

    Args:
        data: the examples.
        classes: their numbers, in order.
    """
    chosen = [classes[len(classes) * i // _CLASSES] for i in range(_CLASSES)]
    rows = data.starts[np.asarray(list(dict.fromkeys(map(int, chosen))), dtype=np.int64)]
    return [_marks_of(x) for x in data.examples.read(rows).astype(np.float64)]


def _marks_of(example: np.ndarray) -> list[float]:
    parts = np.array_split(example.reshape(-1), min(_PARTS, example.size))
    return [float(example.std()), *(float(part.mean()) for part in parts)]


def are_other(then: Any, now: Marks) -> bool:
    """True if `then`, of a file, are marks, and not of the same examples."""
    good = isinstance(then, list) and all(
        isinstance(row, list) and all(type(x) is float for x in row) for row in then
    )
    if not good or not then or not now:
        return False
    if [len(row) for row in then] != [len(row) for row in now]:
        return True
    a, b = np.array(then), np.array(now)
    # A hundredth of what an example's values are like.
    near = 0.01 * (a[:, :1] + np.abs(a[:, 1:]).max(axis=1, keepdims=True))
    return not bool(np.isclose(a, b, rtol=0, atol=near).all())
