"""Rules for norms on a task axis."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop import ops
from innerloop.ops import autograd, kernels
from innerloop.ops.stacked import blocks
from innerloop.ops.stacked.layers import check_shapes, max_pool2d, one_of, own_conv2d
from innerloop.ops.stacked.rules import all_of, as_stacked, count_of, rule
from innerloop.ops.stacked.tensor import NotStackableError, Stacked


def _affine(x: Tensor, weight: Any, bias: Any, after: int) -> Stacked:
    """`[T, ...] * weight + bias`, whose axes stand `after` others from the last."""

    def spread(value: Any) -> Tensor:
        v = value.tasks if isinstance(value, Stacked) else value[None]
        return v.view(len(v), *[1] * (x.ndim - v.ndim - after), *v.shape[1:], *[1] * after)

    if bias is None:
        return Stacked(x if weight is None else x * spread(weight))
    b = spread(bias)
    return Stacked(x + b if weight is None else torch.addcmul(b, x, spread(weight)))


@rule(F.batch_norm)
def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    tasks = count_of(input, weight, bias, running_mean)
    check_shapes(
        input.shape[1:2],
        (running_mean, running_var, weight, bias),
        lambda see: F.batch_norm(
            see(input), see(running_mean), see(running_var), see(weight), see(bias), training
        ),
    )
    if not training:
        x, mean, var = (all_of(t, tasks) for t in (input, running_mean, running_var))
        by_channel = (slice(None), None, slice(None), *[None] * (x.ndim - 3))
        x = (x - mean[by_channel]) * torch.rsqrt(var + eps)[by_channel]
        return _affine(x, weight, bias, x.ndim - 3)
    if running_mean is not None:
        raise NotStackableError("batch norm that renews running statistics has no rule")
    return _own_statistics(input, weight, bias, eps, tasks)


def _own_statistics(
    input: Any, weight: Any, bias: Any, eps: float, tasks: int, first: int | None = None
) -> Stacked:
    input = as_stacked(input, tasks)
    channels = input.shape[1]
    check_shapes(
        (channels,),
        (weight, bias),
        lambda see: F.batch_norm(see(input), None, None, see(weight), see(bias), True),
    )
    return blocks.norm(input, *_scales(channels, input, weight, bias, tasks), eps, first)


def _scales(channels: int, like: Any, weight: Any, bias: Any, tasks: int) -> tuple[Tensor, Tensor]:
    """Weight and bias `[T, channels]` of a norm of `like`; ones and zeros where there are none."""
    ones, zeros = (
        make(channels, dtype=like.dtype, device=like.device) for make in (torch.ones, torch.zeros)
    )
    gamma = all_of(ones if weight is None else weight, tasks)
    return gamma, all_of(zeros if bias is None else bias, tasks)


@rule(ops.batch_norm)
def own_batch_norm(
    x: Any,
    weight: Any,
    bias: Any,
    eps: float,
    *,
    pool: bool = False,
    slope: float = 1.0,
    group: int | None = None,
    first: int | None = None,
) -> Any:
    if group not in (None, x.shape[0]):
        raise NotStackableError("batch norm by groups of rows has no rule")
    y = _own_statistics(x, weight, bias, eps, count_of(x, weight, bias), first)
    y = max_pool2d(y, 2) if pool else y
    return y if slope == 1 else blocks.leaky_relu(y, slope)


@rule(ops.conv_block)
def own_conv_block(
    x: Any,
    kernel: Any,
    weight: Any,
    bias: Any,
    eps: float,
    *,
    stride: int,
    padding: int,
    pool: bool,
    slope: float,
) -> Any:
    y = own_conv2d(x, kernel, stride=stride, padding=padding)
    return own_batch_norm(y, weight, bias, eps, pool=pool, slope=slope)


@rule(F.layer_norm)
def layer_norm(
    input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Stacked:
    check_shapes(
        normalized_shape,
        (weight, bias),
        lambda see: F.layer_norm(see(input), normalized_shape, see(weight), see(bias)),
    )
    tasks = count_of(input, weight, bias)
    x = all_of(input, tasks)
    channels = x.shape[-1]
    if len(normalized_shape) == 1 and not kernels.missing(channels):
        gamma, beta = _scales(channels, input, weight, bias, tasks)
        if kernels.serve_apart(x, channels, gamma, beta):
            return Stacked(autograd.layer_norm(x, gamma, beta, eps))
    return _affine(F.layer_norm(x, normalized_shape, eps=eps), weight, bias, 0)


@rule(F.rms_norm, torch.rms_norm)
def rms_norm(
    input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Stacked:
    check_shapes(
        normalized_shape,
        (weight,),
        lambda see: F.rms_norm(see(input), normalized_shape, see(weight)),
    )
    x = all_of(input, count_of(input, weight))
    return _affine(F.rms_norm(x, normalized_shape, eps=eps), weight, None, 0)


@rule(F.group_norm, torch.group_norm)
def group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:
    check_shapes(
        input.shape[1:2],
        (weight, bias),
        lambda see: F.group_norm(see(input), num_groups, see(weight), see(bias)),
    )
    if num_groups < 1 or input.shape[1] % num_groups or input.shape.numel() == num_groups:
        return F.group_norm(one_of(input), num_groups)  # which says what is wrong
    return _by_group(input, num_groups, weight, bias, eps)


def _by_group(input: Any, groups: int, weight: Any, bias: Any, eps: float) -> Stacked:
    tasks = count_of(input, weight, bias)
    input = as_stacked(input, tasks)
    found = blocks.group_norm(
        input, *_scales(input.shape[1], input, weight, bias, tasks), groups, eps
    )
    if found is not None:
        return found
    x = input.tasks
    y = F.group_norm(x.flatten(0, 1), groups, eps=eps).unflatten(0, x.shape[:2])
    return _affine(y, weight, bias, x.ndim - 3)


@rule(F.instance_norm)
def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if running_mean is not None or not use_input_stats:
        raise NotStackableError("instance norm with running statistics has no rule")
    check_shapes(
        input.shape[1:2],
        (weight, bias),
        lambda see: F.instance_norm(see(input), None, None, see(weight), see(bias)),
    )
    if input.shape[2:].numel() == 1:
        return F.instance_norm(one_of(input))  # which says what is wrong
    return _by_group(input, input.shape[1], weight, bias, eps)
