"""Max-pooling: the numbers of PyTorch, under every transform."""

import pytest
import torch
import torch.nn.functional as F

from innerloop.ops.autograd.max_pool import max_pool_2x2
from tests.ops.autograd.derivatives import checked, rand


@pytest.mark.parametrize("tasks", [(), (2,)])
@pytest.mark.parametrize("size", [(4, 6), (5, 3)])
def test_derivatives(tasks, size):
    checked(max_pool_2x2, rand(*tasks, 3, 2, *size))


def pytorch(x):
    return F.max_pool2d(x.flatten(0, -4), 2).unflatten(0, x.shape[:-3])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("tasks", [0, 2])
def test_vmap_in_vmap(layout, tasks):
    x = rand(6 * tasks, 3, 5, 4, requires_grad=False).contiguous(memory_format=layout)
    x = x.view(tasks, 3, 2, 3, 5, 4).transpose(0, 1)
    many = torch.func.vmap(torch.func.vmap(max_pool_2x2), in_dims=1)
    assert torch.equal(many(x), pytorch(x.transpose(0, 1)))

    def total(function, x):
        return (function(x) ** 3).sum()

    gradient = torch.func.grad(lambda x: total(many, x))(x)
    assert torch.equal(gradient, torch.func.grad(lambda x: total(pytorch, x))(x))


def test_the_second_derivative_of_a_vmap():
    x = rand(2, 3, 2, 4, 5, requires_grad=False)

    def curvature(function, x):
        gradient = torch.func.grad(lambda x: (function(x) ** 3).sum())
        return torch.func.jvp(gradient, (x,), (x.cos(),))[1]

    ours = torch.func.vmap(lambda x: curvature(max_pool_2x2, x))(x)
    assert torch.equal(ours, torch.stack([curvature(pytorch, one) for one in x]))
