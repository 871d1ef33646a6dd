"""The second order of losses that hold a gradient, which PyTorch has wrong for layer norm."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, Episodes

X = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)).double()
Y = (torch.arange(6) % 3).expand(2, 6)
EPISODES = Episodes(X, Y, X.flip(1), Y.flip(1), n_way=3)


class NormByHand(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        apart = x - x.mean(-1, keepdim=True)
        return apart / ((apart**2).mean(-1, keepdim=True) + 1e-5).sqrt() * self.weight + self.bias


class Penalised(MAML):
    """The inner loss grows with the outputs' slope."""

    def inner_loss(self, params, fast, support, step):
        x, y = support.batch(step)
        x = x.detach().requires_grad_()
        outputs = self.forward({**params, **fast}, x)
        (slope,) = torch.autograd.grad(outputs.sin().sum(), x, create_graph=True)
        return F.cross_entropy(outputs, y) + 0.1 * (slope**2).sum()


def network(norm):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), norm, nn.Tanh(), nn.Linear(16, 3)).double()


def gradient(norm, kind=Penalised, **how):
    algorithm = kind(network(norm), 0.1, 2, **how)
    return algorithm.meta_gradient(algorithm.init_params(), EPISODES)[0]


def by_hand(module):
    """The meta-gradient of `Penalised`, one task after the other."""
    params = {n: p.detach().requires_grad_() for n, p in module.named_parameters()}
    total = 0
    for x, y, query_x, query_y in zip(*EPISODES, strict=True):
        fast = params
        for _ in range(2):
            x = x.detach().requires_grad_()
            outputs = torch.func.functional_call(module, fast, (x,))
            (slope,) = torch.autograd.grad(outputs.sin().sum(), x, create_graph=True)
            loss = F.cross_entropy(outputs, y) + 0.1 * (slope**2).sum()
            found = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
            fast = {n: p - 0.1 * g for (n, p), g in zip(fast.items(), found, strict=True)}
        total = total + F.cross_entropy(torch.func.functional_call(module, fast, query_x), query_y)
    return dict(zip(params, torch.autograd.grad(total / 2, list(params.values())), strict=True))


@pytest.mark.parametrize("norm", [NormByHand(16), nn.GroupNorm(4, 16), nn.BatchNorm1d(16)])
def test_others_are_right_and_nothing_is_said(norm, caplog):
    if isinstance(norm, nn.BatchNorm1d):
        norm = nn.BatchNorm1d(16, track_running_stats=False)
    expected = by_hand(network(norm))
    for way in ("auto", "loop"):
        found = gradient(norm, execution=way)
        for name, g in expected.items():
            torch.testing.assert_close(found[name], g, rtol=1e-9, atol=1e-12)
    assert "third derivative" not in caplog.text


@pytest.mark.falls_back
@pytest.mark.parametrize("how", [{}, {"execution": "loop"}, {"derivative": "mixed"}])
def test_layer_norm_is_named(how, caplog):
    gradient(nn.LayerNorm(16), **how)
    assert caplog.text.count("PyTorch's third derivative") == 1


@pytest.mark.falls_back
def test_so_it_is_in_a_network_that_takes_gradients(caplog):
    class Slope(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = network(nn.LayerNorm(16)), nn.Linear(5, 3).double()

        def forward(self, x):
            x = x.detach().requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(self.body(x).sin().sum(), x, create_graph=True)
            return self.head(slope)

    algorithm = MAML(Slope(), 0.1, execution="loop")
    algorithm.meta_gradient(algorithm.init_params(), EPISODES)
    assert "PyTorch's third derivative" in caplog.text


@pytest.mark.parametrize(("kind", "how"), [(Penalised, {"first_order": True}), (MAML, {})])
def test_fewer_derivatives_are_right(kind, how, caplog):
    found = gradient(nn.LayerNorm(16), kind, **how)
    for name, g in gradient(NormByHand(16), kind, **how).items():
        torch.testing.assert_close(found[name], g, rtol=1e-9, atol=1e-12)
    assert "third derivative" not in caplog.text
