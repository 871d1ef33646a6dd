"""Operations of layers, with fast rules for a task axis.

`conv2d` and `batch_norm` take the compiled kernels where these can serve, else PyTorch's
operators; the numbers are the same up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.ops import autograd, kernels

_pool = torch.ops.aten.max_pool2d_with_indices
_unpool = torch.ops.aten.max_pool2d_with_indices_backward
_WINDOW = [2, 2]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`[B, in]` to `[B, out]`, or `[T, B, in]` to `[T, B, out]` with T weights and biases."""
    if weight.ndim == 2:
        return F.linear(x, weight, bias)
    return x @ weight.mT if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)


def conv2d(x: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    """The convolution of `[B, in, H, W]` with `[out, in, KH, KW]`, without a bias.

    Also of `[T, B, in, H, W]` with `[T, out, in, KH, KW]`.
    """
    if kernels.serve(x, weight.shape[-4]):
        return autograd.conv2d(x, weight, stride, padding)
    if weight.ndim == 5:
        # The tasks side by side, as groups of channels.
        tasks, kernel = len(weight), weight.flatten(0, 1)
        return _apart(F.conv2d(_abreast(x), kernel, None, stride, padding, 1, tasks), tasks)
    return F.conv2d(x, weight, None, stride, padding)


def batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    pool: bool = False,
    relu: bool = False,
    group: int | None = None,
) -> Tensor:
    """Batch norm by the batch's own statistics, then 2 x 2 max-pooling, then ReLU.

    Args:
        x: `[B, C]` or `[B, C, ...]`; or with T weights `[T, B, C, ...]`.
        weight, bias: `[C]`, or `[T, C]`.
        eps: added to the variance.
        pool, relu: what comes after the batch norm.
        group: rows of `x` that are a batch of their own; None for all.

    Returns:
        `x`'s shape; with `pool`, height and width are halved, rounded down.
    """
    groups = 1 if group is None else x.shape[0] // group
    if x.ndim >= 4 and kernels.serve(x, weight.shape[-1]):
        if groups == 1:
            return autograd.batch_norm(x, weight, bias, eps, pool=pool, relu=relu)
        weight, bias = weight.expand(groups, -1), bias.expand(groups, -1)
        tasks = x.unflatten(0, (groups, -1))
        return autograd.batch_norm(tasks, weight, bias, eps, pool=pool, relu=relu).flatten(0, 1)
    if weight.ndim == 2:
        y = F.batch_norm(_abreast(x), None, None, weight.flatten(), bias.flatten(), True, 0.0, eps)
        return after_norm(_apart(y, len(weight)), pool=pool, relu=relu)
    parts = x.split(len(x) // groups)
    x = torch.cat([F.batch_norm(p, None, None, weight, bias, True, 0.0, eps) for p in parts])
    return after_norm(x, pool=pool, relu=relu)


def conv_block(
    x: Tensor,
    kernel: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    stride: int,
    padding: int,
    pool: bool,
    relu: bool,
) -> Tensor:
    """`conv2d` of `x` with `kernel`, then `batch_norm`, in one go where the kernels serve."""
    if kernels.serve(x, kernel.shape[-4]):
        return autograd.fused_block(
            x, kernel, weight, bias, eps, stride=stride, padding=padding, pool=pool, relu=relu
        )
    x = conv2d(x, kernel, stride=stride, padding=padding)
    return batch_norm(x, weight, bias, eps, pool=pool, relu=relu)


def after_norm(x: Tensor, *, pool: bool, relu: bool) -> Tensor:
    """2 x 2 max-pooling if `pool`, then ReLU if `relu`."""
    x = max_pool_2x2(x) if pool else x
    return F.relu(x) if relu else x


def _abreast(x: Tensor) -> Tensor:
    """`[T, B, C, ...]` as one batch of images with the channels of all tasks, `[B, T*C, ...]`."""
    return x.transpose(0, 1).flatten(1, 2)


def _apart(x: Tensor, tasks: int) -> Tensor:
    """The way back: `[B, T*C, ...]` to `[T, B, C, ...]`."""
    return x.unflatten(1, (tasks, -1)).transpose(0, 1)


def max_pool_2x2(x: Tensor) -> Tensor:
    """2 x 2 max-pooling with stride 2: `[..., C, H, W]` to `[..., C, H//2, W//2]`.

    The numbers are those of `torch.nn.functional.max_pool2d`.  Under `vmap`,
    PyTorch moves the task axis around its pooling, and falls back to a loop over
    samples for the second derivative, 60 times slower; here tasks are simply
    further rows of the batch, in every derivative.
    """
    if x.ndim == 5:
        return _MaxPool.apply(x.flatten(0, 1))[0].unflatten(0, x.shape[:2])
    return _MaxPool.apply(x)[0]


class _MaxPool(torch.autograd.Function):
    """Values and places of the maxima; its derivative is `_Scatter`."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        if x.is_contiguous() and x.device.type == "cpu":
            # PyTorch's kernel is eight times faster with channels innermost.
            x = x.contiguous(memory_format=torch.channels_last)
            values, places = _pool(x, _WINDOW, _WINDOW)
            return values.contiguous(), places.contiguous()
        values, places = _pool(x, _WINDOW, _WINDOW)
        return values, places

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        places = output[1]
        ctx.mark_non_differentiable(places)
        ctx.save_for_backward(places)
        ctx.save_for_forward(places)
        ctx.height, ctx.width = inputs[0].shape[-2:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        return _Scatter.apply(gradient, ctx.saved_tensors[0], ctx.height, ctx.width)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> tuple[Tensor, None]:
        return _pick(tangent, ctx.saved_tensors[0]), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], x: Tensor) -> tuple[tuple[Tensor, Tensor], Any]:
        x = x.movedim(in_dims[0], 0)
        values, places = _MaxPool.apply(x.flatten(0, 1))
        tasks = (info.batch_size, -1)
        return (values.unflatten(0, tasks), places.unflatten(0, tasks)), (0, 0)


class _Scatter(torch.autograd.Function):
    """Put each entry of `[B, C, h, w]` at its place in zeros of `[B, C, H, W]`."""

    @staticmethod
    def forward(gradient: Tensor, places: Tensor, height: int, width: int) -> Tensor:
        # Shape and memory layout of this one count, not its values.
        channels_last = gradient.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        x = torch.empty(
            (*gradient.shape[:2], height, width),
            dtype=gradient.dtype,
            device=gradient.device,
            memory_format=layout,
        )
        return _unpool(gradient, x, _WINDOW, _WINDOW, [0, 0], [1, 1], False, places)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.save_for_forward(inputs[1])
        ctx.height, ctx.width = inputs[2:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _pick(gradient, ctx.saved_tensors[0]), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _Scatter.apply(tangent, ctx.saved_tensors[0], ctx.height, ctx.width)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, gradient: Tensor, places: Tensor, height: int, width: int
    ) -> tuple[Tensor, int]:
        parts = [
            t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
            for t, dim in zip((gradient, places), in_dims[:2], strict=True)
        ]
        merged = _Scatter.apply(*(p.flatten(0, 1) for p in parts), height, width)
        return merged.unflatten(0, (info.batch_size, -1)), 0


def _pick(x: Tensor, places: Tensor) -> Tensor:
    """The entries of `[B, C, H, W]` at `places` `[B, C, h, w]`."""
    picked = x.flatten(-2).gather(-1, places.flatten(-2))
    return picked.unflatten(-1, places.shape[-2:])
