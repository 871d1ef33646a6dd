"""Transposed convolutions of all tasks, compared with those of each."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from innerloop.ops.stacked import Stacked, apart, blocks, calls
from tests.ops.stacked.operations import needs_kernels

TASKS, ROWS = 2, 3


def _of_each(function, x, w, b, how):
    return torch.stack([function(x[t], w[t], b[t], **how) for t in range(len(x))])


def _together(function, x, w, b, how):
    with calls():
        return apart(function(Stacked(x), Stacked(w), Stacked(b), **how), TASKS)


def _compared(function, shapes, how):
    """Values, first and second derivatives, against those of one task at a time."""
    generator = torch.Generator().manual_seed(0)
    given = [
        torch.randn(TASKS, *shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    ]
    found = []
    for way in (_together, _of_each):
        y = way(function, *given, how)
        first = torch.autograd.grad((y * y.cos()).sum(), given, create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), given)
        found.append((y, *first, *second))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * float(b.detach().abs().max() + 1))


@given(
    axes=st.sampled_from([1, 2]),
    inputs=st.sampled_from([3, 16, 32]),
    outputs=st.sampled_from([1, 5, 16, 24]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    beyond=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_a_transposed_convolution_of_all_tasks_is_that_of_each(
    axes, inputs, outputs, kernel, stride, padding, beyond, size
):
    kernel, padding, beyond, size = (v[:axes] for v in (kernel, padding, beyond, size))
    assume(max(beyond) < stride)
    each = zip(size, kernel, padding, beyond, strict=True)
    assume(min((n - 1) * stride + k - 2 * p + more for n, k, p, more in each) > 0)
    function = F.conv_transpose1d if axes == 1 else F.conv_transpose2d
    shapes = (ROWS, inputs, *size), (inputs, outputs, *kernel), (outputs,)
    how = {"stride": stride, "padding": padding, "output_padding": beyond}
    _compared(function, shapes, how)


@pytest.mark.parametrize("how", [{"dilation": 2}, {"stride": (1, 2)}, {"groups": 2}])
def test_one_that_no_kernel_serves_is_that_of_each(how):
    outputs = 8 // how.get("groups", 1)
    _compared(F.conv_transpose2d, ((ROWS, 16, 4, 5), (16, outputs, 2, 3), (8,)), how)


@needs_kernels
def test_kernels_serve_what_decoders_are_made_of(monkeypatch):
    served = []
    transposed = blocks.transposed
    monkeypatch.setattr(
        blocks, "transposed", lambda *given: served.append(transposed(*given)) or served[-1]
    )
    x, w, b = (torch.randn(TASKS, *shape) for shape in ((3, 32, 8, 8), (32, 16, 2, 2), (16,)))
    _together(F.conv_transpose2d, x, w, b, {"stride": 2})
    _together(F.conv_transpose1d, x[..., 0], w[..., 0], b, {"stride": 2})
    assert [None if y is None else y.shape[-2:] for y in served] == [(16, 16), (1, 16)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"output_padding": 1}, "output padding must be smaller"),
        ({"padding": -1}, "negative padding"),
        ({"stride": 0}, "non-positive stride"),
    ],
)
def test_what_makes_no_sense_is_refused_as_for_one_task(wrong, said):
    x, w, b = (torch.randn(TASKS, *shape) for shape in ((3, 16, 4, 4), (16, 16, 2, 2), (16,)))
    with pytest.raises(RuntimeError) as refused:
        _together(F.conv_transpose2d, x, w, b, wrong)
    assert said in str(refused.value) + str(refused.value.__cause__)


@pytest.mark.parametrize("function", [F.conv_transpose1d, F.conv_transpose2d])
@pytest.mark.parametrize("size", [1, 19, 32])
def test_a_bias_of_another_size_gets_the_error_of_pytorch(function, size):
    axes = 1 if function is F.conv_transpose1d else 2
    given = torch.ones(2, 8, *[5] * axes), torch.ones(8, 20, *[3] * axes), torch.ones(size)
    with pytest.raises(RuntimeError) as wanted:
        function(*given)
    with pytest.raises(RuntimeError) as found:
        _together(function, *(t.expand(TASKS, *t.shape) for t in given), {})
    assert str(found.value) == str(wanted.value)
