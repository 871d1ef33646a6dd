"""Derivatives of convolutions: finite differences."""

import pytest

from innerloop.ops import autograd
from tests.ops.autograd.derivatives import checked, rand


@pytest.mark.parametrize("tasks", [(), (2,)])
@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 2)])
@pytest.mark.parametrize("inputs", [2, 16])
def test_derivatives_of_convolution(tasks, stride, padding, inputs):
    x, w = rand(*tasks, 2, inputs, 5, 4), rand(*tasks, 16, inputs, 3, 3)
    checked(lambda x, w: autograd.conv2d(x, w, stride, padding), x, w)


@pytest.mark.parametrize("tasks", [(), (2,)])
@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 2)])
def test_derivatives_of_depthwise_convolution(tasks, stride, padding):
    x, w = rand(*tasks, 1, 16, 5, 4), rand(*tasks, 16, 1, 3, 3)
    checked(lambda x, w: autograd.conv2d(x, w, stride, padding, depthwise=True), x, w)
