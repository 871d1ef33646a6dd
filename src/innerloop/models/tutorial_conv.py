"""The network of the tutorial that this project started from."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.models.conv4 import initialise
from innerloop.models.layers import BatchNorm, Conv2d, HeadedModel, Linear, conv_norm


class TutorialConv(HeadedModel):
    """Four blocks of strided convolution and pooling, down to one position.

    3x3 convolutions with stride 2 and padding 2.  Blocks 1 to 3 are convolution,
    batch norm, pooling, ReLU; block 4 is convolution, ReLU, batch norm, pooling.
    Sizes from 28: 15, 7 | 5, 2 | 2, 1 | 2, 1.  The linear layer starts as all ones
    with zero bias, so all logits are equal at first.

    Args:
        n_way: N, number of classes.
        channels: C of the images.
        width: filters of each convolution, 64 in the tutorial.
        seed: of the initial weights (Kaiming-normal, zero bias).

    Shapes: `[B, C, 28, 28]` to logits `[B, N]`.
    """

    takes_tasks = True

    def __init__(
        self, n_way: int = 5, *, channels: int = 1, width: int = 64, seed: int = 0
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            Conv2d(c, width, stride=2, padding=2) for c in (channels, *[width] * 3)
        )
        self.norms = nn.ModuleList(BatchNorm(width) for _ in range(4))
        self.head = Linear(width, n_way)
        initialise(self, seed)
        nn.init.ones_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees: `[B, C, 28, 28]` to `[B, width]`."""
        *blocks, (conv, norm) = zip(self.convs, self.norms, strict=True)
        for block in blocks:
            x = conv_norm(x, *block, pool=True)
        x = norm(F.relu(conv(x, bias=True)), pool=True)
        return x.flatten(-3)
