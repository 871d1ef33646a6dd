"""The operations of operators.py that are not matrix products, written in Triton.

Triton comes with PyTorch's CUDA builds for Linux; without it operators.py takes those of PyTorch,
which pass over memory several times as often.  All shapes are those of operators.py: images
`[T, B, H, W, C]`, packed.  Sums over the pixels of a task are taken in two launches: of parts of
the pixels, then of the parts, by everyone who needs them.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from innerloop.ops.gpu import norm_tiles as norm

_BLOCK = 1024
# Pixels and channels that a program works on at a time.
_ROWS, _CHANNELS = 64, 32
# Parts that the pixels of a task are divided into, at most, for sums.
_PARTS = 64
# Enough programs for any GPU of today.
_PROGRAMS = 2048


def patches(
    x: Tensor, kernel: tuple[int, int], stride: int, padding: int, dtype: torch.dtype
) -> Tensor:
    """What each output pixel sees: `[T, B, H', W', KH * KW * C]`."""
    tasks, images, height, width, channels = x.shape
    rows, columns = (
        (n + 2 * padding - k) // stride + 1 for n, k in zip((height, width), kernel, strict=True)
    )
    out = x.new_empty((tasks, images, rows, columns, kernel[0] * kernel[1] * channels), dtype=dtype)
    size = height, width, channels, rows, columns, *kernel, stride, padding
    _patches[_blocks(out)](x, out, out.numel(), *size, _BLOCK)
    return out


def fold(
    taps: Tensor, shape: tuple[int, ...], kernel: tuple[int, int], stride: int, padding: int
) -> Tensor:
    """Sums, for each pixel of `shape`, of its places in patches `[T, B, H', W', KH * KW * C]`."""
    x = taps.new_empty(shape)
    size = *shape[2:], *taps.shape[2:4], *kernel, stride, padding
    _fold[_blocks(x)](taps, x, x.numel(), *size, _BLOCK)
    return x


def norm_forward(
    x: Tensor, gamma: Tensor, beta: Tensor, eps: float, pool: bool, slope: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    height, width = (n // 2 if pool else n for n in x.shape[2:4])
    y = x.new_empty(*x.shape[:2], height, width, x.shape[-1])
    argmax = torch.empty_like(y, dtype=torch.uint8)
    mean, rstd = torch.empty_like(gamma), torch.empty_like(gamma)
    shape = _Shape(x, y)
    means, squares = shape.sums(x, 1), shape.sums(x, 1)
    shape.over_parts(norm.moments, x, means, squares)
    shape.over_rows(
        norm.normalise, y, x, gamma, beta, means, squares, y, argmax, mean, rstd, eps, pool, slope
    )
    return y, mean, rstd, argmax


def norm_backward(
    x: Tensor,
    gamma: Tensor,
    mean: Tensor,
    rstd: Tensor,
    argmax: Tensor,
    dy: Tensor,
    pool: bool,
    slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    dx, dgamma, dbeta = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(gamma)
    shape = _Shape(x, dy)
    sums = shape.sums(x, 2)
    shape.over_parts(norm.backward_sums, x, mean, rstd, argmax, dy, sums, pool, slope)
    shape.over_rows(
        norm.backward, x, x, gamma, mean, rstd, argmax, dy, sums, dx, dgamma, dbeta, pool, slope
    )
    return dx, dgamma, dbeta


def norm_second(
    x: Tensor,
    gamma: Tensor,
    mean: Tensor,
    rstd: Tensor,
    argmax: Tensor,
    dy: Tensor,
    tangent: tuple[Tensor, Tensor, Tensor],
    pool: bool,
    slope: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    v, a, b = tangent
    to_x, to_gamma, to_dy = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(dy)
    dx = torch.empty_like(x)
    shape = _Shape(x, dy)
    sums = shape.sums(x, 5)
    shape.over_parts(norm.second_sums, x, mean, rstd, argmax, dy, v, sums, pool, slope)
    given = x, gamma, mean, rstd, argmax, dy, v, a, b, sums
    shape.over_rows(norm.second, x, *given, to_x, to_gamma, to_dy, dx, pool, slope)
    return to_x, to_gamma, to_dy, dx


class _Shape:
    """How the work on images `x`, of which outputs are `y`, is divided among programs."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.tasks, self.channels = x.shape[0], x.shape[-1]
        self.pixels = x[0, ..., 0].numel()
        self.width = min(_CHANNELS, self.channels & -self.channels)
        self.size = *x.shape[2:4], *y.shape[2:4], self.channels
        self.groups = self.channels // self.width
        tiles = triton.cdiv(self.pixels, _ROWS)
        parts = min(tiles, _PARTS, max(1, _PROGRAMS // (self.tasks * self.groups)))
        self.tiles = triton.cdiv(tiles, parts)
        self.parts = triton.cdiv(tiles, self.tiles)

    def sums(self, like: Tensor, number: int) -> Tensor:
        """Room for so many sums of each part and channel."""
        return like.new_empty(self.tasks, self.parts, number, self.channels)

    def over_parts(self, kernel: Any, *arguments: Any) -> None:
        kernel[self.parts, self.groups, self.tasks](
            *arguments, self.pixels, self.tiles, *self.size, _ROWS, self.width
        )

    def over_rows(self, kernel: Any, of: Tensor, *arguments: Any) -> None:
        """One program for every few pixels of `of`."""
        rows = of[0, ..., 0].numel()
        kernel[triton.cdiv(rows, _ROWS), self.groups, self.tasks](
            *arguments,
            *(self.pixels, rows, self.parts, self.tiles * _ROWS),
            *(*self.size, triton.next_power_of_2(self.parts), _ROWS, self.width),
        )


def _blocks(out: Tensor) -> tuple[int]:
    return (triton.cdiv(out.numel(), _BLOCK),)


@triton.jit
def _patches(
    x, out, total,
    H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c, tap, row = i % C, (i // C) % (KH * KW), i // (C * KH * KW)
    h = (row // OW) % OH * STRIDE - PADDING + tap // KW
    w = row % OW * STRIDE - PADDING + tap % KW
    there = (i < total) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
    value = tl.load(x + ((row // (OW * OH) * H + h) * W + w) * C + c, there, other=0.0)
    tl.store(out + i, value, i < total)


@triton.jit
def _fold(
    taps, x, total,
    H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c, w, h, image = i % C, (i // C) % W, (i // (C * W)) % H, i // (C * W * H)
    total_here = tl.zeros([BLOCK], x.dtype.element_ty)
    for kh in tl.static_range(KH):
        for kw in tl.static_range(KW):
            a, b = h + PADDING - kh, w + PADDING - kw
            oh, ow = a // STRIDE, b // STRIDE
            there = (i < total) & (a >= 0) & (b >= 0) & (oh < OH) & (ow < OW)
            there &= (a % STRIDE == 0) & (b % STRIDE == 0)
            tap = ((image * OH + oh) * OW + ow) * (KH * KW) + kh * KW + kw
            total_here += tl.load(taps + tap * C + c, there, other=0.0)
    tl.store(x + i, total_here, i < total)
