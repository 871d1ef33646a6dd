"""Drawings as another hand would draw them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from innerloop.data.augmentation import Augmentation, check_fields
from innerloop.data.conditions import smooth_between
from innerloop.errors import UserError


@dataclass(frozen=True)
class RandomWarp(Augmentation):
    """Change drawings as another hand would: turned, sheared, stretched, shifted, bent smoothly.

    All in one pass of bicubic interpolation, which keeps thin strokes sharp; it repeats the
    image's edges.

    Args:
        probability: that an image is changed.
        strength: 1 turns by up to 9 degrees, shears and stretches by up to 15%, shifts by up to 4%
            and bends by up to 5% of the width.
    """

    probability: float = 0.75
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        for name, most in (("probability", 1), ("strength", 3)):
            if not 0 <= getattr(self, name) <= most:
                raise UserError(
                    f"RandomWarp: {name} must be 0 to {most}, not {getattr(self, name)}"
                )

    @property
    def numbers(self) -> int:
        return 7 + 2 * 4 * 4

    def apply(self, images: Tensor, u: Tensor) -> Tensor:
        chosen = (u[:, 0] < self.probability).nonzero().flatten()
        if not len(chosen):
            return images
        height, width = images.shape[-2:]
        v = self.strength * (2 * u[chosen, 1:] - 1)
        cos, sin = (0.16 * v[:, 0]).cos(), (0.16 * v[:, 0]).sin()
        wide, high = (0.15 * v[:, 2]).exp(), (0.15 * v[:, 3]).exp()
        # Where each pixel comes from: sheared, turned and stretched.
        a, b = cos * wide, (0.15 * v[:, 1] * cos - sin) * high
        c, d = sin * wide, (0.15 * v[:, 1] * sin + cos) * high
        theta = torch.stack([a, b, 0.08 * v[:, 4], c, d, 0.08 * v[:, 5]], dim=1).view(-1, 2, 3)
        grid = functional.affine_grid(theta, [len(chosen), *images.shape[1:]], align_corners=False)
        bent = smooth_between(0.1 * v[:, 6:].reshape(-1, 2, 4, 4), height, width)
        grid = (grid + bent.permute(0, 2, 3, 1)).to(images.dtype)
        before = images[chosen]
        after = functional.grid_sample(
            before, grid, mode="bicubic", padding_mode="border", align_corners=False
        )
        least, most = (
            before.amin(dim=(1, 2, 3), keepdim=True),
            before.amax(dim=(1, 2, 3), keepdim=True),
        )
        return images.index_copy(0, chosen, after.maximum(least).minimum(most))
