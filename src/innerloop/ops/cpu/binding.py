"""The compiled functions as functions of tensors.

All tensors are packed, with the channels innermost: images `[T, B, H, W, C]`, convolution
weights `[T, KH, KW, in, out]`, batch-norm vectors `[T, C]`.  Where shapes or types do not fit
each other, every function raises RuntimeError: compiled code would read and write elsewhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from innerloop.ops.cpu import library
from innerloop.ops.cpu.library import LANES, TYPES, Conv, Norm

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


def call(function: str, *arguments: Any) -> None:
    """Run an exported function of the library, which there is.

    Raises:
        MemoryError: there is none left; what the function has written means nothing.
    """
    _check(function, getattr(library.load(), function)(*arguments))


def _check(function: str, failed: int) -> None:
    if failed:
        raise MemoryError(f"{function} of the compiled kernels needs more memory than there is")


def _call(name: str, *arguments: ctypes.Structure | Tensor | None) -> None:
    """The function of this name for the type of the first tensor, unless there are no tasks.

    Raises:
        MemoryError: there is none left; what the function has written means nothing.
        RuntimeError: a tensor is of another type, elsewhere or not packed.
    """
    first = next(a for a in arguments if isinstance(a, Tensor))
    dtype = first.dtype
    addresses: list[Any] = []
    for a in arguments:
        if not isinstance(a, Tensor):
            addresses.append(a and ctypes.byref(a))
            continue
        # The one of bytes is argmax, which is made here.
        known = a.dtype is dtype or a.dtype is torch.uint8
        if not (known and a.is_cpu and a.is_contiguous()):
            raise RuntimeError(
                f"{name} takes packed tensors of {dtype} on a CPU; here is one of {a.dtype} on "
                f"{a.device} with strides {a.stride()}"
            )
        addresses.append(a.data_ptr())
    if not first.shape[0]:
        return
    name = f"{name}_{TYPES[dtype]}"
    function = getattr(library.load(), name)
    if function.argtypes is None:
        # Plain numbers are then addresses, which is half the work of making objects of them.
        function.argtypes = [ctypes.c_void_p] * len(addresses)
    _check(name, function(*addresses))


# Output pixels that the kernels take at once, at most, where an image has no more.
_AT_ONCE = 512


def _conv(
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


def _fits(shape: Sequence[int], **tensors: Tensor | None) -> None:
    """Raise RuntimeError for a tensor of another shape: the kernels would read elsewhere."""
    for name, tensor in tensors.items():
        if tensor is not None and tensor.shape != shape:
            raise RuntimeError(f"{name} is of shape {tuple(tensor.shape)} instead of {shape}")


def _multiple(channels: int) -> None:
    """Raise RuntimeError for inputs with a number of channels that no kernel writes."""
    if channels % LANES:
        raise RuntimeError(f"no kernel has a gradient for inputs of {channels} channels")


def _weights_fit(w: Sequence[int], x: Sequence[int]) -> None:
    """Raise RuntimeError for weights that are neither those of each task nor shared."""
    if len(w) != 5 or w[0] not in (1, x[0]) or w[3] != x[-1]:
        raise RuntimeError(f"weights of shape {tuple(w)} are not for images of shape {tuple(x)}")


def conv_forward(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    """The convolution `[T, B, H', W', out]` of `x` with `w`, `[1, ...]` if all tasks share it."""
    _weights_fit(w.shape, x.shape)
    shape, of_y = _conv(x.shape, w.shape[-1], (w.shape[1], w.shape[2]), stride, padding, len(w))
    y = x.new_empty(of_y)
    _call("conv_forward", shape, x, w, y)
    return y


def conv_inputs(dy: Tensor, w: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
    """The gradient with respect to inputs of height and width `size` from that of the outputs."""
    of_x = *dy.shape[:2], *size, w.shape[-2]
    _multiple(of_x[-1])
    _weights_fit(w.shape, of_x)
    shape, of_y = _conv(of_x, w.shape[-1], (w.shape[1], w.shape[2]), stride, padding, len(w))
    _fits(of_y, gradient=dy)
    dx = dy.new_empty(of_x)
    _call("conv_inputs", shape, dy, w, dx)
    return dx


def conv_weights(
    x: Tensor, dy: Tensor, kernel: tuple[int, int], stride: int, padding: int
) -> Tensor:
    """The gradient with respect to the weights from that of the outputs."""
    shape, of_y = _conv(x.shape, dy.shape[-1], kernel, stride, padding)
    _fits(of_y, gradient=dy)
    dw = x.new_empty(x.shape[0], *kernel, x.shape[-1], dy.shape[-1])
    _call("conv_weights", shape, x, dy, dw)
    return dw


def _norm(
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
    norm = Norm(*x, first, pool, slope, eps, threads)
    return norm, (*x[:2], height, width, x[-1])


def norm_forward(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    pool: bool,
    slope: float,
    first: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Batch norm, 2 x 2 max-pooling if `pool`, and what is negative times `slope`, 0 to 1.

    All images of a task are normalised by its `first` ones; by all of them, if it is None.

    Returns:
        Outputs; mean and one over the standard deviation of each channel, `[T, C]`; and which
        pixel of its window each output is, 0 to 3, or 4 to 7 where it was multiplied by `slope`.
    """
    shape, of_y = _norm(x.shape, first=first, pool=pool, slope=slope, eps=eps)
    _fits((x.shape[0], x.shape[-1]), gamma=gamma, beta=beta)
    y, argmax = x.new_empty(of_y), torch.empty(of_y, dtype=torch.uint8)
    mean, rstd = torch.empty_like(gamma), torch.empty_like(gamma)
    _call("norm_forward", shape, x, gamma, beta, y, mean, rstd, argmax)
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
    first: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients with respect to `x`, `gamma` and `beta` from that of the outputs."""
    shape, of_y = _norm(x.shape, first=first, pool=pool, slope=slope)
    _fits((x.shape[0], x.shape[-1]), gamma=gamma, mean=mean, rstd=rstd)
    _fits(of_y, argmax=argmax, gradient=dy)
    out = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(gamma)
    _call("norm_backward", shape, x, gamma, mean, rstd, argmax, dy, *out)
    return out


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
    first: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The derivative of `norm_backward`.

    Returns:
        The gradients with respect to `x`, `gamma` and `dy` of the scalar product of what
        `norm_backward` returns with `tangent`.
    """
    v, a, b = tangent
    shape, of_y = _norm(x.shape, first=first, pool=pool, slope=slope)
    _fits((x.shape[0], x.shape[-1]), gamma=gamma, mean=mean, rstd=rstd, a=a, b=b)
    _fits(of_y, argmax=argmax, gradient=dy)
    _fits(x.shape, v=v)
    out = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(dy)
    _call("norm_second", shape, x, gamma, mean, rstd, argmax, dy, v, a, b, *out)
    return out


class _Block:
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
        _weights_fit(w, x)
        stride, padding, pool, slope = how
        self.conv, z = _conv_by(x, w[-1], (w[1], w[2]), stride, padding, w[0], half, threads)
        self.norm, self.y = _norm_by(z, None, pool, slope, eps, threads)
        # See block.inc.
        self.kept = self.y if pool and x[-1] < LANES else z
        self.vector = z[0], z[-1]
        self.w = z[0], *w[1:]

    def fits(self, gamma: Tensor, seen: Seen, dy: Tensor) -> None:
        kept, mean, rstd, argmax = seen
        _fits(self.vector, gamma=gamma, mean=mean, rstd=rstd)
        _fits(self.kept, kept=kept)
        _fits(self.y, argmax=argmax, gradient=dy)


_block_by = functools.lru_cache(maxsize=4096)(_Block)


def _block(x: Tensor, w: Tensor, how: How, eps: float = 0.0) -> _Block:
    return _block_by(x.shape, w.shape, how, eps, _half.get(), torch.get_num_threads())


def block_forward(
    x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor, eps: float, how: How
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Convolution and `norm_forward`; `how` is stride, padding, pool and slope.

    Returns:
        The output of the convolution, or what pooling has chosen of it where the other functions
        make the rest again (see block.inc); and what `norm_forward` returns.
    """
    shape = _block(x, w, how, eps)
    _fits(shape.vector, gamma=gamma, beta=beta)
    kept, y = x.new_empty(shape.kept), x.new_empty(shape.y)
    argmax = torch.empty(shape.y, dtype=torch.uint8)
    mean, rstd = torch.empty_like(gamma), torch.empty_like(gamma)
    _call("block_forward", shape.conv, shape.norm, x, w, gamma, beta, kept, y, mean, rstd, argmax)
    return kept, y, mean, rstd, argmax


def block_backward(
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    seen: Seen,
    dy: Tensor,
    how: How,
    inputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """The gradients with respect to `x` (if `inputs`), `w`, `gamma` and `beta` from that of `y`.

    `seen` is the first, mean, rstd and argmax of what `block_forward` returns.
    """
    shape = _block(x, w, how)
    shape.fits(gamma, seen, dy)
    if inputs:
        _multiple(x.shape[-1])
    dx, dw = torch.empty_like(x) if inputs else None, w.new_empty(shape.w)
    out = dx, dw, torch.empty_like(gamma), torch.empty_like(gamma)
    _call("block_backward", shape.conv, shape.norm, x, w, gamma, *seen, dy, *out)
    return out


def block_second(
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    seen: Seen,
    dy: Tensor,
    tangent: tuple[Tensor | None, Tensor, Tensor, Tensor],
    how: How,
    inputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """The derivative of `block_backward`; a first part None of `tangent` is zero.

    Returns:
        The gradients with respect to `x` (if `inputs`), `w`, `gamma` and `dy` of the scalar
        product of what `block_backward` returns with `tangent`.
    """
    vx, vw, a, b = tangent
    shape = _block(x, w, how)
    shape.fits(gamma, seen, dy)
    _fits(x.shape, vx=vx)
    _fits(shape.w, vw=vw)
    _fits(shape.vector, a=a, b=b)
    if inputs:
        _multiple(x.shape[-1])
    to_x, to_w = torch.empty_like(x) if inputs else None, w.new_empty(shape.w)
    out = to_x, to_w, torch.empty_like(gamma), torch.empty_like(dy)
    _call("block_second", shape.conv, shape.norm, x, w, gamma, *seen, dy, vx, vw, a, b, *out)
    return out
