"""Attention of sequences to themselves, by a kernel that keeps each head's work in the cache.

With P = softmax(s q kᵀ), row by row, y = P v.  With g the derivative of the loss with respect to y:

    dv = Pᵀ g,  D = P ∘ (g vᵀ - rowsum(P ∘ g vᵀ)),  dq = s D k,  dk = s Dᵀ q.

For the second derivative let u, w and z stand for dq, dk and dv in a scalar product, E = g vᵀ,
M = u kᵀ + q wᵀ, and r and n the sums of P ∘ E and P ∘ M over each row:

    F = s P ∘ (M - n),  H = s (M ∘ (E - r) - n E) + g zᵀ,  G = s P ∘ (H - rowsum(P ∘ H)),
    ∂/∂q = G k + D w,  ∂/∂k = Gᵀ q + Dᵀ u,  ∂/∂v = Fᵀ g,  ∂/∂g = F v + P z.

Kept are q, k and v alone; P is made again.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop.ops.cpu import attention as kernel
from innerloop.ops.kernels import Operation, in_transform, of_its_own, third_derivatives


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(scale q kᵀ) v of `[..., heads, S, d]`, all of one shape."""
    y: Tensor = _Attention.apply(q, k, v, scale)
    return y


class _Attention(Operation):
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
        return *_AttentionBackward.apply(*ctx.saved_tensors, dy, ctx.scale), None


class _AttentionBackward(Operation):
    """The derivatives with respect to queries, keys and values, which lie side by side."""

    axes = 4, 4, 4, 4

    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, dy: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        dx = kernel.backward(*_flat(q, k, v), _by_place(dy), scale)
        return _of_each(dx, q)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        *tensors, ctx.scale = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *tangent: Tensor) -> tuple[Tensor | None, ...]:
        return *_AttentionSecond.apply(*ctx.saved_tensors, *tangent, ctx.scale), None


class _AttentionSecond(Operation):
    """The derivative of `_AttentionBackward`."""

    axes = 4, 4, 4, 4, 4, 4, 4

    @staticmethod
    def forward(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        dy: Tensor,
        u: Tensor,
        w: Tensor,
        z: Tensor,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        to_x, to_dy = kernel.second(*_flat(q, k, v), _by_place(dy), _flat(u, w, z), scale)
        by_head: Tensor = to_dy.transpose(1, 2).unflatten(0, q.shape[:-3])
        return *_of_each(to_x, q), by_head

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        *tensors, ctx.scale = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *dz: Tensor) -> tuple[Tensor | None, ...]:
        first = functools.partial(_first, scale=ctx.scale)
        given = ctx.saved_tensors
        return *third_derivatives(first, given[:4], given[4:], dz), None


def _first(
    q: Tensor, k: Tensor, v: Tensor, dy: Tensor, *, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What `_AttentionBackward` is, by PyTorch's operators."""
    p = (q * scale @ k.mT).softmax(-1)
    of_scores = torch._softmax_backward_data(dy @ v.mT, p, -1, p.dtype) * scale
    return of_scores @ k, of_scores.mT @ q, p.mT @ dy


def _by_place(dy: Tensor) -> Tensor:
    return dy.flatten(0, -4).transpose(1, 2)


def _of_each(dx: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of queries, keys and values, from what lies side by side, by heads as `q`."""
    dq, dk, dv = (t.transpose(1, 2).unflatten(0, q.shape[:-3]) for t in dx.unbind(2))
    return dq, dk, dv


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
        whole: Tensor = _Stack.apply(ctx.dim, *gradients)
        return whole, None


class _Stack(Operation):
    """`torch.stack`, without a copy of what lies side by side already."""

    @staticmethod
    def forward(dim: int, *parts: Tensor) -> Tensor:
        whole = side_by_side(parts, dim)
        return torch.stack(parts, dim) if whole is None else of_its_own(whole)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dim = inputs[0]

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return None, *unbind(dy, ctx.dim)


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
