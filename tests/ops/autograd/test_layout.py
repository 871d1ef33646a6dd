"""Order in memory, and every transform of torch.func."""

import pytest
import torch

from innerloop import ops
from innerloop.ops import autograd, kernels
from tests.ops.autograd.derivatives import block, loss, plain_block, rand


def two_layers(x, w, gamma, beta):
    return ops.batch_norm(ops.conv2d(x, w, padding=1), gamma, beta, 1e-5, pool=True, slope=0.0)


T = 3


ARGUMENTS = {
    "x": (T, 4, 16, 5, 5),
    "w": (T, 16, 16, 3, 3),
    "gamma": (T, 16),
    "beta": (T, 16),
}


@pytest.mark.parametrize("inputs", [1, 16])
@pytest.mark.parametrize("block", [block, two_layers])
@pytest.mark.parametrize("shared", [(), ("x",), ("w",), ("gamma", "beta"), ("w", "gamma", "beta")])
def test_vmap_of_a_second_derivative(shared, block, inputs):
    shapes = {**ARGUMENTS, "x": (T, 4, inputs, 5, 5), "w": (T, 16, inputs, 3, 3)}
    tensors = {
        name: rand(*(shape[1:] if name in shared else shape), requires_grad=False)
        for name, shape in shapes.items()
    }
    dims = tuple(None if name in shared else 0 for name in ARGUMENTS)

    def after_a_step(block, x, w, gamma, beta):
        grads = torch.func.grad(lambda *p: loss(block, x, *p), argnums=(0, 1, 2))(w, gamma, beta)
        moved = (p - 0.3 * g for p, g in zip((w, gamma, beta), grads, strict=True))
        return loss(block, x, *moved)

    def gradients(block, *a):
        return torch.func.grad(lambda *a: after_a_step(block, *a), argnums=(0, 1, 2, 3))(*a)

    ours = torch.func.vmap(lambda *a: gradients(block, *a), in_dims=dims)(*tensors.values())
    for task in range(T):
        one = [t if d is None else t[task] for t, d in zip(tensors.values(), dims, strict=True)]
        expected = gradients(plain_block, *one)
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a[task], b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("inputs", [1, 16])
def test_the_derivative_of_a_vmap_reaches_its_inputs(inputs):
    """Inside vmap its inputs do not look as if they required a gradient."""
    x, w = rand(T, 4, inputs, 5, 5, requires_grad=False), rand(*ARGUMENTS["w"][:2], inputs, 3, 3)
    one = torch.ones(T, 16, dtype=torch.float64)

    def total(block, x, w):
        return torch.func.vmap(lambda *a: loss(block, *a))(x, w, one, one).sum()

    def second(block, x, w):
        def along_w(w):
            return torch.func.grad(lambda x: total(block, x, w))(x)

        return torch.func.jvp(along_w, (w,), (w.cos(),))[1]

    for derivative in (
        lambda b: torch.func.grad(lambda x: total(b, x, w.detach()))(x),
        lambda b: second(b, x, w.detach()),
    ):
        torch.testing.assert_close(derivative(block), derivative(plain_block))


@pytest.mark.parametrize("inputs", [1, 16])
def test_vmap_in_vmap(inputs):
    x = rand(2, 3, 2, inputs, 4, 4, requires_grad=False)
    w = rand(3, 16, inputs, 3, 3, requires_grad=False)
    one = torch.ones(16, dtype=torch.float64)
    inner = torch.func.vmap(lambda x, w: block(x, w, one, one))
    ours = torch.func.vmap(inner, in_dims=(0, None))(x, w)
    for i in range(2):
        for j in range(3):
            expected = plain_block(x[i, j], w[j], one, one)
            torch.testing.assert_close(ours[i, j], expected)


def test_arranged_weights_are_the_same_and_need_no_copy():
    w = rand(32, 16, 3, 3, requires_grad=False)
    arranged = autograd.arranged(w)
    assert torch.equal(arranged, w)
    assert kernels.weights(arranged).data_ptr() == arranged.data_ptr()
    many = arranged.expand(5, *w.shape)
    assert kernels.weights(many).data_ptr() == arranged.data_ptr()
    line = rand(32, 16, 5, requires_grad=False)
    arranged = autograd.arranged(line)
    assert torch.equal(arranged, line)
    assert kernels.weights(arranged.unsqueeze(-2)).data_ptr() == arranged.data_ptr()


def test_operations_go_past_the_search_for_defaults_or_not_to_the_same_end(monkeypatch):
    x, w = rand(2, 16, 5, 4), rand(16, 16, 3, 3)

    def gradients():
        return torch.autograd.grad(autograd.conv2d(x, w, 1, 1).square().sum(), [x, w])

    direct = gradients()
    # As in a PyTorch without the private function.
    monkeypatch.setattr(kernels, "in_transform", lambda: True)
    assert all(torch.equal(a, b) for a, b in zip(gradients(), direct, strict=True))


def test_what_has_left_a_transform_is_a_tensor_like_others():
    x, w = rand(2, 16, 5, 4, requires_grad=False), rand(16, 16, 3, 3, requires_grad=False)
    left = []

    def leaky(x):
        left.append(x)
        return x.sum()

    torch.func.grad(leaky)(x)
    assert torch.equal(autograd.conv2d(left[0], w, 1, 1), autograd.conv2d(x, w, 1, 1))
    xs, ws, ones = x.expand(3, *x.shape), w.expand(3, *w.shape), torch.ones(3, 16).double()
    many = torch.func.vmap(lambda x, w, g: block(x, w, g, g))
    for function, arguments in (
        (lambda x, w: autograd.conv2d(x, w, 1, 1), (x, w)),
        (lambda x, w, g: block(x, w, g, g), (xs, ws, ones)),
        (lambda x, g: autograd.batch_norm(x, g, g, 1e-5, pool=False, slope=0.0), (xs, ones)),
        (many, (xs, ws, ones)),
    ):
        # The function that vjp returns is called when the transform is over.
        y, pullback = torch.func.vjp(function, *arguments)
        _, direct = torch.autograd.functional.vjp(function, arguments, torch.ones_like(y))
        for ours, theirs in zip(pullback(torch.ones_like(y)), direct, strict=True):
            torch.testing.assert_close(ours, theirs)
