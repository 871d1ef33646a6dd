"""Convolution: its two derivatives are operations like itself."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from innerloop.ops import kernels
from innerloop.ops.kernels import (
    Operation,
    images,
    images_back,
    weights,
    weights_back,
    wide_weights,
)

# Stride and padding; and whether every channel is convolved by itself.
Way = tuple[int, int, bool]


def conv2d(x: Tensor, weight: Tensor, stride: int, padding: int, depthwise: bool = False) -> Tensor:
    """The convolution of `[B, in, H, W]` with `[out, in, KH, KW]`, out a multiple of 16.

    If `depthwise`, of each of `[B, C, H, W]` channels with its own of `[C, 1, KH, KW]`.
    """
    y: Tensor = _Conv.apply(x, weight, (stride, padding, depthwise))
    return y


def conv_transpose2d(
    x: Tensor, weight: Tensor, size: tuple[int, int], stride: int, padding: int
) -> Tensor:
    """Images of `size` whose convolution `[in, out, KH, KW]` would have the shape of `x`.

    `x` is `[B, in, H, W]`, in a multiple of 16; the result is the derivative of that convolution
    with respect to its inputs, which is what a transposed convolution is.
    """
    y: Tensor = ConvInputs.apply(x, weight, size, (stride, padding, False))
    return y


class _WithWeights(Operation):
    """Where tasks share weights, the rule for vmap makes one long batch of them."""

    axes = 4, 4

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        x, w, *rest = arguments
        if info.batch_size and in_dims[1] is None and x.ndim == 5 and w.ndim == 4:
            merged = cls.apply(x.movedim(in_dims[0], 0).flatten(0, 1), w, *rest)
            return merged.unflatten(0, (info.batch_size, -1)), 0
        return super().vmap(info, in_dims, *arguments)


class _Conv(_WithWeights):
    """Inputs and weights to outputs."""

    @staticmethod
    def forward(x: Tensor, w: Tensor, way: Way) -> Tensor:
        *how, depthwise = way
        kernel = kernels.depthwise_forward if depthwise else kernels.conv_forward
        return images_back(kernel(images(x), weights(w), *how), x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, ctx.way = inputs
        ctx.save_for_backward(x, w)
        ctx.save_for_forward(x, w)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = ConvInputs.apply(dy, w, tuple(x.shape[-2:]), ctx.way)
        if ctx.needs_input_grad[1]:
            dw = _ConvWeights.apply(x, dy, tuple(w.shape[-2:]), ctx.way)
        return dx, dw, None

    @staticmethod
    def jvp(ctx: Any, x_tangent: Tensor | None, w_tangent: Tensor | None, *_: None) -> Tensor:
        x, w = ctx.saved_tensors
        return added(
            None if x_tangent is None else _Conv.apply(x_tangent, w, ctx.way),
            None if w_tangent is None else _Conv.apply(x, w_tangent, ctx.way),
        )


class ConvInputs(_WithWeights):
    """The derivative with respect to the inputs, from that of the outputs and the weights."""

    @staticmethod
    def forward(dy: Tensor, w: Tensor, size: tuple[int, int], way: Way) -> Tensor:
        *how, depthwise = way
        packed_w, inputs = weights(w), w.shape[-3]
        if depthwise:
            dx = kernels.depthwise_inputs(images(dy), packed_w, size, *how)
        elif inputs % kernels.LANES:
            # Rarely needed: images are not learnt.
            dx = kernels.conv_inputs(images(dy), wide_weights(packed_w), size, *how)
            dx = dx[..., :inputs].contiguous()
        else:
            dx = kernels.conv_inputs(images(dy), packed_w, size, *how)
        return images_back(dx, dy)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        dy, w, ctx.size, ctx.way = inputs
        ctx.save_for_backward(dy, w)
        ctx.save_for_forward(dy, w)

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> tuple[Tensor | None, ...]:
        dy, w = ctx.saved_tensors
        to_dy = to_w = None
        if ctx.needs_input_grad[0]:
            to_dy = _Conv.apply(dx, w, ctx.way)
        if ctx.needs_input_grad[1]:
            to_w = _ConvWeights.apply(dx, dy, tuple(w.shape[-2:]), ctx.way)
        return to_dy, to_w, None, None

    @staticmethod
    def jvp(ctx: Any, dy_tangent: Tensor | None, w_tangent: Tensor | None, *_: None) -> Tensor:
        dy, w = ctx.saved_tensors
        return added(
            None if dy_tangent is None else ConvInputs.apply(dy_tangent, w, ctx.size, ctx.way),
            None if w_tangent is None else ConvInputs.apply(dy, w_tangent, ctx.size, ctx.way),
        )


class _ConvWeights(Operation):
    """The derivative with respect to the weights, from the inputs and that of the outputs."""

    axes = 4, 4

    @staticmethod
    def forward(x: Tensor, dy: Tensor, size: tuple[int, int], way: Way) -> Tensor:
        *how, depthwise = way
        kernel = kernels.depthwise_weights if depthwise else kernels.conv_weights
        return weights_back(kernel(images(x), images(dy), size, *how), x.ndim == 5)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, dy, ctx.size, ctx.way = inputs
        ctx.save_for_backward(x, dy)
        ctx.save_for_forward(x, dy)

    @staticmethod
    def backward(ctx: Any, dw: Tensor) -> tuple[Tensor | None, ...]:
        x, dy = ctx.saved_tensors
        to_x = to_dy = None
        if ctx.needs_input_grad[0]:
            to_x = ConvInputs.apply(dy, dw, tuple(x.shape[-2:]), ctx.way)
        if ctx.needs_input_grad[1]:
            to_dy = _Conv.apply(x, dw, ctx.way)
        return to_x, to_dy, None, None

    @staticmethod
    def jvp(ctx: Any, x_tangent: Tensor | None, dy_tangent: Tensor | None, *_: None) -> Tensor:
        x, dy = ctx.saved_tensors
        return added(
            None if x_tangent is None else _ConvWeights.apply(x_tangent, dy, ctx.size, ctx.way),
            None if dy_tangent is None else _ConvWeights.apply(x, dy_tangent, ctx.size, ctx.way),
        )


def added(*parts: Tensor | None) -> Tensor:
    """The sum of those that are there, at least one."""
    return functools.reduce(torch.add, [t for t in parts if t is not None])
