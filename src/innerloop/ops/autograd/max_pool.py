"""Max-pooling over windows of 2 x 2, with a fast rule for a task axis."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from innerloop.ops.kernels import Operation, of_its_own

_pool = torch.ops.aten.max_pool2d_with_indices
_unpool = torch.ops.aten.max_pool2d_with_indices_backward
_WINDOW = [2, 2]


def max_pool_2x2(x: Tensor) -> Tensor:
    """2 x 2 max-pooling with stride 2: `[..., B, C, H, W]` to `[..., B, C, H//2, W//2]`.

    The numbers are those of `torch.nn.functional.max_pool2d`.  Under `vmap`,
    PyTorch moves the task axis around its pooling, and falls back to a loop over
    samples for the second derivative, 60 times slower; here tasks are simply
    further rows of the batch, in every derivative.
    """
    if has_torch_function_unary(x):
        return handle_torch_function(max_pool_2x2, (x,), x)
    values: Tensor = _MaxPool.apply(x)[0]
    return values


class _MaxPool(Operation):
    """Values of the maxima and where they are; its derivative is `_Scatter`."""

    axes = (4,)

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        shape = x.shape[:-3]
        # Tasks are further rows of the batch.
        x = x.flatten(0, -4)
        if x.is_contiguous() and x.device.type == "cpu":
            # PyTorch's kernel is eight times faster with channels innermost.
            x = x.contiguous(memory_format=torch.channels_last)
            values, argmax = (t.contiguous() for t in _pool(x, _WINDOW, _WINDOW))
        else:
            values, argmax = _pool(x, _WINDOW, _WINDOW)
        if len(shape) == 1:
            return values, argmax
        return of_its_own(values.unflatten(0, shape)), argmax.unflatten(0, shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        argmax = output[1]
        ctx.mark_non_differentiable(argmax)
        ctx.save_for_backward(argmax)
        ctx.save_for_forward(argmax)
        ctx.height, ctx.width = inputs[0].shape[-2:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        return _scatter(gradient, ctx.saved_tensors[0], ctx.height, ctx.width)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> tuple[Tensor, None]:
        return _pick(tangent, ctx.saved_tensors[0]), None


class _Scatter(Operation):
    """Put each entry of `[B, C, h, w]` at its place in zeros of `[B, C, H, W]`."""

    axes = 4, 4

    @staticmethod
    def forward(gradient: Tensor, argmax: Tensor, height: int, width: int) -> Tensor:
        shape = gradient.shape[:-3]
        gradient, argmax = gradient.flatten(0, -4), argmax.flatten(0, -4)
        # Shape and memory layout of this one count, not its values.
        channels_last = gradient.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        x = torch.empty(
            (*gradient.shape[:2], height, width),
            dtype=gradient.dtype,
            device=gradient.device,
            memory_format=layout,
        )
        x = _unpool(gradient, x, _WINDOW, _WINDOW, [0, 0], [1, 1], False, argmax)
        placed: Tensor = x.unflatten(0, shape)
        return placed

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.save_for_forward(inputs[1])
        ctx.height, ctx.width = inputs[2:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _pick(gradient, ctx.saved_tensors[0]), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _scatter(tangent, ctx.saved_tensors[0], ctx.height, ctx.width)


def _scatter(values: Tensor, argmax: Tensor, height: int, width: int) -> Tensor:
    placed: Tensor = _Scatter.apply(values, argmax, height, width)
    return placed


def _pick(x: Tensor, argmax: Tensor) -> Tensor:
    """The entries of `[B, C, H, W]` at `argmax` `[B, C, h, w]`."""
    flat = x.flatten(-2).gather(-1, argmax.flatten(-2))
    picked: Tensor = flat.unflatten(-1, argmax.shape[-2:])
    return picked
