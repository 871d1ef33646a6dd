"""Networks that compute a part of themselves again in the backward pass, to save memory."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import innerloop
from innerloop import MAML, Episodes, UserError
from innerloop.models import BatchNorm


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(16, 48)

    def forward(self, x):
        q, k, v = self.project(x).unflatten(-1, (3, 1, 16)).permute(2, 0, 3, 1, 4)
        return nn.functional.scaled_dot_product_attention(q, k, v).squeeze(1)


class Recurrent(nn.LSTM):
    def forward(self, x):
        return super().forward(x)[0]


class Noisy(nn.Module):
    """Draws from every global generator."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x):
        scale = 1 + random.random() + np.random.rand()  # noqa: NPY002
        return torch.tanh(self.linear(x) * scale) * (1 + torch.rand(16, dtype=x.dtype))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.inside = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.3), nn.Tanh())

    def forward(self, x):
        return checkpoint(self.inside, torch.tanh(self.linear(x)), use_reentrant=False)


def convolutional(norm):
    conv = nn.Conv2d(1, 4, 3, padding=1)
    return nn.Sequential(conv, norm, nn.ReLU(), nn.Dropout2d(0.2), nn.MaxPool2d(4))


PARTS = {
    "linear": (lambda: nn.Sequential(nn.Linear(16, 16), nn.Tanh()), (16,)),
    "dropout": (lambda: nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.3), nn.Tanh()), (16,)),
    "global generators": (Noisy, (16,)),
    "nested": (Nested, (16,)),
    "batch norm": (lambda: convolutional(BatchNorm(4)), (1, 8, 8)),
    "group norm": (lambda: convolutional(nn.GroupNorm(2, 4)), (1, 8, 8)),
    "attention": (Attention, (5, 16)),
    "encoder": (lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (5, 16)),
    "recurrent": (lambda: Recurrent(16, 16, batch_first=True), (5, 16)),
}


class Net(nn.Module):
    def __init__(self, part, again, before=False):
        super().__init__()
        self.before = nn.Linear(16, 16) if before else nn.Identity()
        self.part, self.again, self.out = part, again, nn.Linear(16, 3)

    def forward(self, x):
        x = self.before(x)
        if self.again is None:
            x = self.part(x)
        else:
            x = checkpoint(self.part, x, use_reentrant=self.again)
        return self.out(x.mean(1) if x.ndim == 3 else x.flatten(1))


def episodes(*shape):
    generator = torch.Generator().manual_seed(0)
    support, noise = torch.randn(2, 2, 6, *shape, generator=generator, dtype=torch.float64)
    labels = torch.arange(3).repeat(2, 2)
    return Episodes(support, labels, support + 0.3 * noise, labels)


@pytest.mark.falls_back
@pytest.mark.parametrize("options", [{"derivative": "mixed"}, {"first_order": True}, {}])
@pytest.mark.parametrize("bn", ["transductive", "support"])
@pytest.mark.parametrize("name", PARTS)
def test_gradients_are_those_without(name, bn, options):
    make, shape = PARTS[name]
    for execution in ("auto", "loop"):
        found = []
        for again in (None, False):
            torch.manual_seed(1)
            net = Net(make(), again).double()
            algorithm = MAML(net, 0.3, 2, bn=bn, execution=execution, **options)
            start = algorithm.init_params()
            found.append(algorithm.meta_gradient(start, episodes(*shape), keys=(1, 2))[0])
        for key, gradient in found[0].items():
            torch.testing.assert_close(found[1][key], gradient, msg=f"{execution}: {key}")


def test_hooks_that_save_elsewhere_are_left_alone():
    class Elsewhere(Net):
        def forward(self, x):
            with torch.autograd.graph.save_on_cpu():
                return super().forward(x)

    found = []
    for kind in (Net, Elsewhere):
        torch.manual_seed(1)
        algorithm = MAML(kind(PARTS["encoder"][0](), None).double(), 0.3, 2)
        start = algorithm.init_params()
        found.append(algorithm.meta_gradient(start, episodes(5, 16), keys=(1, 2))[0])
    for key, gradient in found[0].items():
        torch.testing.assert_close(found[1][key], gradient, msg=key)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("name", ["linear", "attention"])
@pytest.mark.parametrize("algorithm", [MAML, innerloop.IMAML, innerloop.Reptile])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_what_gives_no_gradients_is_refused(name, before, algorithm):
    make, shape = PARTS[name]
    learner = algorithm(Net(make(), True, before).double(), 0.3)
    with pytest.raises(UserError, match="use_reentrant=False"):
        learner.meta_gradient(learner.init_params(), episodes(*shape))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_part_without_weights_is_refused_as_well():
    learner = MAML(Net(nn.Tanh(), True, before=True).double(), 0.3)
    with pytest.raises(UserError, match="use_reentrant=False"):
        learner.meta_gradient(learner.init_params(), episodes(16))
