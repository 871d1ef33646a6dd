"""What a network or a loss keeps from one call to the next."""

from __future__ import annotations

import dataclasses
import functools
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, Episodes, UserError
from tests.algorithms import naive
from tests.algorithms.users import EPISODES
from tests.helpers import random_episodes, relative_error


class Keeping(nn.Module):
    """A weight that is used as it is, and as `kept` gives it."""

    def __init__(self):
        super().__init__()
        self.body, self.weight = nn.Linear(12, 4), nn.Parameter(torch.randn(3, 4))
        self.scale, self.kept, self.memo, self.ready = torch.ones(4), None, {}, False

    def made(self):
        return self.weight.tanh() * self.scale

    def get(self):
        if self.kept is None:
            self.kept = self.made()
        return self.kept

    def forward(self, x):
        x = self.body(x.flatten(1))
        return F.linear(x, self.get()) + F.linear(x, self.weight)


class InDict(Keeping):
    def get(self):
        if "made" not in self.memo:
            self.memo["made"] = self.made()
        return self.memo["made"]


class InList(Keeping):
    def __init__(self):
        super().__init__()
        self.memo = []

    def get(self):
        if not self.memo:
            self.memo.append(self.made())
        return self.memo[0]


class Absent(Keeping):
    def __init__(self):
        super().__init__()
        del self.kept

    def get(self):
        if not hasattr(self, "kept"):
            self.kept = self.made()
        return self.kept


class Switched(Keeping):
    def get(self):
        if not self.ready:
            self.kept, self.ready = self.made(), True
        return self.kept


class Buffer(Keeping):
    def __init__(self):
        super().__init__()
        del self.kept
        self.register_buffer("kept", None)


class NewBuffer(Absent):
    def get(self):
        if not hasattr(self, "kept"):
            self.register_buffer("kept", self.made())
        return self.kept


class InEvaluation(Keeping):
    def get(self):
        return self.made() if self.training else super().get()


class Overwritten(Keeping):
    """Keeps it for who wants to look at it."""

    def get(self):
        self.kept = self.made()
        return self.kept


class Constant(Keeping):
    """Keeps what no weight has a part in."""

    def get(self):
        if self.kept is None:
            self.kept = self.scale.expand(3, 4) * 2
        return self.kept


class Remembered(Keeping):
    @functools.lru_cache  # noqa: B019
    def get(self):
        return self.made()


FOUND = [Keeping, InDict, InList, Absent, Switched, Buffer, NewBuffer, InEvaluation]


def used_before(kind):
    torch.manual_seed(0)
    network = kind().double()
    network.scale = network.scale.double()
    network.eval()
    with torch.no_grad():
        network(EPISODES.support_x[0])
    return network.train()


@pytest.mark.parametrize("kind", FOUND)
def test_what_was_computed_from_the_weights_before_is_refused(kind):
    network = used_before(kind)
    maml = MAML(nn.Sequential(network), 0.1, 2)
    name = "memo" if kind in (InDict, InList) else "kept"
    with pytest.raises(UserError, match=rf"holds in 0\.{name} what it computed from its weights"):
        maml.meta_gradient(maml.init_params(), EPISODES)


class Detached(Keeping):
    def made(self):
        return super().made().detach()


def test_what_is_detached_may_stay():
    network = used_before(Detached)
    maml = MAML(network, naive.LR, naive.STEPS)
    params = maml.init_params()
    found, _ = maml.meta_gradient(params, EPISODES)
    assert relative_error(found, naive.maml(network, params, EPISODES)) < 1e-10


@pytest.mark.parametrize("kind", [*FOUND, Overwritten, Constant, Remembered])
def test_what_a_call_computes_for_itself_is_differentiated(kind):
    network = used_before(kind) if kind not in FOUND else kind().double()
    network.scale = network.scale.double()
    maml = MAML(network, naive.LR, naive.STEPS)
    params = maml.init_params()
    found, _ = maml.meta_gradient(params, EPISODES)
    again = (kind if kind is Constant else Overwritten)().double()
    again.scale = network.scale
    assert relative_error(found, naive.maml(again, params, EPISODES)) < 1e-10


COUNT, COUNTS, STATE, TENSOR = 0, [0], {"calls": 0}, torch.zeros(())
META = torch.zeros((), device="meta")
NAMESPACE = types.SimpleNamespace(calls=0.0)
SIZES: dict = {}


def count():
    global COUNT
    COUNT += 1


class Counting(nn.Module):
    calls = 0

    def __init__(self, step):
        super().__init__()
        self.step, self.out = step, nn.Linear(12, 3)

    def forward(self, x):
        self.step(self)
        return self.out(x.flatten(1))


def enclosed():
    calls = 0

    def step(_):
        nonlocal calls
        calls += 1

    return step


def of_class(network):
    type(network).calls += 1


def in_list(_):
    COUNTS[0] += 1


def in_dict(_):
    STATE["calls"] += 1


def in_object(_):
    NAMESPACE.calls += 1


def in_tensor(_):
    TENSOR.add_(1)
    META.add_(1)


SHARED = {
    "COUNT": lambda _: count(),
    r"COUNTS\[0\]": in_list,
    r"STATE\['calls'\]": in_dict,
    "NAMESPACE.calls": in_object,
    "TENSOR": in_tensor,
    "Counting.calls": of_class,
    "calls": enclosed(),
}


@pytest.mark.falls_back
@pytest.mark.parametrize("name", SHARED)
def test_a_number_that_all_calls_share_and_change_is_logged(caplog, name):
    maml = MAML(Counting(SHARED[name]).double(), 0.1, 2)
    for _ in range(2):
        maml.meta_gradient(maml.init_params(), EPISODES)
    (line,) = [r.getMessage() for r in caplog.records]
    assert line.startswith(f"every call of the network changes {name}, ".replace("\\", ""))


def of_its_own(network):
    network.calls = network.calls + 1


def once_a_size(_):
    SIZES.setdefault(len(SIZES) == 0, 1)


@pytest.mark.parametrize("step", [of_its_own, once_a_size])
def test_what_calls_do_not_share_or_change_once_is_not(step):
    maml = MAML(Counting(step).double(), 0.1, 2)
    maml.meta_gradient(maml.init_params(), EPISODES)


class Loss:
    calls = 0

    def __call__(self, outputs, targets):
        self.calls += 1
        return F.cross_entropy(outputs, targets)


class LossModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, outputs, targets):
        self.calls += 1
        return F.cross_entropy(outputs, targets)


def counting_loss(outputs, targets, more=1):
    count()
    return F.cross_entropy(outputs, targets) * more


LOSSES = [Loss(), LossModule(), Loss().__call__, functools.partial(counting_loss, more=1)]


@pytest.mark.falls_back
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_that_counts_is_logged(caplog, loss):
    maml = MAML(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double(), 0.1, 2, loss=loss)
    maml.meta_gradient(maml.init_params(), Episodes(*EPISODES))
    (line,) = [r.getMessage() for r in caplog.records]
    assert line.startswith("every call of the loss changes ")


class Leaves(nn.Module):
    """Its forward leaves something for the loss, as layers with a loss of their own do."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        self.activity = self.a(x).square().mean()
        return self.b(self.a(x).tanh())

    def penalty(self):
        return self.activity


@dataclasses.dataclass
class Penalised:
    network: nn.Module

    def __call__(self, outputs, targets):
        return F.cross_entropy(outputs, targets) + self.network.penalty()


@pytest.mark.parametrize("called", [False, True], ids=["", "called before"])
@pytest.mark.parametrize(
    "loss",
    [
        Penalised,
        lambda network: (
            lambda outputs, targets: F.cross_entropy(outputs, targets) + network.activity
        ),
        lambda network: functools.partial(
            lambda outputs, targets, net: F.cross_entropy(outputs, targets) + net.penalty(),
            net=network,
        ),
    ],
)
def test_a_loss_that_reads_what_forward_leaves_in_the_network_is_refused(loss, called):
    """It would be that of the last call of the module itself, a constant."""
    network, episodes = Leaves().double(), random_episodes(shape=(4,))
    if called:
        with torch.no_grad():
            network(episodes.query_x[0])
    maml = MAML(network, 0.1, 2, loss=loss(network))
    for call in (maml.meta_gradient, maml.score_steps):
        with pytest.raises(UserError, match="the loss reads activity of the network"):
            call(maml.init_params(), episodes)


def test_a_loss_may_hold_the_network_for_something_else():
    network, episodes = Leaves().double(), random_episodes(shape=(4,))

    def distilled(outputs, targets):
        with torch.no_grad():
            wanted = network.b.weight.sum()
        return F.cross_entropy(outputs, targets) + 0 * wanted

    maml = MAML(network, 0.1, 2, loss=distilled)
    maml.meta_gradient(maml.init_params(), episodes)
