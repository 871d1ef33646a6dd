"""What is tried of a network before several tasks go through it together."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innerloop import MAML
from innerloop.ops.stacked.rules import by_name
from innerloop.ops.stacked.tensor import RULES
from tests.helpers import random_episodes, relative_error


class Strides(nn.Module):
    """Where `mode` says so, it relies on the order of the memory of one task."""

    def __init__(self, mode):
        super().__init__()
        self.mode, self.a, self.b = mode, nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.a(x).tanh()
        if self.training == self.mode:
            x = x.view(len(x), 2, 3).transpose(1, 2).contiguous()
            x = torch.as_strided(x, (len(x), 6), (6, 1))
        return self.b(x)


@pytest.mark.parametrize("mode", [True, False])
def test_several_tasks_are_tried_in_training_and_in_evaluation(mode, monkeypatch):
    # By vmap it would be wrong, which the trial has to find.
    for function in by_name("as_strided"):
        monkeypatch.delitem(RULES, function)
    torch.manual_seed(0)
    model, episodes = Strides(mode).double(), random_episodes(shape=(4,))
    auto, loop = MAML(model, 0.1, 2), MAML(model, 0.1, 2, execution="loop")
    params = auto.init_params()
    found, expected = (a.meta_gradient(params, episodes)[0] for a in (auto, loop))
    assert relative_error(found, expected) < 1e-12
    torch.testing.assert_close(*(a.score_steps(params, episodes)["loss"] for a in (auto, loop)))
    assert "would not stay apart" in auto.explain()


def test_strides_are_those_of_one_task():
    model, episodes = Strides(True).double(), random_episodes(shape=(4,))
    maml = MAML(model, 0.1, 2)
    maml.meta_gradient(maml.init_params(), episodes)
    assert "as_strided goes by the memory of one task" in maml.explain()
