"""Layer norm whose scales and shifts are the tasks' own, in one pass over the rows.

The derivatives are those of norm.py, with means over the channels of a row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from innerloop.ops import kernels
from innerloop.ops.kernels import Operation


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor | None:
    """`[T, ..., C]` normalised over the last axis, times and plus `[T, C]`.

    None where there is no kernel for it.
    """
    if weight is None or bias is None or weight.ndim != 2 or kernels.in_transform():
        return None
    if not (x.is_cpu and x.dtype == weight.dtype == bias.dtype and kernels.serve(x, x.shape[-1])):
        return None
    y: Tensor = _LayerNorm.apply(x.flatten(1, -2), weight, bias, eps)[0]
    return y.view(x.shape)


class _LayerNorm(Operation):
    """Its derivative is the kernel's; where that is differentiated too, PyTorch's operators'."""

    axes = 2, 1, 1

    @staticmethod
    def forward(
        x: Tensor, gamma: Tensor, beta: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        return kernels.layer_norm_forward(
            x.contiguous(), gamma.contiguous(), beta.contiguous(), eps
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        x, gamma, _, ctx.eps = inputs
        _, mean, rstd = output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, gamma, mean, rstd)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 4
        x, gamma, mean, rstd = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_differentiably(x, gamma, dy, ctx.eps), None
        given = (t.contiguous() for t in (x, gamma, mean, rstd, dy))
        return *kernels.layer_norm_backward(*given), None


def _differentiably(
    x: Tensor, gamma: Tensor, dy: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    channels = x.shape[-1:]
    unit_x, mean, rstd = torch.native_layer_norm(x, channels, None, None, eps)
    given = dy * gamma[:, None], x, channels, mean, rstd, None, None, [True, False, False]
    dx = torch.ops.aten.native_layer_norm_backward(*given)[0]
    return dx, (dy * unit_x).sum(1), dy.sum(1)
