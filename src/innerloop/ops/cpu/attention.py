"""The compiled attention of sequences to themselves, as functions of tensors.

Queries, keys and values are `[N, heads, S, d]`, of one shape, and views wherever they lie: parts
of one product of the inputs need not be copied.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from innerloop.ops.cpu import binding, library
from innerloop.ops.cpu.library import LANES, TYPES

# Longer sequences' weights do not stay in the cache, and the kernels count with 32 bits.
LONGEST, WIDEST = 512, 256

Three = tuple[Tensor, Tensor, Tensor]


def serves(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """True if there can be a kernel for these shapes and types."""
    return (
        q.ndim >= 4
        and q.shape == k.shape == v.shape
        and q.dtype == k.dtype == v.dtype
        and q.dtype in TYPES
        and q.is_cpu
        and q.numel() > 0
        and q.shape[-1] % LANES == 0
        and q.shape[-1] <= WIDEST
        and q.shape[-2] <= LONGEST
    )


def forward(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(scale q kᵀ) v of each head, `[N, S, heads, d]`."""
    _must_serve(q, k, v)
    y = torch.empty_like(q.transpose(1, 2), memory_format=torch.contiguous_format)
    _call("attention_forward", scale, [(q, k, v)], y)
    return y


def backward(q: Tensor, k: Tensor, v: Tensor, dy: Tensor, scale: float) -> Tensor:
    """The gradients of q, k and v side by side, `[N, S, 3, heads, d]`, from that of `forward`."""
    _must_serve(q, k, v)
    _must_fit(q, dy)
    dx = _side_by_side(q)
    _call("attention_backward", scale, [(q, k, v)], dy.contiguous(), dx)
    return dx


def second(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dy: Tensor,
    tangent: Three,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The derivative of `backward`, of whose results' scalar product with `tangent`.

    Returns:
        The gradients of q, k and v side by side, and that of `dy`, `[N, S, heads, d]`.
    """
    _must_serve(q, k, v)
    _must_serve(*tangent)
    _must_fit(q, dy)
    if tangent[0].shape != q.shape or tangent[0].dtype != q.dtype:
        raise RuntimeError(f"what stands for gradients is of shape {tuple(tangent[0].shape)}")
    to_x, to_dy = _side_by_side(q), dy.new_empty(dy.shape)
    _call("attention_second", scale, [(q, k, v), tangent], dy.contiguous(), to_x, to_dy)
    return to_x, to_dy


def _side_by_side(q: Tensor) -> Tensor:
    sequences, heads, length, width = q.shape
    return q.new_empty(sequences, length, 3, heads, width)


def _must_fit(q: Tensor, dy: Tensor) -> None:
    sequences, heads, length, width = q.shape
    if dy.shape != (sequences, length, heads, width) or dy.dtype != q.dtype or not dy.is_cpu:
        raise RuntimeError(f"the gradient of attention is of shape {tuple(dy.shape)}")


def _must_serve(q: Tensor, k: Tensor, v: Tensor) -> None:
    if q.ndim != 4 or not serves(q, k, v):
        shapes = [tuple(t.shape) for t in (q, k, v)]
        raise RuntimeError(f"there is no kernel for attention of tensors of shape {shapes}")


def _call(name: str, scale: float, alike: Sequence[Three], *others: Tensor) -> None:
    """Each three of `alike` are told to the kernel by their steps in memory, which are the same."""
    hows, given = [], []
    for three in alike:
        q, k, v = three
        if not q.stride() == k.stride() == v.stride() or q.stride(-1) != 1:
            q, k, v = torch.stack([t.transpose(1, 2) for t in three]).transpose(2, 3)
        sequences, heads, length, width = q.shape
        if length * max(abs(q.stride(2)), 3 * heads * width) >= 2**31:
            raise RuntimeError(
                f"sequences of shape {tuple(q.shape[1:])} are too large for the kernels"
            )
        threads = torch.get_num_threads()
        hows.append(
            library.Attention(sequences, heads, length, width, threads, *q.stride()[:3], scale)
        )
        given += [q, k, v]
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (*given, *others)]
    binding.call(f"{name}_{TYPES[given[0].dtype]}", *map(ctypes.byref, hows), *pointers)
