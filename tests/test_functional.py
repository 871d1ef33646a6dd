"""The inner loop on functions whose descent can be written down."""

from __future__ import annotations

import pytest
import torch

from innerloop.functional import accuracy, adapt_steps, clip_norm, norm


def square(p):
    return (p["w"] ** 2).sum() + 3 * p["b"].sum()


def start():
    return {"w": torch.tensor([1.0, -2.0]), "b": torch.tensor([0.5])}


def test_descent_by_hand():
    steps = list(adapt_steps(square, start(), inner_lr=0.25, inner_steps=2))
    assert [s["w"].tolist() for s in steps] == [[1.0, -2.0], [0.5, -1.0], [0.25, -0.5]]
    assert [s["b"].item() for s in steps] == [0.5, -0.25, -1.0]


def test_no_steps_give_the_start():
    params = start()
    steps = list(adapt_steps(square, params, inner_lr=0.25, inner_steps=0))
    assert len(steps) == 1
    assert steps[0] is params


def test_a_rate_for_each_parameter():
    rates = {"w": torch.tensor([0.5, 0.0]), "b": 0.0}
    *_, last = adapt_steps(square, start(), inner_lr=rates, inner_steps=1)
    assert last["w"].tolist() == [0.0, -2.0]
    assert last["b"].item() == 0.5


def test_parameters_passed_in_are_not_changed():
    params, before = start(), start()
    list(adapt_steps(square, params, inner_lr=0.1, inner_steps=3, max_norm=1.0))
    assert all(torch.equal(params[n], before[n]) for n in params)


def test_clip_norm():
    gradient = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}
    assert norm(gradient).item() == 5
    assert norm(clip_norm(gradient, 1.0)).item() == pytest.approx(1.0)
    assert torch.equal(clip_norm(gradient, 6.0)["a"], gradient["a"])
    zero = {"a": torch.zeros(2)}
    assert torch.equal(clip_norm(zero, 1.0)["a"], zero["a"])
    assert clip_norm({"a": torch.tensor([float("nan")])}, 1.0)["a"].isnan().all()


def test_accuracy():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]])
    assert accuracy(logits, torch.tensor([0, 1, 1])).item() == pytest.approx(2 / 3)
