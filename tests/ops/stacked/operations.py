"""Operations of networks, with the shapes of what they take from one task."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop.ops import kernels

needs_kernels = pytest.mark.skipif(not kernels.ready(), reason="no compiled kernels here")
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
    "conv2d, dilated and padded": (
        lambda x, w, b: F.conv2d(x, w, b, padding=(3, 1), dilation=(3, 2)),
        IMAGES,
        (20, 16, 3, 2),
        (20,),
    ),
    "conv2d, dilated, same": (
        lambda x, w, v: F.conv2d(F.conv2d(x, w, padding="same", dilation=2), v),
        IMAGES,
        (20, 16, 3, 3),
        (16, 20, 1, 1),
    ),
    "conv2d, dilated by strides": (
        lambda x, w: F.conv2d(x, w, stride=2, padding=2, dilation=2),
        IMAGES,
        (16, 16, 3, 3),
    ),
    "conv2d, dilated for each channel": (
        lambda x, w: F.conv2d(x, w, padding=2, dilation=2, groups=16),
        IMAGES,
        (16, 1, 3, 3),
    ),
    "conv1d, dilated": (
        lambda x, w, b, g: F.batch_norm(
            F.conv1d(x, w, b, padding=4, dilation=4), None, None, g, None, True
        ),
        (4, 3, 21),
        (10, 3, 3),
        (10,),
        (10,),
    ),
    "conv1d, dilated for each channel": (
        lambda x, w: F.relu(F.conv1d(x, w, padding="same", dilation=3, groups=16)),
        (4, 16, 21),
        (16, 1, 3),
    ),
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
    "group_norm without weights": (lambda x: F.group_norm(x, 2), (4, 16, 7)),
    "group_norm of volumes": (
        lambda x, g, b: F.group_norm(x, 4, g, b),
        (4, 16, 2, 3, 3),
        (16,),
        (16,),
    ),
    "group_norm of rows": (lambda x, g: F.group_norm(x, 4, g), (4, 16), (16,)),
    "group_norm of channels that are filled up": (
        lambda x, w, g, b, v: F.conv2d(F.relu(F.group_norm(F.conv2d(x, w), 4, g, b)), v),
        IMAGES,
        (20, 16, 3, 3),
        (20,),
        (20,),
        (16, 20, 1, 1),
    ),
    "instance_norm of channels that are filled up": (
        lambda x, w, v: F.conv1d(F.relu(F.instance_norm(F.conv1d(x, w))), v),
        (4, 3, 20),
        (10, 3, 5),
        (16, 10, 1),
    ),
    "layer_norm of a row without weights": (lambda x: F.layer_norm(x, (16,)), (4, 7, 16)),
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
