"""Attention of sequences to themselves, by a kernel that keeps each head's work in the cache.

With P = softmax(s q kᵀ), row by row, y = P v.  With g the derivative of the loss with respect to y:

    dv = Pᵀ g,  D = P ∘ (g vᵀ - rowsum(P ∘ g vᵀ)),  dq = s D k,  dk = s Dᵀ q.

Kept are q, k and v alone; P is made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop.ops.cpu import attention as kernel
from innerloop.ops.kernels import Operation, in_transform


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(scale q kᵀ) v of `[..., heads, S, d]`, all of one shape."""
    y: Tensor = _Attention.apply(q, k, v, scale)
    return y


class _Attention(Operation):
    """Its derivative is the kernel's; where that is differentiated too, PyTorch's operators'."""

    axes = 4, 4, 4

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        y = kernel.forward(*_flat(q, k, v), scale)
        by_head: Tensor = y.transpose(1, 2).unflatten(0, q.shape[:-3])
        return by_head

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.scale = inputs[3]

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        if torch.is_grad_enabled():
            p = (q * ctx.scale @ k.mT).softmax(-1)
            of_scores = torch._softmax_backward_data(dy @ v.mT, p, -1, p.dtype) * ctx.scale
            return of_scores @ k, of_scores.mT @ q, p.mT @ dy, None
        dx = kernel.backward(*_flat(q, k, v), dy.flatten(0, -4).transpose(1, 2), ctx.scale)
        parts = (t.transpose(1, 2).unflatten(0, q.shape[:-3]) for t in dx.unbind(2))
        return *parts, None


def _flat(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return q.flatten(0, -4), k.flatten(0, -4), v.flatten(0, -4)


def unbind(x: Tensor, dim: int) -> Sequence[Tensor]:
    """`x.unbind(dim)`; gradients that lie side by side become that of `x` without a copy."""
    parts: Sequence[Tensor] = x.unbind(dim) if in_transform() else _Unbind.apply(x, dim)
    return parts


class _Unbind(Operation):
    @staticmethod
    def forward(x: Tensor, dim: int) -> tuple[Tensor, ...]:
        return x.unbind(dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, dim = inputs
        ctx.dim = dim % x.ndim

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        whole = None if torch.is_grad_enabled() else side_by_side(gradients, ctx.dim)
        return torch.stack(gradients, ctx.dim) if whole is None else whole, None


def side_by_side(parts: Sequence[Tensor], dim: int) -> Tensor | None:
    """The tensor whose parts along `dim` these are in memory; None where they are not."""
    first = parts[0]
    offsets = [t.storage_offset() for t in parts]
    step = offsets[1] - offsets[0] if len(parts) > 1 else 0
    one = all(
        t.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        and t.stride() == first.stride()
        and t.storage_offset() == offsets[0] + i * step
        for i, t in enumerate(parts)
    )
    if not one or step <= 0:
        return None
    shape, stride = first.shape, first.stride()
    return first.as_strided(
        (*shape[:dim], len(parts), *shape[dim:]), (*stride[:dim], step, *stride[dim:]), offsets[0]
    )
