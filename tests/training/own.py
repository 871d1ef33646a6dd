"""A network, an algorithm, tasks, a loss and a metric as users write them, to be imported."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import innerloop


class Net(nn.Module):
    def __init__(self, n_way=3, width=8):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.body, self.out = nn.Linear(4, width), nn.Linear(width, n_way)
        for p in self.parameters():
            nn.init.normal_(p, 0.0, 0.5, generator=generator)

    def forward(self, x):
        return self.out(torch.tanh(self.body(x)))


class Series:
    """Three classes of four numbers; episode i is a function of i."""

    n_way = 3

    def __init__(self, first=0, shift=0.0):
        self.first, self.shift = first, shift

    def batch(self, start, count):
        tasks = []
        y = torch.arange(3).repeat(2)
        for number in range(start, start + count):
            generator = torch.Generator().manual_seed(self.first + number)
            means = torch.randn(3, 4, generator=generator) + self.shift
            sets = [means[y] + 0.3 * torch.randn(6, 4, generator=generator) for _ in range(2)]
            tasks.append((sets[0], y, sets[1], y))
        return innerloop.Episodes(*(torch.stack(t) for t in zip(*tasks, strict=True)))


class Damped(innerloop.MAML):
    """MAML whose steps get smaller."""

    def rates(self, params, step):
        return self.inner_lr / (step + 1)


def algorithm():
    return Damped(Net(), 0.2, 2)


def train():
    return Series()


def val():
    return Series(10**6)


def load(seed=0):
    """For the command line: tasks by part."""
    return {part: Series(10**6 * i + seed) for i, part in enumerate(("train", "val", "test"))}


def make(n_way, width):
    """For the command line: a network."""
    return Net(n_way, width)


def focal(outputs, targets):
    likely = F.log_softmax(outputs, 1).gather(1, targets[:, None])
    return -((1 - likely.exp()) ** 2 * likely).mean()


def certainty(outputs, targets):
    return outputs.softmax(1).gather(1, targets[:, None]).mean()


def rate(share):
    return 1 - share / 2


def same_rate(share):
    return 0.5
