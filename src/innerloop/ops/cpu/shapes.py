"""Convolutions and norms as the kernels are told of them, from the shapes of tensors.

Where shapes do not fit each other, the functions raise RuntimeError: compiled code would read and
write elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor

from innerloop.ops.cpu.library import LANES, Conv, Norm

# Stride, padding, pool and slope of a block.
How = tuple[int, int, bool, float]
# What `block_forward` keeps, mean, rstd and argmax.
Seen = tuple[Tensor, Tensor, Tensor, Tensor]
_half: ContextVar[bool] = ContextVar("half", default=False)


@contextlib.contextmanager
def half_products() -> Iterator[None]:
    """Within this context factors of single-precision products are rounded to bfloat16."""
    token = _half.set(True)
    try:
        yield
    finally:
        _half.reset(token)


# Output pixels that the kernels take at once, at most, where an image has no more.
_AT_ONCE = 512


def conv(
    x: Sequence[int],
    outputs: int,
    kernel: tuple[int, int],
    stride: int,
    padding: int,
    weights: int | None = None,
) -> tuple[Conv, tuple[int, ...]]:
    """A convolution of images of shape `x`, with weights for so many tasks; its output's shape."""
    threads = torch.get_num_threads()
    return _conv_by(tuple(x), outputs, kernel, stride, padding, weights, _half.get(), threads)


# The same shapes come again in every step, and small kernels take no longer than to work them out.
@functools.lru_cache(maxsize=4096)
def _conv_by(
    x: tuple[int, ...],
    outputs: int,
    kernel: tuple[int, int],
    stride: int,
    padding: int,
    weights: int | None,
    half: bool,
    threads: int,
) -> tuple[Conv, tuple[int, ...]]:
    tasks, images, height, width, inputs = x
    if stride < 1 or padding < 0 or min(kernel) < 1:
        raise RuntimeError(f"no convolution has {kernel=}, {stride=} and {padding=}")
    if outputs % LANES or 0 in (images, height, width, inputs, outputs):
        raise RuntimeError(f"no kernel makes {outputs} channels of images of shape {tuple(x)}")
    tall, wide = height + 2 * padding, width + 2 * padding
    out_height, out_width = (tall - kernel[0]) // stride + 1, (wide - kernel[1]) // stride + 1
    if min(out_height, out_width) < 1:
        raise RuntimeError(f"images of {(height, width)} are too small for a kernel of {kernel}")
    # Within a group of images, and within weights, the kernels count with 32 bits.
    group = min(images, -(-_AT_ONCE // (out_height * out_width)))
    largest = group * max(tall * wide * inputs, out_height * out_width * outputs)
    if max(largest, kernel[0] * kernel[1] * inputs * outputs, tasks * images) >= 2**31:
        raise RuntimeError(f"images of shape {tuple(x[2:])} are too large for the kernels")
    shared = weights is not None and weights < tasks
    y = tasks, images, out_height, out_width, outputs
    how = *kernel, stride, padding, shared, False, half, threads
    return Conv(*x, *y[2:], *how), y


def linear(x: Sequence[int], w: Sequence[int]) -> tuple[Conv, tuple[int, ...]]:
    """A layer of rows `[T, B, in]` with weights `[T or 1, out, in]`; its output's shape.

    The kernels are told of a convolution of single pixels from its outputs to its inputs, whose
    weights lie in memory as its own.
    """
    tasks, rows, outputs = x[0], x[1], w[1]
    if (w[0] != 1 and w[0] != tasks) or w[2] != x[2]:
        raise RuntimeError(f"weights of shape {tuple(w)} do not fit rows of shape {tuple(x)}")
    multiple(outputs)
    shape, _ = conv((tasks, rows, 1, 1, outputs), x[2], (1, 1), 1, 0, w[0])
    return shape, (tasks, rows, outputs)


def fits(shape: Sequence[int], **tensors: Tensor | None) -> None:
    """Raise RuntimeError for a tensor of another shape: the kernels would read elsewhere."""
    for name, tensor in tensors.items():
        if tensor is not None and tensor.shape != shape:
            raise RuntimeError(f"{name} is of shape {tuple(tensor.shape)} instead of {shape}")


def multiple(channels: int) -> None:
    """Raise RuntimeError for inputs with a number of channels that no kernel writes."""
    if channels % LANES:
        raise RuntimeError(f"no kernel has a gradient for inputs of {channels} channels")


def weights_fit(w: Sequence[int], x: Sequence[int]) -> None:
    """Raise RuntimeError for weights that are neither those of each task nor shared."""
    if len(w) != 5 or w[0] not in (1, x[0]) or w[3] != x[-1]:
        raise RuntimeError(f"weights of shape {tuple(w)} are not for images of shape {tuple(x)}")


def depthwise(
    x: Sequence[int], w: Sequence[int], stride: int, padding: int
) -> tuple[Conv, tuple[int, ...]]:
    """As `conv`, of each channel by itself with weights of shape `w`, `[T, KH, KW, 1, C]`."""
    if len(w) != 5 or w[0] not in (1, x[0]) or tuple(w[3:]) != (1, x[-1]):
        raise RuntimeError(
            f"weights of shape {tuple(w)} are not for the channels of images of shape {tuple(x)}"
        )
    return conv(x, x[-1], (w[1], w[2]), stride, padding, w[0])


def norm(
    x: Sequence[int], *, first: int | None, pool: bool, slope: float, eps: float = 0.0
) -> tuple[Norm, tuple[int, ...]]:
    """Batch norm of images of shape `x`, and its output's shape."""
    return _norm_by(tuple(x), first, pool, slope, eps, torch.get_num_threads())


@functools.lru_cache(maxsize=4096)
def _norm_by(
    x: tuple[int, ...], first: int | None, pool: bool, slope: float, eps: float, threads: int
) -> tuple[Norm, tuple[int, ...]]:
    height, width = (n // 2 if pool else n for n in x[2:4])
    if x[-1] % LANES or 0 in x[1:]:
        raise RuntimeError(f"there is no kernel for images of shape {tuple(x)}")
    if min(height, width) < 1:
        raise RuntimeError(f"nothing is left of {tuple(x[2:4])} pixels after 2 x 2 pooling")
    first = x[1] if first is None else first
    if not 1 <= first <= x[1]:
        raise RuntimeError(f"of {x[1]} images the first {first} cannot give the statistics")
    how = Norm(*x, first, pool, slope, eps, threads)
    return how, (*x[:2], height, width, x[-1])


def group_norm(x: Sequence[int], groups: int, group: int, eps: float = 0.0) -> Norm:
    """Norm of images of shape `x` by groups of so many channels each.

    Channels beyond the last group stay what they should be, zeros.
    """
    return _group_norm_by(tuple(x), groups, group, eps, torch.get_num_threads())


@functools.lru_cache(maxsize=4096)
def _group_norm_by(x: tuple[int, ...], groups: int, group: int, eps: float, threads: int) -> Norm:
    _norm_by(x, None, False, 1.0, eps, threads)
    if min(groups, group) < 1 or groups * group > x[-1]:
        raise RuntimeError(f"{x[-1]} channels do not have {groups} groups of {group}")
    return Norm(*x, x[1], False, 1.0, eps, threads, groups, group)


class Block:
    """The shapes of a block's parts, of what it keeps and of its output.

    Args:
        x, w: shapes of its images and weights.
        how, eps: see `block_forward`.
        half: whether factors are rounded.
        threads: at most so many.
    """

    def __init__(
        self, x: tuple[int, ...], w: tuple[int, ...], how: How, eps: float, half: bool, threads: int
    ) -> None:
        weights_fit(w, x)
        stride, padding, pool, slope = how
        self.conv, z = _conv_by(x, w[-1], (w[1], w[2]), stride, padding, w[0], half, threads)
        self.norm, self.y = _norm_by(z, None, pool, slope, eps, threads)
        # See block.inc.
        self.kept = self.y if pool and x[-1] < LANES else z
        self.vector = z[0], z[-1]
        self.w = z[0], *w[1:]

    def fits(self, gamma: Tensor, seen: Seen, dy: Tensor) -> None:
        kept, mean, rstd, argmax = seen
        fits(self.vector, gamma=gamma, mean=mean, rstd=rstd)
        fits(self.kept, kept=kept)
        fits(self.y, argmax=argmax, gradient=dy)


_block_by = functools.lru_cache(maxsize=4096)(Block)


def block(x: Tensor, w: Tensor, how: How, eps: float = 0.0) -> Block:
    return _block_by(x.shape, w.shape, how, eps, _half.get(), torch.get_num_threads())
