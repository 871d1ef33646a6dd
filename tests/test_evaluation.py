"""What `evaluate` returns: computed again by hand, and described correctly."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from innerloop import MAML, EpisodeSampler, ProtoNet, SinusoidSampler, UserError, evaluate
from innerloop.data import random_images
from innerloop.models import MLP


def test_regression_is_judged_by_its_loss():
    sampler = SinusoidSampler(k_query=7, split="test")
    algorithm = MAML(MLP(1, 1, hidden=(8,), head="random"), 0.01, 2, loss=F.mse_loss)
    params = algorithm.init_params()
    result = evaluate(algorithm, params, sampler, tasks=6)
    losses = []
    for i in range(6):
        task = sampler.batch(i, 1).task(0)
        steps = algorithm.inner_loop(params, task.support_x, task.support_y)
        losses.append(
            [(algorithm.forward(p, task.query_x) - task.query_y).square().mean() for p in steps]
        )
    losses = torch.tensor(losses)
    assert result["metric"] == "loss"
    assert not any("accurac" in key for key in result)
    assert result["loss_per_step"] == pytest.approx(losses.mean(0).tolist(), rel=1e-5)
    halves = 1.96 * losses.std(0) / 6**0.5
    assert result["ci95_per_step"] == pytest.approx(halves.tolist(), rel=1e-4)
    assert result["losses"] == pytest.approx(losses[:, -1].tolist(), rel=1e-5)
    assert (result["loss"], result["ci95"]) == (
        result["loss_per_step"][-1],
        result["ci95_per_step"][-1],
    )
    last = evaluate(algorithm, params, sampler, tasks=6, every_step=False)
    assert last["loss"] == result["loss"]
    assert len(last["loss_per_step"]) == len(last["ci95_per_step"]) == 1


def test_an_algorithm_without_inner_loop_has_one_entry_and_says_so():
    sampler = EpisodeSampler(random_images(classes=10), n_way=3, k_query=2)
    algorithm = ProtoNet(MLP(784, 3, hidden=(8,)))
    result = evaluate(algorithm, algorithm.init_params(), sampler, tasks=4, inner_steps=3)
    assert len(result["accuracy_per_step"]) == len(result["ci95_per_step"]) == 1
    assert result["protocol"]["inner_steps"] == 0


@pytest.mark.parametrize(
    ("params", "tasks", "said"),
    [
        (None, SinusoidSampler(), "params must be weights, .* not NoneType"),
        ({}, SinusoidSampler(), "not an empty dict"),
        (
            "init",
            None,
            r"sampler must have a method batch\(start, count\), which NoneType does not",
        ),
    ],
)
def test_what_are_no_weights_and_no_tasks_is_named(params, tasks, said):
    algorithm = MAML(MLP(1, 1, hidden=(4,)), 0.01, loss=F.mse_loss)
    params = algorithm.init_params() if params == "init" else params
    with pytest.raises(UserError, match=said):
        evaluate(algorithm, params, tasks, tasks=2)
