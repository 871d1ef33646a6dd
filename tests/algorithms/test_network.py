"""A user's network is called without being written to, from any thread."""

from __future__ import annotations

import copy
import enum
import random
import threading
import types
from collections import defaultdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, Episodes, UserError
from innerloop.algorithms.network import Network
from innerloop.models import Conv4
from tests.algorithms.users import EPISODES, USERS, make
from tests.helpers import random_episodes, relative_error

users = pytest.mark.parametrize("user", USERS)
falls_back = pytest.mark.falls_back


@falls_back
@users
def test_a_users_network_is_never_written_to(user):
    model = make(user)
    algorithm = MAML(model, 0.1, 2, loss=USERS[user].loss)
    plain = algorithm.model
    before = {n: t.clone() for n, t in plain.state_dict().items()}
    tensors = {n: id(t) for n, t in plain.state_dict(keep_vars=True).items()}
    attributes = {
        (name, key): copy.copy(value) if isinstance(value, list | dict | set) else value
        for name, module in plain.named_modules()
        for key, value in vars(module).items()
    }
    held = {
        (name, key): value.clone()
        for name, module in plain.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, torch.Tensor)
    }
    params = algorithm.init_params()
    algorithm.meta_gradient(params, EPISODES)
    algorithm.score_steps(params, EPISODES)
    task = EPISODES.task(0)
    algorithm.adapt(params, task.support_x, task.support_y)
    with pytest.raises(Exception):  # noqa: B017, PT011
        algorithm.adapt(params, task.support_x[:, :, :1, None], task.support_y)
    after = plain.state_dict(keep_vars=True)
    assert {n: id(t) for n, t in after.items()} == tensors
    assert all(torch.equal(after[n], t) for n, t in before.items())
    for name, module in plain.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, held[name, key])
            elif isinstance(value, list | dict | set):
                assert len(value) == len(attributes[name, key]), (name, key)
            else:
                assert value is attributes[name, key]


@falls_back
@users
def test_eight_threads_get_the_answers_of_one(user):
    algorithm = MAML(make(user), 0.1, 2, loss=USERS[user].loss)
    params = algorithm.init_params()
    tasks = EPISODES.tasks()

    def work(i):
        task = tasks[i % 3]
        fast = algorithm.adapt(params, task.support_x, task.support_y)
        grads, _ = algorithm.meta_gradient(params, EPISODES, keys=[1, 2, 3])
        return algorithm.query_loss(fast, task)[0].item(), grads

    alone, found = [work(i) for i in range(3)], {}

    def run(i):
        found[i] = work(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for i, (loss, grads) in found.items():
        assert loss == alone[i % 3][0]
        assert relative_error(grads, alone[0][1]) == 0


def test_a_network_that_reaches_past_itself_is_refused():
    outer = nn.Linear(12, 3).double()

    class Reaching(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = outer

        def forward(self, x):
            return outer(x.flatten(1))

    algorithm = MAML(Reaching(), 0.1, 1)
    params, task = algorithm.init_params(), EPISODES.task(0)
    for use in (
        lambda: algorithm.meta_gradient(params, EPISODES),
        lambda: algorithm.score_steps(params, EPISODES),
        lambda: algorithm.adapt(params, task.support_x, task.support_y),
    ):
        with pytest.raises(UserError, match=r"parameter a\.(weight|bias) without going through"):
            use()


# ---- What a forward pass does beside computing outputs


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(12, 3)


class Clamps(Base):
    """Writes to its weights, without autograd's knowing."""

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
    """Refuses to be copied, as what holds a connection does."""

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


class CallsItself(Base):
    def __call__(self, x):
        return 10 * super().__call__(x)

    def forward(self, x):
        return self.a(x.flatten(1))


def test_a_call_of_the_users_own_is_called():
    model = CallsItself().double()
    algorithm, x = MAML(model), EPISODES.support_x[0]
    assert torch.equal(algorithm.forward(algorithm.init_params(), x), model(x))


def test_inference_mode_around_use_changes_nothing():
    algorithm = MAML(make("LSTM"), 0.1, 2)
    params = algorithm.init_params()
    expected = algorithm.score_steps(params, EPISODES)["loss"]
    with torch.inference_mode():
        found = algorithm.score_steps(params, EPISODES)["loss"]
        with pytest.raises(UserError, match="no_grad"):
            algorithm.adapt(params, EPISODES.support_x[0], EPISODES.support_y[0])
    torch.testing.assert_close(found, expected)


def test_a_thread_that_asks_while_another_tries_gets_the_same_answer(monkeypatch):
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)))
    network.look(torch.randn(4, 3, 4))
    tried, meanwhile = Network._tried_together, []

    def slowly(self, x):
        if not meanwhile:
            meanwhile.append("asked")
            meanwhile[0] = self.why_not_each()
        return tried(self, x)

    monkeypatch.setattr(Network, "_tried_together", slowly)
    assert network.why_not_each() is None
    assert meanwhile == [None]
    assert network.why_not_each() is None


class Generators(nn.Module):
    """Noise from a generator of Python's or NumPy's own."""

    def __init__(self, draw):
        super().__init__()
        self.draw, self.out = draw, nn.Linear(12, 3)

    def forward(self, x):
        return self.out(x.flatten(1)) + (self.draw() if self.training else 0)


@falls_back
@pytest.mark.parametrize("draw", [random.random, np.random.rand], ids=["Python", "NumPy"])
def test_random_numbers_of_python_and_numpy_follow_from_the_keys(draw):
    found = []
    for derivative in ("reverse", "mixed", "reverse"):
        model = Generators(draw).double()
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.linspace(-1, 1, p.numel()).view_as(p))
        maml = MAML(
            model,
            0.1,
            2,
            derivative=derivative,
            # Softmax does not see what is added to all outputs.
            loss=lambda o, t: (o.gather(1, t[:, None]) ** 2).mean(),
        )
        draw()
        before = random.getstate(), np.random.get_state()[2]  # noqa: NPY002
        found.append(maml.meta_gradient(maml.init_params(), EPISODES, keys=(4, 5, 6))[0])
        assert (random.getstate(), np.random.get_state()[2]) == before  # noqa: NPY002
    for other in found[1:]:
        for name, g in found[0].items():
            torch.testing.assert_close(other[name], g)


@pytest.mark.parametrize("own", [False, True])
def test_hooks_that_are_added_later_are_seen(own):
    model = (
        Conv4(3, width=16, image_size=16) if own else nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    )
    model = model.double()
    maml = MAML(model, 0.1, 1)
    episodes = random_episodes() if own else EPISODES
    maml.meta_gradient(maml.init_params(), episodes)
    assert maml.explain().startswith("stacked")
    shapes = []
    layer = model.head if own else model[1]
    handle = layer.register_forward_hook(lambda m, x, y: shapes.append(y.ndim))
    maml.meta_gradient(maml.init_params(), episodes)
    assert set(shapes) == {2}
    assert not maml.explain().startswith("stacked")
    handle.remove()
    maml.meta_gradient(maml.init_params(), episodes)
    assert maml.explain().startswith("stacked")


@falls_back
@pytest.mark.parametrize("first_order", [True, False])
def test_sparse_gradients_of_an_embedding_are_those_of_a_dense_one(first_order):
    x = torch.tensor([[[0, 2], [1, 1], [3, 0]]])
    episodes = Episodes(x, torch.tensor([[0, 1, 2]]), x.flip(1), torch.tensor([[2, 1, 0]]))
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(4, 5, sparse=sparse), nn.Flatten(), nn.Linear(10, 3))
        maml = MAML(model.double(), 0.3, 2, first_order=first_order)
        found.append(maml.meta_gradient(maml.init_params(), episodes)[0])
    for name, g in found[0].items():
        torch.testing.assert_close(found[1][name], g)


class StraightThrough(nn.Module):
    """Rounds on the way there, and not on the way back."""

    def __init__(self, cut):
        super().__init__()
        self.cut, self.a, self.o = cut, nn.Linear(12, 16), nn.Linear(16, 3)

    def forward(self, x):
        h = self.a(x.flatten(1))
        return self.o(h * self.a.weight.data.mean() + self.cut((h > 0).to(h) - h))


@pytest.mark.parametrize("execution", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("derivative", ["reverse", "mixed"])
def test_data_is_cut_off_like_a_detached_tensor(execution, derivative):
    found = []
    for cut in (lambda h: h.data, lambda h: h.detach()):
        torch.manual_seed(0)
        model = StraightThrough(cut).double()
        # With .detach() all ways are right.
        how = {"execution": execution, "derivative": derivative} if not found else {}
        maml = MAML(model, 0.3, 2, **how)
        found.append(maml.meta_gradient(maml.init_params(), EPISODES)[0])
    for name, g in found[1].items():
        torch.testing.assert_close(found[0][name], g)


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
