"""The kernels give the numbers of the plain path, for every algorithm."""

import contextlib
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import ANIL, BOIL, IMAML, MAML, MAMLPlusPlus, MetaSGD, ProtoNet, Reptile
from innerloop.algorithms.execution import candidates, why_not
from innerloop.models import BatchNorm, Conv4, HeadedModel, TutorialConv
from innerloop.models.layers import Conv2d, Linear
from innerloop.ops import kernels
from tests.helpers import loop_meta_gradient, random_episodes

pytestmark = pytest.mark.skipif(
    not kernels.serve(torch.zeros(1), 16), reason="the kernels are not compiled here"
)


@pytest.fixture(params=["compiled", "as on a GPU"], autouse=True)
def device(request, monkeypatch):
    if request.param != "compiled":
        monkeypatch.setattr(kernels, "_on_gpu", lambda x: True)


class Mixed(HeadedModel):
    """Of our layers and PyTorch's functions, as a user would write it; a frozen scale."""

    takes_tasks = True

    def __init__(self):
        super().__init__()
        self.conv, self.norm = Conv2d(1, 16, stride=2), BatchNorm(16)
        self.scale = nn.Parameter(torch.full((16,), 1.5), requires_grad=False)
        self.head = Linear(16, 3)

    def features(self, x):
        x = F.gelu(self.norm(self.conv(x), pool=True))
        return self.scale * x.mean(dim=(-2, -1))


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double()


NETWORKS = {
    "strided": lambda: Conv4(3, width=16, head="random", image_size=16),
    "pooled": lambda: Conv4(3, width=16, head="random", pool="max", image_size=21),
    "shared head": lambda: Conv4(3, width=16, head="shared", unit_features=True, image_size=16),
    "tutorial": lambda: TutorialConv(3, width=16),
    "mixed": Mixed,
}
SIZES = {"tutorial": 28, "pooled": 21}
ALGORITHMS = {
    "MAML": lambda m: MAML(m, 0.05, 3),
    "first order": lambda m: MAML(m, 0.05, 3, first_order=True),
    "mixed mode": lambda m: MAML(m, 0.05, 3, derivative="mixed"),
    "clipped": lambda m: MAML(m, 0.05, 3, inner_max_norm=0.5),
    "statistics of the support set": lambda m: MAML(m, 0.05, 2, bn="support"),
    "sum per shot": lambda m: MAML(m, 0.05, 2, inner_reduction="per_shot"),
    "chunks": lambda m: MAML(m, 0.05, 2, chunk_size=2),
    "ANIL": lambda m: ANIL(m, 0.05, 2),
    "BOIL": lambda m: BOIL(m, 0.05, 2),
    # All tasks share the convolutions' weights: no second derivative with respect to them.
    "norms and head, mixed mode": lambda m: MAML(
        m, 0.05, 2, adapted="norm*,head*", derivative="mixed"
    ),
    "norms and head, support": lambda m: MAML(m, 0.05, 2, adapted="norm*,head*", bn="support"),
    "Meta-SGD": lambda m: MetaSGD(m, 0.05, 2),
    "MAML++": lambda m: MAMLPlusPlus(m, 0.05, 2),
    "MAML++ without statistics": lambda m: MAMLPlusPlus(
        m, 0.05, 2, per_step_statistics=False, multi_step_loss_until=1.0
    ),
    "Reptile": lambda m: Reptile(m, 0.05, 3, inner_batch_size=4),
    "iMAML": lambda m: IMAML(m, 0.05, 3),
    "ProtoNet": ProtoNet,
}


def gradients(name, network, progress=0.5):
    model = seeded(NETWORKS[network])
    if name == "BOIL" and network in ("shared head", "tutorial"):
        pytest.skip("BOIL needs rows of the head that differ")
    algorithm = ALGORITHMS[name](model)
    size = SIZES.get(network, 16)
    episodes = random_episodes(shape=(1, size, size), k_query=3)
    generator = torch.Generator().manual_seed(0)
    params = {
        n: p + 0.05 * torch.randn(p.shape, dtype=p.dtype, generator=generator)
        for n, p in algorithm.init_params().items()
    }
    return algorithm, lambda: algorithm.meta_gradient(params, episodes, progress), params, episodes


def assert_same(ours, plain):
    size = torch.stack([g.norm() for g in plain.values()]).norm()
    for name, g in plain.items():
        assert ours[name].shape == g.shape
        torch.testing.assert_close(ours[name] / size, g / size, rtol=1e-8, atol=1e-11, msg=name)


@functools.cache
def plain_gradient(name, network):
    """Without kernels: the same on each device, and the slower part."""
    with kernels.without():
        return gradients(name, network)[1]()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_equal_to_the_plain_path(name, network):
    _, meta_gradient, *_ = gradients(name, network)
    ours, metrics = meta_gradient()
    plain, expected = plain_gradient(name, network)
    assert_same(ours, plain)
    assert metrics.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(metrics[key], value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_tasks_adapt_together_as_each_by_itself(name, compiled):
    with contextlib.nullcontext() if compiled else kernels.without():
        algorithm, _, params, episodes = gradients(name, "strided")
        with torch.no_grad():
            steps = list(
                algorithm.inner_loop_each(
                    params, episodes.support_x, episodes.support_y, inner_steps=2, n_way=3
                )
            )
            for t in range(episodes.num_tasks):
                task = episodes.task(t)
                alone = algorithm.inner_loop(
                    params, task.support_x, task.support_y, inner_steps=2, n_way=3
                )
                for together, expected in zip(steps, alone, strict=True):
                    assert together.keys() == expected.keys()
                    for n, p in expected.items():
                        torch.testing.assert_close(together[n][t], p, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("network", ["strided", "pooled", "tutorial"])
@pytest.mark.parametrize("first_order", [False, True])
def test_equal_to_a_loop_over_tasks(network, first_order):
    algorithm, meta_gradient, params, episodes = gradients(
        "first order" if first_order else "MAML", network
    )
    assert why_not(algorithm, "stacked", 1.0, training=True) is None
    expected = loop_meta_gradient(
        algorithm.model, params, episodes, inner_lr=0.05, inner_steps=3, first_order=first_order
    )
    assert_same(meta_gradient()[0], expected[0] if isinstance(expected, tuple) else expected)


def test_side_by_side_only_where_it_can_be():
    def stacks(algorithm):
        return candidates(algorithm, 1.0, training=True) == ["stacked"]

    model = Conv4(3, width=16)
    assert stacks(MAML(model))
    assert stacks(MAML(model, inner_max_norm=1.0))
    assert stacks(MAML(model, bn="support"))
    assert not stacks(MAMLPlusPlus(model, bn="per_step"))
    assert stacks(MAML(Conv4(3, width=12)))
    assert not stacks(MAML(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))))
    with kernels.without():
        assert not stacks(MAML(model))


@pytest.mark.parametrize("first_order", [False, True])
def test_in_single_precision(first_order):
    model = Conv4(5, width=32, head="random", image_size=16)
    algorithm = MAML(model, 0.05, 3, first_order=first_order)
    episodes = random_episodes(n_way=5, dtype=torch.float32)
    ours, _ = algorithm.meta_gradient(algorithm.init_params(), episodes)
    with kernels.without():
        plain, _ = algorithm.meta_gradient(algorithm.init_params(), episodes)
    size = torch.stack([g.norm() for g in plain.values()]).norm()
    assert all((ours[n] - plain[n]).norm() < 1e-4 * size for n in plain)


def test_parameters_keep_their_memory_layout_outside():
    _, meta_gradient, params, _ = gradients("MAML", "strided")
    before = {name: p.stride() for name, p in params.items()}
    values = {name: p.clone() for name, p in params.items()}
    meta_gradient()
    assert {name: p.stride() for name, p in params.items()} == before
    assert all(torch.equal(params[name], values[name]) for name in params)


@torch.no_grad()
def scores(name, network, every_step):
    algorithm, _, params, episodes = gradients(name, network)
    return algorithm.score_steps(params, episodes, inner_steps=4, every_step=every_step)


@functools.cache
def plain_scores(name, network, every_step):
    with kernels.without():
        return scores(name, network, every_step)


@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("network", ["strided", "pooled", "shared head", "tutorial"])
@pytest.mark.parametrize("name", ["MAML", "MAML++", "Meta-SGD", "Reptile", "iMAML", "ANIL"])
def test_judged_as_in_the_plain_path(name, network, every_step):
    ours, plain = scores(name, network, every_step), plain_scores(name, network, every_step)
    assert ours.keys() == plain.keys() == {"loss", "accuracy"}
    assert ours["loss"].shape == (3, 5 if every_step else 1)
    for key, value in plain.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-9, atol=1e-11)


class Switched(Mixed):
    """It takes an axis of tasks by itself, does what has no rule, and is of an odd width."""

    takes_tasks = True

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = Conv2d(1, 20, stride=2), BatchNorm(20), Linear(20, 3)

    def features(self, x):
        x = self.norm(self.conv(x))
        return F.relu(x).mean(dim=(-2, -1)) if bool(torch.isfinite(x).all()) else x


def test_what_takes_tasks_by_itself_is_not_asked_for_rules():
    model, episodes = seeded(Switched), random_episodes()
    assert candidates(MAML(model, 0.05, 2), 1.0, training=True) != ["stacked"]
    algorithm = MAML(model, 0.05, 2, execution="stacked")
    params = algorithm.init_params()
    gradient, _ = algorithm.meta_gradient(params, episodes)
    wanted, *_ = loop_meta_gradient(model, params, episodes, inner_lr=0.05, inner_steps=2)
    for name, value in wanted.items():
        torch.testing.assert_close(gradient[name], value)
