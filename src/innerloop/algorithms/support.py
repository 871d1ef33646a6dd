"""Support sets as the inner loop sees them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Support(NamedTuple):
    """Support sets as the inner loop sees them: of T tasks, or of one task in a hook.

    Attributes:
        x: `[T, N*K, ...]`, or features `[T, N*K, F]`; without T for one task.
        y: `[T, N*K]`; without T for one task.
        n_way: as for `inner_loop`.
        of_features: whether `x` is what the last layer sees.
        batch_size: examples in the mini-batch of a step; None for all.
        axis: which axis of `x` and `y` counts the examples.
    """

    x: Tensor
    y: Tensor
    n_way: int | None
    of_features: bool = False
    batch_size: int | None = None
    axis: int = 1

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The examples of inner step `step`: mini-batches in turn, then from the start again."""
        size, all_rows = self.batch_size, self.x.shape[self.axis]
        if size is None or size >= all_rows:
            return self.x, self.y
        rows = torch.arange(step * size, (step + 1) * size, device=self.y.device) % all_rows
        return self.x.index_select(self.axis, rows), self.y.index_select(self.axis, rows)

    def tasks(self) -> list[Support]:
        """Each task's own."""
        pairs = zip(self.x.unbind(0), self.y.unbind(0), strict=True)
        return [self._replace(x=x, y=y, axis=0) for x, y in pairs]

    def with_task(self) -> Support:
        """That of one task with an axis of tasks."""
        return self._replace(x=self.x.unsqueeze(0), y=self.y.unsqueeze(0), axis=1)
