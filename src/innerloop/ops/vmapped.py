"""`torch.func.vmap` without PyTorch's warning of operations that it does one by one.

The numbers are the same.  The warning would be about code of PyTorch's, and an error where warnings
are; what goes one by one is said by `explain`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

T = TypeVar("T")

_lock = threading.Lock()
# How many threads are inside: PyTorch has one switch for all, and does not say where it is.
_inside = 0


def vmap(function: Callable[..., T], *tensors: Any) -> T:
    """`function` of each task, of tensors `[T, ...]`; random numbers are an error."""
    with _quiet():
        found: T = torch.func.vmap(function, randomness="error")(*tensors)
        return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(more: int) -> None:
    global _inside
    with _lock:
        _inside += more
        torch._C._functorch._set_vmap_fallback_warning_enabled(not _inside)  # type: ignore[attr-defined]
