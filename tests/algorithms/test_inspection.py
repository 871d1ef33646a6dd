"""What is found out about a network by calling copies of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, UserError
from tests.algorithms.users import EPISODES

GENERATOR = np.random.default_rng(3)


class Repeated(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(12, 3)

    def forward(self, x):
        return self.out(x.flatten(1)) * (1 + self.number())


class Iterates(Repeated):
    def __init__(self):
        super().__init__()
        self.count = itertools.count()

    def number(self):
        return next(self.count)


class Yields(Iterates):
    def __init__(self):
        super().__init__()
        self.count = (i / 10 for i in range(100))


class Draws(Repeated):
    def forward(self, x):
        return self.out(x.flatten(1)) * GENERATOR.random()


class OfClass(Repeated):
    generator = np.random.default_rng(3)

    def number(self):
        return type(self).generator.random() if self.training else 0


class Imaginary(Iterates):
    """The real part repeats, the imaginary one does not."""

    def forward(self, x):
        y = self.out(x.flatten(1))
        return torch.complex(y, y * self.number())


PLACES = {Iterates: "look at 0.count", Yields: "look at 0.count", Draws: "variable GENERATOR"}


@pytest.mark.parametrize("kind", [Iterates, Yields, Draws, OfClass])
def test_outputs_that_change_from_call_to_call_are_refused(kind):
    maml = MAML(nn.Sequential(kind()).double(), 0.1, 2)
    with pytest.raises(UserError, match=PLACES.get(kind, "called again with the same weights")):
        maml.meta_gradient(maml.init_params(), EPISODES)
    if kind is OfClass:
        maml.model.eval()
        maml = MAML(maml.model, 0.1, 2)
        maml.meta_gradient(maml.init_params(), EPISODES)


class Strange(nn.Module):
    """Returns complex numbers and nothing at all beside what counts."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(12, 3)

    def forward(self, x):
        outputs = self.out(x.flatten(1))
        return outputs, torch.fft.fft(outputs).conj(), None


def test_outputs_of_every_kind_are_compared():
    def loss(outputs, targets):
        return F.cross_entropy(outputs[0], targets) + outputs[1].abs().mean()

    maml = MAML(Strange().double(), 0.1, 2, loss=loss, execution="loop")
    grads, _ = maml.meta_gradient(maml.init_params(), EPISODES)
    assert all(g.isfinite().all() for g in grads.values())


def test_imaginary_parts_that_change_from_call_to_call_are_refused():
    maml = MAML(Imaginary().double(), 0.1, 2, loss=lambda out, y: F.cross_entropy(out.abs(), y))
    with pytest.raises(UserError, match="look at count"):
        maml.meta_gradient(maml.init_params(), EPISODES)
