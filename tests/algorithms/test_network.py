"""A user's network is called without being written to, from any thread."""

from __future__ import annotations

import copy
import pickle
import types

import numpy as np
import pytest
import torch
from torch import nn

from innerloop import MAML, UserError
from innerloop.algorithms.network import Network
from innerloop.models import Conv4
from tests.algorithms.users import EPISODES, USERS, make
from tests.helpers import in_threads, random_episodes, relative_error

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

    alone = [work(i) for i in range(3)]
    for i, (loss, grads) in enumerate(in_threads(work)):
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


class CallsItself(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(12, 3)

    def __call__(self, x):
        return 10 * super().__call__(x)

    def forward(self, x):
        return self.a(x.flatten(1))


def test_a_call_of_the_users_own_is_called():
    model = CallsItself().double()
    algorithm, x = MAML(model), EPISODES.support_x[0]
    assert torch.equal(algorithm.forward(algorithm.init_params(), x), model(x))


def traced(graph, inputs):
    raise AssertionError("it is compiled")


def compiled(whole):
    return torch.compile(whole, backend=traced)


def compiled_in_place(whole):
    whole.compile(backend=traced)
    return whole


def compiled_in_part(whole):
    whole[0] = torch.compile(whole[0], backend=traced)
    return whole


def compiled_in_place_in_part(whole):
    whole[1].compile(backend=traced)
    return whole


def compiled_forward(whole):
    whole.forward = torch.compile(whole.forward, backend=traced)
    return whole


def compiled_in_a_list(whole):
    whole.held = [compiled(whole[0])]
    return whole


class Held(nn.Sequential):
    """Calls the first layer by an attribute, if there is one."""

    def forward(self, x):
        first, *others = self.held if hasattr(self, "held") else self
        return self[2](self[1](first(x))) if not others else super().forward(x)


COMPILED = [
    *(compiled, compiled_in_place, compiled_in_part, compiled_in_place_in_part),
    *(compiled_forward, compiled_in_a_list),
]


@falls_back
@pytest.mark.parametrize("change", COMPILED)
def test_what_was_compiled_is_called_as_it_was_before(change):
    def made():
        torch.manual_seed(0)
        return Held(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double()

    episodes = random_episodes(shape=(4,))
    expected, _ = (plain := MAML(made(), 0.1, 2)).meta_gradient(plain.init_params(), episodes)
    model = change(made())
    before = [dict(vars(module)) for module in model.modules()]
    maml = MAML(model, 0.1, 2)
    found, _ = maml.meta_gradient(maml.init_params(), episodes)
    found = {name.replace("_orig_mod.", ""): g for name, g in found.items()}
    assert relative_error(found, expected) < 1e-12
    after = [dict(vars(module)) for module in model.modules()]
    assert [list(v) for v in before] == [list(v) for v in after]
    assert all(a[n] is b[n] for a, b in zip(after, before, strict=True) for n in b)


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


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


def replace_a_layer(model):
    model[1] = Noisy()


def replace_a_hook(model):
    model.handle.remove()
    model[2].register_forward_hook(lambda m, x, y: y + torch.randn_like(y))


def freeze(model):
    model[0].weight.requires_grad_(False)


@falls_back
@pytest.mark.parametrize("change", [replace_a_layer, replace_a_hook, freeze])
def test_what_changes_between_two_steps_is_seen(change):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    model.handle = model[2].register_forward_hook(lambda m, x, y: 2 * y)
    episodes, keys = random_episodes(shape=(4,)), [1, 2, 3]

    def maml():
        return MAML(model, 0.1, 2, adapted="2.*")

    before = maml()
    before.meta_gradient(before.init_params(), episodes, keys=keys)
    change(model)
    found, expected = (
        algorithm.meta_gradient(algorithm.init_params(), episodes, keys=keys)[0]
        for algorithm in (before, maml())
    )
    assert relative_error(found, expected) < 1e-12


def test_a_parameter_that_is_frozen_between_two_steps_has_no_axis_of_tasks():
    model, episodes = Conv4(3, width=16, image_size=16, head="random").double(), random_episodes()
    maml = MAML(model, 0.1, 2, adapted="norms.*,head.*")
    maml.meta_gradient(maml.init_params(), episodes)
    model.convs[1].weight.requires_grad_(False)
    found, _ = maml.meta_gradient(maml.init_params(), episodes)
    assert not maml.explain().startswith("stacked")
    maml = MAML(model, 0.1, 2, adapted="norms.*,head.*", execution="loop")
    expected, _ = maml.meta_gradient(maml.init_params(), episodes)
    assert relative_error(found, expected) < 1e-10


class Deep:
    """Says itself how it is copied."""

    def __deepcopy__(self, memo):
        raise NotImplementedError


class Slots:
    __slots__ = ("empty", "full")

    def __init__(self):
        self.full = [1]


@pytest.mark.parametrize(
    ("value", "copied"),
    [
        (types.SimpleNamespace(a=1), True),
        (Slots(), True),
        (Deep(), False),
        (torch.distributions.Normal(0.0, 1.0), False),
        (np.random.RandomState(0), True),
        (torch.Generator(), True),
        (np.zeros(2), True),
        (bytearray(2), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_plain_objects_of_the_users_are_copied(value, copied):
    seen = []

    class Holds(nn.Module):
        def __init__(self):
            super().__init__()
            self.held, self.out = value, nn.Linear(12, 3)

        def forward(self, x):
            seen.append(self.held)
            return self.out(x.flatten(1))

    algorithm = MAML(Holds().double(), 0.1, 1)
    algorithm.meta_gradient(algorithm.init_params(), EPISODES)
    assert seen
    assert all((held is not value) == copied and type(held) is type(value) for held in seen)
    if isinstance(value, Slots):
        assert all(held.full == [1] and not hasattr(held, "empty") for held in seen)


def test_a_copy_has_no_examples_of_the_user_and_tries_for_itself():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    maml = MAML(model, 0.1, 2)
    params = maml.init_params()
    before = len(pickle.dumps(maml))
    grads, _ = maml.meta_gradient(params, EPISODES)
    copied = pickle.loads(pickle.dumps(maml))
    assert len(pickle.dumps(maml)) < before + 300
    for way in ("auto", "vmap"):
        copied.execution = way
        found, _ = copied.meta_gradient(params, EPISODES)
        for name, g in grads.items():
            torch.testing.assert_close(found[name], g)
