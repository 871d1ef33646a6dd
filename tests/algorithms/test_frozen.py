"""Frozen parameters are used in place: no copies for tasks, no gradients, no steps."""

from __future__ import annotations

import tempfile

import pytest
import torch
from torch import nn

import innerloop
from innerloop.ops.stacked import Stacked
from innerloop.registry import ALGORITHMS
from tests.helpers import random_episodes, relative_error

# The address of the frozen weight, and its shape, at each call.
SEEN: list = []


class Body(nn.Module):
    """A frozen layer that notes what its weight is in each call, and an adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 6).requires_grad_(False)
        self.adapter = nn.Linear(4, 6, bias=False)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        weight = self.linear.weight
        copied = isinstance(weight, Stacked) or torch._C._functorch.is_batchedtensor(weight)
        SEEN.append((weight.data_ptr() if not copied else None, tuple(weight.shape)))
        assert not weight.requires_grad
        return self.head((self.linear(x) + self.adapter(x)).relu())


@pytest.fixture
def network():
    SEEN.clear()
    torch.manual_seed(0)
    return Body()


def tasks(count: int) -> innerloop.Episodes:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(count, 6, 4, generator=generator), torch.arange(3).repeat(count, 2)
    return innerloop.Episodes(x, y, x.flip(1), y.flip(1))


@pytest.mark.parametrize("way", ["stacked", "vmap", "loop"])
@pytest.mark.parametrize("derivative", ["reverse", "mixed"])
def test_tasks_share_the_frozen_weights_themselves(network, way, derivative):
    maml = innerloop.MAML(network, 0.1, 3, execution=way, derivative=derivative)
    params = maml.init_params()
    maml.meta_gradient(params, tasks(4))  # the first call also inspects the network
    SEEN.clear()
    grads, _ = maml.meta_gradient(params, tasks(4))
    maml.score_steps(params, tasks(4))
    maml.inner_loop_each(params, tasks(4).support_x, tasks(4).support_y)
    assert set(SEEN) == {(network.linear.weight.data_ptr(), (6, 4))}
    assert grads.keys() == {"adapter.weight", "head.weight", "head.bias"}


@pytest.mark.parametrize("kind", [innerloop.MAML, innerloop.MetaSGD, innerloop.Reptile])
def test_fast_weights_leave_them_out(network, kind):
    adapted = kind(network, 0.1).inner_loop_each(
        kind(network, 0.1).init_params(), tasks(4).support_x, tasks(4).support_y
    )[-1]
    assert not any(name.startswith("linear.") for name in adapted)


def test_a_run_leaves_them_as_they_were(network):
    class Same:
        n_way = 3

        def batch(self, start, count):
            return innerloop.Episodes(*(t[start:] for t in tasks(start + count)))

    before = {name: p.clone() for name, p in network.named_parameters()}
    run = innerloop.fit(
        innerloop.MAML(network, 0.1),
        Same(),
        out=tempfile.mkdtemp(),
        iterations=3,
    )
    assert run.params.keys() == {"adapter.weight", "head.weight", "head.bias"}
    assert not torch.equal(run.params["adapter.weight"], before["adapter.weight"])
    for name, p in network.named_parameters():
        assert torch.equal(p, before[name]), name


class Tokens(nn.Module):
    """A frozen embedding, and what is learnt; it notes the types that it computes with."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 6).requires_grad_(False)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens):
        SEEN.append((self.embedding.weight.dtype, self.head.weight.dtype))
        return self.head(self.embedding(tokens).mean(dim=1))


def test_whether_tasks_stay_apart_is_tried_in_double_precision():
    """Frozen weights too, and for token ids: single precision would decide by rounding."""
    SEEN.clear()
    maml = innerloop.MAML(Tokens(), 0.1)
    x, y = torch.randint(9, (2, 6, 5)), torch.arange(3).repeat(2, 2)
    maml.meta_gradient(maml.init_params(), innerloop.Episodes(x, y, x, y))
    assert {(torch.float64, torch.float64), (torch.float32, torch.float32)} == set(SEEN)
    assert maml.explain().startswith("stacked")


GRADIENT_BASED = ["maml", "anil", "boil", "reptile", "meta-sgd", "maml++", "imaml"]
# BOIL refuses a shared head.
WITH_HEADS = [
    *((name, "random") for name in GRADIENT_BASED),
    *((name, "shared") for name in GRADIENT_BASED if name != "boil"),
]


@pytest.mark.parametrize(("name", "head"), WITH_HEADS)
def test_a_parameter_that_was_frozen_later_is_named(name, head):
    network = innerloop.models.MLP(4, 3, head=head)
    algorithm = ALGORITHMS.get(name)(network)
    first = algorithm.adapted_names[0]
    x, y = torch.randn(2, 6, 4), torch.arange(3).repeat(2, 2)
    episodes = innerloop.Episodes(x, y, x, y)
    network.get_parameter(first).requires_grad_(False)
    with pytest.raises(innerloop.UserError, match=rf"inner loop changes {first}, .* make it anew"):
        algorithm.meta_gradient(algorithm.init_params(), episodes)
    with pytest.raises(innerloop.UserError, match=rf"inner loop changes {first}"):
        algorithm.adapt(algorithm.init_params(), x[0], y[0])


def test_a_network_of_ours_with_a_frozen_layer_is_stacked_too():
    model = innerloop.models.Conv4(3, width=16, image_size=16).double()
    next(model.parameters()).requires_grad_(False)
    episodes = random_episodes()
    found = {}
    for way in ("auto", "loop"):
        maml = innerloop.MAML(model, 0.1, 2, execution=way)
        found[way], _ = maml.meta_gradient(maml.init_params(), episodes)
        assert maml.explain().startswith("stacked" if way == "auto" else "loop")
    assert relative_error(found["auto"], found["loop"]) < 1e-10
