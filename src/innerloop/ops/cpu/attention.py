"""The compiled attention of sequences to themselves, as functions of tensors.

Queries, keys and values are `[N, heads, S, d]`, of one shape, and views wherever they lie: parts
of one product of the inputs need not be copied.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from innerloop.ops.cpu import binding, library
from innerloop.ops.cpu.library import LANES, TYPES

# Longer sequences' weights do not stay in the cache, and the kernels count with 32 bits.
LONGEST, WIDEST = 512, 256


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
    _call("attention_forward", q, k, v, scale, y)
    return y


def backward(q: Tensor, k: Tensor, v: Tensor, dy: Tensor, scale: float) -> Tensor:
    """The gradients of q, k and v side by side, `[N, S, 3, heads, d]`, from that of `forward`."""
    _must_serve(q, k, v)
    sequences, heads, length, width = q.shape
    if dy.shape != (sequences, length, heads, width) or dy.dtype != q.dtype or not dy.is_cpu:
        raise RuntimeError(f"the gradient of attention is of shape {tuple(dy.shape)}")
    dx = q.new_empty(sequences, length, 3, heads, width)
    _call("attention_backward", q, k, v, scale, dy.contiguous(), dx)
    return dx


def _must_serve(q: Tensor, k: Tensor, v: Tensor) -> None:
    if q.ndim != 4 or not serves(q, k, v):
        shapes = [tuple(t.shape) for t in (q, k, v)]
        raise RuntimeError(f"there is no kernel for attention of tensors of shape {shapes}")


def _call(name: str, q: Tensor, k: Tensor, v: Tensor, scale: float, *others: Tensor) -> None:
    if not q.stride() == k.stride() == v.stride() or q.stride(-1) != 1:
        q, k, v = torch.stack([t.transpose(1, 2) for t in (q, k, v)]).transpose(2, 3)
    sequences, heads, length, width = q.shape
    if length * max(abs(q.stride(2)), 3 * heads * width) >= 2**31:
        raise RuntimeError(f"sequences of shape {tuple(q.shape[1:])} are too large for the kernels")
    threads = torch.get_num_threads()
    how = library.Attention(sequences, heads, length, width, threads, *q.stride()[:3], scale)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (q, k, v, *others)]
    binding.call(f"{name}_{TYPES[q.dtype]}", ctypes.byref(how), *pointers)
