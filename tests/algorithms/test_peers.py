"""MAML's meta-gradient against `higher`, an independent library, in float64."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F

from innerloop import MAML
from tests.helpers import NormNet, random_episodes, relative_error

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # higher was made for an older PyTorch
    higher = pytest.importorskip("higher")


@pytest.mark.parametrize("norm", ["batch", "layer", "group", "none"])
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning:higher")
def test_meta_gradient_equals_that_of_higher(norm, first_order):
    model, episodes = NormNet(norm).double(), random_episodes()
    algorithm = MAML(model, 0.3, 3, first_order)
    grads, _ = algorithm.meta_gradient(algorithm.init_params(), episodes)

    inner = torch.optim.SGD(model.parameters(), lr=0.3)
    losses = []
    for i in range(episodes.num_tasks):
        task = episodes.task(i)
        with higher.innerloop_ctx(
            model, inner, copy_initial_weights=False, track_higher_grads=not first_order
        ) as (fast, steps):
            for _ in range(3):
                steps.step(F.cross_entropy(fast(task.support_x), task.support_y))
            loss = F.cross_entropy(fast(task.query_x), task.query_y)
            if first_order:
                # Without tracking, the result is the gradient at the adapted weights.
                losses.append(torch.autograd.grad(loss, list(fast.parameters())))
            else:
                losses.append(torch.autograd.grad(loss, list(model.parameters())))
    names = [name for name, _ in model.named_parameters()]
    expected = {
        name: torch.stack(parts).mean(0)
        for name, parts in zip(names, zip(*losses, strict=True), strict=True)
    }
    assert relative_error(grads, expected) < 1e-12
