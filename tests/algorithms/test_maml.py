"""MAML's meta-gradient against finite differences and a task-by-task loop, in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import innerloop
from innerloop import MAML, Episodes, UserError
from innerloop.models import MLP, Conv4, SharedHead, TutorialConv
from tests.helpers import (
    NormNet,
    directional_derivative,
    loop_meta_gradient,
    random_episodes,
    relative_error,
)


def random_direction(params, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(p.shape, generator=generator, dtype=p.dtype) for name, p in params.items()
    }


@pytest.mark.parametrize("norm", ["batch", "layer", "group", "instance", "none"])
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("first_order", [False, True])
def test_meta_gradient_equals_a_loop_over_tasks(norm, steps, first_order):
    model = NormNet(norm).double()
    episodes = random_episodes()
    maml = MAML(model, 0.3, steps, first_order)
    params = maml.init_params()
    grads, metrics = maml.meta_gradient(params, episodes)
    expected, loss = loop_meta_gradient(
        model, params, episodes, inner_lr=0.3, inner_steps=steps, first_order=first_order
    )
    assert relative_error(grads, expected) < 1e-12
    assert metrics["loss"].item() == pytest.approx(loss.item(), rel=1e-12)


class Copied(MAML):
    """Goes through the inner loop of one task."""

    def inner_loop(self, params, support_x, support_y, **options):
        yield from super().inner_loop(params, support_x, support_y, **options)


@pytest.mark.parametrize("first_order", [False, True])
def test_an_inner_loop_that_is_differentiated_by_hand_has_the_same_order(first_order):
    model, episodes = NormNet("layer").double(), random_episodes()
    maml = MAML(model, 0.3, 2, first_order)
    params = {n: p.requires_grad_() for n, p in maml.init_params().items()}
    loss = 0
    for i in range(episodes.num_tasks):
        task = episodes.task(i)
        *_, fast = maml.inner_loop(params, task.support_x, task.support_y)
        outputs = maml.forward(fast, task.query_x)
        loss = loss + nn.functional.cross_entropy(outputs, task.query_y) / episodes.num_tasks
    found = dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
    wanted = maml.meta_gradient(params, episodes)[0]
    assert relative_error(found, wanted) < 1e-12
    overridden = Copied(model, 0.3, 2, first_order).meta_gradient(params, episodes)[0]
    assert relative_error(overridden, wanted) < 1e-12


@pytest.mark.parametrize("norm", ["batch", "layer", "group", "instance", "none"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_second_order_equals_finite_differences_and_first_order_does_not(norm, steps):
    model = NormNet(norm).double()
    episodes = random_episodes()
    second, first = MAML(model, 0.3, steps), MAML(model, 0.3, steps, first_order=True)
    params = second.init_params()
    direction = random_direction(params)

    def loss(params):
        return second.meta_gradient(params, episodes)[1]["loss"]

    numeric = directional_derivative(loss, params, direction)

    exact, _ = second.meta_gradient(params, episodes)
    along = sum((exact[n] * direction[n]).sum() for n in exact).item()
    assert along == pytest.approx(numeric, rel=1e-6)
    # The dropped term is not small here, so that first order and second order differ.
    assert relative_error(first.meta_gradient(params, episodes)[0], exact) > 1e-2


def test_first_order_is_the_query_gradient_at_the_adapted_weights():
    """By finite differences of the query loss with the inner loop's shift held constant."""
    model = NormNet("batch").double()
    episodes = random_episodes(tasks=1)
    maml = MAML(model, 0.3, 3, first_order=True)
    params = maml.init_params()
    task = episodes.task(0)
    adapted = maml.adapt(params, task.support_x, task.support_y)
    direction = random_direction(params)
    numeric = directional_derivative(
        lambda fast: maml.query_loss(fast, task)[0], adapted, direction
    )
    grads, _ = maml.meta_gradient(params, episodes)
    assert sum((grads[n] * direction[n]).sum() for n in grads).item() == pytest.approx(
        numeric, rel=1e-6
    )


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize(
    "model",
    [
        Conv4(3, width=4, image_size=16),
        Conv4(3, width=4, image_size=16, pool="max"),
        Conv4(3, width=4, image_size=16, unit_features=True),
        Conv4(3, width=4, image_size=16, pool="max", unit_features=True),
        MLP(256, 3, hidden=(8,)),
    ],
    ids=["stride", "max", "unit", "max-unit", "mlp"],
)
def test_own_networks_equal_a_loop_over_tasks(model, first_order):
    model = model.double()
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    episodes = random_episodes()
    maml = MAML(model, 0.1, 2, first_order)
    params = maml.init_params()
    grads, _ = maml.meta_gradient(params, episodes)
    expected, _ = loop_meta_gradient(
        model, params, episodes, inner_lr=0.1, inner_steps=2, first_order=first_order
    )
    assert relative_error(grads, expected) < 1e-10


@pytest.mark.parametrize("first_order", [False, True])
def test_tutorial_network_equals_a_loop_over_tasks(first_order):
    model = TutorialConv(3, width=4).double()
    episodes = random_episodes(shape=(1, 28, 28))
    maml = MAML(model, 0.04, 5, first_order)
    params = maml.init_params()
    grads, _ = maml.meta_gradient(params, episodes)
    expected, _ = loop_meta_gradient(
        model, params, episodes, inner_lr=0.04, inner_steps=5, first_order=first_order
    )
    assert relative_error(grads, expected) < 1e-10


def shared_model(width=4):
    model = Conv4(3, width=width, image_size=16, head="shared", unit_features=True).double()
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("bn", ["transductive", "support"])
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("max_norm", [None, 0.05])
def test_head_step_equals_the_general_path(bn, first_order, max_norm):
    """From a shared head, one inner step moves the head alone; the fast path relies on it."""
    maml = MAML(
        shared_model(),
        0.2,
        1,
        first_order,
        bn=bn,
        inner_reduction="per_shot",
        inner_max_norm=max_norm,
    )
    assert maml.first_step_moves_only_the_head
    params, episodes = maml.init_params(), random_episodes()
    fast, fast_metrics = maml.meta_gradient(params, episodes)
    assert maml.body_stays(1.0)
    maml.execution = "vmap"
    general, metrics = maml.meta_gradient(params, episodes)
    assert relative_error(fast, general) < 1e-12
    assert fast_metrics["loss"].item() == pytest.approx(metrics["loss"].item(), rel=1e-12)


def test_shared_head_equals_a_loop_over_tasks_with_copied_rows():
    model = shared_model()
    maml = MAML(model, 0.2, 3)
    params, episodes = maml.init_params(), random_episodes()
    rows = {"head.weight", "head.bias"}

    def expand(params):
        return {n: p.repeat(3, *[1] * (p.ndim - 1)) if n in rows else p for n, p in params.items()}

    grads, _ = maml.meta_gradient(params, episodes)
    expected, _ = loop_meta_gradient(
        model, params, episodes, inner_lr=0.2, inner_steps=3, expand=expand
    )
    assert relative_error(grads, expected) < 1e-10


def test_shared_head_does_not_care_which_class_has_which_label():
    maml = MAML(shared_model(), 0.2, 2)
    params, episodes = maml.init_params(), random_episodes()
    swap = torch.tensor([2, 0, 1])
    swapped = Episodes(
        episodes.support_x, swap[episodes.support_y], episodes.query_x, swap[episodes.query_y]
    )
    one, other = maml.meta_gradient(params, episodes)[0], maml.meta_gradient(params, swapped)[0]
    assert relative_error(one, other) < 1e-10


@pytest.mark.parametrize("n_way", [2, 3, 7])
def test_shared_head_takes_any_number_of_ways(n_way):
    maml = MAML(shared_model(), 0.2, 1)
    params, episodes = maml.init_params(), random_episodes(n_way=n_way)
    grads, _ = maml.meta_gradient(params, episodes)
    assert {n: g.shape for n, g in grads.items()} == {n: p.shape for n, p in params.items()}
    task = episodes.task(0)
    adapted = maml.adapt(params, task.support_x, task.support_y)
    assert maml.query_outputs(adapted, task.support_x, task.query_x).shape[1] == n_way


def test_clipping_bounds_each_inner_step():
    model = NormNet("none").double()
    task = random_episodes(tasks=1).task(0)
    maml = MAML(model, 1.0, 3, inner_max_norm=0.01)
    steps = list(maml.inner_loop(maml.init_params(), task.support_x, task.support_y))
    for before, after in itertools.pairwise(steps):
        moved = sum((after[n] - before[n]).square().sum() for n in before).sqrt()
        assert moved.item() == pytest.approx(0.01, rel=1e-9)


def test_per_shot_reduction_is_n_way_times_the_mean():
    model = NormNet("none").double()
    episodes = random_episodes()
    mean = MAML(model, 0.3, 2)
    per_shot = MAML(model, 0.1, 2, inner_reduction="per_shot")
    params = mean.init_params()
    assert (
        relative_error(
            per_shot.meta_gradient(params, episodes)[0], mean.meta_gradient(params, episodes)[0]
        )
        < 1e-12
    )


def test_support_mode_judges_each_query_alone():
    model = Conv4(3, width=4, image_size=16).double()
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    task = random_episodes(tasks=1, k_query=4).task(0)
    for bn, alone in (("support", True), ("transductive", False)):
        maml = MAML(model, 0.1, 2, bn=bn)
        fast = maml.adapt(maml.init_params(), task.support_x, task.support_y)
        together = maml.query_outputs(fast, task.support_x, task.query_x)
        half = maml.query_outputs(fast, task.support_x, task.query_x[:2])
        assert torch.allclose(together[:2], half, rtol=1e-10) is alone


def test_running_statistics_are_refused_by_name_with_the_way_out():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(UserError, match=r"'1' \(BatchNorm2d\).*replace_batch_norm"):
        MAML(model)
    fixed = innerloop.models.replace_batch_norm(model)
    MAML(fixed)


def test_foreign_batch_norm_cannot_do_support_mode():
    with pytest.raises(UserError, match="norm1"):
        MAML(NormNet("batch"), bn="support")


@pytest.mark.parametrize(
    "wrong",
    [
        {"inner_lr": 0.0},
        {"inner_lr": -1.0},
        {"inner_steps": 0},
        {"inner_max_norm": 0.0},
        {"inner_reduction": "sum"},
        {"bn": "running"},
        {"second_order_from": 2.0},
        {"chunk_size": 0},
    ],
)
def test_values_out_of_range(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        MAML(MLP(4, 3), **wrong)


def test_adaptation_lowers_the_support_loss():
    model = shared_model()
    task = random_episodes(tasks=1).task(0)
    maml = MAML(model, 0.05, 1, inner_reduction="per_shot")
    losses = [
        maml.loss(maml.forward(fast, task.support_x), task.support_y).item()
        for fast in maml.inner_loop(
            maml.init_params(), task.support_x, task.support_y, inner_steps=4
        )
    ]
    assert len(losses) == 5
    assert losses == sorted(losses, reverse=True)


def test_shared_head_is_one_row():
    assert SharedHead(7).weight.shape == (1, 7)
