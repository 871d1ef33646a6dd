"""The body is computed once for all tasks only where that is exact."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innerloop import MAML
from innerloop.algorithms.execution import candidates
from innerloop.models import BatchNorm, Conv4
from innerloop.models.layers import HeadedModel
from tests.algorithms.contracts import CONTRACTS
from tests.algorithms.networks import randomise
from tests.helpers import random_episodes, relative_error


class MoreThanHead(Conv4):
    """A headed model whose forward does more than `head(features(x))`."""

    def forward(self, x):
        return 3 * super().forward(x)


@pytest.mark.parametrize("kind", ["forward", "hook", "head hook", "on the object"])
@pytest.mark.parametrize("cls", ["anil", "maml", "protonet"])
def test_a_network_that_does_more_than_head_of_features_gets_no_short_cut(kind, cls):
    options = {"width": 16, "image_size": 16, "head": "random", "unit_features": True}
    model = (MoreThanHead if kind == "forward" else Conv4)(3, **options).double()
    if kind == "hook":
        model.register_forward_hook(lambda module, x, out: 3 * out)
    elif kind == "head hook":
        model.head.register_forward_hook(lambda module, x, out: 3 * out)
    elif kind == "on the object":
        before = model.forward
        model.forward = lambda x: 3 * before(x)
    auto = CONTRACTS[cls].make(model)
    loop = CONTRACTS[cls].make(model, execution="loop")
    params, episodes = auto.init_params(), random_episodes()
    assert candidates(auto, 1.0, training=True)[0] not in ("stacked", "shared_body")
    found, _ = auto.meta_gradient(params, episodes)
    expected, _ = loop.meta_gradient(params, episodes)
    assert relative_error(found, expected) < 1e-10
    if cls != "protonet":  # ProtoNet needs a model with features
        plain = Conv4(3, **options).double()
        plain.load_state_dict(model.state_dict())
        other, _ = CONTRACTS[cls].make(plain).meta_gradient(params, episodes)
        assert relative_error(found, other) > 1e-2


class Centred(HeadedModel):
    """Subtracts the mean of the batch from its features: tasks in one batch would mix."""

    def __init__(self):
        super().__init__()
        self.a, self.head = nn.Linear(256, 8), nn.Linear(8, 3)
        randomise(self)

    def features(self, x):
        x = torch.tanh(self.a(x.flatten(1)))
        return x - x.mean(0)


class Summed(Centred):
    """Each row sees those before it, so that the first task is as it was."""

    def features(self, x):
        return torch.tanh(self.a(x.flatten(1))).cumsum(0)


class BehindZeros(Centred):
    """Weights of zero hide that rows are mixed, until they are trained."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(8, dtype=torch.float64))

    def features(self, x):
        return torch.tanh(self.a(x.flatten(1))) + super().features(x) * self.scale


@pytest.mark.parametrize("network", [Centred, Summed, BehindZeros])
@pytest.mark.parametrize("name", ["anil", "protonet"])
def test_a_body_that_mixes_the_rows_of_a_batch_is_noticed(name, network):
    auto = CONTRACTS[name].make(network())
    params, episodes = auto.init_params(), random_episodes()
    found, _ = auto.meta_gradient(params, episodes)
    expected = CONTRACTS[name].naive(network(), params, episodes)
    assert relative_error(found, expected) < 1e-10
    assert "mixes the rows of a batch" in auto.explain()


class LooksAtHead(Centred):
    """Its features depend on the head's weights."""

    def features(self, x):
        return torch.tanh(self.a(x.flatten(1))) * self.head.weight.square().mean()


class FrozenBias(HeadedModel):
    def __init__(self):
        super().__init__()
        self.a, self.head = nn.Linear(256, 8), nn.Linear(8, 3)
        randomise(self)
        self.head.bias.requires_grad_(False)

    def features(self, x):
        return torch.tanh(self.a(x.flatten(1)))


class Places(HeadedModel):
    """Batch norm sees several rows of each example."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.head = nn.Linear(16, 8), BatchNorm(8), nn.Linear(8, 3)
        randomise(self)

    def features(self, x):
        x = self.a(x.flatten(1, 2))
        return torch.tanh(self.norm(x.flatten(0, 1)).view(x.shape)).mean(1)


@pytest.mark.parametrize("bn", ["transductive", "support"])
@pytest.mark.parametrize("network", [LooksAtHead, FrozenBias, Places])
def test_bodies_and_heads_out_of_the_ordinary(network, bn):
    auto = CONTRACTS["anil"].make(network(), bn=bn)
    loop = CONTRACTS["anil"].make(network(), bn=bn, execution="loop")
    params, episodes = auto.init_params(), random_episodes()
    found, _ = auto.meta_gradient(params, episodes)
    expected, _ = loop.meta_gradient(params, episodes)
    assert relative_error(found, expected) < 1e-10
    scores = [a.score_steps(params, episodes)["loss"] for a in (auto, loop)]
    torch.testing.assert_close(*scores)
    if bn == "support":
        task = episodes.task(0)
        fast = auto.adapt(params, task.support_x, task.support_y)
        together = auto.query_outputs(fast, task.support_x, task.query_x)
        alone = auto.query_outputs(fast, task.support_x, task.query_x[:1])
        torch.testing.assert_close(together[:1], alone)


@pytest.mark.parametrize("layer", ["head.bias", "head.weight", "convs.1.weight", "norms.0.bias"])
def test_layers_with_a_frozen_part_are_not_stacked(layer):
    model = Conv4(3, width=16, image_size=16, head="random").double()
    model.get_parameter(layer).requires_grad_(False)
    auto, loop = MAML(model, 0.1, 2), MAML(model, 0.1, 2, execution="loop")
    params, episodes = auto.init_params(), random_episodes()
    found, _ = auto.meta_gradient(params, episodes)
    expected, _ = loop.meta_gradient(params, episodes)
    assert relative_error(found, expected) < 1e-10


class InTrainingAlone(Centred):
    """As batch renormalisation: in evaluation each row is by itself."""

    def features(self, x):
        return super().features(x) if self.training else torch.tanh(self.a(x.flatten(1)))


class LooksInEvaluation(Centred):
    """Its features depend on the head's weights, unless it is trained."""

    def features(self, x):
        x = torch.tanh(self.a(x.flatten(1)))
        return x if self.training else x * self.head.weight.square().mean()


@pytest.mark.parametrize("network", [InTrainingAlone, LooksInEvaluation])
@pytest.mark.parametrize("name", ["anil", "protonet"])
def test_a_body_may_be_another_one_in_training(name, network):
    auto, loop = (CONTRACTS[name].make(network(), execution=way) for way in ("auto", "loop"))
    params, episodes = auto.init_params(), random_episodes()
    found, _ = auto.meta_gradient(params, episodes)
    expected, _ = loop.meta_gradient(params, episodes)
    assert relative_error(found, expected) < 1e-10
    torch.testing.assert_close(*(a.score_steps(params, episodes)["loss"] for a in (auto, loop)))
