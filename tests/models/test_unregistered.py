"""Modules that a network holds where PyTorch does not look."""

from __future__ import annotations

import functools
import logging
from collections import deque
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, Episodes, UserError
from innerloop.models import replace_batch_norm
from innerloop.models.unregistered import unregistered


class Holder(nn.Module):
    def __init__(self, held):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4))
        self.inner.held = held
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.inner(x))


def places(held):
    model = Holder(held)
    return {place: type(module).__name__ for place, module in unregistered(model)}


def test_containers_are_searched_and_only_what_is_not_registered_is_found():
    layer, itself = nn.Linear(2, 2), []
    itself.append(itself)
    nested = {"a": [nn.Tanh(), (layer, layer)], 3: itself, "text": ["x", 1.0, torch.ones(2)]}
    assert places(nested) == {"inner.held['a'][0]": "Tanh", "inner.held['a'][1][0]": "Linear"}
    assert places(deque([nn.Tanh()])) == {"inner.held[0]": "Tanh"}
    assert places(SimpleNamespace(n=nn.Tanh())) == {"inner.held['n']": "Tanh"}
    model = Holder(None)
    model.again = [model.out, model.inner, model]
    assert not list(unregistered(model))
    assert not places(nn.ModuleList([nn.Linear(2, 2)]))
    assert not places(list(range(2000)))


@pytest.mark.parametrize("use", [lambda model: MAML(model, 0.1), replace_batch_norm])
def test_a_batch_norm_that_would_not_be_seen_is_refused(use):
    before = nn.BatchNorm1d(4)
    model = Holder([nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))])
    model.before = before
    with pytest.raises(UserError, match=r"plain list.*inner.held\[0\].*ModuleList"):
        use(model)
    assert model.before is before


def test_a_batch_norm_that_stands_in_a_list_as_well_is_not_exchanged():
    norm = nn.BatchNorm1d(4)
    model = Holder([nn.Tanh(), norm])
    model.norm = norm
    with pytest.raises(UserError, match=r"also holds a batch norm.*inner.held\[1\]"):
        replace_batch_norm(model)
    assert model.norm is norm


def test_weights_that_would_never_change_are_said(caplog):
    constant = nn.Linear(4, 4).requires_grad_(False)
    with caplog.at_level(logging.WARNING, "innerloop"):
        MAML(Holder([constant, nn.Tanh()]), 0.1)
        assert not caplog.records
        MAML(Holder((nn.Linear(4, 5),)), 0.1)
    (record,) = caplog.records
    assert "its 25 weights are neither adapted nor trained" in record.getMessage()
    caplog.clear()


class Tempered(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_t = nn.Parameter(torch.zeros(()))

    def forward(self, outputs, targets, factor=1.0):
        return factor * F.cross_entropy(outputs * self.log_t.exp(), targets)


class Plain:
    def __init__(self):
        self.parts = {"t": Tempered()}

    def __call__(self, outputs, targets):
        return self.parts["t"](outputs, targets)

    def method(self, outputs, targets):
        return self(outputs, targets)


def closed_over(part):
    def loss(outputs, targets):
        return F.cross_entropy(outputs, targets) + 0 * (part or later).sum()

    return loss
    later = None  # a cell that is never filled


LOSSES = {
    "module": Tempered,
    "partial": lambda: functools.partial(Tempered(), factor=2.0),
    "method": lambda: Tempered().forward,
    "object": Plain,
    "closure": lambda: (lambda t: lambda outputs, targets: t(outputs, targets))(Tempered()),
}


@pytest.mark.parametrize("made", LOSSES.values(), ids=LOSSES)
def test_weights_of_a_loss_that_would_never_change_are_said(made, caplog):
    with caplog.at_level(logging.WARNING, "innerloop"):
        MAML(nn.Linear(4, 3), 0.1, loss=made())
    (record,) = caplog.records
    assert r"has weights of its own (" in record.getMessage()
    assert "log_t), which are neither adapted nor trained: make" in record.getMessage()


def test_weights_of_a_loss_that_are_constant_or_those_of_the_network_are_right(caplog):
    model = nn.Linear(4, 3)
    with caplog.at_level(logging.WARNING, "innerloop"):
        for part in (torch.ones(2), model.weight, nn.Parameter(torch.ones(2), requires_grad=False)):
            MAML(model, 0.1, loss=closed_over(part))
        MAML(model, 0.1, loss=Tempered().requires_grad_(False))
        MAML(model, 0.1, loss=nn.CrossEntropyLoss(weight=torch.ones(3)))
        assert not caplog.records
        MAML(model, 0.1, loss=closed_over(nn.Parameter(torch.ones(2))))
    assert len(caplog.records) == 1


class Normed(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.norm = nn.BatchNorm1d(3, affine=False, **options)

    def forward(self, outputs, targets):
        return F.cross_entropy(self.norm(outputs), targets)


@pytest.mark.parametrize("wrap", [lambda f: f, functools.partial, lambda f: f.forward])
def test_a_loss_that_would_renew_running_statistics_is_refused(wrap):
    loss = Normed()
    with pytest.raises(UserError, match=r"holds norm \(BatchNorm1d\), which keeps running"):
        MAML(nn.Linear(4, 3), 0.1, loss=wrap(loss))
    assert not loss.norm.num_batches_tracked


@pytest.mark.parametrize("loss", [Normed(track_running_stats=False), Normed().eval()])
def test_the_ways_out_of_it_leave_the_loss_as_it_is(loss):
    before = {name: t.clone() for name, t in loss.state_dict().items()}
    maml = MAML(nn.Linear(4, 3), 0.1, loss=loss)
    x, y = torch.randn(2, 6, 4), torch.arange(3).repeat(2, 2)
    maml.meta_gradient(maml.init_params(), Episodes(x, y, x, y))
    assert all(torch.equal(t, before[name]) for name, t in loss.state_dict().items())


def test_a_loss_may_hold_the_network_and_its_norms():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))

    def loss(outputs, targets, model=model):
        return F.cross_entropy(outputs, targets)

    MAML(model, 0.1, loss=loss, bn="frozen")
