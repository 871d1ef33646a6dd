"""Weights that a forward pass ties to others by assigning them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innerloop import IMAML, MAML, MetaSGD
from tests.helpers import random_episodes, relative_error


class Shares(nn.Module):
    """One weight for two layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def tie(self):
        return self.a.weight

    def forward(self, x):
        x = self.a(x).tanh()
        return self.head(nn.functional.linear(x, self.tie(), self.b.bias).tanh())


class Ties(Shares):
    def tie(self):
        self.b.weight = self.a.weight
        return self.b.weight


class Registers(Shares):
    def tie(self):
        self.b.register_parameter("weight", self.a.weight)
        return self.b.get_parameter("weight")


HOW = [{}, {"execution": "vmap"}, {"execution": "loop"}, {"first_order": True}]


@pytest.mark.parametrize("kind", [Ties, Registers])
@pytest.mark.parametrize(
    ("cls", "how"), [*((MAML, how) for how in HOW), (MetaSGD, {}), (IMAML, {})]
)
def test_weights_tied_in_forward_are_one(kind, cls, how):
    torch.manual_seed(0)
    model, episodes = kind().double(), random_episodes(shape=(4,))
    plain = Shares().double()
    plain.load_state_dict(model.state_dict())
    before = dict(model.b._parameters)
    algorithms = [cls(m, 0.1, 2, **how) for m in (model, plain)]
    params = algorithms[0].init_params()
    found, expected = (a.meta_gradient(params, episodes)[0] for a in algorithms)
    assert relative_error(found, expected) < 1e-12
    torch.testing.assert_close(*(a.score_steps(params, episodes)["loss"] for a in algorithms))
    assert all(model.b._parameters[name] is p for name, p in before.items())
