"""Networks as users bring them: whatever PyTorch can differentiate, none of it of this package."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from tests.helpers import random_episodes


class Recurrent(nn.Module):
    """`[B, time, 4]` to 3 classes by a recurrent layer."""

    def __init__(self, kind: type, **options) -> None:
        super().__init__()
        self.rnn = kind(4, 5, batch_first=True, **options)
        self.out = nn.Linear(5 * (1 + options.get("bidirectional", False)), 3)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


class CellLoop(nn.Module):
    """A cell in a Python loop that writes into a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        h, seen = x.new_zeros(len(x), 5), x.new_zeros(len(x), x.shape[1], 5)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            seen[:, t] = h
        return self.out(seen.mean(1))


class Branch(nn.Module):
    """Looks at its input."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(12, 3)

    def forward(self, x):
        x = x.flatten(1)
        return self.a(x if x.abs().max() < 2 else x / 3)


class Counter(nn.Module):
    """Updates a buffer, an attribute and a list in place, and the buffer changes the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(12, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.total = torch.zeros(3, dtype=torch.float64)
        self.seen: list[Tensor] = []

    def forward(self, x):
        self.calls += 1
        y = self.a(x.flatten(1)) * self.calls
        self.total += y.detach().sum(0)
        self.seen.append(y.detach())
        return y


class Cached(nn.Module):
    """Keeps what it computed from its weights, for the next call."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.cache = nn.Linear(12, 3), None

    def forward(self, x):
        if self.cache is None:
            self.cache = self.a.weight.tanh()
        return F.linear(x.flatten(1), self.cache, self.a.bias)


class TwoNames(nn.Module):
    """A sub-module that is reachable by two names, and a weight that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.top = nn.Linear(12, 12), nn.Linear(12, 3)
        self.again = nn.Linear(12, 12)
        self.again.weight = self.body.weight
        self.net = nn.Sequential(nn.Flatten(), self.body, nn.Tanh(), self.again, self.top)

    def forward(self, x):
        return self.net(x)


class Plain(nn.Module):
    """Weights and modules kept in a list, a dict, a bound method, a closure and a partial."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(12, 12) for _ in range(3))
        self.last = nn.Linear(12, 3)
        self.scale = nn.Parameter(torch.ones(12))
        self.scales = [self.scale]
        self.by_name = {"second": self.second}
        self.method = self.third.forward
        self.closure = lambda x: torch.tanh(self.first(x) * self.scale)
        self.part = functools.partial(self._apply_last, factor=2.0)

    def _apply_last(self, x, factor):
        return factor * self.last(x)

    def forward(self, x):
        x = self.closure(x.flatten(1)) * self.scales[0]
        return self.part(self.method(torch.tanh(self.by_name["second"](x))))


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        hidden = checkpoint(lambda x: torch.tanh(self.body(x)), x.flatten(1), use_reentrant=False)
        return self.out(hidden)


class Sampled(nn.Module):
    """A spatial transformer in small."""

    def __init__(self) -> None:
        super().__init__()
        self.where, self.out = nn.Linear(12, 6), nn.Linear(12, 3)

    def forward(self, x):
        base = x.new_tensor([1.0, 0, 0, 0, 1, 0])
        theta = (base + 0.1 * torch.tanh(self.where(x.flatten(1)))).view(-1, 2, 3)
        grid = F.affine_grid(theta, [len(x), 1, 3, 4], align_corners=False)
        return self.out(F.grid_sample(x[:, None], grid, align_corners=False).flatten(1))


class Noisy(nn.Module):
    """Draws from the global generator, in training."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(12, 3)

    def forward(self, x):
        x = x.flatten(1)
        return self.a(x + 0.1 * torch.randn_like(x) if self.training else x)


class Hooked(nn.Module):
    """A forward hook that holds the network, and one that is a method of it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.full((3,), 1.5))
        self.a = nn.Linear(12, 3)
        self.a.register_forward_hook(lambda module, inputs, out: out * self.gate)
        self.a.register_forward_pre_hook(self.flat)

    def flat(self, module, inputs):
        return (inputs[0].flatten(1),)

    def forward(self, x):
        return self.a(x)


class OwnForward(nn.Module):
    """Its `forward` is set on the object."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(12, 3)
        self.forward = types.MethodType(lambda self, x: torch.sin(self.a(x.flatten(1))), self)


class Pair(nn.Module):
    """Returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 3), nn.Linear(12, 3)

    def forward(self, x):
        return self.a(x.flatten(1)), self.b(x.flatten(1))


class Named(Pair):
    """Returns a dict."""

    def forward(self, x):
        a, b = super().forward(x)
        return {"logits": a, "other": b, "nothing": None}


class Attention(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=dropout, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.layer(x).mean(1))


def sequential(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *layers)


def pair_loss(outputs, targets):
    a, b = outputs
    return F.cross_entropy(a, targets) + F.cross_entropy(b, targets)


class ConstantStatistics(nn.Module):
    """Statistics of the batch that are constants, and a gate, each its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = self.body(x.flatten(1))
        with torch.no_grad():
            mean, deviation = h.mean(0), h.std(0)
        with torch.set_grad_enabled(False):
            gate = h.softmax(1)
        return self.out(((h - mean) / (deviation + 0.1)).tanh() * (1 + gate))


class FixedPoint(nn.Module):
    """A point that is found without derivatives, and one step from there."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.step, self.out = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.body(x.flatten(1))
        z = torch.zeros_like(x)
        with torch.no_grad():
            for _ in range(8):
                z = (0.3 * self.step(z) + x).tanh()
        return self.out((0.3 * self.step(z) + x).tanh())


class Solved(nn.Module):
    """Linear algebra whose forward derivative PyTorch gets wrong in `vmap`."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = nn.Linear(12, 8), nn.Linear(8, 3)
        self.matrix = nn.Parameter(torch.randn(8, 8) * 0.3)

    def forward(self, x):
        h = self.body(x.flatten(1)).tanh()
        with torch.no_grad():
            x.abs()  # So that tasks are not stacked.
        square = self.matrix @ self.matrix.T + torch.eye(8).to(h)
        return self.out(h @ torch.cholesky_inverse(torch.linalg.cholesky(square)))


class Complex(nn.Module):
    """A complex weight beside real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.wave = nn.Parameter(torch.randn(12, 8, dtype=torch.complex128) * 0.3)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out((x.flatten(1).to(self.wave.dtype) @ self.wave).abs())


def constant_weights_loss(outputs, targets):
    """The examples that are told worst count most."""
    each = F.cross_entropy(outputs, targets, reduction="none")
    with torch.no_grad():
        weights = each.softmax(-1)
    return (weights * each).sum(-1)


def named_loss(outputs, targets):
    return pair_loss((outputs["logits"], outputs["other"]), targets)


def plain_outputs(w, x):
    x = torch.tanh(F.linear(x.flatten(1), w["first.weight"], w["first.bias"]) * w["scale"])
    x = torch.tanh(F.linear(x * w["scale"], w["second.weight"], w["second.bias"]))
    x = F.linear(x, w["third.weight"], w["third.bias"])
    return 2 * F.linear(x, w["last.weight"], w["last.bias"])


def checkpointed_outputs(w, x):
    hidden = torch.tanh(F.linear(x.flatten(1), w["body.weight"], w["body.bias"]))
    return F.linear(hidden, w["out.weight"], w["out.bias"])


@dataclass(frozen=True)
class User:
    """A user's network and loss on sequences `[B, 3, 4]` of 3 classes.

    Attributes:
        outputs: of weights and inputs, where `torch.func.functional_call` does not know them.
        loops: whether it is known that vmap cannot run it.
        draws: whether a forward pass in training draws random numbers.
    """

    make: Callable[[], nn.Module]
    loss: Callable = F.cross_entropy
    outputs: Callable[[dict[str, Tensor], Tensor], Tensor] | None = None
    loops: bool = False
    draws: bool = False


USERS: dict[str, User] = {
    "LSTM": User(lambda: Recurrent(nn.LSTM)),
    "GRU, both ways": User(lambda: Recurrent(nn.GRU, bidirectional=True)),
    "RNN, two layers": User(lambda: Recurrent(nn.RNN, num_layers=2)),
    "LSTM, projected": User(lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True)),
    "cells in a loop": User(CellLoop),
    "branch": User(Branch, loops=True),
    "counter": User(Counter),
    "cached": User(Cached),
    "two names": User(TwoNames),
    "plain attributes": User(Plain, outputs=plain_outputs),
    "checkpointed": User(Checkpointed, outputs=checkpointed_outputs, loops=True),
    "grid_sample": User(Sampled),
    "hooks": User(Hooked),
    "forward on the object": User(OwnForward),
    "constant statistics": User(ConstantStatistics),
    "fixed point": User(FixedPoint),
    "solved": User(Solved),
    "constant weights": User(lambda: sequential(nn.Linear(12, 3)), constant_weights_loss),
    "complex": User(Complex),
    "tuple": User(Pair, pair_loss),
    "dict": User(Named, named_loss),
    "attention": User(Attention),
    "spectral_norm": User(
        lambda: sequential(parametrizations.spectral_norm(nn.Linear(12, 3))), loops=True
    ),
    "weight_norm": User(lambda: sequential(parametrizations.weight_norm(nn.Linear(12, 3)))),
    "orthogonal": User(
        lambda: sequential(parametrizations.orthogonal(nn.Linear(12, 12)), nn.Linear(12, 3))
    ),
    "compiled": User(lambda: torch.compile(sequential(nn.Linear(12, 3)))),
    "dropout": User(
        lambda: sequential(nn.Linear(12, 8), nn.Dropout(0.5), nn.Linear(8, 3)), draws=True
    ),
    "channel and alpha dropout": User(
        lambda: nn.Sequential(
            nn.Dropout1d(0.3), nn.Flatten(), nn.AlphaDropout(0.4), nn.Linear(12, 3)
        ),
        draws=True,
    ),
    "attention with dropout": User(lambda: Attention(0.3), draws=True),
    "LSTM with dropout": User(lambda: Recurrent(nn.LSTM, num_layers=2, dropout=0.4), draws=True),
    "noise of its own": User(Noisy, loops=True, draws=True),
    "Huber loss": User(
        lambda: sequential(nn.Linear(12, 3)),
        lambda o, t: F.huber_loss(o, F.one_hot(t, 3).to(o.dtype)),
    ),
}


def make(name: str) -> nn.Module:
    """The network `name` with weights of its own, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return USERS[name].make().double()


EPISODES = random_episodes(shape=(3, 4))
