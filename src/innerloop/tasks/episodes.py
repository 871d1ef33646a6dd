"""Episodes: a meta-batch of tasks, each with a support and a query set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor


class Episodes(NamedTuple):
    """T tasks side by side; the first axis of every tensor is the task.

    For N-way K-shot classification of images with Q queries a class the shapes
    are as given here; for other problems the axes after the second are free.

    Attributes:
        support_x: `[T, N*K, C, H, W]`, what a task adapts on.
        support_y: `[T, N*K]` class labels 0..N-1 (`int64`), or regression targets.
        query_x: `[T, N*Q, C, H, W]`, what the adapted network is judged on.
        query_y: `[T, N*Q]`.

    Example:
        >>> import torch
        >>> x, y = torch.zeros(8, 5, 1, 28, 28), torch.arange(5).expand(8, 5)
        >>> Episodes(x, y, x, y).num_tasks
        8
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor

    @property
    def num_tasks(self) -> int:
        """T, the number of tasks."""
        return self.support_x.shape[0]

    def to(self, *args, **kwargs) -> Episodes:
        """Move to a device; a dtype, if given, applies to inputs, not to class labels."""
        support_x = self.support_x.to(*args, **kwargs)
        moved = (
            t.to(*args, **kwargs) if t.is_floating_point() else t.to(support_x.device)
            for t in self[1:]
        )
        return Episodes(support_x, *moved)

    def task(self, index: int) -> Episodes:
        """The one task `index`, without the task axis."""
        return Episodes(*(t[index] for t in self))

    def chunks(self, size: int | None) -> Iterator[Episodes]:
        """Cut the task axis into pieces of at most `size` tasks (None: one piece)."""
        if size is None:
            yield self
            return
        for pieces in zip(*(t.split(size) for t in self), strict=True):
            yield Episodes(*pieces)
