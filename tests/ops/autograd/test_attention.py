"""The compiled attention: against PyTorch's operators, its derivatives by finite differences."""

import math

import pytest
import torch

from innerloop.ops import autograd
from innerloop.ops.autograd.attention import side_by_side
from innerloop.ops.cpu import attention as kernel
from tests.ops.autograd.derivatives import rand

SHAPES = [(28, 4, 16), (1, 1, 16), (16, 1, 32), (17, 2, 48), (100, 2, 64)]


@pytest.fixture(autouse=True)
def every_build(compiled):
    """With each build of the kernels."""


def plain(q, k, v, scale):
    return (q * scale @ k.mT).softmax(-1) @ v


def heads(x, unbind=torch.unbind):
    """Queries, keys and values from `[..., S, 3, heads, d]`."""
    return [t.transpose(-2, -3) for t in unbind(x, -3)]


def both(x, scale):
    """Outputs, gradients and second derivatives by the kernels and by PyTorch."""
    x = x.requires_grad_()
    y, expected = autograd.attention(*heads(x, autograd.unbind), scale), plain(*heads(x), scale)
    dy, tangent = torch.randn_like(y).requires_grad_(), torch.randn_like(x)
    all_of = []
    for out in (y, expected):
        (first,) = torch.autograd.grad(out, x, dy, create_graph=True)
        all_of.append((out, first, *torch.autograd.grad(first, (x, dy), tangent)))
    return all_of


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-5)])
@pytest.mark.parametrize(("length", "number", "width"), SHAPES)
def test_is_that_of_pytorch(length, number, width, dtype, tolerance):
    found, expected = both(rand(2, 3, length, 3, number, width).detach().to(dtype), 0.3)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(
            a, b, rtol=tolerance, atol=tolerance * float(b.detach().abs().max())
        )


@pytest.mark.parametrize("scale", [200.0, -200.0, 0.0])
def test_large_scores_leave_one(scale):
    """What is far below the greatest score counts for nothing, and no number overflows."""
    found, expected = both(rand(1, 2, 19, 3, 1, 16).detach(), scale)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_seen(value):
    x = torch.randn(1, 1, 5, 3, 2, 16)
    x[0, 0, 3, 1, 0, 2] = value
    assert torch.equal(autograd.attention(*heads(x), 1.0).isnan(), plain(*heads(x), 1.0).isnan())


def test_two_derivatives():
    def whole(x):
        return autograd.attention(*heads(x, autograd.unbind), 0.25)

    x = rand(1, 2, 5, 3, 2, 16)
    assert torch.autograd.gradcheck(whole, x)
    assert torch.autograd.gradgradcheck(whole, x)


def test_two_more_derivatives():
    def first(x):
        y = autograd.attention(*heads(x, autograd.unbind), 0.25)
        return torch.autograd.grad(y.sin().sum(), x, create_graph=True)

    assert torch.autograd.gradgradcheck(first, rand(1, 2, 5, 3, 2, 16), fast_mode=True)


def test_the_number_of_threads_changes_nothing():
    x, before, found = rand(2, 7, 19, 3, 2, 16), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            y = autograd.attention(*heads(x, autograd.unbind), 0.25)
            (first,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
            found.append((y, first, *torch.autograd.grad(first.sin().sum(), x)))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_wherever_the_parts_lie():
    """Not beside each other, and not with the channels innermost."""
    q, k, v = rand(2, 3, 4, 9, 16), rand(2, 3, 9, 4, 16).transpose(2, 3), rand(2, 3, 4, 16, 9).mT
    y = autograd.attention(q, k, v, 0.5)
    torch.testing.assert_close(y, plain(q, k, v, 0.5))
    derivatives = []
    for out in (y, plain(q, k, v, 0.5)):
        first = torch.autograd.grad(out.sin().sum(), (q, k), create_graph=True)
        second = torch.autograd.grad(sum(t.sin().sum() for t in first), (q, v))
        derivatives.append((*first, *second))
    for a, b in zip(*derivatives, strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_side_by_side_are_not_copied():
    whole = torch.randn(4, 5, 3, 6)
    found = side_by_side(whole.unbind(2), 2)
    assert torch.equal(found, whole)
    assert found.data_ptr() == whole.data_ptr()
    first, second, third = whole.unbind(2)
    for apart in ((second, first, third), (first, third, third), (first, second, third.clone())):
        assert side_by_side(apart, 2) is None
    assert side_by_side((first,), 2) is None


def test_unbind_is_that_of_pytorch():
    x = rand(2, 3, 4)
    for dim in (0, 1, -1):
        assert all(map(torch.equal, autograd.unbind(x, dim), x.unbind(dim)))
        (found,) = torch.autograd.grad(
            sum((i + t) ** 2 for i, t in enumerate(x.unbind(dim))).sum(), x
        )
        parts = autograd.unbind(x, dim)
        (own,) = torch.autograd.grad(sum((i + t) ** 2 for i, t in enumerate(parts)).sum(), x)
        assert torch.equal(found, own)


def test_what_does_not_fit_is_refused():
    q, k = torch.randn(2, 1, 5, 16), torch.randn(2, 1, 6, 16)
    assert not kernel.serves(q, k, k)
    for tensors in ((q, k, k), (q[..., :8], q[..., :8], q[..., :8]), (q[0], q[0], q[0])):
        with pytest.raises(RuntimeError, match="of tensors of shape"):
            kernel.forward(*tensors, 1.0)
    with pytest.raises(RuntimeError, match="gradient of attention"):
        kernel.backward(q, q, q, torch.randn(2, 1, 5, 16), 1.0)
    dy = q.transpose(1, 2)
    with pytest.raises(RuntimeError, match="gradient of attention"):
        kernel.second(q, q, q, dy[:, :4], (q, q, q), 1.0)
    with pytest.raises(RuntimeError, match="of tensors of shape"):
        kernel.second(q, q, q, dy, (q, k, k), 1.0)
    for other in (k, q.double()):
        with pytest.raises(RuntimeError, match="stands for gradients"):
            kernel.second(q, q, q, dy, (other, other, other), 1.0)
