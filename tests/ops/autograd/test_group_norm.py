"""The compiled norms of each image: against PyTorch's, and by finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F

from innerloop.ops import autograd
from tests.ops.autograd.derivatives import rand


@pytest.fixture(autouse=True)
def every_build(compiled):
    """With each build of the kernels."""


def layer_norm(x, weight, bias, eps):
    scale, shift = (v.view(len(v), *[1] * (x.ndim - 2), -1) for v in (weight, bias))
    return F.layer_norm(x, x.shape[-1:], eps=eps) * scale + shift


def groups_of(number, group):
    """The norm by so many groups of so many channels: ours, and PyTorch's."""

    def ours(x, weight, bias, eps):
        return autograd.group_norm(x, weight, bias, number, group, eps)

    def theirs(x, weight, bias, eps):
        known = x[:, :, : number * group]
        y = F.group_norm(known.flatten(0, 1), number, eps=eps).view(known.shape)
        y = F.pad(y, (0, 0, 0, 0, 0, x.shape[2] - number * group))
        return y * weight[:, None, :, None, None] + bias[:, None, :, None, None]

    return ours, theirs


# Our norm, PyTorch's, and a shape of inputs.
NORMS = {
    "a row": (autograd.layer_norm, layer_norm, (1, 1, 16)),
    "rows": (autograd.layer_norm, layer_norm, (3, 33, 48)),
    "places": (autograd.layer_norm, layer_norm, (2, 5, 7, 64)),
    "many rows": (autograd.layer_norm, layer_norm, (4, 130, 32)),
    "one group": (*groups_of(1, 32), (2, 3, 32, 5, 7)),
    "groups": (*groups_of(4, 12), (2, 3, 48, 9, 9)),
    "instances": (*groups_of(32, 1), (3, 2, 32, 1, 11)),
    "filled up": (*groups_of(4, 5), (2, 3, 32, 3, 4)),
    "few of many": (*groups_of(1, 8), (1, 2, 16, 1, 1)),
}


@pytest.fixture(params=NORMS)
def norm(request):
    """Ours and PyTorch's, and a maker of inputs, weights and biases."""
    *both, shape = NORMS[request.param]
    channels = shape[2] if len(shape) == 5 else shape[-1]
    shapes = shape, *[(shape[0], channels)] * 2
    return *both, lambda dtype: [rand(*s).detach().to(dtype).requires_grad_() for s in shapes]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-4)])
@pytest.mark.parametrize("threads", [1, 3])
def test_is_that_of_pytorch(norm, threads, dtype, tolerance):
    """Outputs, gradients and their gradients."""
    *both, make = norm
    of, before = make(dtype), torch.get_num_threads()
    dy = rand(*of[0].shape).detach().to(dtype).requires_grad_()
    tangent = [rand(*t.shape).detach().to(dtype) for t in of]
    found = []
    torch.set_num_threads(threads)
    try:
        for function in both:
            y = function(*of, 1e-2)
            first = torch.autograd.grad(y, of, dy, create_graph=True)
            second = torch.autograd.grad(first, (of[0], of[1], dy), tangent)
            found.append([t.detach() for t in (y, *first, *second)])
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


def test_the_number_of_threads_changes_nothing(norm):
    ours, _, make = norm
    of, before, found = make(torch.float32), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            y = ours(*of, 1e-5)
            first = torch.autograd.grad(y.sin().sum(), of, create_graph=True)
            found.append((y, *first, *torch.autograd.grad(sum(t.sin().sum() for t in first), of)))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


SMALL = {
    "layer": (autograd.layer_norm, (2, 3, 16)),
    "group": (groups_of(3, 5)[0], (2, 2, 16, 2, 3)),
}


@pytest.mark.parametrize("kind", SMALL)
def test_four_derivatives(kind):
    """PyTorch's third derivative of layer norm is wrong (2.13)."""
    function, shape = SMALL[kind]

    def whole(*of):
        return function(*of, 1e-2)

    def first(*of):
        return torch.autograd.grad(whole(*of).sin().sum(), of, create_graph=True)

    of = rand(*shape), rand(2, 16), rand(2, 16)
    for of_which in (whole, first):
        assert torch.autograd.gradcheck(of_which, of, fast_mode=True)
        assert torch.autograd.gradgradcheck(of_which, of, fast_mode=True)


def test_a_derivative_that_is_not_wanted_is_none():
    x, gamma, beta = rand(2, 3, 16), rand(2, 16).detach(), rand(2, 16).detach()
    (first,) = torch.autograd.grad(
        autograd.layer_norm(x, gamma, beta, 1e-2).sin().sum(), x, create_graph=True
    )
    (second,) = torch.autograd.grad(first.sin().sum(), x, create_graph=True)
    assert torch.autograd.grad(second.sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_seen(value):
    ours, theirs = groups_of(4, 4)
    vectors = [rand(1, 16).detach() for _ in range(2)]
    x, images = rand(1, 3, 16).detach(), rand(1, 3, 16, 2, 2).detach()
    x[0, 1, 2] = images[0, 1, 2, 0, 1] = value
    for of, (a, b) in ((x, (autograd.layer_norm, layer_norm)), (images, (ours, theirs))):
        found, expected = a(of, *vectors, 1e-5).isnan(), b(of, *vectors, 1e-5).isnan()
        assert torch.equal(found, expected)
        assert found.any()
        assert not found.all()


@pytest.mark.parametrize("kind", SMALL)
def test_what_does_not_vary(kind):
    function, shape = SMALL[kind]
    assert not function(torch.full(shape, 1e4), torch.ones(2, 16), torch.zeros(2, 16), 1e-5).any()


def test_wherever_numbers_lie():
    x, vectors = rand(16, 9, 2).permute(2, 1, 0), rand(16, 2).mT
    y = autograd.layer_norm(x, vectors, vectors, 1e-5)
    torch.testing.assert_close(y, layer_norm(x, vectors, vectors, 1e-5))
    ours, theirs = groups_of(2, 8)
    images = rand(16, 3, 4, 2, 2).permute(3, 4, 0, 2, 1)
    y, expected = (f(images, vectors, vectors, 1e-5) for f in (ours, theirs))
    torch.testing.assert_close(y, expected)
