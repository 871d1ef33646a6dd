"""Linear layers of several tasks, each with weights of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from innerloop.ops import kernels
from innerloop.ops.autograd.convolution import ConvInputs, added
from innerloop.ops.kernels import Operation


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """`[T, B, in]` times `[T, out, in]`, to `[T, B, out]`.

    Derivatives of the weights lie in memory as the weights do, which the inner update needs to be
    fast; those of PyTorch's `bmm` would not.
    """
    if not kernels.multiply(x, weight):
        y: Tensor = _Products.apply(x, weight)
        return y
    # The way back through a convolution of one pixel, whose weights lie as those of a layer.
    pixels, w = x[..., None, None], weight.mT[..., None, None]
    y = ConvInputs.apply(pixels, w, (1, 1), (1, 0, False))
    return y.squeeze((-2, -1))


class _Products(Operation):
    """PyTorch's products, which the second derivatives are made of, too."""

    axes = 2, 2

    @staticmethod
    def forward(x: Tensor, w: Tensor) -> Tensor:
        return x @ w.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        dx = dy @ w if ctx.needs_input_grad[0] else None
        return dx, dy.mT @ x if ctx.needs_input_grad[1] else None

    @staticmethod
    def jvp(ctx: Any, x_tangent: Tensor | None, w_tangent: Tensor | None) -> Tensor:
        x, w = ctx.saved_tensors
        return added(
            None if x_tangent is None else x_tangent @ w.mT,
            None if w_tangent is None else x @ w_tangent.mT,
        )
