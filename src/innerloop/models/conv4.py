"""The four-block convolutional network of the few-shot papers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import UserError, one_of, true_or_false
from innerloop.models.layers import (
    BatchNorm,
    Conv2d,
    HeadedModel,
    conv_norm,
    make_head,
)
from innerloop.models.standardize import standardize

# That of Omniglot, for which the inner rates of the recipes were chosen.
USUAL_SIZE = 28


class Conv4(HeadedModel):
    """Four blocks of 3x3 convolution, batch norm and ReLU, then a linear layer.

    With `pool="stride"` the convolutions have stride 2 and the remaining
    positions are averaged (Finn et al. 2017, Omniglot); with `pool="max"` each
    block ends in 2x2 max-pooling and the remaining positions are flattened
    (Vinyals et al. 2016; mini-ImageNet in Finn et al.).

    With `unit_features` the last block neither halves the image nor has a ReLU, all
    positions are kept, and each feature vector is scaled to one length.
    The first inner step from a shared head then compares cosines, which learns
    several times faster than raw features (docs/en/recipes.md has the figures).  The length is
    that of images of 28 pixels with a mean square of one, for images of every size: logits grow
    with its square, and the inner rate that suits one size then suits others.

    Args:
        n_way: N, number of classes.
        channels: C of the images, 1 for grey, 3 for RGB.
        image_size: H = W of the images, at least 16.
        width: filters of each convolution.
        pool: `"stride"` or `"max"`.
        head: `"linear"`, `"random"`, `"normal"` or `"shared"`, see `make_head` in
            `innerloop.models.layers`.
        unit_features: see above.
        unit_length: False scales features to a mean square of one instead, so that their length
            grows with the image, as in version 0.1.0; there is no difference at 28 pixels.
        init: of the convolutions, see `initialise`: `"kaiming"`; or `"xavier"`, as in the code of
            Finn et al. 2017, whose head is `"normal"`.
        mean, deviation: of each channel, see `Standardize`; None to take images as they are.
        seed: of the initial weights.

    Raises:
        UserError: an option out of range.

    Shapes: `[B, C, H, W]` to logits `[B, N]`.
    """

    takes_tasks = True

    def __init__(
        self,
        n_way: int = 5,
        *,
        channels: int = 1,
        image_size: int = 28,
        width: int = 64,
        pool: str = "stride",
        head: str = "linear",
        unit_features: bool = False,
        unit_length: bool = True,
        init: str = "kaiming",
        mean: Sequence[float] | None = None,
        deviation: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.standardize = standardize(mean, deviation)
        if pool not in ("stride", "max"):
            raise UserError(f"pool must be 'stride' or 'max', not {pool!r}")
        true_or_false(unit_features=unit_features, unit_length=unit_length)
        if image_size < 16:
            raise UserError(f"four halvings need images of at least 16 pixels, not {image_size}")
        self.pool, self.unit_features = pool, unit_features
        self.halvings = 3 if unit_features else 4
        strides = [2 if pool == "stride" and i < self.halvings else 1 for i in range(4)]
        self.convs = nn.ModuleList(
            Conv2d(c, width, stride=stride)
            for c, stride in zip((channels, width, width, width), strides, strict=True)
        )
        self.norms = nn.ModuleList(BatchNorm(width) for _ in range(4))
        self.average = pool == "stride" and not unit_features
        side, usual = (_side(size, self.halvings, pool) for size in (image_size, USUAL_SIZE))
        # The factor of a mean square of one.
        self.scale = usual / side if unit_features and unit_length else 1.0
        self.head = make_head(head, width if self.average else width * side * side, n_way, seed)
        initialise(self, seed, init)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees: `[B, C, H, W]` to `[B, F]`."""
        if self.standardize is not None:
            x = self.standardize(x)
        for block, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            pool = self.pool == "max" and block < self.halvings
            relu = block < 3 or not self.unit_features
            x = conv_norm(x, conv, norm, pool=pool, relu=relu)
        x = x.mean(dim=(-2, -1)) if self.average else x.flatten(-3)
        if not self.unit_features:
            return x
        x = F.rms_norm(x, x.shape[-1:])
        return x if self.scale == 1 else x * self.scale


def _side(image_size: int, halvings: int, pool: str) -> int:
    """Positions along each axis that are left of an image."""
    parts = 1 << halvings
    # Stride 2 with padding 1 rounds up at each halving, pooling rounds down.
    return -(-image_size // parts) if pool == "stride" else image_size // parts


def initialise(model: nn.Module, seed: int, init: str = "kaiming") -> None:
    """Convolutions Kaiming-normal or `"xavier"`-uniform, zero bias, from `seed` alone, in place."""
    one_of(("kaiming", "xavier"), init=init)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            if init == "xavier":
                nn.init.xavier_uniform_(module.weight, generator=generator)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
