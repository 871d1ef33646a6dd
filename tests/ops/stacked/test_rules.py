"""Each rule for an axis of tasks, compared with the operation for one task at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import ops
from innerloop.ops import kernels
from innerloop.ops.stacked import NotStackableError, Stacked, apart, calls

TASKS = 3
IMAGES = (4, 16, 6, 6)
# Weights and biases of a convolution of each channel by itself.
DEPTHWISE = (16, 1, 3, 3), (16,)


def _gates(number, inputs, size, directions=1):
    """The shapes of the weights and biases of one recurrent layer."""
    each = [(number * size, inputs), (number * size, size), (number * size,), (number * size,)]
    return each * directions


def _recurrent(function, number, states, layers=1, biases=True, bidirectional=False):
    """Outputs and last states, from states that are the same for all tasks."""
    first = number == 3 and not bidirectional

    def of_tensors(x, *weights):
        start = torch.zeros(layers * (1 + bidirectional), 4, 2, dtype=torch.float64)
        start = start if states == 1 else (start, start + 1)
        found = function(x, start, weights, biases, layers, 0.0, True, bidirectional, first)
        return torch.cat([t.flatten() for t in found])

    return of_tensors


# By name: a function of the tensors of one task, and their shapes.
OPERATIONS = {
    "linear": (F.linear, (4, 5), (3, 5), (3,)),
    "linear of a sequence": (F.linear, (4, 7, 5), (3, 5)),
    "linear of one row": (F.linear, (5,), (3, 5)),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, 1, 1), IMAGES, (32, 16, 3, 3), (32,)),
    "conv2d, odd width": (lambda x, w: F.conv2d(x, w, None, 2, 2), IMAGES, (7, 16, 5, 5)),
    "conv2d, groups": (lambda x, w: F.conv2d(x, w, groups=4), IMAGES, (8, 4, 3, 3)),
    "conv2d, depthwise": (lambda x, w, b: F.conv2d(x, w, b, 1, 1, 1, 16), IMAGES, *DEPTHWISE),
    "conv2d, depthwise in steps": (
        lambda x, w, g: F.relu(
            F.batch_norm(F.conv2d(x, w, None, 2, 1, 1, 16), None, None, g, g, True)
        ),
        IMAGES,
        *DEPTHWISE,
    ),
    "conv2d, two of each channel": (
        lambda x, w: F.conv2d(x, w, padding=1, groups=16),
        IMAGES,
        (32, 1, 3, 3),
    ),
    "conv1d, depthwise": (
        lambda x, w: F.conv1d(x, w, padding=2, groups=16),
        (4, 16, 9),
        (16, 1, 5),
    ),
    "conv2d, dilated": (lambda x, w: F.conv2d(x, w, dilation=2), IMAGES, (16, 16, 3, 3)),
    "conv2d, same": (lambda x, w: F.conv2d(x, w, padding="same"), IMAGES, (16, 16, 3, 3)),
    "conv2d, same for an even side": (
        lambda x, w: F.conv2d(x, w, padding="same"),
        IMAGES,
        (16, 16, 2, 3),
    ),
    "conv2d, same for each channel": (
        lambda x, w: F.conv2d(x, w, padding="same", groups=16),
        IMAGES,
        (16, 1, 5, 3),
    ),
    "conv2d, valid": (lambda x, w: F.conv2d(x, w, padding="valid"), IMAGES, (16, 16, 3, 3)),
    "conv2d, other padding along": (
        lambda x, w: F.conv2d(x, w, padding=(0, 2)),
        IMAGES,
        (16, 16, 1, 5),
    ),
    "conv2d of one image": (lambda x, w: F.conv2d(x, w), (16, 6, 6), (16, 16, 3, 3)),
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, 2, 3), (4, 3, 20), (16, 3, 7), (16,)),
    "conv1d and norm": (
        lambda x, w, g, b: F.relu(F.batch_norm(F.conv1d(x, w), None, None, g, b, True)),
        (4, 3, 20),
        (16, 3, 7),
        (16,),
        (16,),
    ),
    "conv_transpose2d": (lambda x, w: F.conv_transpose2d(x, w, stride=2), IMAGES, (16, 8, 2, 2)),
    "a block": (
        lambda x, w, c, g, b: F.max_pool2d(
            F.relu(F.batch_norm(F.conv2d(x, w, c, 1, 1), None, None, g, b, True)), 2
        ),
        IMAGES,
        (16, 16, 3, 3),
        (16,),
        (16,),
        (16,),
    ),
    "batch_norm": (
        lambda x, g, b: F.batch_norm(x, None, None, g, b, True),
        (9, 5),
        (5,),
        (5,),
    ),
    "batch_norm without weights": (lambda x: F.batch_norm(x, None, None, training=True), IMAGES),
    "batch_norm by constants": (
        lambda x, g, b: F.batch_norm(x, torch.zeros(16), torch.ones(16), g, b),
        IMAGES,
        (16,),
        (16,),
    ),
    "layer_norm": (lambda x, g, b: F.layer_norm(x, (7, 5), g, b), (4, 7, 5), (7, 5), (7, 5)),
    "group_norm": (lambda x, g, b: F.group_norm(x, 4, g, b), IMAGES, (16,), (16,)),
    "instance_norm": (
        lambda x, g, b: F.instance_norm(x, weight=g, bias=b),
        IMAGES,
        (16,),
        (16,),
    ),
    "rms_norm": (lambda x, g: F.rms_norm(x, (5,), g), (4, 5), (5,)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, 2, 1), IMAGES),
    "max_pool2d with indices": (
        lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
        IMAGES,
    ),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), IMAGES),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, 1), IMAGES),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, 2), IMAGES),
    "max_pool1d": (lambda x: F.max_pool1d(x, 2), (4, 3, 8)),
    "interpolate": (lambda x: F.interpolate(x, scale_factor=2), IMAGES),
    "pad": (lambda x: F.pad(x, (1, 2)), IMAGES),
    "pad by reflection": (lambda x: F.pad(x, (1, 2, 1, 1), mode="reflect"), IMAGES),
    "add, other ranks": (lambda x, b: x + b, (4, 7, 5), (5,)),
    "add a plain tensor": (lambda x: x + torch.arange(5.0), (4, 5)),
    "a plain tensor with more axes": (lambda x: torch.ones(2, 4, 5) * x, (4, 5)),
    "where": (lambda x, y: torch.where(x > 0, x, y), (4, 5), (5,)),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.1) + F.leaky_relu(x, -2) + F.relu(x), (4, 5)),
    "leaky_relu in place": (lambda x: F.leaky_relu(x * 1, 0.1, inplace=True), (4, 5)),
    "rows before and after sums in place": (
        lambda x: (lambda y: y[0] * 1 + y.mul_(2)[0])(x * 1),
        (4, 5),
    ),
    "a view that is all there is, in place": (
        lambda x: (x * 1).view(20).relu_() + F.elu((x * 1).flatten(), 0.5, True),
        (4, 5),
    ),
    "a view that alone is used afterwards, in place": (
        lambda x: nn.Sequential(nn.Flatten(), nn.ReLU(True), nn.Dropout(0, True))(x * 1),
        (4, 5),
    ),
    "a copy in place": (
        lambda x: (lambda y: (y.clone().mul_(2) + (y + 1).zero_() + y, F.relu(y))[0])(x * 1),
        (4, 5),
    ),
    "in place after activation": (
        lambda x: (lambda y: (F.relu(y), y.detach().mean(), y.fill_(1))[0] + y)(x * 1),
        (4, 5),
    ),
    "rows before and after leaky_relu in place": (
        lambda x: (lambda y: y[0] * 1 + F.leaky_relu(y, 0.1, inplace=True)[0])(x * 1),
        (4, 5),
    ),
    "pooled twice after activation": (
        lambda x, y: F.max_pool2d(F.max_pool2d(F.leaky_relu(x + y, 0.1), 2), 2),
        *((2, 16, 8, 8),) * 2,
    ),
    "pooled after activation": (
        lambda x, y: F.max_pool2d(F.leaky_relu(x + y, 0.1), 2) + F.relu(x)[..., ::2, ::2],
        IMAGES,
        IMAGES,
    ),
    "a leaky block": (
        lambda x, w, g, b: F.max_pool2d(
            F.leaky_relu(F.batch_norm(F.conv2d(x, w), None, None, g, b, True), 0.2), 2
        ),
        IMAGES,
        (16, 16, 3, 3),
        (16,),
        (16,),
    ),
    "gelu": (F.gelu, (4, 5)),
    "softplus": (F.softplus, (4, 5)),
    "in place": (lambda x: (x * 1).add_(2).mul_(x).tanh_(), (4, 5)),
    "added to": (lambda x, y: _added(x, y), IMAGES, IMAGES),
    "mean of all": (lambda x: x.mean(), (4, 5)),
    "mean of rows": (lambda x: x - x.mean(0), (4, 5)),
    "mean of images": (lambda x: x.mean((-2, -1)), IMAGES),
    "mean, kept": (lambda x: x.mean(1, keepdim=True), IMAGES),
    "variance": (lambda x: x.var(0), (4, 5)),
    "softmax": (lambda x: x.softmax(0) + F.softmax(x, -1), (4, 5)),
    "norm of rows": (lambda x: F.normalize(x, dim=-1), (4, 5)),
    "flatten": (lambda x: x.flatten(1), IMAGES),
    "flatten all": (lambda x: x.flatten(), IMAGES),
    "view": (lambda x: x.view(x.size(0), -1) + x.reshape((4, 576)), IMAGES),
    "permute": (lambda x: x.permute(0, 2, 3, 1) + x.permute((0, -2, -1, 1)), IMAGES),
    "transpose": (lambda x: x.transpose(0, -1), (4, 5, 6)),
    "squeeze": (lambda x: x.unsqueeze(0).unsqueeze(-1).squeeze(), (4, 5)),
    "parts": (lambda x: x[:, 1:3] + x[..., 0:2] + x[:, :1], (4, 5)),
    "an example": (lambda x: x[0] + x[-1], (4, 5)),
    "chunks": (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), (4, 6)),
    "rows one by one": (lambda x: sum(row for row in x), (4, 5)),
    "cat": (lambda x, y: torch.cat([x, y, torch.ones(4, 2, 6, 6)], 1), IMAGES, IMAGES),
    "stack": (lambda x, y: torch.stack([x, y], 1), (4, 5), (4, 5)),
    "matmul": (lambda x, y: x @ y, (4, 5, 6), (6, 3)),
    "matmul of a vector": (lambda x, y: x @ y, (4, 5), (5,)),
    "einsum": (lambda x, y: torch.einsum("bi,oi->bo", x, y), (4, 5), (3, 5)),
    "linear on kernels": (F.linear, (6, 32), (16, 32), (16,)),
    "attention": (
        lambda q, k, v: (q * 0.5 @ k.mT).softmax(-1) @ v,
        (4, 2, 5, 3),
        (4, 2, 5, 3),
        (4, 2, 5, 3),
    ),
    "three in one": (lambda x: x[0] * x[1] + x[-1] + x[1:, 2].sum(), (3, 4, 5)),
    "items": (
        lambda x: x[1, ..., None].sum() + x[:, 1, 0:1, None] * x[torch.tensor([0, 2])].sum(),
        (4, 5, 1),
    ),
    "gru": (_recurrent(torch.gru, 3, 1), (4, 6, 3), *_gates(3, 3, 2)),
    "gru in both directions": (
        _recurrent(torch.gru, 3, 1, bidirectional=True),
        (6, 4, 3),
        *_gates(3, 3, 2, 2),
    ),
    "lstm of two layers": (
        _recurrent(torch.lstm, 4, 2, layers=2),
        (6, 4, 3),
        *_gates(4, 3, 2),
        *_gates(4, 2, 2),
    ),
    "rnn without biases": (
        _recurrent(torch.rnn_tanh, 1, 1, biases=False),
        (6, 4, 3),
        (2, 3),
        (2, 2),
    ),
    "rnn of relu": (_recurrent(torch.rnn_relu, 1, 1), (6, 4, 3), *_gates(1, 3, 2)),
    "gru_cell": (torch.gru_cell, (4, 3), (4, 2), *_gates(3, 3, 2)),
    "lstm_cell": (
        lambda x, h, c, *w: torch.cat(torch.lstm_cell(x, (h, c), *w), 1),
        (4, 3),
        (4, 2),
        (4, 2),
        *_gates(4, 3, 2),
    ),
    "embedding": (lambda w: F.embedding(torch.tensor([[0, 2], [1, 1]]), w), (3, 5)),
    "embedding, padded": (
        lambda w: F.embedding(torch.tensor([[0, 2], [1, 1]]), w, padding_idx=1),
        (3, 5),
    ),
    "sum along": (lambda x: torch.cumsum(x, 1), (4, 5)),
    "gather": (lambda x: x.gather(1, torch.zeros(4, 2, dtype=torch.long)), (4, 5)),
    "a triangle": (lambda x: torch.tril(x) @ x, (5, 5)),
}


def _added(x, y):
    out = x * 2
    out += y
    return out


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
    if not kernels.ready():
        pytest.skip("no compiled kernels here")
    weights = {n: p.detach().expand(TASKS, *p.shape) for n, p in net.named_parameters()}
    with calls():
        given = {n: Stacked(p) for n, p in weights.items()}
        torch.func.functional_call(net, given, (Stacked(torch.randn(TASKS, 4, 1, 8, 8)),))
    assert seen == [("conv_block", True, 0.0), ("conv_block", False, 0.1)]


@pytest.mark.parametrize("padding", [1, "same"])
def test_kernels_take_depthwise_convolutions(monkeypatch, padding):
    if not kernels.ready():
        pytest.skip("no compiled kernels here")
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
