"""Derivatives of batch norm with pooling and leaky ReLU: finite differences."""

import pytest
import torch

from innerloop.ops import autograd
from tests.ops.autograd.derivatives import checked, rand


@pytest.mark.parametrize("tasks", [(), (2,)])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("slope", [1.0, 0.0, 0.1])
@pytest.mark.parametrize("first", [None, 1, 2])
def test_derivatives_of_norm(tasks, pool, slope, first):
    x, gamma, beta = rand(*tasks, 3, 16, 5, 4), rand(*tasks, 16), rand(*tasks, 16, seed=1)
    how = {"pool": pool, "slope": slope, "first": first}
    checked(lambda *inputs: autograd.batch_norm(*inputs, 1e-5, **how), x, gamma, beta)


def test_third_derivatives_are_refused():
    x, one = rand(2, 16, 3, 3), rand(16)

    def gradient(x):
        return torch.func.grad(
            lambda x: autograd.batch_norm(x, one, one, 1e-5, pool=False, slope=1.0).pow(3).sum()
        )(x)

    def second(x):
        return torch.func.grad(lambda x: gradient(x).pow(2).sum())(x)

    second(x)
    with pytest.raises(NotImplementedError, match="INNERLOOP_KERNELS=0"):
        torch.func.grad(lambda x: second(x).sum())(x)
