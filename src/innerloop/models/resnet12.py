"""The residual network of the few-shot papers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import UserError, share_below_one
from innerloop.models.layers import BatchNorm, HeadedModel, make_head
from innerloop.models.standardize import standardize
from innerloop.ops import max_pool_2x2

# Four halvings have to leave a pixel.
SMALLEST = 16
# Of the leaky ReLU below zero.
SLOPE = 0.1


class ResNet12(HeadedModel):
    """Four residual blocks of three 3x3 convolutions each, average pooling, then a linear layer.

    A block is convolution, batch norm, leaky ReLU, twice, then convolution and batch norm; a 1x1
    convolution with batch norm of the block's input is added; then leaky ReLU and 2x2 max-pooling.
    Convolutions have no bias, leaky ReLU has slope 0.1 below zero.

    The network comes from Mishra et al. 2018 and Oreshkin et al. 2018 (TADAM); widths,
    initial weights and the order of operations are those of the code of Lee et al. 2019
    (MetaOptNet): 12.4 million parameters without the head.  Dropout is ordinary dropout in all
    blocks; their DropBlock is not included.

    Args:
        n_way: N, number of classes.
        channels: C of the images, 1 for grey, 3 for RGB.
        widths: filters of the convolutions of each block.  Multiples of 16 are fastest.
        drop_rate: share of each block's outputs that dropout sets to zero in training,
            0 to less than 1.
        head: `"linear"`, `"random"`, `"normal"` or `"shared"`, see `make_head` in
            `innerloop.models.layers`.
        mean, deviation: of each channel, see `Standardize`; None to take images as they are.
        seed: of the initial weights (convolutions Kaiming-normal by the outputs).

    Raises:
        UserError: an option out of range, or an image of less than 16 pixels a side.

    Shapes: `[B, C, H, W]` to logits `[B, N]`; H and W are at least 16 and need not be equal.

    Example:
        >>> import torch
        >>> ResNet12(5, widths=(16, 32, 64, 128))(torch.zeros(2, 3, 84, 84)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        n_way: int = 5,
        *,
        channels: int = 3,
        widths: Sequence[int] = (64, 160, 320, 640),
        drop_rate: float = 0.0,
        head: str = "linear",
        mean: Sequence[float] | None = None,
        deviation: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.standardize = standardize(mean, deviation)
        if len(widths) != 4 or min(widths) < 1:
            raise UserError(f"widths must be four numbers from 1, one a block, not {widths!r}")
        share_below_one(drop_rate=drop_rate)
        self.blocks = nn.ModuleList(
            ResidualBlock(inputs, outputs, drop_rate)
            for inputs, outputs in itertools.pairwise([channels, *widths])
        )
        self.head = make_head(head, widths[-1], n_way, seed)
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_out", nonlinearity="leaky_relu", generator=generator
                )

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees: `[B, C, H, W]` to `[B, F]`."""
        check_size(*x.shape[-2:])
        if self.standardize is not None:
            x = self.standardize(x)
        for block in self.blocks:
            x = block(x)
        return x.mean(dim=(-2, -1))


class ResidualBlock(nn.Module):
    """Three convolutions beside a 1x1 one, then halved: `[B, in, H, W]` to `[B, out, H//2, W//2]`.

    Args:
        inputs, outputs: channels.
        drop_rate: of the dropout at the end.
    """

    def __init__(self, inputs: int, outputs: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
            for channels in (inputs, outputs, outputs)
        )
        self.norms = nn.ModuleList(BatchNorm(outputs) for _ in range(3))
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.shortcut_norm = BatchNorm(outputs)
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut_norm(self.shortcut(x))
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            x = F.leaky_relu(x if i < 2 else x + shortcut, SLOPE)
        # Not `nn.MaxPool2d`, whose second derivative is slow under vmap.
        y: Tensor = self.dropout(max_pool_2x2(x))
        return y


def check_size(height: int, width: int) -> None:
    """Raise a `UserError` for images that are too small for four halvings."""
    if min(height, width) < SMALLEST:
        raise UserError(
            f"ResNet12 halves images four times: they need at least {SMALLEST} pixels a side, "
            f"not {height} x {width}"
        )
