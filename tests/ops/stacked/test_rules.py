"""Each rule for an axis of tasks, compared with the operation for one task at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import ops
from innerloop.ops import kernels
from innerloop.ops.stacked import NotStackableError, Stacked, apart, calls
from tests.ops.stacked.operations import IMAGES, OPERATIONS, needs_kernels

TASKS = 3


def together(function, given):
    with calls():
        return apart(function(*(Stacked(t) for t in given)), TASKS)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_of_all_tasks_is_that_of_each(name):
    function, *shapes = OPERATIONS[name]
    generator = torch.Generator().manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        given = [
            torch.randn((TASKS, *shape), generator=generator).requires_grad_() for shape in shapes
        ]
        wanted = torch.stack([function(*(t[i] for t in given)) for i in range(TASKS)])
        found = together(function, given)
        torch.testing.assert_close(found, wanted)

        def derivatives(out):
            options = {"materialize_grads": True, "allow_unused": True}
            weighted = (out * torch.cos(torch.arange(out.numel()).view(out.shape)) + out**2).sum()
            first = torch.autograd.grad(weighted, given, create_graph=True, **options)
            total = sum((g**2).sum() for g in first)
            return (*first, *torch.autograd.grad(total, given, **options))

        for a, b in zip(derivatives(found), derivatives(wanted), strict=True):
            scale = float(b.detach().abs().max())
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9 * max(scale, 100))
    finally:
        torch.set_default_dtype(before)


def _in_place_on(take, change=lambda v: v.mul_(2)):
    """Change a view of a tensor, and go on with the tensor; and the other way round."""

    def of_view(x):
        y = x * 1
        change(take(y))
        view = take(y)
        return y + view.sum()

    def of_tensor(x):
        y = x * 1
        view = take(y)
        change(y)
        return y + view.sum()

    return {"view": of_view, "tensor": of_tensor}


VIEWS = {
    "view": lambda y: y.view(-1),
    "flatten": lambda y: y.flatten(),
    "transpose": lambda y: y.transpose(0, 1),
    "turned": lambda y: y.T,
    "a row": lambda y: y[1],
    "rows": lambda y: y[:2],
    "parts": lambda y: y.chunk(2)[0],
    "parts of parts": lambda y: y.unsqueeze(0).unbind(0)[0].permute(1, 0),
    "narrow": lambda y: y.narrow(0, 0, 2),
    "contiguous": lambda y: y.contiguous(),
    "the same type": lambda y: y.to(y.dtype),
    "expanded": lambda y: y.expand_as(y),
    "without gradients": lambda y: y.detach(),
}


@pytest.mark.parametrize("of", ["view", "tensor"])
@pytest.mark.parametrize("name", VIEWS)
def test_what_was_written_through_another_view_is_refused(name, of):
    x = torch.randn(TASKS, 4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for change in (lambda v: v.mul_(2), lambda v: F.hardtanh(v, 0, 1, True), lambda v: v.zero_()):
        with pytest.raises(NotStackableError):
            together(_in_place_on(VIEWS[name], change)[of], [x])


@pytest.mark.parametrize(
    "take",
    [
        lambda y: y.flatten(),
        lambda y: y.ravel(),
        lambda y: y.reshape(-1),
        lambda y: y.reshape_as(y.new_empty(20)),
        lambda y: y.contiguous(),
    ],
)
def test_what_is_a_view_for_one_task_is_one_wherever_the_numbers_lie(take):
    # As the kernels leave images: in another order than those of one task.
    x = torch.randn(TASKS, 5, 4, generator=torch.Generator().manual_seed(0)).transpose(1, 2)
    for how in _in_place_on(take).values():
        with pytest.raises(NotStackableError):
            together(how, [x])


REFUSED = {
    "another shape in place": lambda x: (x * 1).t_(),
    "a look at a value": lambda x: x if x.sum() > 0 else -x,
    "a number": lambda x: x * float(x.sum()),
    "an array": lambda x: x + torch.from_numpy(x.detach().numpy()),
    "a write into a plain tensor": lambda x: torch.zeros(4, 5).copy_(x),
    "a row that is written": lambda x: _written(x),
    "random numbers": lambda x: x + torch.rand_like(x),
    "constants": lambda x: _constant(x),
    "an autograd function": lambda x: Doubled.apply(x),
    "renewed statistics": lambda x: F.batch_norm(x, torch.zeros(5), torch.ones(5), training=True),
}


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2


def _written(x):
    out = torch.zeros(4, 5)
    out[0] = x[0]
    return out


def _constant(x):
    with torch.no_grad():
        y = x * 2
    return x + y


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_for_all_tasks_is_refused(name):
    x = torch.randn(TASKS, 4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with pytest.raises(NotStackableError):
        together(REFUSED[name], [x])


@needs_kernels
def test_a_block_is_computed_in_one_go(monkeypatch):
    seen = []
    for name in ("conv_block", "conv2d", "batch_norm"):
        function = getattr(ops, name)

        def noted(*arguments, function=function, name=name, **options):
            seen.append((name, options.get("pool"), options.get("slope")))
            return function(*arguments, **options)

        monkeypatch.setattr(ops, name, noted)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16, track_running_stats=False),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 1, bias=False),
        nn.BatchNorm2d(16, track_running_stats=False),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
    )
    weights = {n: p.detach().expand(TASKS, *p.shape) for n, p in net.named_parameters()}
    with calls():
        given = {n: Stacked(p) for n, p in weights.items()}
        torch.func.functional_call(net, given, (Stacked(torch.randn(TASKS, 4, 1, 8, 8)),))
    assert seen == [("conv_block", True, 0.0), ("conv_block", False, 0.1)]


@needs_kernels
@pytest.mark.parametrize("padding", [1, "same"])
def test_kernels_take_depthwise_convolutions(monkeypatch, padding):
    seen = []
    forward = kernels.depthwise_forward
    monkeypatch.setattr(kernels, "depthwise_forward", lambda *a: seen.append(1) or forward(*a))
    net = nn.Conv2d(16, 16, 3, padding=padding, groups=16)
    weights = {n: Stacked(p.detach().expand(TASKS, *p.shape)) for n, p in net.named_parameters()}
    with calls():
        y = torch.func.functional_call(net, weights, (Stacked(torch.randn(TASKS, *IMAGES)),))
    assert y.shape == IMAGES
    assert torch.isfinite(y.tasks).all()
    assert seen == [1]


def _scaled(function, *before):
    """`function` of images of 20 channels with a scale and a shift."""
    return lambda x, scale, shift: function(x, *before, scale, shift)


SCALED = {
    "batch norm": lambda x, a, b: F.batch_norm(x, None, None, a, b, True),
    "batch norm after a convolution": lambda x, a, b: F.batch_norm(
        F.conv2d(x, torch.ones(20, 20, 3, 3)), None, None, a, b, True
    ),
    "frozen batch norm": _scaled(F.batch_norm, torch.zeros(20), torch.ones(20)),
    "instance norm": _scaled(F.instance_norm, None, None),
    "group norm": _scaled(F.group_norm, 4),
    "layer norm": lambda x, a, b: F.layer_norm(x.movedim(1, -1), (20,), a, b),
    "RMS norm": lambda x, a, b: F.rms_norm(x.movedim(1, -1), (20,), a) + b.sum(),
}


@pytest.mark.parametrize("size", [1, 19, 32])
@pytest.mark.parametrize(
    ("name", "at_fault"),
    # There is no shift after RMS norm.
    [(name, place) for name in SCALED for place in (0, 1) if name != "RMS norm" or not place],
)
def test_scales_of_another_size_get_the_error_of_pytorch(name, at_fault, size):
    sizes = [20, 20]
    sizes[at_fault] = size
    given = [torch.ones(2, 20, 6, 6), *(torch.ones(s) for s in sizes)]
    with pytest.raises(RuntimeError) as wanted:
        SCALED[name](*given)
    with pytest.raises(RuntimeError) as found:
        together(SCALED[name], [t.expand(TASKS, *t.shape) for t in given])
    assert str(found.value) == str(wanted.value)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: F.instance_norm(x), (2, 16, 1, 1)),
        (lambda x: F.group_norm(x, 16), (1, 16, 1, 1)),
        (lambda x: F.group_norm(x, 3), (2, 16, 4, 4)),
        (lambda x: F.group_norm(x, 0), (2, 16, 4, 4)),
        (lambda x: F.conv1d(x, torch.ones(16, 16, 3), dilation=4), (2, 16, 8)),
        (lambda x: F.conv2d(x, torch.ones(16, 16, 3, 3), dilation=(0, 1)), (2, 16, 8, 8)),
    ],
)
def test_what_there_is_not_gets_the_error_of_pytorch(function, shape):
    with pytest.raises((ArithmeticError, RuntimeError, ValueError)) as wanted:
        function(torch.ones(shape))
    with pytest.raises(type(wanted.value)) as found:
        together(function, [torch.ones(TASKS, *shape)])
    assert str(found.value) == str(wanted.value)


def test_running_statistics_of_another_size_get_the_error_of_pytorch():
    with pytest.raises(RuntimeError, match="running_mean should contain 20 elements not 1"):
        together(
            lambda x: F.batch_norm(x, torch.zeros(1), torch.ones(1)), [torch.ones(3, 2, 20, 6, 6)]
        )


def test_where_of_a_condition_alone_is_named():
    """It finds as many places as there are, others in each task."""
    with pytest.raises(NotStackableError, match="where of a condition alone has no rule"):
        together(lambda x: torch.where(x > 0), [torch.ones(3, 2, 4)])
