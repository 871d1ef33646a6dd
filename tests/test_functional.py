"""The inner loop on functions whose descent can be written down."""

from __future__ import annotations

import pytest
import torch

import innerloop
from innerloop.functional import accuracy, clip_norm, gradient, gradients, inner_step, norm


def square(p):
    return (p["w"] ** 2).sum() + 3 * p["b"].sum()


def start():
    return {"w": torch.tensor([1.0, -2.0]), "b": torch.tensor([0.5])}


def test_descent_by_hand():
    first = inner_step(square, start(), inner_lr=0.25)
    second = inner_step(square, first, inner_lr=0.25)
    assert [s["w"].tolist() for s in (first, second)] == [[0.5, -1.0], [0.25, -0.5]]
    assert [s["b"].item() for s in (first, second)] == [-0.25, -1.0]


def test_the_old_inner_loop_takes_these_steps_and_names_the_new_one():
    with pytest.warns(DeprecationWarning, match="inner_step"):
        steps = list(innerloop.adapt_steps(square, start(), inner_lr=0.25, inner_steps=2))
    assert [s["w"].tolist() for s in steps] == [[1.0, -2.0], [0.5, -1.0], [0.25, -0.5]]


def test_a_rate_for_each_parameter():
    rates = {"w": torch.tensor([0.5, 0.0]), "b": 0.0}
    last = inner_step(square, start(), inner_lr=rates)
    assert last["w"].tolist() == [0.0, -2.0]
    assert last["b"].item() == 0.5


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ("fast", "learning rate of w is of type str: give a number"),
        (None, "learning rate of w is of type NoneType"),
        (torch.ones(3), r"w has the shape \[3\], .* the parameter's, \[2\]"),
        (torch.ones(2, 2), r"w has the shape \[2, 2\]"),
        (torch.ones(4, 1), r"w has the shape \[4, 1\]"),
    ],
    ids=str,
)
def test_rates_that_do_not_fit_are_named(rate, message):
    for rates in ({"w": rate, "b": 0.1}, rate):
        with pytest.raises(innerloop.UserError, match=message):
            inner_step(square, start(), inner_lr=rates)


def test_a_gradient_is_made_as_short_as_it_may_be():
    """That of `square` is (2, -4, 3), of length 5.39."""
    short = inner_step(square, start(), inner_lr=1.0, max_norm=1.0)
    moved = torch.cat([start()[n] - short[n] for n in ("w", "b")])
    assert torch.allclose(moved, torch.tensor([2.0, -4.0, 3.0]) / 29**0.5)
    options = {"inner_lr": 1.0, "inner_steps": 1, "max_norm": 1.0, "first_order": True}
    with pytest.warns(DeprecationWarning, match="inner_step"):
        _, last = innerloop.adapt_steps(square, start(), **options)
    assert all(torch.equal(last[n], short[n]) for n in short)


def test_steps_are_detached_unless_they_are_to_be_differentiated():
    params = {n: p.requires_grad_() for n, p in start().items()}
    (slope,), _ = gradients(lambda p: (square(p), None), params)
    assert not any(g.requires_grad for g in slope.values())
    (slope,), _ = gradients(lambda p: (square(p), None), params, create_graph=True)
    assert slope["w"].requires_grad


def test_parameters_passed_in_are_not_changed():
    params, before = start(), start()
    inner_step(square, params, inner_lr=0.1, max_norm=1.0)
    assert all(torch.equal(params[n], before[n]) for n in params)


@pytest.mark.parametrize("inside", [False, True])
def test_a_step_is_differentiable_inside_transforms_and_outside(inside):
    """w' = w - 0.25 * 2 w = w / 2, so that the derivative of w'^2 is w / 2; without it w'."""

    def after(p, first_order):
        return (inner_step(square, p, inner_lr=0.25, first_order=first_order)["w"] ** 2).sum()

    for first_order, expected in ((False, [0.5, -1.0]), (True, [1.0, -2.0])):
        if inside:
            found = torch.func.grad(after)(start(), first_order)["w"]
        else:
            params = {n: p.requires_grad_() for n, p in start().items()}
            (found,) = torch.autograd.grad(after(params, first_order), [params["w"]])
        assert found.tolist() == expected


def test_what_a_loss_does_not_depend_on_has_a_gradient_of_zeros():
    params = start() | {"unused": torch.ones(2)}
    found = gradient(square, params)
    assert found["unused"].tolist() == [0, 0]
    assert gradient(lambda p: torch.ones(()), params)["w"].tolist() == [0, 0]


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
