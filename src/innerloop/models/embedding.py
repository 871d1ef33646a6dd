"""A linear embedding of features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.models.layers import HeadedModel, Linear, make_head

# Of what the head sees: that of 32 numbers of unit mean square, so that inner rates that suit our
# Conv4 suit this, however wide it is.
LENGTH = 32**0.5


class Embedding(HeadedModel):
    """Features of a body, scaled to one length, mapped linearly, and scaled to one length again.

    The map is orthogonal at first: cosines are those of the features, or, in fewer dimensions,
    about so.  Training starts from what class means of the features already know.

    Args:
        inputs: F, numbers in the features of a body.
        outputs: N classes.
        width: numbers in the embedding.
        head: `"linear"`, `"random"`, `"normal"` or `"shared"`, see `make_head` in
            `innerloop.models.layers`.
        seed: of the initial weights.

    Shapes: `[B, F]` to `[B, outputs]`.
    """

    takes_tasks = True

    def __init__(
        self,
        inputs: int,
        outputs: int = 5,
        *,
        width: int = 512,
        head: str = "shared",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.embed = Linear(inputs, width, bias=False)
        self.head = make_head(head, width, outputs, seed)
        nn.init.orthogonal_(self.embed.weight, generator=torch.Generator().manual_seed(seed))

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees: `[B, F]` to `[B, width]`."""
        return LENGTH * F.normalize(self.embed(F.normalize(x, dim=-1)), dim=-1)
