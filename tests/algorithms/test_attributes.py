"""What a forward pass draws or writes by the attributes of a network stays in the copy."""

from __future__ import annotations

import functools
import random
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from innerloop import MAML
from tests.algorithms.users import EPISODES
from tests.helpers import relative_error

falls_back = pytest.mark.falls_back


class Drawn(nn.Module):
    """Outputs times a number that is drawn."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(12, 3)

    def forward(self, x):
        return self.out(x.flatten(1)).tanh() * (0.5 + float(self.draw()))


class ByMethod(Drawn):
    def __init__(self):
        super().__init__()
        self.draw = random.Random(3).random


class ByMethodInPartial(Drawn):
    def __init__(self):
        super().__init__()
        self.draw = functools.partial(random.Random(3).random)


class ByClass(Drawn):
    generator = np.random.default_rng(3)

    def draw(self):
        return self.generator.random()


class Source:
    generator = torch.Generator().manual_seed(3)

    def draw(self):
        return torch.rand((), generator=self.generator)


class ByClassOfObject(Drawn):
    def __init__(self):
        super().__init__()
        self.source = Source()

    def draw(self):
        return self.source.draw()


FIRST = {
    ByMethod: random.Random(3).random(),
    ByMethodInPartial: random.Random(3).random(),
    ByClass: np.random.default_rng(3).random(),
    ByClassOfObject: torch.rand((), generator=torch.Generator().manual_seed(3)).item(),
}


@falls_back
@pytest.mark.parametrize("kind", FIRST)
def test_generators_are_copied_wherever_a_network_holds_them(kind):
    torch.manual_seed(0)
    model, found = kind().double(), []
    for derivative in ("reverse", "mixed", "reverse"):
        maml = MAML(model, 0.1, 2, derivative=derivative)
        found.append(maml.meta_gradient(maml.init_params(), EPISODES, keys=(4, 5, 6))[0])
    assert relative_error(found[1], found[0]) < 1e-10
    assert relative_error(found[2], found[0]) == 0
    assert float(model.draw()) == FIRST[kind]  # nobody has drawn from the user's


class Counts(nn.Module):
    """Writes to what its class shares, also by a bound method of a list."""

    calls: ClassVar[list[int]] = []
    seen = np.zeros(1)
    scale = torch.ones((), dtype=torch.float64)

    def __init__(self):
        super().__init__()
        self.out, self.kept = nn.Linear(12, 3), []
        self.keep = self.kept.append

    def forward(self, x):
        self.calls.append(1)
        self.seen += 1
        self.scale.mul_(2)
        self.keep(1)
        times = len(self.calls) + len(self.kept) + float(self.seen[0])
        return self.out(x.flatten(1)) * times * self.scale


@falls_back
def test_what_is_written_by_class_attributes_and_methods_is_dropped():
    model = Counts().double()
    maml = MAML(model, 0.01, 2)
    params = maml.init_params()
    once, again = (maml.meta_gradient(params, EPISODES)[0] for _ in range(2))
    assert relative_error(once, again) == 0
    assert [*Counts.calls, *model.kept, *Counts.seen, Counts.scale] == [0, 1]


def test_a_method_of_a_weight_is_that_of_the_adapted_weight():
    class Product(nn.Module):
        def __init__(self, bound):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(12, 3, dtype=torch.float64))
            self.turned = self.weight.t if bound else None

        def forward(self, x):
            return x.flatten(1) @ (self.turned().t() if self.turned else self.weight)

    found = []
    for bound in (False, True):
        maml = MAML(Product(bound), 0.1, 2)
        found.append(maml.meta_gradient(maml.init_params(), EPISODES)[0])
    assert relative_error(found[1], found[0]) < 1e-12
