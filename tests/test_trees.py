"""Tensors in whatever networks return."""

from __future__ import annotations

import dataclasses
import types
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop import MAML, Episodes, Reptile, UserError, trees
from innerloop.models import BatchNorm
from tests.algorithms import naive
from tests.helpers import random_episodes, relative_error

EPISODES = random_episodes(shape=(3, 4))


@dataclasses.dataclass
class Outputs:
    logits: Tensor
    name: str = "outputs"

    def __post_init__(self):
        self.probabilities = self.logits.softmax(-1)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    logits: Tensor
    more: dict


class Plain:
    def __init__(self, logits):
        self.logits = logits


class Mapping(OrderedDict):
    """With its items as attributes, as of outputs of pretrained networks."""

    def __init__(self, logits):
        super().__init__(logits=logits)
        self.logits = logits


def nested(logits):
    return Plain([Outputs(logits), {"x": logits * 2}])


KINDS = {
    "dataclass": Outputs,
    "frozen dataclass": lambda logits: Frozen(logits, {"twice": [2 * logits]}),
    "object": Plain,
    "namespace": lambda logits: types.SimpleNamespace(logits=logits, nothing=None),
    "subclass of a dict": Mapping,
    "nested": lambda logits: types.SimpleNamespace(logits=logits, rest=nested(logits)),
}
DISTRIBUTION = {"distribution": lambda logits: torch.distributions.Categorical(logits=logits)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_mapped_and_the_tree_stays_as_it_is(kind):
    logits = torch.arange(6.0).view(2, 3)
    tree = KINDS[kind](logits)
    before = [t.clone() for t in trees.tensors_in(tree)]
    found = trees.mapped(lambda t: t + 1 if isinstance(t, Tensor) else t, tree)
    assert type(found) is type(tree)
    assert torch.equal(found.logits, logits + 1)
    assert all(map(torch.equal, trees.tensors_in(tree), before))
    assert all(map(torch.equal, trees.tensors_in(found), [t + 1 for t in before]))
    sums = trees.mapped(lambda a, b: a + b if isinstance(a, Tensor) else a, tree, found)
    assert all(map(torch.equal, trees.tensors_in(sums), [2 * t + 1 for t in before]))
    if isinstance(tree, dict):
        assert torch.equal(found["logits"], logits + 1)


def test_tensors_of_distributions_are_seen_and_left():
    tree = [DISTRIBUTION["distribution"](torch.ones(2, 3)), torch.zeros(())]
    assert len(trees.tensors_in(tree)) > 1
    assert trees.closed(tree) == "Categorical"
    assert trees.closed([Outputs(torch.ones(2, 3)), print, nn.Linear(1, 1)]) is None
    assert trees.mapped(lambda t: t, tree)[0] is tree[0]


def test_what_holds_itself_has_its_tensors_once():
    tree = Plain(torch.ones(1))
    tree.parent = tree
    assert len(trees.tensors_in(tree)) == 1
    found = trees.mapped(lambda t: t + 1 if isinstance(t, Tensor) else t, tree)
    assert torch.equal(found.logits, torch.full((1,), 2.0))
    assert torch.equal(tree.logits, torch.ones(1))


class Network(nn.Module):
    """Returns what `kind` makes of its logits."""

    def __init__(self, kind, norm=None):
        super().__init__()
        self.kind, self.unused = kind, nn.Linear(2, 2)
        self.norm, self.out = norm or nn.Identity(), nn.Linear(12, 3)

    def forward(self, x):
        return self.kind(self.out(self.norm(x.flatten(1))))


def loss(outputs, targets):
    return F.cross_entropy(outputs.logits, targets)


def share(outputs, targets):
    assert not outputs.logits.requires_grad
    return (outputs.logits.argmax(-1) == targets).double().mean()


@pytest.mark.parametrize("execution", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("kind", KINDS | DISTRIBUTION)
def test_a_network_may_return_its_outputs_in_an_object(kind, execution):
    network = Network((KINDS | DISTRIBUTION)[kind]).double()
    maml = MAML(network, naive.LR, naive.STEPS, loss=loss, execution=execution)
    params = maml.init_params()
    wanted = naive.maml(network, params, EPISODES, loss=loss)
    found, _ = maml.meta_gradient(params, EPISODES)
    assert relative_error(found, wanted) < 1e-10
    way = {"auto": "vmap" if kind in DISTRIBUTION else "stacked"}.get(execution, execution)
    assert maml.explain().startswith(way)
    assert "unused or cut off: unused.weight, unused.bias" in maml.explain()


@pytest.mark.parametrize("kind", KINDS)
def test_support_statistics_cut_outputs_in_an_object(kind):
    def made(make):
        torch.manual_seed(0)
        network = Network(make, BatchNorm(12)).double()
        return network

    of_tensor = MAML(made(lambda t: t), 0.1, 2, bn="support")
    of_object = MAML(made(KINDS[kind]), 0.1, 2, bn="support", loss=loss, metric=share)
    params = of_tensor.init_params()
    wanted, _ = of_tensor.meta_gradient(params, EPISODES)
    found, metrics = of_object.meta_gradient(params, EPISODES)
    assert relative_error(found, wanted) < 1e-10
    assert "share" in metrics
    x, y = EPISODES.support_x[0], EPISODES.support_y[0]
    fast = of_object.adapt(params, x, y)
    outputs = of_object.query_outputs(fast, x, EPISODES.query_x[0])
    assert {len(t) for t in trees.tensors_in(outputs)} == {len(EPISODES.query_x[0])}


def test_support_statistics_refuse_an_object_that_cannot_be_cut():
    network = Network(DISTRIBUTION["distribution"], BatchNorm(12)).double()
    maml = MAML(network, 0.1, 2, bn="support", loss=loss)
    with pytest.raises(UserError, match="a Categorical cannot be cut into support set"):
        maml.meta_gradient(maml.init_params(), EPISODES)


class Mixing(Network):
    def forward(self, x):
        return super().forward(x - x.mean(0))


@pytest.mark.parametrize("kind", KINDS | DISTRIBUTION)
def test_queries_that_meet_are_found_in_an_object(kind):
    network = Mixing((KINDS | DISTRIBUTION)[kind]).double()
    maml = MAML(network, 0.1, 2, bn="support", loss=loss)
    with pytest.raises(UserError, match="no query may change the outputs for another"):
        maml.meta_gradient(maml.init_params(), EPISODES)


def test_an_object_given_to_a_loss_of_pytorch_has_a_way_out():
    maml = MAML(Network(Outputs).double())
    with pytest.raises(UserError, match=r"returns a Outputs, .*cross_entropy\(outputs.logits, tar"):
        maml.meta_gradient(maml.init_params(), EPISODES)


class Halved(MAML):
    """Its tasks go through the hook one by one, and are put together again."""

    def query_outputs(self, params, support_x, query_x):
        outputs = super().query_outputs(params, support_x, query_x)
        return trees.mapped(lambda t: t / 2 if isinstance(t, Tensor) else t, outputs)


@pytest.mark.parametrize("algorithm", [Halved, Reptile])
def test_every_task_has_its_own_outputs(algorithm):
    found = []
    for kind, of in ((Outputs, loss), (lambda t: t, F.cross_entropy)):
        torch.manual_seed(0)
        made = algorithm(Network(kind).double(), 0.1, 2, loss=of)
        params = made.init_params()
        sets = made.score_steps(params, Episodes(*EPISODES))["loss"]
        found.append({**made.meta_gradient(params, EPISODES)[0], "loss": sets})
    assert relative_error(*found) < 1e-10
