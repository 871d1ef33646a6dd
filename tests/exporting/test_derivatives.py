"""The derivatives written out by hand equal autograd's."""

import pytest
import torch
import torch.nn.functional as F

from innerloop import UserError
from innerloop.exporting.derivatives import (
    WrittenOut,
    _convolution_backward,
    _max_pool_backward,
)
from innerloop.exporting.tracing import record


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 1, 1), (2, 1, 1), (3, 0, 2)])
@pytest.mark.parametrize("axes", [1, 2])
def test_the_derivatives_of_a_convolution(groups, stride, padding, dilation, axes):
    torch.manual_seed(0)
    size = (13, 12)[:axes]
    x = torch.randn(5, 4, *size, dtype=torch.double, requires_grad=True)
    w = torch.randn(6, 4 // groups, *(3, 2)[:axes], dtype=torch.double, requires_grad=True)
    b = torch.randn(6, dtype=torch.double, requires_grad=True)
    conv = F.conv1d if axes == 1 else F.conv2d
    y = conv(x, w, b, stride, padding, dilation, groups)
    dy = torch.randn_like(y)
    wanted = torch.autograd.grad(y, (x, w, b), dy)
    how = [stride] * axes, [padding] * axes, [dilation] * axes, False, [0] * axes, groups
    found = _convolution_backward(dy, x, w, [6], *how, (True, True, True))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_the_derivative_of_max_pooling():
    torch.manual_seed(0)
    x = torch.randn(3, 2, 7, 8, dtype=torch.double, requires_grad=True)
    y, places = F.max_pool2d(x, 3, 2, return_indices=True)
    dy = torch.randn_like(y)
    (wanted,) = torch.autograd.grad(y, x, dy)
    found = _max_pool_backward(dy, x, [3, 3], [2, 2], [0, 0], [1, 1], False, places)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(
    ("mode", "padding"), [("bilinear", "zeros"), ("nearest", "border"), ("bicubic", "reflection")]
)
def test_images_that_are_sampled_by_a_grid_are_recorded_with_their_derivative(mode, padding, align):
    torch.manual_seed(0)
    x = torch.randn(3, 2, 5, 6, dtype=torch.double)
    theta = torch.randn(3, 2, 3, dtype=torch.double)

    def gradient(x, theta):
        with torch.enable_grad():
            x, theta = x.detach().requires_grad_(), theta.detach().requires_grad_()
            grid = F.affine_grid(theta, list(x.shape), align_corners=align)
            y = F.grid_sample(x, grid, mode, padding, align_corners=align)
            return y, *torch.autograd.grad(y.sin().sum(), (x, theta), materialize_grads=True)

    recorded = record(gradient, x, theta)
    for found, wanted in zip(recorded(x, theta), gradient(x, theta), strict=True):
        torch.testing.assert_close(found, wanted)


def test_volumes_that_are_sampled_by_a_grid_are_refused():
    x, theta = torch.ones(1, 1, 2, 2, 2), torch.ones(1, 3, 4)
    with WrittenOut(), pytest.raises(UserError, match="images alone"):
        F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), align_corners=False)
