"""Settings are checked when they are set, also after the algorithm was made."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, Episodes, UserError

X = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).double()
Y = torch.arange(6).remainder(3).expand(2, 6)
EPISODES = Episodes(X, Y, X.flip(1), Y.flip(1), n_way=3)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("loss", "ce", "loss must be a function of outputs and targets"),
        ("loss", nn.CrossEntropyLoss, "loss is the class CrossEntropyLoss"),
        ("metric", "foo", "metric must be 'auto'"),
        ("bn", "foo", "bn must be one of"),
        ("execution", "foo", "execution must be one of"),
        ("chunk_size", 0, "chunk_size must be at least 1"),
        ("inner_steps", 0, "inner_steps must be at least 1"),
        ("inner_steps", "3", "inner_steps must be a number"),
        ("inner_lr", None, "inner_lr must not be None"),
        ("inner_lr", {"tail.*": 0.1}, "matches none of the trainable parameters"),
        ("inner_max_norm", -1.0, "inner_max_norm must be greater than 0"),
        ("inner_reduction", "sum", "inner_reduction must be one of"),
        ("inner_optimizer", torch.optim.SGD, "must be an object with init"),
        ("second_order_from", 2.0, "second_order_from is a share"),
        ("derivative", "forward", "derivative must be one of"),
        ("model", nn.Linear(4, 3), "the network of a MAML stays what it is"),
    ],
)
def test_what_cannot_be_set_is_named_at_once(name, value, message):
    maml = MAML(network(), 0.1)
    before = getattr(maml, name)
    with pytest.raises(UserError, match=message):
        setattr(maml, name, value)
    assert getattr(maml, name) is before


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"inner_lr": {"*": 0.1}}, {"inner_lr": 0.3}),
        ({"inner_lr": 0.1}, {"inner_lr": {"0.*": 0.3, "*": 0.1}}),
        ({"inner_steps": 1}, {"inner_steps": 3}),
        ({"loss": F.cross_entropy}, {"loss": lambda outputs, y: F.cross_entropy(2 * outputs, y)}),
        ({"derivative": "reverse"}, {"derivative": "mixed"}),
    ],
)
def test_what_is_set_later_counts_as_if_it_had_been_given(first, then):
    maml = MAML(network(), **({"inner_lr": 0.1} | first))
    params = maml.init_params()
    maml.meta_gradient(params, EPISODES)
    for name, value in then.items():
        setattr(maml, name, value)
    found, _ = maml.meta_gradient(params, EPISODES)
    other = MAML(network(), **({"inner_lr": 0.1} | first | then))
    for name, g in other.meta_gradient(params, EPISODES)[0].items():
        assert torch.equal(found[name], g)


def test_another_loss_is_tried_as_the_first_one_was():
    maml = MAML(network(), 0.1)
    params = maml.init_params()
    maml.meta_gradient(params, EPISODES)

    def penalised(outputs, targets):
        penalty = sum(p.square().sum() for p in maml.model.parameters())
        return F.cross_entropy(outputs, targets) + penalty

    maml.loss = penalised
    with pytest.raises(UserError, match="the loss uses the network's parameter"):
        maml.meta_gradient(params, EPISODES)
    maml.loss = lambda outputs, targets: torch.ones((), dtype=torch.float64)
    with pytest.raises(UserError, match="the loss does not depend on the weights"):
        maml.meta_gradient(params, EPISODES)
