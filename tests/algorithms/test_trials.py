"""What is tried of a network before several tasks go through it together."""

from __future__ import annotations

import types

import pytest
import torch
from torch import nn

from innerloop import ANIL, MAML
from innerloop.models.layers import HeadedModel
from innerloop.ops import kernels
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


class Switched(HeadedModel):
    """Does more once it is told so."""

    def __init__(self):
        super().__init__()
        self.a, self.drop, self.head = nn.Linear(4, 6), nn.Dropout(0.0), nn.Linear(6, 3)
        self.noisy, self.centred, self.mode = False, 0, "plain"
        self.config = types.SimpleNamespace(noisy=False)

    def features(self, x):
        x = self.drop(self.a(x).tanh())
        if self.centred:
            x = x - self.centred * x.mean(0)
        if self.mode == "head":
            x = x * self.head.weight.square().mean()
        return x + torch.randn_like(x) if self.training and (self.noisy or self.config.noisy) else x


def in_evaluation(model):
    model.eval()
    model.noisy = True


SWITCHES = {
    "noise": (None, lambda model: setattr(model, "noisy", True)),
    "config": (None, lambda model: setattr(model.config, "noisy", True)),
    "centred": (None, lambda model: setattr(model, "centred", 1)),
    "mode": (None, lambda model: setattr(model, "mode", "head")),
    "dropout": (None, lambda model: setattr(model.drop, "p", 0.5)),
    "training": (in_evaluation, lambda model: model.train()),
}


@pytest.mark.falls_back
@pytest.mark.parametrize("make", [MAML, ANIL])
@pytest.mark.parametrize("switch", SWITCHES)
def test_what_is_switched_on_between_two_steps_is_tried(switch, make):
    torch.manual_seed(0)
    before, after = SWITCHES[switch]
    model, episodes = Switched().double(), random_episodes(shape=(4,))
    if before:
        before(model)
    algorithm, params = make(model, 0.1, 2), make(model, 0.1, 2).init_params()
    algorithm.meta_gradient(params, episodes, keys=(1, 2, 3))
    after(model)
    loop = make(model, 0.1, 2, execution="loop")
    found, expected = (
        a.meta_gradient(params, episodes, keys=(1, 2, 3))[0] for a in (algorithm, loop)
    )
    assert relative_error(found, expected) < 1e-10


def test_numbers_that_change_at_every_step_are_tried_once(monkeypatch):
    model, episodes = Switched().double(), random_episodes(shape=(4,))
    model.centred = 1.0
    maml, looks = MAML(model, 0.1, 1), []
    monkeypatch.setattr(type(maml.network), "_look", counted(type(maml.network)._look, looks))
    for _ in range(3):
        maml.meta_gradient(maml.init_params(), episodes)
        model.centred /= 2
        maml.score_steps(maml.init_params(), episodes)
        model.eval()
        maml.score_steps(maml.init_params(), episodes)
        model.train()
    assert len(looks) == 1


def counted(method, calls):
    def call(*args, **kwargs):
        calls.append(args)
        return method(*args, **kwargs)

    return call


class Layers(nn.Module):
    """Operations that have a rule for several tasks, and others."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3)
        self.c, self.d = nn.Conv2d(16, 32, 3, groups=16), nn.Conv3d(1, 2, (4, 3, 3))
        self.head, self.unused = nn.Linear(2, 3), nn.Linear(2, 3)

    def forward(self, x):
        x = self.d(self.c(self.b(self.a(x))).unsqueeze(1))
        return self.head(torch.logcumsumexp(x.flatten(2), -1).mean(-1))


def test_what_goes_task_by_task_in_a_stacked_network_can_be_asked():
    model, episodes = Layers().double(), random_episodes(shape=(1, 8, 8))
    if not kernels.ready():
        pytest.skip("without kernels it goes another way")
    maml = MAML(model, 0.1, 1)
    maml.meta_gradient(maml.init_params(), episodes)
    lines = maml.explain().splitlines()
    assert lines[0].startswith("stacked")
    apart = [line for line in lines if line.startswith("in it by vmap")]
    assert apart == [
        "in it by vmap, or one task after the other: conv2d with weights (32, 1, 3, 3), "
        "conv3d with weights (2, 1, 4, 3, 3), logcumsumexp"
    ]
    assert lines[-1] == "without gradients, unused or cut off: unused.weight, unused.bias"
