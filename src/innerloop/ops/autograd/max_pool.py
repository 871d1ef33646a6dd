"""Max-pooling over windows of 2 x 2, with a fast rule for a task axis."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_pool = torch.ops.aten.max_pool2d_with_indices
_unpool = torch.ops.aten.max_pool2d_with_indices_backward
_WINDOW = [2, 2]


def max_pool_2x2(x: Tensor) -> Tensor:
    """2 x 2 max-pooling with stride 2: `[B, C, H, W]` to `[B, C, H//2, W//2]`.

    The numbers are those of `torch.nn.functional.max_pool2d`.  Under `vmap`,
    PyTorch moves the task axis around its pooling, and falls back to a loop over
    samples for the second derivative, 60 times slower; here tasks are simply
    further rows of the batch, in every derivative.
    """
    return _MaxPool.apply(x)[0]


class _MaxPool(torch.autograd.Function):
    """Values of the maxima and where they are; its derivative is `_Scatter`."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        if x.is_contiguous() and x.device.type == "cpu":
            # PyTorch's kernel is eight times faster with channels innermost.
            x = x.contiguous(memory_format=torch.channels_last)
            values, argmax = _pool(x, _WINDOW, _WINDOW)
            return values.contiguous(), argmax.contiguous()
        values, argmax = _pool(x, _WINDOW, _WINDOW)
        return values, argmax

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        argmax = output[1]
        ctx.mark_non_differentiable(argmax)
        ctx.save_for_backward(argmax)
        ctx.save_for_forward(argmax)
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
        values, argmax = _MaxPool.apply(x.flatten(0, 1))
        tasks = (info.batch_size, -1)
        return (values.unflatten(0, tasks), argmax.unflatten(0, tasks)), (0, 0)


class _Scatter(torch.autograd.Function):
    """Put each entry of `[B, C, h, w]` at its place in zeros of `[B, C, H, W]`."""

    @staticmethod
    def forward(gradient: Tensor, argmax: Tensor, height: int, width: int) -> Tensor:
        # Shape and memory layout of this one count, not its values.
        channels_last = gradient.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        x = torch.empty(
            (*gradient.shape[:2], height, width),
            dtype=gradient.dtype,
            device=gradient.device,
            memory_format=layout,
        )
        return _unpool(gradient, x, _WINDOW, _WINDOW, [0, 0], [1, 1], False, argmax)

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
        info: Any, in_dims: tuple, gradient: Tensor, argmax: Tensor, height: int, width: int
    ) -> tuple[Tensor, int]:
        parts = [
            t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
            for t, dim in zip((gradient, argmax), in_dims[:2], strict=True)
        ]
        merged = _Scatter.apply(*(p.flatten(0, 1) for p in parts), height, width)
        return merged.unflatten(0, (info.batch_size, -1)), 0


def _pick(x: Tensor, argmax: Tensor) -> Tensor:
    """The entries of `[B, C, H, W]` at `argmax` `[B, C, h, w]`."""
    picked = x.flatten(-2).gather(-1, argmax.flatten(-2))
    return picked.unflatten(-1, argmax.shape[-2:])
