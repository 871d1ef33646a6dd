"""A method that a subclass overrides is always the one that is called."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML
from innerloop.models import Conv4
from tests.algorithms.contracts import CONTRACTS
from tests.algorithms.networks import stackable
from tests.helpers import random_episodes, relative_error


class Tenfold:
    def query_loss(self, params, task):
        loss, metrics = super().query_loss(params, task)
        return 10 * loss, metrics


class Penalty:
    def inner_loss(self, params, fast, support, step):
        x, y = support.batch(step)
        assert x.shape == (len(y), 1, 16, 16)
        loss = super().inner_loss(params, fast, support, step)
        return loss + 0.3 * sum(p.square().sum() for p in fast.values())


class Smoothed:
    def support_loss(self, outputs, targets):
        return F.cross_entropy(outputs, targets, label_smoothing=0.4)


class Shrinking:
    def update(self, params, fast, gradient, step):
        moved = super().update(params, fast, gradient, step)
        return {name: 0.9 * p for name, p in moved.items()}


class Halved:
    def forward(self, params, x):
        return super().forward(params, x) / 2


class Doubled:
    def task_gradient(self, params, task, n_way, progress):
        grads, metrics = super().task_gradient(params, task, n_way, progress)
        return {n: 2 * g for n, g in grads.items()}, metrics


class Squared:
    def loss_after_adaptation(self, params, task, n_way, progress):
        loss, metrics = super().loss_after_adaptation(params, task, n_way, progress)
        return loss**2, metrics


class Flipped:
    def query_outputs(self, params, support_x, query_x):
        return -super().query_outputs(params, support_x, query_x)


class Rescored:
    def score(self, outputs, targets):
        loss, metrics = super().score(outputs, targets)
        return loss + outputs.square().mean(), metrics


class Frozen:
    def inner_loop(self, params, support_x, support_y, *, inner_steps=None, n_way=None):
        steps = super().inner_loop(
            params, support_x, support_y, inner_steps=inner_steps, n_way=n_way
        )
        first, *rest = steps
        yield first
        for weights in rest:
            yield {n: p if n.startswith("head") else first[n] for n, p in weights.items()}


class Shifted:
    def rest(self, params, n_way, step):
        weights = super().rest(params, n_way, step)
        return {n: p + 0.3 if n.startswith("norms") else p for n, p in weights.items()}


class Elsewhere:
    def start(self, params, n_way, names=None):
        return {n: 1.5 * p for n, p in super().start(params, n_way, names).items()}


class Slower:
    def rates(self, params, step):
        return 0.03 * (step + 1)


HOOKS = [
    Tenfold,
    Penalty,
    Smoothed,
    Shrinking,
    Halved,
    Doubled,
    Squared,
    Flipped,
    Rescored,
    Frozen,
    Shifted,
    Elsewhere,
    Slower,
]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("name", ["maml", "anil", "meta-sgd", "maml++", "imaml", "reptile"])
@pytest.mark.parametrize("head", ["random", "shared"])
def test_what_a_subclass_overrides_counts_in_every_way(hook, name, head):
    """`auto` gives what the plain loop gives, and the override changes the result."""
    model = Conv4(3, width=16, image_size=16, head=head, unit_features=True).double()
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    base = CONTRACTS[name].make
    cls = type(hook.__name__, (hook, base.func), {})
    options = base.keywords | {"inner_steps": 1 if head == "shared" else 2}
    if name == "reptile" and head == "shared":
        pytest.skip("one step from a shared head moves nothing on average")
    episodes = random_episodes()
    auto, loop = cls(model, **options), cls(model, execution="loop", **options)
    params = auto.init_params()
    found, _ = auto.meta_gradient(params, episodes)
    expected, _ = loop.meta_gradient(params, episodes)
    assert relative_error(found, expected) < 1e-7
    plain, _ = base.func(model, **options).meta_gradient(params, episodes)
    ignores = {
        "reptile": (Tenfold, Squared, Flipped, Rescored),
        "imaml": (Squared,),
    }
    learnt = [n for n in plain if n not in auto.moving_averages]
    # From a shared head one step moves the head alone, and some changes cancel.
    ignored = hook in ignores.get(name, ()) or (hook is Frozen and name == "anil")
    # Only ANIL leaves the norms out of its inner loop, and so has them in `rest`.
    ignored = ignored or (hook is Shifted and name != "anil")
    if head == "random" and not ignored:
        difference = relative_error({n: found[n] for n in learnt}, {n: plain[n] for n in learnt})
        assert difference > 1e-3
    scores = [a.score_steps(params, episodes)["loss"] for a in (auto, loop)]
    torch.testing.assert_close(*scores, rtol=1e-10, atol=1e-12)


def test_a_method_set_on_the_object_counts_as_well():
    model, episodes = stackable(), random_episodes()
    plain, own = MAML(model, 0.1, 1), MAML(model, 0.1, 1)
    one = own.query_loss

    def tenfold(params, task):
        loss, metrics = one(params, task)
        return 10 * loss, metrics

    own.query_loss = tenfold
    params = plain.init_params()
    expected, _ = plain.meta_gradient(params, episodes)
    found, _ = own.meta_gradient(params, episodes)
    assert relative_error({n: g / 10 for n, g in found.items()}, expected) < 1e-10
