"""Batch norms that are exchanged, and those that are refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from innerloop import UserError
from innerloop.models import BatchNorm, replace_batch_norm


def test_replace_batch_norm_keeps_weights_and_nesting():
    model = torch.nn.Sequential(torch.nn.Sequential(torch.nn.BatchNorm2d(3)), torch.nn.ReLU())
    weight = model[0][0].weight
    replace_batch_norm(model)
    assert isinstance(model[0][0], BatchNorm)
    assert model[0][0].weight is weight
    assert isinstance(replace_batch_norm(torch.nn.BatchNorm1d(2, affine=False)), BatchNorm)


def test_replace_batch_norm_keeps_places_shared_and_types_and_modes():
    shared, plain = torch.nn.BatchNorm2d(3), torch.nn.BatchNorm1d(2, affine=False)
    rows = torch.nn.ModuleDict({"a": shared, "b": torch.nn.ModuleList([shared, plain])})
    model = torch.nn.Sequential(shared, shared, rows, torch.nn.Linear(2, 1)).double().eval()
    weight = shared.weight
    assert replace_batch_norm(model) is model
    one = model[0]
    assert one is model[1] is model[2]["a"] is model[2]["b"][0]
    assert one.weight is weight
    assert len(list(model.parameters())) == 6
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert not any(m.training for m in model.modules())
    without = replace_batch_norm(torch.nn.BatchNorm2d(3, bias=False))
    assert [p.requires_grad for p in (without.weight, without.bias)] == [True, False]


class WithActivation(torch.nn.BatchNorm2d):
    """As some libraries have it: another thing under the name of a batch norm."""

    def forward(self, x):
        return F.relu(super().forward(x))


class Renamed(torch.nn.BatchNorm2d):
    """Computes what PyTorch's does."""


def hooked():
    norm = torch.nn.BatchNorm2d(3)
    norm.register_forward_hook(lambda module, x, y: 2 * y)
    return norm


def parametrized():
    norm = torch.nn.BatchNorm2d(3)
    torch.nn.utils.parametrize.register_parametrization(norm, "weight", torch.nn.Softplus())
    return norm


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: WithActivation(3), "forward of its own"),
        (hooked, "has hooks"),
        (parametrized, "is parametrized"),
        (torch.nn.LazyBatchNorm2d, "has no shape yet"),
    ],
)
def test_replace_batch_norm_refuses_what_it_would_lose(make, reason):
    first = torch.nn.BatchNorm2d(3)
    model = torch.nn.Sequential(first, torch.nn.Sequential(make()))
    with pytest.raises(UserError, match=reason) as caught:
        replace_batch_norm(model)
    assert "batch norm '1.0'" in str(caught.value)
    assert model[0] is first
    assert isinstance(replace_batch_norm(Renamed(3)), BatchNorm)
