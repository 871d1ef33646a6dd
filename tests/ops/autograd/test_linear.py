"""Linear layers of several tasks, by PyTorch's products and by those of the kernels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from innerloop import ops
from innerloop.ops import kernels


@pytest.fixture(params=["PyTorch's products", "kernels"])
def products(request, monkeypatch):
    monkeypatch.setattr(kernels, "_has_mkl", lambda: request.param != "kernels")
    # What pays for large layers is tested on small ones.
    monkeypatch.setattr(kernels, "_MANY", 1)


def given(rows, inputs, outputs, tasks=2):
    generator = torch.Generator().manual_seed(0)
    sizes = (tasks, rows, inputs), (tasks, outputs, inputs), (tasks, outputs)
    return [
        torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()
        for size in sizes
    ]


@pytest.mark.parametrize("outputs", [5, 16])
def test_each_task_has_its_own_layer(products, outputs):
    x, w, b = given(3, 16, outputs)
    found = ops.linear(x, w, b)
    expected = torch.stack([F.linear(*one) for one in zip(x, w, b, strict=True)])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ops.linear(x, w, None), expected - b[:, None])


@pytest.mark.parametrize("outputs", [5, 16])
def test_derivatives_are_those_of_finite_differences(products, outputs):
    of = given(2, 16, outputs)
    how = {"fast_mode": True}
    assert torch.autograd.gradcheck(ops.linear, of, check_forward_ad=True, **how)
    assert torch.autograd.gradgradcheck(ops.linear, of, **how)


def test_more_tasks_by_vmap(products):
    x, w, b = given(3, 16, 16, tasks=6)
    apart = [t.detach().unflatten(0, (2, 3)) for t in (x, w, b)]

    def loss(x, w, b):
        return ops.linear(x, w, b).tanh().sum()

    grad = torch.func.grad(loss, argnums=(0, 1))
    for axes in ((0, 0, 0), (0, None, 0)):
        of = [t if axis == 0 else t[0] for t, axis in zip(apart, axes, strict=True)]
        found = torch.func.vmap(grad, axes)(*of)
        for n in range(2):
            one = [t[n] if axis == 0 else t for t, axis in zip(of, axes, strict=True)]
            for a, expected in zip(found, grad(*one), strict=True):
                torch.testing.assert_close(a[n], expected)


def test_derivatives_of_weights_lie_as_weights_do(products):
    """Else the inner update takes them one by one from all over the memory."""
    x, w, b = given(3, 16, 32)
    (dw,) = torch.autograd.grad(ops.linear(x, w, b).square().sum(), [w], create_graph=True)
    assert dw.is_contiguous()
    (dw,) = torch.autograd.grad(dw.square().sum(), [w])
    assert dw.is_contiguous()
