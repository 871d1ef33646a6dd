"""Every way of computing tasks gives the same numbers, for what users bring as for what we ship."""

from __future__ import annotations

import logging
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from innerloop import IMAML, MAML, MetaSGD, ProtoNet, Reptile, UserError
from innerloop.algorithms.execution import _failing, candidates, has_failed, why_not
from innerloop.algorithms.fastest import fastest
from innerloop.algorithms.network import Network, is_untouched
from innerloop.algorithms.settings import WAYS
from innerloop.models import MLP, Conv4
from innerloop.ops import kernels
from tests.algorithms import naive
from tests.algorithms.contracts import CONTRACTS
from tests.algorithms.networks import stackable
from tests.algorithms.users import EPISODES, USERS, make
from tests.helpers import random_episodes, relative_error

names = pytest.mark.parametrize("name", CONTRACTS)
users = pytest.mark.parametrize("user", USERS)
falls_back = pytest.mark.falls_back


@names
@pytest.mark.parametrize("bn", ["transductive", "support"])
@pytest.mark.parametrize("way", WAYS)
def test_every_algorithm_gives_the_same_numbers_in_every_way(name, way, bn):
    model, episodes = stackable(), random_episodes()
    loop = CONTRACTS[name].make(model, bn=bn, execution="loop")
    other = CONTRACTS[name].make(model, bn=bn, execution=way)
    params = loop.init_params()
    reason = why_not(other, way, 1.0, training=True)
    if reason:
        with pytest.raises(UserError, match=f"execution='{way}' is not possible here"):
            other.meta_gradient(params, episodes)
        return
    expected, metrics = loop.meta_gradient(params, episodes)
    found, same = other.meta_gradient(params, episodes)
    assert relative_error(found, expected) < 1e-10
    assert metrics.keys() == same.keys()
    for key, value in metrics.items():
        assert same[key].item() == pytest.approx(value.item(), rel=1e-10)


@names
@pytest.mark.parametrize("bn", ["transductive", "support"])
@pytest.mark.parametrize("way", WAYS)
def test_every_algorithm_scores_the_same_in_every_way(name, way, bn):
    model, episodes = stackable(), random_episodes()
    loop = CONTRACTS[name].make(model, bn=bn, execution="loop")
    other = CONTRACTS[name].make(model, bn=bn, execution=way)
    params = loop.init_params()
    if why_not(other, way, 1.0, training=False):
        return
    expected = loop.score_steps(params, episodes)
    found = other.score_steps(params, episodes)
    steps = loop.inner_steps + 1
    assert expected["loss"].shape == (3, steps)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-10, atol=1e-12)


def test_the_ways_that_are_possible_are_many():
    """The two tests above must not pass because everything is refused."""
    possible = {
        (name, way)
        for name, contract in CONTRACTS.items()
        for way in WAYS
        if why_not(contract.make(stackable()), way, 1.0, training=True) is None
    }
    assert {way for name, way in possible if name == "maml"} == {"stacked", "vmap", "loop"}
    assert {way for name, way in possible if name == "anil"} == set(WAYS)
    assert all((name, way) in possible for name in CONTRACTS for way in ("stacked", "vmap", "loop"))


@names
@pytest.mark.parametrize("way", ["stacked", "loop"])
def test_mixed_and_clipped_in_every_way(name, way):
    """Without torch.func: second derivatives by reverse over reverse, clipping task by task."""
    if name in ("protonet", "fine-tune", "reptile", "imaml"):
        return
    model, episodes = stackable(), random_episodes()
    options = {"inner_max_norm": 0.05}
    reverse = CONTRACTS[name].make(model, execution="vmap", **options)
    mixed = CONTRACTS[name].make(model, execution=way, derivative="mixed", **options)
    params = reverse.init_params()
    expected, _ = reverse.meta_gradient(params, episodes)
    assert relative_error(mixed.meta_gradient(params, episodes)[0], expected) < 1e-10


@falls_back
@users
@pytest.mark.parametrize("first_order", [False, True])
def test_the_meta_gradient_of_any_network_is_that_of_a_naive_loop(user, first_order):
    if USERS[user].draws:
        pytest.skip("the naive loop draws other numbers")
    algorithm = MAML(make(user), naive.LR, naive.STEPS, first_order, loss=USERS[user].loss)
    params = algorithm.init_params()
    found, metrics = algorithm.meta_gradient(params, EPISODES)
    expected = naive.maml(
        None,
        params,
        EPISODES,
        first_order=first_order,
        call=lambda _, weights, x: fresh(user, weights, x),
        loss=USERS[user].loss,
    )
    assert relative_error(found, expected) < 1e-10
    assert torch.isfinite(metrics["loss"])


def fresh(name, weights, x):
    """The outputs of a new network, made for this call."""
    if USERS[name].outputs is not None:
        return USERS[name].outputs(weights, x)
    model = make(name)
    # PyTorch's own has a second derivative that is wrong.
    weight_norm = mock.patch("torch._weight_norm", lambda v, g, dim: v * g / v.norm(dim=1)[:, None])
    with sdpa_kernel(SDPBackend.MATH), weight_norm:
        return torch.func.functional_call(getattr(model, "_orig_mod", model), weights, (x,))


@falls_back
@users
@pytest.mark.parametrize("cls", [Reptile, IMAML, MetaSGD])
def test_other_algorithms_take_any_network_in_a_loop_as_in_their_own_way(user, cls):
    options = {"inner_lr": 0.1, "inner_steps": 2, "loss": USERS[user].loss}
    own, loop = cls(make(user), **options), cls(make(user), execution="loop", **options)
    params, keys = own.init_params(), [5, 6, 7]
    found, _ = own.meta_gradient(params, EPISODES, keys=keys)
    expected, _ = loop.meta_gradient(params, EPISODES, keys=keys)
    assert relative_error(found, expected) < 1e-10


@falls_back
@users
def test_mixed_derivatives_of_any_network_are_those_of_reverse(user):
    keys, found = [5, 6, 7], {}
    for derivative in ("reverse", "mixed"):
        algorithm = MAML(make(user), 0.1, 3, loss=USERS[user].loss, derivative=derivative)
        params = algorithm.init_params()
        found[derivative], _ = algorithm.meta_gradient(params, EPISODES, keys=keys)
    assert relative_error(found["mixed"], found["reverse"]) < 1e-10


@falls_back
@users
def test_adapting_and_scoring_any_network_is_without_dropout(user):
    algorithm = MAML(make(user), 0.1, 2, loss=USERS[user].loss)
    params, task = algorithm.init_params(), EPISODES.task(0)
    quiet = make(user).eval()
    quiet = getattr(quiet, "_orig_mod", quiet)
    scores = algorithm.score_steps(params, EPISODES)
    assert scores["loss"].shape == (3, 3)
    again = algorithm.score_steps(params, EPISODES)
    assert all(torch.equal(scores[name], again[name]) for name in scores)
    loss = USERS[user].loss(quiet(task.query_x), task.query_y)
    assert scores["loss"][0, 0].item() == pytest.approx(loss.item(), rel=1e-6)
    adapted = algorithm.adapt(params, task.support_x, task.support_y)
    assert algorithm.query_loss(adapted, task)[0].item() == pytest.approx(
        scores["loss"][0, -1].item(), rel=1e-10
    )


@falls_back
def test_one_line_of_log_says_that_tasks_go_one_by_one_and_why(caplog):
    algorithm = MAML(make("branch"), 0.1, 2)
    params = algorithm.init_params()
    with caplog.at_level(logging.WARNING, logger="innerloop"):
        for _ in range(3):
            algorithm.meta_gradient(params, EPISODES)
            algorithm.score_steps(params, EPISODES)
    (line,) = [r.getMessage() for r in caplog.records]
    assert "Branch cannot be computed by vmap, so its tasks go one by one (" in line
    assert "data-dependent" in line


@falls_back
@users
def test_what_is_known_to_loop_does(user):
    """The table of users' networks is right about which of them vmap cannot run."""
    algorithm = MAML(make(user), 0.1, 2, loss=USERS[user].loss, execution="vmap")
    params = algorithm.init_params()
    if USERS[user].loops:
        with pytest.raises(Exception):  # noqa: B017, PT011
            algorithm.meta_gradient(params, EPISODES, keys=[1, 2, 3])


def test_examples_that_the_network_cannot_take_are_named():
    algorithm = MAML(nn.Sequential(nn.Flatten(), nn.Linear(11, 3)).double(), 0.1, 1)
    with pytest.raises(UserError, match=r"cannot take examples of shape \(3, 4\)") as caught:
        algorithm.meta_gradient(algorithm.init_params(), EPISODES)
    assert "shapes cannot be multiplied" in str(caught.value.__cause__)


def test_a_way_that_is_not_exact_is_refused_with_the_reason():
    with pytest.raises(UserError, match="execution must be one of auto, stacked"):
        MAML(MLP(4, 3), execution="fast")
    algorithm = MAML(make("noise of its own"), execution="stacked")
    with pytest.raises(UserError, match=r"'stacked' is not possible here: .*several tasks at once"):
        algorithm.meta_gradient(algorithm.init_params(), EPISODES)

    class Halved(MAML):
        def forward(self, params, x):
            return super().forward(params, x) / 2

    algorithm = Halved(stackable(), execution="stacked")
    with pytest.raises(UserError, match="Halved overrides forward, which is about one task"):
        algorithm.meta_gradient(algorithm.init_params(), random_episodes())


def test_explain_names_the_way_that_failed():
    convolutions = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Flatten(), nn.Linear(16 * 14 * 14, 3))
    for model, data in ((make("attention"), EPISODES), (convolutions.double(), random_episodes())):
        algorithm = MAML(model, 0.1, 2)
        algorithm.meta_gradient(algorithm.init_params(), data)
        first, *others = candidates(algorithm, 1.0, training=True)
        if others:
            # As after an operation that fails for several tasks alone.
            algorithm._failed["training, 2nd order"] = _failing(algorithm, first)
            assert algorithm.explain().startswith("loop: ")
            assert f"not {first}: it fails for this network or loss" in algorithm.explain()
        assert model is convolutions or others


class Choosy(nn.Module):
    """For vmap, but where it is told to look at its inputs."""

    def __init__(self):
        super().__init__()
        self.looks, self.out = True, nn.Linear(12, 3)

    def forward(self, x):
        with torch.no_grad():
            x = x.flatten(1) * 1
        return self.out(x if not self.looks or x.abs().max() < 2 else x / 3)


def _looking_loss(outputs, targets):
    loss = F.cross_entropy(outputs, targets)
    return loss if loss > 0 else -loss


@falls_back
@pytest.mark.parametrize("part", ["network", "loss"])
def test_a_way_is_tried_again_once_what_it_failed_with_is_another(part):
    network = Choosy().double()
    maml = MAML(network, 0.1, 2, loss=_looking_loss)
    network.looks = part == "network"
    maml.loss = _looking_loss if part == "loss" else F.cross_entropy
    params = maml.init_params()

    def used():
        maml.meta_gradient(params, EPISODES)
        maml.score_steps(params, EPISODES)
        return maml.explain().partition(":")[0]

    assert used() == "loop"
    network.looks, maml.loss = False, F.cross_entropy
    assert used() == "vmap"
    assert not has_failed(maml, "use", candidates(maml, 1.0, training=False))


def test_explain_says_the_way_and_why_not_another():
    assert MAML(Conv4(3, width=16)).explain().startswith("stacked: all tasks together")
    text = MAML(make("attention")).explain()
    assert text.startswith("vmap: ")
    assert "not stacked: Attention does not take several tasks at once: that is found out" in text
    assert ProtoNet(Conv4(3)).explain().startswith("shared_body: ")
    text = MAML(make("LSTM")).explain()
    assert text.startswith("loop: ")
    assert "not vmap: on a CPU LSTM would be slower than in a loop" in text
    both = nn.Sequential(nn.Conv1d(1, 1, 1), nn.GRU(4, 4))
    assert "on a CPU Conv1d, GRU would be slower" in MAML(both, execution="auto").explain()


def test_the_fastest_way_is_one_that_works():
    algorithm = MAML(make("attention"), 0.1, 2)
    assert fastest(algorithm, algorithm.init_params(), EPISODES) in ("stacked", "vmap", "loop")
    assert algorithm.execution == "auto"
    algorithm = MAML(make("branch"), 0.1, 2)
    assert fastest(algorithm, algorithm.init_params(), EPISODES) == "loop"


def test_all_possible_ways_are_measured(monkeypatch):
    measured, meta_gradient = [], MAML.meta_gradient

    def measuring(self, *args, **kwargs):
        measured.append(self.execution)
        return meta_gradient(self, *args, **kwargs)

    monkeypatch.setattr(MAML, "meta_gradient", measuring)
    algorithm = MAML(make("attention"), 0.1, 2)
    fastest(algorithm, algorithm.init_params(), EPISODES)
    assert measured == ["stacked", "stacked", "vmap", "vmap", "loop", "loop"]


class Plain(nn.Module):
    """A convolutional network as users write it: a residual branch, and other norms."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm_a = nn.BatchNorm2d(16, track_running_stats=False)
        self.norm_b, self.dropout = nn.GroupNorm(4, 16), nn.Dropout(0.3)
        self.out = nn.Linear(16 * 16, 3)

    def forward(self, x):
        h = nn.functional.max_pool2d(torch.relu(self.norm_a(self.a(x))), 2)
        h = h + nn.functional.leaky_relu(self.norm_b(self.b(h)), 0.1)
        return self.out(self.dropout(h).flatten(1))


@pytest.mark.parametrize("model", [Conv4(3, width=16), Plain()], ids=["own", "a user's"])
def test_a_choice_looks_at_each_module_once(model, monkeypatch):
    algorithm, looked = MAML(model, 0.1, 2), []

    def counted(module):
        looked.append(module)
        return is_untouched(module)

    monkeypatch.setattr("innerloop.algorithms.network.is_untouched", counted)
    assert candidates(algorithm, 1.0, training=True)
    assert looked == list(model.modules())


@pytest.mark.parametrize("first_order", [False, True])
def test_a_network_that_knows_nothing_of_tasks_is_stacked(first_order):
    torch.manual_seed(0)
    model, episodes = Plain().double(), random_episodes(shape=(1, 8, 8))
    found = {}
    for way in ("auto", "stacked", "loop"):
        algorithm = MAML(model, 0.1, 3, first_order, execution=way)
        params = algorithm.init_params()
        found[way] = algorithm.meta_gradient(params, episodes, keys=range(episodes.num_tasks))[0]
        if way == "auto" and kernels.ready():
            assert algorithm.explain().startswith("stacked")
    for way in ("auto", "stacked"):
        torch.testing.assert_close(found[way], found["loop"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("one", ["a task", "a task at a time"])
def test_a_single_task_goes_the_way_of_several(one, monkeypatch):
    torch.manual_seed(0)
    episodes = random_episodes(shape=(1, 8, 8))
    found, stacked, each = {}, [], Network.each
    monkeypatch.setattr(
        Network, "each", lambda self, params, x: stacked.append(len(x)) or each(self, params, x)
    )
    for way in ("stacked", "loop"):
        algorithm = MAML(Plain().double(), 0.1, 3, execution=way)
        torch.manual_seed(1)
        params = {n: 0.1 * torch.randn_like(p) for n, p in algorithm.init_params().items()}
        if one == "a task":
            tasks = next(episodes.chunks(1))
        else:
            tasks, algorithm.chunk_size = episodes, 1
        found[way] = algorithm.meta_gradient(params, tasks, keys=range(tasks.num_tasks))[0]
        # What it is adapted by alone stays as it is.
        before = len(stacked)
        algorithm.adapt(params, tasks.support_x[0], tasks.support_y[0])
        assert len(stacked) == before
    assert set(stacked) == {1}
    torch.testing.assert_close(found["stacked"], found["loop"], rtol=1e-6, atol=1e-9)


class Rows(Plain):
    """Mixes the rows of a batch, and so must not see those of other tasks."""

    def forward(self, x):
        return super().forward(x - x.mean(0)) - x.flatten(1)[:, :1].max()


def test_rows_are_those_of_a_task_alone():
    torch.manual_seed(0)
    episodes = random_episodes(shape=(1, 8, 8))
    found = []
    for way in ("stacked", "loop"):
        algorithm = MAML(Rows().double(), 0.1, 2, execution=way)
        algorithm.model.dropout.p = 0.0
        torch.manual_seed(1)
        params = {n: 0.1 * torch.randn_like(p) for n, p in algorithm.init_params().items()}
        found.append(algorithm.meta_gradient(params, episodes)[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-9)


def test_a_network_with_a_hook_is_not_stacked():
    model = Plain().double()
    model.a.register_forward_hook(lambda *_: None)
    algorithm = MAML(model, 0.1, 1)
    algorithm.meta_gradient(algorithm.init_params(), random_episodes(shape=(1, 8, 8)))
    assert "it has hooks" in algorithm.explain()
