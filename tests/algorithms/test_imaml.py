"""The implicit gradient where it is known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innerloop import IMAML, Episodes, UserError
from innerloop.algorithms.imaml import conjugate_gradient
from innerloop.functional import mean_squared_error
from innerloop.models import MLP
from tests.algorithms.networks import Product
from tests.helpers import relative_error


@pytest.mark.parametrize("strength", [0.3, 2.0])
def test_linear_regression_has_a_closed_form(strength):
    """With X the inputs, H = 2 X'X / m, and the minimum is (H + λ)⁻¹ (2 X'y / m + λ θ)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    y = torch.randn(2, 6, 1, generator=generator, dtype=torch.float64)
    q = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    t = torch.randn(2, 5, 1, generator=generator, dtype=torch.float64)
    model = nn.Linear(4, 1, bias=False).double()
    algorithm = IMAML(model, 0.1, 400, regularization=strength, cg_steps=4, loss=mean_squared_error)
    params = algorithm.init_params()
    theta = params["weight"].T
    expected = torch.zeros(4, 1, dtype=torch.float64)
    for i in range(2):
        matrix = 2 * x[i].T @ x[i] / 6 + strength * torch.eye(4, dtype=torch.float64)
        minimum = torch.linalg.solve(matrix, 2 * x[i].T @ y[i] / 6 + strength * theta)
        adapted = algorithm.adapt(params, x[i], y[i])["weight"].T
        torch.testing.assert_close(adapted, minimum)
        g = 2 * q[i].T @ (q[i] @ minimum - t[i]) / 5
        # d minimum / d theta = λ (H + λ)⁻¹ = (I + H/λ)⁻¹.
        expected += torch.linalg.solve(matrix, strength * g) / 2
    grads, _ = algorithm.meta_gradient(params, Episodes(x, y, q, t))
    assert relative_error(grads, {"weight": expected.T}) < 1e-8


def test_weights_outside_the_inner_loop_move_the_minimum_too():
    """y = head * body * x, the head adapted: the minimum is a function of the body."""
    algorithm = IMAML(
        Product(2.0, 1.0),
        0.05,
        200,
        adapted="head.*",
        regularization=2.0,
        loss=mean_squared_error,
    )
    one = torch.ones(1, 1, dtype=torch.float64)

    def loss(b, h):
        # The minimum of (hb - 1)^2 + (h - h0)^2 is (b + h0) / (b^2 + 1); query target 3.
        return ((b + h) / (b**2 + 1) * b - 3) ** 2

    b, h = torch.tensor([2.0, 1.0], dtype=torch.float64).requires_grad_().unbind()
    expected = torch.autograd.grad(loss(b, h), (b, h))
    params = algorithm.init_params()
    grads, metrics = algorithm.meta_gradient(params, Episodes(one, one, one, 3 * one))
    assert metrics["loss"].item() == pytest.approx(loss(b, h).item())
    assert grads["body.w"].item() == pytest.approx(expected[0].item())
    assert grads["head.w"].item() == pytest.approx(expected[1].item())


def test_conjugate_gradient_solves_in_as_many_steps_as_unknowns_and_then_rests():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    a = a @ a.T + torch.eye(5, dtype=torch.float64)
    # Of two tasks, one of which has nothing to solve.
    b = {"x": torch.randn(2, 5, generator=generator, dtype=torch.float64)}
    b["x"][1] = 0
    exact = {"x": torch.linalg.solve(a, b["x"].T).T}
    for steps in (5, 12):
        x = conjugate_gradient(lambda v: {"x": v["x"] @ a}, b, steps)
        assert relative_error(x, exact) < 1e-8
        assert x["x"][1].tolist() == [0] * 5


@pytest.mark.parametrize("wrong", [{"regularization": 0.0}, {"cg_steps": 0}])
def test_values_out_of_range(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        IMAML(MLP(4, 3), **wrong)
