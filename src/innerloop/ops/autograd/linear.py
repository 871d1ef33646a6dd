"""Linear layers of several tasks, each with weights of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from innerloop.ops import kernels
from innerloop.ops.autograd.convolution import ConvInputs, added
from innerloop.ops.kernels import Operation


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`[T, B, in]` times `[T, out, in]`, plus `[T, out]`, to `[T, B, out]`.

    Derivatives of the weights lie in memory as the weights do, which the inner update needs to be
    fast; those of PyTorch's `bmm` would not.
    """
    y: Tensor
    if not kernels.multiply(x, weight):
        y = _Products.apply(x, weight)
    elif x.is_cpu:
        y = _Layer.apply(x, weight, bias)
        return y
    else:
        # The way back through a convolution of one pixel, whose weights lie as those of a layer.
        pixels, w = x[..., None, None], weight.mT[..., None, None]
        y = ConvInputs.apply(pixels, w, (1, 1), (1, 0, False)).squeeze((-2, -1))
    return y if bias is None else y + bias[:, None]


class _Layer(Operation):
    """Rows, weights and bias to outputs, by the kernels of a CPU."""

    axes = 2, 2, 1

    @staticmethod
    def forward(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        bias = None if bias is None else bias.contiguous()
        return kernels.linear_forward(x.contiguous(), _once(w), bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, _ = inputs
        ctx.save_for_backward(x, w)
        ctx.save_for_forward(x, w)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        dx = _Inputs.apply(dy, w) if ctx.needs_input_grad[0] else None
        return dx, *(_Weights.apply(dy, x) if any(ctx.needs_input_grad[1:]) else (None, None))

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        (x, w), (to_x, to_w, to_bias) = ctx.saved_tensors, tangents
        return added(
            None if to_x is None else _Layer.apply(to_x, w, None),
            None if to_w is None else _Layer.apply(x, to_w, None),
            None if to_bias is None else to_bias[:, None].repeat(1, x.shape[1], 1),
        )


class _Inputs(Operation):
    """The derivative with respect to the rows, from that of the outputs and the weights."""

    axes = 2, 2

    @staticmethod
    def forward(dy: Tensor, w: Tensor) -> Tensor:
        pixels = dy.contiguous()[:, :, None, None]
        dx: Tensor = kernels.conv_forward(pixels, _once(w)[:, None, None], 1, 0).flatten(2)
        return dx

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> tuple[Tensor | None, ...]:
        dy, w = ctx.saved_tensors
        to_dy = _Layer.apply(dx, w, None) if ctx.needs_input_grad[0] else None
        return to_dy, _Weights.apply(dy, dx)[0] if ctx.needs_input_grad[1] else None

    @staticmethod
    def jvp(ctx: Any, to_dy: Tensor | None, to_w: Tensor | None) -> Tensor:
        dy, w = ctx.saved_tensors
        return added(
            None if to_dy is None else _Inputs.apply(to_dy, w),
            None if to_w is None else _Inputs.apply(dy, to_w),
        )


class _Weights(Operation):
    """The derivatives with respect to weights and bias, from that of the outputs and the rows."""

    axes = 2, 2

    @staticmethod
    def forward(dy: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return kernels.linear_weights(dy.contiguous(), x.contiguous())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, dw: Tensor, dbias: Tensor) -> tuple[Tensor | None, ...]:
        dy, x = ctx.saved_tensors
        to_dy = _Layer.apply(x, dw, dbias) if ctx.needs_input_grad[0] else None
        return to_dy, _Inputs.apply(dy, dw) if ctx.needs_input_grad[1] else None

    @staticmethod
    def jvp(ctx: Any, to_dy: Tensor | None, to_x: Tensor | None) -> tuple[Tensor, Tensor]:
        dy, x = ctx.saved_tensors
        by_x = None if to_x is None else _Weights.apply(dy, to_x)[0]
        by_dy = None, dy.new_zeros(len(dy), dy.shape[-1])
        dw, dbias = by_dy if to_dy is None else _Weights.apply(to_dy, x)
        return added(dw, by_x), dbias


def _once(w: Tensor) -> Tensor:
    """Weights `[T, out, in]`, packed; `[1, out, in]` where all tasks share them."""
    return (w[:1] if w.stride(0) == 0 else w).contiguous()


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
