"""What is recorded of a network answers as the network, however it handles memory."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

import innerloop
from innerloop import UserError

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")


class Rows(nn.Module):
    """The rows of a picture as a sequence."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(16, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.lstm(x[:, 0])[0][:, -1])


class Windows(nn.Module):
    """Windows of columns that overlap, which are seen in the memory as it lies."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        columns = x[:, 0].transpose(1, 2).contiguous()
        windows = torch.as_strided(columns, (x.shape[0], 7, 64), (256, 32, 1))
        return self.head(windows.amax(1))


class Routing(nn.Module):
    """Capsules, whose sums PyTorch writes in place by itself."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(1, 16, 3, 4, 16))

    def forward(self, x):
        votes = (self.weight @ x[:, 0][:, :, None, :, None]).squeeze(-1)
        agreed = torch.zeros(x.shape[0], 16, 3, 1)
        for _ in range(2):
            told = (agreed.softmax(2) * votes).sum(1, keepdim=True)
            agreed = agreed + (votes * told).sum(-1, keepdim=True)
        return told.squeeze(1).norm(dim=-1)


class InPlace(nn.Module):
    """Writes into a part of a tensor."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(256, 3)

    def forward(self, x):
        x = x.flatten(1) * 2
        x[:, ::2].mul_(-1)
        x[:, 3] = x[:, 5]
        return self.head(x)


class Whim(InPlace):
    """Computes otherwise where it is recorded."""

    def forward(self, x):
        return super().forward(x) * (2 if isinstance(x, FakeTensor) else 1)


class Drawing(InPlace):
    """Multiplies by a number of Python's generator, which follows from our keys."""

    def forward(self, x):
        return super().forward(x) * random.random()


class Turned(InPlace):
    """A spatial transformer, whose operations have no derivative elsewhere."""

    def forward(self, x):
        turn = self.head(x.flatten(1)).unflatten(1, (1, 3)) + torch.eye(2, 3)
        grid = nn.functional.affine_grid(turn, x.shape, align_corners=False)
        return super().forward(nn.functional.grid_sample(x, grid, align_corners=False))


def loaded_of(network, model):
    algorithm = innerloop.MAML(model, 0.1, 1, bn="transductive")
    config = innerloop.FitConfig(algorithm="MAML", model=type(model).__name__)
    return network()._replace(
        model=model, algorithm=algorithm, params=algorithm.init_params(), config=config
    )


@pytest.mark.parametrize(
    "make", [Rows, Windows, Routing, InPlace, pytest.param(Turned, marks=pytest.mark.long)]
)
def test_a_learner_takes_the_step_that_autograd_takes(make, network, task, tmp_path):
    torch.manual_seed(0)
    loaded = loaded_of(network, make())
    innerloop.export(loaded, tmp_path / "learner.pt2", learner=True, bn="transductive")
    support, labels, queries = (torch.as_tensor(part) for part in task(3, 5))
    program = torch.export.load(tmp_path / "learner.pt2").module()
    # As in use, where nobody asks for gradients.
    with torch.no_grad():
        first, last = program(support, labels, queries)["logits"]
    x, query_x = support / 255, queries / 255
    algorithm, params = loaded.algorithm, loaded.params
    torch.testing.assert_close(first, algorithm.query_outputs(params, x, query_x))
    weights = torch.bincount(labels).reciprocal()[labels] / 3
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    logits = torch.func.functional_call(loaded.model, leaves, (x,))
    loss = (weights * nn.functional.cross_entropy(logits, labels, reduction="none")).sum()
    step = torch.autograd.grad(loss, list(leaves.values()))
    fast = {name: p - 0.1 * g for (name, p), g in zip(params.items(), step, strict=True)}
    torch.testing.assert_close(
        last, algorithm.query_outputs(fast, x, query_x), atol=1e-5, rtol=1e-4
    )


def test_numbers_of_another_generator_are_those_of_use(network, task, tmp_path):
    loaded = loaded_of(network, Drawing())
    innerloop.export(loaded, tmp_path / "learner.pt2", learner=True)
    support, labels, queries = task(3, 5)
    classifier = innerloop.FewShotClassifier(loaded, inner_steps=1, prepare="none")
    expected = list(classifier.fit(support, labels).staged_predict_proba(queries))
    program = torch.export.load(tmp_path / "learner.pt2").module()
    found = program(*map(torch.as_tensor, (support, labels, queries)))["probabilities"]
    torch.testing.assert_close(found, torch.as_tensor(np.stack(expected)), check_dtype=False)


def test_a_record_that_is_not_the_network_is_not_written(network, tmp_path):
    with pytest.raises(UserError, match="what was recorded of it differs from it by"):
        innerloop.export(loaded_of(network, Whim()), tmp_path / "learner.pt2", learner=True)
    assert not list(tmp_path.iterdir())


class Counted(InPlace):
    """Takes the number of pictures as a number of Python's."""

    def forward(self, x):
        return super().forward(x) + torch.zeros(len(x), 3)


def test_a_network_that_fixes_a_number_is_named_so(network, tmp_path):
    with pytest.raises(UserError, match=r"any number of images: .*as len\(x\) does.*x.shape\[0\]"):
        innerloop.export(loaded_of(network, Counted()), tmp_path / "learner.pt2", learner=True)
    assert not list(tmp_path.iterdir())
