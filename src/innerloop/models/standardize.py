"""Standardise images by the mean and deviation of the training images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from innerloop.errors import UserError


class Standardize(nn.Module):
    """Subtract a mean and divide by a deviation, one of each a channel: `[..., C, H, W]`.

    Args:
        mean: C numbers, in the units of the input.
        deviation: C numbers above 0.

    Raises:
        UserError: not as many of both, or a deviation that is not above 0.
    """

    takes_tasks = True
    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        if not mean or len(mean) != len(deviation) or not min(deviation) > 0:
            raise UserError(
                f"mean and deviation have one entry a channel, and no deviation is 0, not {mean} "
                f"and {deviation}"
            )
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation


def standardize(
    mean: Sequence[float] | None, deviation: Sequence[float] | None
) -> Standardize | None:
    """The layer that a network begins with; None where neither is given."""
    if mean is None and deviation is None:
        return None
    return Standardize(mean or (), deviation or ())
