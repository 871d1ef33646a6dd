"""Fuse convolution, batch norm, pooling and ReLU that follow each other.

None of them is computed when the network asks for it: what is known is its shape, and what it would
be computed from.  A batch norm of such a convolution takes the convolution's inputs; an activation
or pooling of such a norm becomes a part of it.  Whatever else looks at the result has it computed
as it stands.

The kernels make a multiple of 16 channels.  On a CPU a convolution to 24 is one to 32, whose last
weights are zeros, and a norm of them has scales and shifts of zero: what is beside stays zero, in
all derivatives, too.  The network sees the 24; from block to block the 32 go as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from innerloop import ops
from innerloop.ops import autograd, kernels
from innerloop.ops.stacked.tensor import Stacked, of_shape


class Conv(NamedTuple):
    """A convolution that is not computed yet.

    Attributes:
        x: images `[T, B, C, H, W]`; of a 1-D convolution H is 1.
        weight: `[T, out, C, KH, KW]`.
        bias: `[T, out]`, or None.
        line: whether the result is `[T, B, out, W']`.
        depthwise: whether every channel is convolved by itself, with `[T, C, 1, KH, KW]`.
        more: how many of the last filters are zeros that the network does not know of.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: int
    padding: int
    line: bool
    depthwise: bool
    more: int

    def __call__(self) -> Tensor:
        y = ops.conv2d(
            self.x,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            depthwise=self.depthwise,
        )
        # Infinity times a weight of zero is none, which the next layer would spread.  What weights
        # of zero make is zero where all inputs are finite.
        if self.more and not self.depthwise and (y.detach()[:, :, -1] != 0).any():
            y = _filled(y[:, :, : -self.more], 2, self.more)
        y = y if self.bias is None else y + self.bias[:, None, :, None, None]
        return y.squeeze(-2) if self.line else y


class Norm(NamedTuple):
    """A batch norm by the batch's own statistics, and what follows it; not computed yet.

    With `first` the statistics are those of so many leading rows.
    """

    of: Conv | Tensor
    gamma: Tensor
    beta: Tensor
    eps: float
    first: int | None = None
    pool: bool = False
    slope: float = 1.0

    def __call__(self) -> Tensor:
        of = self.of
        if isinstance(of, Tensor):
            return ops.batch_norm(
                of,
                self.gamma,
                self.beta,
                self.eps,
                pool=self.pool,
                slope=self.slope,
                first=self.first,
            )
        # Without the convolution's bias: the norm subtracts the mean.
        y = ops.conv_block(
            of.x,
            of.weight,
            self.gamma,
            self.beta,
            self.eps,
            stride=of.stride,
            padding=of.padding,
            pool=self.pool,
            slope=self.slope,
        )
        return y.squeeze(-2) if of.line else y


class Activation(NamedTuple):
    """Leaky ReLU without a norm before it, and the pooling that follows; not computed yet."""

    of: Tensor
    slope: float
    pool: bool = False

    def __call__(self) -> Tensor:
        return ops.after_norm(self.of, pool=self.pool, slope=self.slope)


def convolution(
    input: Stacked,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Stacked | None:
    """The convolution of `[B, C, H, W]`, or of `[B, C, W]`; None where no kernel serves."""
    inputs, outputs = input.shape[1], weight.shape[1]
    # Of a depthwise convolution there are as many as there are channels, before and after.
    depthwise = groups > 1 and inputs == outputs == groups
    # What makes no sense is left to PyTorch, which says so; here it would be filled up or cut.
    biases = outputs if bias is None else bias.shape[-1]
    fit = (groups == 1 or depthwise) and inputs == groups * weight.shape[2]
    if not fit or biases != outputs or stride < 1 or min(dilation) < 1 or min(padding) < 0:
        return None
    x = input.tasks if input.whole is None else input.whole.tasks
    if not kernels.serve_filled(x, outputs, depthwise=depthwise) or weight.dtype != x.dtype:
        return None
    if max(dilation) > 1:
        return _dilated(input, weight, bias, stride, padding, dilation, groups)
    line = input.ndim == 3
    # Pictures may have any number of channels: there is no derivative with respect to them.
    if depthwise or x.requires_grad:
        x = _whole(input).tasks
    more = kernels.missing(outputs)
    weight = _filled_weights(weight, more, 0 if depthwise else x.shape[2] - weight.shape[2])
    bias = None if bias is None else _filled(bias, 1, more)
    if line:
        x, weight = x.unsqueeze(-2), weight.unsqueeze(-2)
    if padding[0] != padding[1]:
        x, padding = F.pad(x, (padding[1], padding[1], padding[0], padding[0])), (0, 0)
    sides = [
        (n + 2 * padding[0] - k) // stride + 1
        for n, k in zip(x.shape[-2:], weight.shape[-2:], strict=True)
    ]
    if min(sides) < 1:
        return None
    shape = x.shape[1], weight.shape[1], *(sides[1:] if line else sides)
    later = Conv(x, weight, bias, stride, padding[0], line, depthwise, more)
    return _first(of_shape(shape, x, later=later), outputs)


def _dilated(
    input: Stacked,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Stacked | None:
    """A plain convolution of the pixels that are `dilation` apart, for each place to begin at."""
    axes = input.ndim - 2
    (up, left), (down, right) = padding, dilation
    wholes = [n + 2 * p for n, p in zip(input.shape[2:], padding[-axes:], strict=True)]
    steps = dilation[-axes:]
    sizes = [n - d * (k - 1) for n, d, k in zip(wholes, steps, weight.shape[3:], strict=True)]
    if stride > 1 or min(sizes) < 1:
        return None
    # So much at the end that there are as many pixels for each.
    *below, behind = (-n % d for n, d in zip(wholes, steps, strict=True))
    x = input.tasks.movedim(2, -1)
    if axes == 1:
        # Steps become rows, and places to begin at columns, where they lie.
        x = F.pad(x, (0, 0, left, left + behind)).unflatten(2, (-1, right))
        weight = weight.unsqueeze(-1)
    else:
        x = F.pad(x, (0, 0, left, left + behind, up, up + below[0]))
        x = x.unflatten(3, (-1, right)).unflatten(2, (-1, down))
        x = x.permute(0, 1, 3, 5, 2, 4, 6).flatten(1, 3)
    found = convolution(Stacked(x.movedim(-1, 2)), weight, bias, 1, (0, 0), (1, 1), groups)
    if found is None:
        return None
    y = found.tasks.movedim(2, -1)
    if axes == 1:
        y = y.flatten(2, 3)
    else:
        y = y.unflatten(1, (-1, down, right)).permute(0, 1, 4, 2, 5, 3, 6)
        y = y.flatten(4, 5).flatten(2, 3)
    for axis, size in enumerate(sizes, 2):
        y = y if y.shape[axis] == size else y.narrow(axis, 0, size)
    return Stacked(y.movedim(-1, 2))


def transposed(
    input: Stacked,
    weight: Tensor,
    stride: int,
    padding: tuple[int, int],
    beyond: tuple[int, int],
) -> Tensor | None:
    """The transposed convolution of `[B, C, H, W]` with `[T, C, out, KH, KW]`, computed at once.

    `beyond` are rows and columns more at the end.  None where no kernel serves, or there is none.
    """
    channels = input.shape[1]
    sides = [
        (n - 1) * stride + k + more
        for n, k, more in zip(input.shape[-2:], weight.shape[-2:], beyond, strict=True)
    ]
    fits = min(beyond) >= 0 and max(beyond) < stride and min(padding) >= 0
    left = min(n - 2 * p for n, p in zip(sides, padding, strict=True))
    served = kernels.serve_filled(input.tasks, channels) and weight.dtype == input.dtype
    if not (fits and left > 0 and served and channels == weight.shape[1]):
        return None
    x = _whole(input).tasks
    weight = _filled_weights(weight, x.shape[2] - channels, 0)
    if padding[0] == padding[1]:
        size = sides[0] - 2 * padding[0], sides[1] - 2 * padding[0]
        return autograd.conv_transpose2d(x, weight, size, stride, padding[0])
    y = autograd.conv_transpose2d(x, weight, (sides[0], sides[1]), stride, 0)
    return F.pad(y, (-padding[1], -padding[1], -padding[0], -padding[0]))


def norm(x: Stacked, gamma: Tensor, beta: Tensor, eps: float, first: int | None = None) -> Stacked:
    """The batch norm of `[B, C, ...]` with `gamma` and `beta` `[T, C]`, by the `first` rows."""
    channels = x.shape[1]
    more = kernels.missing(channels)
    if more and (x.whole is not None or (x.ndim == 4 and kernels.serve_filled(x.tasks, channels))):
        x, gamma, beta = _whole(x), *(_filled(v, 1, more) for v in (gamma, beta))
    # A block as a whole has the statistics of all rows, and channels that are mixed.
    of: Conv | Tensor
    if isinstance(x.later, Conv) and first is None and not x.later.depthwise:
        of = x.later
    else:
        of = x.tasks
    later = Norm(of, gamma, beta, eps, first)
    if isinstance(of, Tensor) and not (of.ndim == 5 and kernels.serve(of, of.shape[2])):
        return _first(Stacked(later()), channels)
    return _first(of_shape(x.shape, x, later=later), channels)


def group_norm(x: Stacked, gamma: Tensor, beta: Tensor, groups: int, eps: float) -> Stacked | None:
    """The norm of `[B, C, ...]` by groups of channels, with `gamma` and `beta` `[T, C]`.

    None where no kernel serves.
    """
    channels, shape = x.shape[1], x.tasks.shape
    if not kernels.serve_apart(x.tasks, channels, gamma, beta):
        return None
    gamma, beta = (_filled(v, 1, kernels.missing(channels)) for v in (gamma, beta))
    images = _whole(x).tasks
    if len(shape) < 5:
        images = images.unsqueeze(-2) if len(shape) == 4 else images[..., None, None]
    y = autograd.group_norm(images.flatten(3, -2), gamma, beta, groups, channels // groups, eps)
    return _first(Stacked(y.reshape(*y.shape[:3], *shape[3:])), channels)


def leaky_relu(x: Stacked, slope: float) -> Stacked:
    """The activation, 0 <= slope < 1, as a part of a norm; or for later.

    Pooling after it is pooling before it, which leaves it a quarter of the work.
    """
    if x.whole is not None:
        return _first(leaky_relu(x.whole, slope), x.shape[1])
    of = x.later
    if isinstance(of, Norm) and of.slope == 1:
        return of_shape(x.shape, x, later=of._replace(slope=slope))
    return of_shape(x.shape, x, later=Activation(x.tasks, slope))


def pool_2x2(x: Stacked) -> Stacked | None:
    """Max-pooling over windows of 2 x 2 of images; None where it is not the time for it."""
    if x.whole is not None:
        found = pool_2x2(x.whole)
        return None if found is None else _first(found, x.shape[1])
    of = x.later
    shape = (*x.shape[:-2], x.shape[-2] // 2, x.shape[-1] // 2)
    if x.ndim != 4 or not min(shape):
        return None
    if isinstance(of, Norm | Activation) and not of.pool:
        return of_shape(shape, x, later=of._replace(pool=True))
    return None


def _filled(t: Tensor, axis: int, more: int) -> Tensor:
    """`t` with `more` zeros at the end of `axis`, which is innermost in memory."""
    return F.pad(t.movedim(axis, -1), (0, more)).movedim(-1, axis) if more else t


def _filled_weights(weight: Tensor, outputs: int, inputs: int) -> Tensor:
    """Weights `[T, out, in, ...]` with so many more of both, in the kernels' order in memory."""
    if not outputs and not inputs:
        return weight
    turned = F.pad(weight.movedim((1, 2), (-1, -2)), (0, outputs, 0, inputs))
    return turned.movedim((-1, -2), (1, 2))


def _whole(x: Stacked) -> Stacked:
    """`x` `[B, C, ...]` with channels of zeros besides."""
    if x.whole is not None:
        return x.whole
    if not kernels.missing(x.shape[1]):
        return x
    return Stacked(_filled(x.tasks, 2, kernels.missing(x.shape[1])))


def _first(of: Stacked, channels: int) -> Stacked:
    """The `channels` of `of` that the network sees."""
    if of.shape[1] == channels:
        return of
    seen = of_shape((of.shape[0], channels, *of.shape[2:]), of)
    # With channels innermost, which then is the order of gradients in memory, too.
    seen.become(None, lambda: of.tasks.movedim(2, -1)[..., :channels].movedim(-1, 2), of)
    return seen
