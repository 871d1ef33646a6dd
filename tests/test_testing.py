"""`check_algorithm` passes ours, and catches algorithms that are wrong in the usual ways."""

from __future__ import annotations

import pytest
import torch

import innerloop
from innerloop.testing import check_algorithm
from tests.algorithms.contracts import CONTRACTS


@pytest.mark.parametrize("name", CONTRACTS)
def test_ours_pass(name):
    contract = CONTRACTS[name]
    check_algorithm(contract.make, is_gradient=contract.is_gradient)


class Writes(innerloop.MAML):
    def update(self, params, fast, gradient, step):
        for name in fast:
            params[name].mul_(0.9)
        return super().update(params, fast, gradient, step)


class Neighbours(innerloop.MAML):
    def meta_gradient(self, params, episodes, progress=1.0, *, keys=None):
        grads, metrics = super().meta_gradient(params, episodes, progress, keys=keys)
        return {name: g * episodes.num_tasks for name, g in grads.items()}, metrics


class Remembers(innerloop.MAML):
    calls = 0

    def meta_gradient(self, params, episodes, progress=1.0, *, keys=None):
        self.calls += 1
        grads, metrics = super().meta_gradient(params, episodes, progress, keys=keys)
        return {name: g * (1 + self.calls // 3) for name, g in grads.items()}, metrics


class Noisy(innerloop.MAML):
    def query_loss(self, params, task):
        loss, metrics = super().query_loss(params, task)
        return loss * (1 + 0.1 * torch.rand(())), metrics


class Names(innerloop.MAML):
    def meta_gradient(self, params, episodes, progress=1.0, *, keys=None):
        grads, metrics = super().meta_gradient(params, episodes, progress, keys=keys)
        return {f"my.{name}": g for name, g in grads.items()}, metrics


class OneStepMore(innerloop.MAML):
    def inner_loop(self, params, support_x, support_y, *, inner_steps=None, n_way=None):
        yield from super().inner_loop(
            params, support_x, support_y, inner_steps=inner_steps, n_way=n_way
        )
        yield params


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Writes, "changed|in-place|inplace"),
        (Neighbours, "not the mean"),
        (Remembers, "resumed|same call|not the mean"),
        (Noisy, "same call gives other numbers|not the mean"),
        (Names, "must have the names"),
        (OneStepMore, "steps"),
    ],
)
def test_what_is_wrong_is_caught(wrong, message):
    with pytest.raises((AssertionError, RuntimeError, ValueError), match=message):
        check_algorithm(lambda model: wrong(model, 0.1, 2))


def test_first_order_is_no_derivative():
    def make(model):
        return innerloop.MAML(model, 0.1, 2, first_order=True)

    with pytest.raises(AssertionError, match=r"is not the derivative.*is_gradient=False"):
        check_algorithm(make)
    check_algorithm(make, is_gradient=False)
