"""Small networks for the tests of algorithms; smooth, for finite differences."""

from __future__ import annotations

import torch
from torch import nn

from innerloop.models import BatchNorm, Conv4
from innerloop.models.layers import HeadedModel


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Normal random parameters in float64; batch norm keeps its own."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if not isinstance(module, BatchNorm):
            for p in module.parameters(recurse=False):
                nn.init.normal_(p, 0, 0.5, generator=generator)
    return model.double()


class Small(HeadedModel):
    """A convolution, batch norm, tanh, and a linear head: 16 x 16 images to 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 3, 4, 1), BatchNorm(3)
        self.head = nn.Linear(3 * 16, 3)
        randomise(self)

    def features(self, x):
        return torch.tanh(self.norm(self.conv(x))).flatten(1)


class Tied(HeadedModel):
    """A parameter used twice, a frozen one and an unused one: vectors of 6 to 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.second.weight = self.first.weight
        self.frozen, self.unused = nn.Linear(6, 6), nn.Linear(2, 2)
        randomise(self)
        self.frozen.requires_grad_(False)

    def features(self, x):
        return torch.tanh(self.second(torch.tanh(self.frozen(self.first(x)))))


class GRUClassifier(nn.Module):
    """A network that is not of this package: sequences `[B, time, 4]` to 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(4, 5), nn.Linear(5, 3)
        randomise(self)

    def features(self, x):
        state = x.new_zeros(x.shape[0], 5)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return state

    def forward(self, x):
        return self.out(self.features(x))


class TransformerClassifier(nn.Module):
    """A network that is not of this package: sequences `[B, time, 4]` to 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.out = nn.Linear(4, 3)
        randomise(self)

    def features(self, x):
        return self.layer(x).mean(1)

    def forward(self, x):
        return self.out(self.features(x))


class WithHead(HeadedModel):
    """A foreign network as its users would wrap it where features are needed."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # The head first, so that its parameters go by that name.
        self.head, self.network = network.out, network

    def features(self, x):
        return self.network.features(x)


class Product(nn.Module):
    """y = head * body * x with two numbers, for sums that can be done by hand."""

    def __init__(self, body: float, head: float = 1.0) -> None:
        super().__init__()
        self.body, self.head = Factor(body), Factor(head)

    def forward(self, x):
        return self.head(self.body(x))


class Factor(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, x):
        return self.w * x


def stackable(seed: int = 0) -> nn.Module:
    """A network for every way of computing; the rows of its head differ."""
    model = Conv4(3, width=4, image_size=16, head="random", unit_features=True).double()
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(seed))
    return model
