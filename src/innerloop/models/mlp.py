"""A plain multi-layer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from innerloop.models.layers import HeadedModel, Linear, make_head


class MLP(HeadedModel):
    """Linear layers with ReLU between them.

    Args:
        inputs: size of one example; inputs of any shape are flattened to it.
        outputs: N classes, or the number of regression outputs.
        hidden: widths of the hidden layers.
        head: `"linear"`, `"random"`, `"normal"` or `"shared"`, see `make_head` in
            `innerloop.models.layers`.
        seed: of the initial weights.

    Shapes: `[B, ...]` to `[B, outputs]`.
    """

    takes_tasks = True

    def __init__(
        self,
        inputs: int,
        outputs: int = 5,
        *,
        hidden: Sequence[int] = (256, 128),
        head: str = "linear",
        seed: int = 0,
    ) -> None:
        super().__init__()
        widths = [inputs, *hidden]
        layers = [Linear(a, b) for a, b in itertools.pairwise(widths)]
        self.layers = nn.ModuleList(layers)
        self.head = make_head(head, widths[-1], outputs, seed)
        generator = torch.Generator().manual_seed(seed)
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees: `[B, ...]` to `[B, F]`."""
        # With an axis of tasks the weights have one as well.
        weight: Tensor = self.layers[0].weight  # type: ignore[assignment]
        x = x.flatten(weight.ndim - 1)
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x
