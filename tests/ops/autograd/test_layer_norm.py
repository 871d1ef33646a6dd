"""The compiled layer norm: against PyTorch's, its derivatives by finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F

from innerloop.ops import autograd
from tests.ops.autograd.derivatives import rand


@pytest.fixture(autouse=True)
def every_build(compiled):
    """With each build of the kernels."""


def plain(x, weight, bias, eps):
    scale, shift = (v.view(len(v), *[1] * (x.ndim - 2), -1) for v in (weight, bias))
    return F.layer_norm(x, x.shape[-1:], eps=eps) * scale + shift


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("shape", [(1, 1, 16), (3, 33, 48), (2, 5, 7, 64), (4, 130, 32)])
@pytest.mark.parametrize("threads", [1, 3])
def test_is_that_of_pytorch(shape, threads, dtype, tolerance):
    before = torch.get_num_threads()
    of = [
        rand(*s).detach().to(dtype).requires_grad_() for s in (shape, *[(shape[0], shape[-1])] * 2)
    ]
    torch.set_num_threads(threads)
    try:
        y = autograd.layer_norm(*of, 1e-5)
        dy = torch.randn_like(y)
        found = y, *torch.autograd.grad(y, of, dy)
    finally:
        torch.set_num_threads(before)
    expected = plain(*of, 1e-5)
    expected = expected, *torch.autograd.grad(expected, of, dy)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-4)])
@pytest.mark.parametrize("shape", [(1, 1, 16), (3, 33, 48), (2, 5, 7, 64), (4, 130, 32)])
def test_its_second_derivative_is_that_of_pytorch(shape, dtype, tolerance):
    vectors = shape[0], shape[-1]
    of = [rand(*s).detach().to(dtype).requires_grad_() for s in (shape, vectors, vectors, shape)]
    tangent = [rand(*s).detach().to(dtype) for s in (shape, vectors, vectors)]
    found = []
    for norm in (autograd.layer_norm, plain):
        first = torch.autograd.grad(norm(*of[:3], 1e-2), of[:3], of[3], create_graph=True)
        found.append(torch.autograd.grad(first, (of[0], of[1], of[3]), tangent))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


def test_the_number_of_threads_changes_nothing():
    of = [rand(2, 200, 32), rand(2, 32), rand(2, 32)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            y = autograd.layer_norm(*of, 1e-5)
            first = torch.autograd.grad(y.sin().sum(), of, create_graph=True)
            found.append((y, *first, *torch.autograd.grad(sum(t.sin().sum() for t in first), of)))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_two_derivatives():
    def whole(*of):
        return autograd.layer_norm(*of, 1e-2)

    of = rand(2, 3, 16), rand(2, 16), rand(2, 16)
    how = {"fast_mode": True}
    assert torch.autograd.gradcheck(whole, of, **how)
    assert torch.autograd.gradgradcheck(whole, of, **how)


def test_two_more_derivatives():
    """PyTorch's third derivative of layer norm is wrong (2.13)."""

    def first(*of):
        y = autograd.layer_norm(*of, 1e-2)
        return torch.autograd.grad(y.sin().sum(), of, create_graph=True)

    of = rand(2, 3, 16), rand(2, 16), rand(2, 16)
    assert torch.autograd.gradgradcheck(first, of, fast_mode=True)


def test_a_derivative_that_is_not_wanted_is_none():
    x, gamma, beta = rand(2, 3, 16), rand(2, 16).detach(), rand(2, 16).detach()
    (first,) = torch.autograd.grad(
        autograd.layer_norm(x, gamma, beta, 1e-2).sin().sum(), x, create_graph=True
    )
    (second,) = torch.autograd.grad(first.sin().sum(), x, create_graph=True)
    assert torch.autograd.grad(second.sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_seen(value):
    of = [rand(1, 3, 16).detach(), rand(1, 16).detach(), rand(1, 16).detach()]
    of[0][0, 1, 2] = value
    assert torch.equal(autograd.layer_norm(*of, 1e-5).isnan(), plain(*of, 1e-5).isnan())


def test_rows_that_do_not_vary():
    of = [torch.full((1, 3, 16), 1e4), torch.ones(1, 16), torch.zeros(1, 16)]
    assert not autograd.layer_norm(*of, 1e-5).any()


def test_wherever_numbers_lie():
    x, vectors = rand(16, 9, 2).permute(2, 1, 0), rand(16, 2).mT
    y = autograd.layer_norm(x, vectors, vectors, 1e-5)
    torch.testing.assert_close(y, plain(x, vectors, vectors, 1e-5))


@pytest.mark.parametrize("channels", [1, 15, 20])
def test_other_numbers_of_channels_have_no_kernel(channels):
    assert autograd.layer_norm(rand(2, 3, channels), *[rand(2, channels)] * 2, 1e-5) is None


def test_other_types_have_no_kernel():
    x, vector = rand(2, 3, 16), rand(2, 16)
    assert autograd.layer_norm(x.bfloat16(), vector, vector, 1e-5) is None
    assert autograd.layer_norm(x, vector.float(), vector, 1e-5) is None
    assert autograd.layer_norm(x, None, vector, 1e-5) is None
