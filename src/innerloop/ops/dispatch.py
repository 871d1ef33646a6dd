"""Operations of layers, with fast rules for a task axis.

`linear`, `conv2d` and `batch_norm` take the compiled kernels where these can serve, else PyTorch's
operators; the numbers are the same up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from innerloop.ops import autograd, kernels
from innerloop.ops.autograd.max_pool import max_pool_2x2


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`[B, in]` to `[B, out]`, or `[T, B, in]` to `[T, B, out]` with T weights and biases."""
    if has_torch_function((x, weight)):
        return handle_torch_function(linear, (x, weight), x, weight, bias)
    if weight.ndim == 2:
        return F.linear(x, weight, bias)
    if x.ndim == 3 and x.dtype == weight.dtype and kernels.serve(x, *weight.shape[-2:]):
        y = autograd.linear(x, weight)
        return y if bias is None else y + bias[:, None]
    return x @ weight.mT if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)


def conv2d(x: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    """The convolution of `[B, in, H, W]` with `[out, in, KH, KW]`, without a bias.

    Also of `[T, B, in, H, W]` with `[T, out, in, KH, KW]`.
    """
    if has_torch_function((x, weight)):
        of = x, weight
        return handle_torch_function(conv2d, of, *of, stride=stride, padding=padding)
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
    slope: float = 1.0,
    group: int | None = None,
) -> Tensor:
    """Batch norm by the batch's own statistics, then 2 x 2 max-pooling, then leaky ReLU.

    Args:
        x: `[B, C]` or `[B, C, ...]`; or with T weights `[T, B, C, ...]`.
        weight, bias: `[C]`, or `[T, C]`.
        eps: added to the variance.
        pool: whether there is pooling.
        slope: of what is negative, 0 to 1: 0 is ReLU, 1 leaves it as it is.
        group: rows of `x` that are a batch of their own; None for all.

    Returns:
        `x`'s shape; with `pool`, height and width are halved, rounded down.
    """
    if has_torch_function((x, weight)):
        how: dict[str, Any] = {"pool": pool, "slope": slope, "group": group}
        return handle_torch_function(batch_norm, (x, weight), x, weight, bias, eps, **how)
    groups = 1 if group is None else x.shape[0] // group
    if x.ndim >= 4 and kernels.serve(x, weight.shape[-1]):
        if groups == 1:
            return autograd.batch_norm(x, weight, bias, eps, pool=pool, slope=slope)
        weight, bias = weight.expand(groups, -1), bias.expand(groups, -1)
        tasks = x.unflatten(0, (groups, -1))
        return autograd.batch_norm(tasks, weight, bias, eps, pool=pool, slope=slope).flatten(0, 1)
    if weight.ndim == 2:
        y = F.batch_norm(_abreast(x), None, None, weight.flatten(), bias.flatten(), True, 0.0, eps)
        return after_norm(_apart(y, len(weight)), pool=pool, slope=slope)
    parts = [x] if groups == 1 else x.split(x.shape[0] // groups)
    parts = [F.batch_norm(p, None, None, weight, bias, True, 0.0, eps) for p in parts]
    return after_norm(parts[0] if groups == 1 else torch.cat(parts), pool=pool, slope=slope)


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
    slope: float,
) -> Tensor:
    """`conv2d` of `x` with `kernel`, then `batch_norm`; fused where a kernel supports it."""
    if has_torch_function((x, kernel)):
        how: dict[str, Any] = {"stride": stride, "padding": padding, "pool": pool, "slope": slope}
        return handle_torch_function(conv_block, (x, kernel), x, kernel, weight, bias, eps, **how)
    if kernels.serve(x, kernel.shape[-4]):
        return autograd.fused_block(
            x, kernel, weight, bias, eps, stride=stride, padding=padding, pool=pool, slope=slope
        )
    x = conv2d(x, kernel, stride=stride, padding=padding)
    return batch_norm(x, weight, bias, eps, pool=pool, slope=slope)


def after_norm(x: Tensor, *, pool: bool, slope: float) -> Tensor:
    """2 x 2 max-pooling if `pool`, then leaky ReLU."""
    if pool:
        tasks = x.ndim == 5
        y = max_pool_2x2(x.flatten(0, 1) if tasks else x)
        x = y.unflatten(0, x.shape[:2]) if tasks else y
    if slope == 1:
        return x
    return F.leaky_relu(x, slope) if slope else F.relu(x)


def _abreast(x: Tensor) -> Tensor:
    """`[T, B, C, ...]` as one batch of images with the channels of all tasks, `[B, T*C, ...]`."""
    return x.transpose(0, 1).flatten(1, 2)


def _apart(x: Tensor, tasks: int) -> Tensor:
    """The way back: `[B, T*C, ...]` to `[T, B, C, ...]`."""
    y: Tensor = x.unflatten(1, (tasks, -1))
    return y.transpose(0, 1)
