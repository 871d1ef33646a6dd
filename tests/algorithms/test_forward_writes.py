"""A forward pass may write to its module; the user's network and inputs stay unchanged."""

from __future__ import annotations

import copy
import enum
import functools
import types
from collections import defaultdict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, UserError
from tests.algorithms.users import EPISODES
from tests.helpers import random_episodes, relative_error

falls_back = pytest.mark.falls_back


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(12, 3)


class Clamps(Base):
    """Writes to its weights behind autograd's back."""

    def forward(self, x):
        self.a.weight.data.clamp_(-0.1, 0.1)
        return self.a(x.flatten(1))


class Centre(Base):
    """A frozen parameter that follows the data."""

    def __init__(self):
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(12), requires_grad=False)

    def forward(self, x):
        x = x.flatten(1)
        with torch.no_grad():
            self.centre.mul_(0.5).add_(x.mean(0))
        return self.a(x - self.centre)


class Halves(Base):
    """A frozen part that changes its type."""

    def __init__(self):
        super().__init__()
        self.fixed = nn.Linear(12, 12).requires_grad_(False)

    def forward(self, x):
        return self.a(self.fixed.float()(x.flatten(1).float()).to(x.dtype))


class MadeLate(Base):
    """Makes a buffer and a layer when it first runs."""

    def forward(self, x):
        x = x.flatten(1)
        if not hasattr(self, "scale"):
            self.register_buffer("scale", x.std() + 1)
            self.late = nn.Identity()
        return self.late(self.a(x / self.scale))


class Stats:
    def __init__(self):
        self.mean, self.calls = 0.0, []


class Kind(enum.Enum):
    PLAIN = 1


class Uncopied:
    """Refuses to be copied, as an object with an open connection does."""

    def __copy__(self):
        raise TypeError("there is one of me")


class Nested(Base):
    """State in a dict of lists, an object, a namespace and a tensor in a list."""

    def __init__(self):
        super().__init__()
        self.log = {"norms": [], "count": 0}
        self.stats, self.space = Stats(), types.SimpleNamespace(seen=0)
        self.sums = [torch.zeros(3, dtype=torch.float64)]
        self.many = [0] * 2000
        self.by_key = defaultdict(list)
        self.kind, self.only = Kind.PLAIN, Uncopied()

    def forward(self, x):
        y = self.a(x.flatten(1)) + self.stats.mean
        self.log["norms"].append(y.detach().norm())
        self.log["count"] += 1
        self.stats.mean = self.stats.mean + 0.1
        self.stats.calls.append(1)
        assert self.kind is Kind.PLAIN
        self.space.seen += 1
        self.sums[0] += y.detach().sum(0)
        self.many.append(1)
        self.by_key["y"].append(1)
        return y


def state_of(value, seen=None):
    """Everything that a module holds, as plain values."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return "again"
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.tolist()
    if isinstance(value, int | float | str | bool | type(None)):
        return value
    seen.add(id(value))
    if isinstance(value, dict):
        return [(k, state_of(v, seen)) for k, v in value.items() if isinstance(k, str)]
    if isinstance(value, list | tuple):
        return [state_of(v, seen) for v in value]
    return state_of(vars(value), seen) if hasattr(value, "__dict__") else None


@falls_back
@pytest.mark.parametrize("kind", [Clamps, Centre, Halves, MadeLate, Nested])
def test_nothing_that_a_forward_pass_writes_reaches_the_user(kind):
    torch.manual_seed(0)
    model = kind().double()
    algorithm = MAML(model, 0.1, 2)
    params = algorithm.init_params()
    before, given = state_of(model), {n: p.clone() for n, p in params.items()}
    losses = []
    for _ in range(3):
        losses.append(algorithm.meta_gradient(params, EPISODES, keys=[1, 2, 3])[1]["loss"].item())
        algorithm.score_steps(params, EPISODES)
        task = EPISODES.task(0)
        algorithm.adapt(params, task.support_x, task.support_y)
    assert state_of(model) == before
    assert all(torch.equal(params[n], p) for n, p in given.items())
    assert len(set(losses)) == 1


class Doubles(Base):
    """Writes to its inputs."""

    def forward(self, x):
        return self.a(x.mul_(2).flatten(1))


@falls_back
@pytest.mark.parametrize(
    ("kind", "written"),
    [(Clamps, "a.weight"), (Centre, "centre"), (Halves, None), (Doubles, None)],
)
def test_weights_that_a_forward_pass_writes_to_are_logged(kind, written, caplog):
    maml = MAML(kind().double(), 0.1, 2)
    maml.meta_gradient(maml.init_params(), EPISODES)
    said = [r.getMessage() for r in caplog.records if "writes to its weights" in r.getMessage()]
    assert len(said) == (written is not None)
    assert all(f"its weights ({written}). Every call begins with" in line for line in said)


@falls_back
@pytest.mark.parametrize("kind", [Clamps, Doubles, Centre])
def test_nothing_is_written_where_a_network_is_called_before_it_is_known(kind):
    torch.manual_seed(0)
    model = kind().double()
    algorithm, task = MAML(model, 0.1, 2), EPISODES.task(0)
    params, x = algorithm.init_params(), task.support_x.clone()
    kept = {n: p.clone() for n, p in params.items()}, state_of(model)
    first = [algorithm.forward(params, x) for _ in range(2)]
    assert torch.equal(*first)
    list(MAML(model, 0.1, 2).inner_loop(params, x, task.support_y))
    assert torch.equal(x, task.support_x)
    assert all(torch.equal(params[n], p) for n, p in kept[0].items())
    assert state_of(model) == kept[1]


class InFunctions(Base):
    """Norms that PyTorch does not count among its parts, in a closure and a partial."""

    def __init__(self):
        super().__init__()
        one, two = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        self.norms = (lambda: one), (lambda: two)
        self.one, self.two = (lambda x: one(x)), functools.partial(two.double())
        one.double()

    def forward(self, x):
        return self.two(self.one(self.a(x.flatten(1))))


@falls_back
def test_modules_inside_of_functions_are_not_written_to():
    model = InFunctions().double()
    algorithm = MAML(model, 0.1, 2)
    params = algorithm.init_params()
    losses = [algorithm.meta_gradient(params, EPISODES)[1]["loss"].item() for _ in range(2)]
    algorithm.score_steps(params, EPISODES)
    assert losses[0] == losses[1]
    for norm in model.norms:
        assert norm().num_batches_tracked == 0
        assert not norm().running_mean.any()


class Thaws(Base):
    """Calls `train()`, where it is in training, on a norm that was to be frozen."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(12)

    def forward(self, x):
        self.norm.train(self.training)
        return self.a(self.norm(x.flatten(1)))


@falls_back
def test_statistics_that_only_training_writes_to_are_left_alone():
    model = Thaws().double()
    before = state_of(model)
    algorithm = MAML(model, 0.1, 2, bn="frozen")
    with pytest.raises(UserError, match="mixes the rows"):
        algorithm.meta_gradient(algorithm.init_params(), EPISODES)
    assert state_of(model) == before


class Skips(nn.Module):
    """Two parts that share a dict, and a buffer."""

    class Part(nn.Module):
        def __init__(self, skips, scale, keeps):
            super().__init__()
            self.a, self.skips, self.keeps = nn.Linear(12, 12), skips, keeps
            self.register_buffer("scale", scale)

        def forward(self, x):
            if self.keeps:
                self.skips["x"] = x
                self.scale += 1
                return torch.tanh(self.a(x))
            return torch.tanh(self.a(x)) * self.scale + self.skips["x"]

    def __init__(self):
        super().__init__()
        skips, scale = {}, torch.ones(12)
        self.down, self.up = Skips.Part(skips, scale, True), Skips.Part(skips, scale, False)
        self.up.scale = self.down.scale
        self.out = nn.Linear(12, 3)

    def forward(self, x):
        return self.out(self.up(self.down(x.flatten(1))))


def test_parts_that_share_an_object_go_on_sharing_it():
    torch.manual_seed(0)
    model = Skips()
    algorithm = MAML(model, 0.1, 2)
    params = algorithm.init_params()
    episodes = random_episodes(shape=(3, 4), dtype=torch.float32)
    scores = algorithm.score_steps(params, episodes)["loss"][:, 0]
    expected = []
    for task in episodes.tasks():
        own = copy.deepcopy(model)
        expected.append(F.cross_entropy(own(task.query_x), task.query_y))
    torch.testing.assert_close(scores, torch.stack(expected))


class LeavesInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.o(self.a((x + 1).relu().flatten(1)).tanh())


class WritesInputs(LeavesInputs):
    def forward(self, x):
        x += 1
        return self.o(self.a(x[:, 0:3].relu_().flatten(1)).tanh())


@pytest.mark.parametrize("execution", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("first_order", [True, False])
def test_inputs_that_a_network_writes_to_stay_the_users(first_order, execution):
    before = [t.clone() for t in EPISODES]
    found = []
    for kind in (LeavesInputs, WritesInputs):
        torch.manual_seed(0)
        maml = MAML(kind().double(), 0.1, 2, first_order=first_order, execution=execution)
        params = maml.init_params()
        found += [maml.meta_gradient(params, EPISODES)[0] for _ in range(2)]
        maml.adapt(params, EPISODES.support_x[0], EPISODES.support_y[0])
        maml.score_steps(params, EPISODES)
    assert all(torch.equal(a, b) for a, b in zip(EPISODES, before, strict=True))
    for gradient in found[1:]:
        assert relative_error(gradient, found[0]) < 1e-10
