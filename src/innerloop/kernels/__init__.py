"""Compiled convolution and batch norm for a CPU, each task with weights of its own.

PyTorch has no such operators: under `vmap` a convolution becomes a grouped one and the
rest passes over memory many times.  The kernels do a task's work in the cache and take
several element-wise operations in one pass.  They are plain C without PyTorch's headers,
compiled when the package is installed where there is a C compiler; everything works
without them, more slowly.  `INNERLOOP_KERNELS=0` in the environment leaves them out.

One more gathers the images of a meta-batch: by number, turned and scaled in one pass.

All tensors here but these images are packed, with the channels innermost: images `[T, B, H, W, C]`,
convolution weights `[T, KH, KW, in, out]`, batch-norm vectors `[T, C]`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Iterator
from contextvars import ContextVar
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# Channels that a vector register of the kernels holds, at its most.
LANES = 16
_TYPES = {torch.float32: "float32", torch.float64: "float64"}
_use: ContextVar[bool] = ContextVar("use", default=os.environ.get("INNERLOOP_KERNELS") != "0")


def serve(x: Tensor, *channels: int) -> bool:
    """Whether there are kernels for `x`, with so many channels of outputs."""
    return (
        x.device.type == "cpu"
        and x.dtype in _TYPES
        and all(c % LANES == 0 for c in channels)
        and ready()
    )


def ready() -> bool:
    """Whether there are kernels for this processor, and they are wanted."""
    return _use.get() and _library() is not None


@contextlib.contextmanager
def without() -> Iterator[None]:
    """Within this context PyTorch's operators do the work."""
    token = _use.set(False)
    try:
        yield
    finally:
        _use.reset(token)


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The kernels compiled for this processor; None where there are none."""
    variants = ["avx512"] if torch.backends.cpu.get_cpu_capability() == "AVX512" else []
    if torch.backends.cpu.get_cpu_capability() != "DEFAULT":
        variants.append("generic")
    for variant in variants:
        for suffix in EXTENSION_SUFFIXES:
            file = Path(__file__).with_name(f"_{variant}{suffix}")
            if file.exists():
                # The threads are those of PyTorch: its OpenMP library, loaded by now for all
                # to see, is the one that the kernels find.
                with contextlib.suppress(OSError):
                    return ctypes.CDLL(str(file))
    return None


class _Conv(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int)
        for name in (
            *("tasks", "images", "height", "width", "inputs"),
            *("out_height", "out_width", "outputs"),
            *("kernel_height", "kernel_width", "stride", "padding", "shared", "add", "threads"),
        )
    ]


class _Norm(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_int) for n in ("tasks", "images", "height", "width", "channels")),
        *((n, ctypes.c_int) for n in ("relu", "pool")),
        ("eps", ctypes.c_double),
        ("threads", ctypes.c_int),
    ]


class _Gather(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_long),
        *((name, ctypes.c_int) for name in ("channels", "height", "width")),
        *((name, ctypes.c_float) for name in ("zero", "unit")),
        ("threads", ctypes.c_int),
    ]


def _call(name: str, *arguments: ctypes.Structure | Tensor | None) -> None:
    library = _library()
    assert library is not None
    dtype = next(a.dtype for a in arguments if isinstance(a, Tensor))
    getattr(library, f"{name}_{_TYPES[dtype]}")(
        *(
            ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a and ctypes.byref(a)
            for a in arguments
        )
    )


def gather(
    images: np.ndarray, index: np.ndarray, turns: np.ndarray, zero: float, unit: float
) -> Tensor:
    """Pictures by number, turned by quarters, as numbers `zero + byte / unit`.

    Args:
        images: `uint8` `[M, C, H, W]` in one piece; square where anything is turned.
        index: integers `[K]`, which pictures; `ImageClasses` has checked that they are there.
        turns: integers `[K]`, quarter turns 0 to 3 of each, as `numpy.rot90` counts them.

    Returns:
        float32 `[K, C, H, W]`.
    """
    library = _library()
    assert library is not None
    x = torch.empty(len(index), *images.shape[1:])
    shape = _Gather(len(index), *images.shape[1:], zero, unit, torch.get_num_threads())
    # Not through _call: PyTorch makes no tensor of a memory-mapped array that is read-only.
    arrays = (images, *(np.ascontiguousarray(a, dtype=np.int64) for a in (index, turns)))
    library.gather_float32(
        ctypes.byref(shape),
        *(ctypes.c_void_p(array.ctypes.data) for array in arrays),
        ctypes.c_void_p(x.data_ptr()),
    )
    return x


def _conv(
    x: Tensor,
    y: Tensor,
    kernel: tuple[int, int],
    stride: int,
    padding: int,
    weights: int | None = None,
) -> _Conv:
    shared = weights is not None and weights < x.shape[0]
    threads = torch.get_num_threads()
    return _Conv(*x.shape, *y.shape[2:], *kernel, stride, padding, shared, False, threads)


def conv_forward(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    """The convolution `[T, B, H', W', out]` of `x` with `w`, `[1, ...]` if all tasks share it."""
    kernel = w.shape[1], w.shape[2]
    size = ((n + 2 * padding - k) // stride + 1 for n, k in zip(x.shape[2:4], kernel, strict=True))
    y = x.new_empty(*x.shape[:2], *size, w.shape[-1])
    _call("conv_forward", _conv(x, y, kernel, stride, padding, len(w)), x, w, y)
    return y


def conv_inputs(dy: Tensor, w: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
    """The gradient with respect to inputs of height and width `size` from that of the outputs."""
    dx = dy.new_empty(*dy.shape[:2], *size, w.shape[-2])
    shape = _conv(dx, dy, (w.shape[1], w.shape[2]), stride, padding, len(w))
    _call("conv_inputs", shape, dy, w, dx)
    return dx


def conv_weights(
    x: Tensor, dy: Tensor, kernel: tuple[int, int], stride: int, padding: int
) -> Tensor:
    """The gradient with respect to the weights from that of the outputs."""
    dw = x.new_empty(x.shape[0], *kernel, x.shape[-1], dy.shape[-1])
    _call("conv_weights", _conv(x, dy, kernel, stride, padding), x, dy, dw)
    return dw


def _norm(x: Tensor, *, relu: bool = False, pool: bool, eps: float = 0.0) -> _Norm:
    return _Norm(*x.shape, relu, pool, eps, torch.get_num_threads())


def norm_forward(
    x: Tensor, gamma: Tensor, beta: Tensor, eps: float, pool: bool, relu: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Batch norm, 2 x 2 max-pooling if `pool`, ReLU if `relu`.

    Returns:
        Outputs; mean and one over the standard deviation of each channel, `[T, C]`; and which
        pixel of its window each output is, 0 to 3, or 4 for one that the ReLU made zero.
    """
    height, width = (n // 2 if pool else n for n in x.shape[2:4])
    y = x.new_empty(*x.shape[:2], height, width, x.shape[-1])
    place = torch.empty(y.shape, dtype=torch.uint8)
    mean, scale = torch.empty_like(gamma), torch.empty_like(gamma)
    shape = _norm(x, relu=relu, pool=pool, eps=eps)
    _call("norm_forward", shape, x, gamma, beta, y, mean, scale, place)
    return y, mean, scale, place


def norm_backward(
    x: Tensor, gamma: Tensor, mean: Tensor, scale: Tensor, place: Tensor, dy: Tensor, pool: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients with respect to `x`, `gamma` and `beta` from that of the outputs."""
    out = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(gamma)
    _call("norm_backward", _norm(x, pool=pool), x, gamma, mean, scale, place, dy, *out)
    return out


def norm_second(
    x: Tensor,
    gamma: Tensor,
    mean: Tensor,
    scale: Tensor,
    place: Tensor,
    dy: Tensor,
    along: tuple[Tensor, Tensor, Tensor],
    pool: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients with respect to `x`, `gamma`, `dy` of the scalar product of what
    `norm_backward` returns with `along`."""
    out = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(dy)
    _call("norm_second", _norm(x, pool=pool), x, gamma, mean, scale, place, dy, *along, *out)
    return out


def block_forward(
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    how: tuple[int, int, bool, bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Convolution and `norm_forward`; `how` is stride, padding, pool and relu.

    Returns:
        The output of the convolution, and what `norm_forward` returns.
    """
    stride, padding, pool, relu = how
    kernel = w.shape[1], w.shape[2]
    size = [(n + 2 * padding - k) // stride + 1 for n, k in zip(x.shape[2:4], kernel, strict=True)]
    z = x.new_empty(*x.shape[:2], *size, w.shape[-1])
    height, width = (n // 2 if pool else n for n in size)
    y = x.new_empty(*x.shape[:2], height, width, w.shape[-1])
    place = torch.empty(y.shape, dtype=torch.uint8)
    mean, scale = torch.empty_like(gamma), torch.empty_like(gamma)
    conv = _conv(x, z, kernel, stride, padding, len(w))
    norm = _norm(z, relu=relu, pool=pool, eps=eps)
    _call("block_forward", conv, norm, x, w, gamma, beta, z, y, mean, scale, place)
    return z, y, mean, scale, place


def block_backward(
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    seen: tuple[Tensor, Tensor, Tensor, Tensor],
    dy: Tensor,
    how: tuple[int, int, bool, bool],
    inputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """The gradients with respect to `x` (if `inputs`), `w`, `gamma` and `beta` from that of `y`.

    `seen` is the convolution's output, mean, scale and place of `block_forward`.
    """
    stride, padding, pool, _ = how
    conv = _conv(x, seen[0], (w.shape[1], w.shape[2]), stride, padding, len(w))
    dx = torch.empty_like(x) if inputs else None
    dw = w.new_empty(x.shape[0], *w.shape[1:])
    out = dx, dw, torch.empty_like(gamma), torch.empty_like(gamma)
    _call("block_backward", conv, _norm(seen[0], pool=pool), x, w, gamma, *seen, dy, *out)
    return out


def block_second(
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    seen: tuple[Tensor, Tensor, Tensor, Tensor],
    dy: Tensor,
    along: tuple[Tensor | None, Tensor, Tensor, Tensor],
    how: tuple[int, int, bool, bool],
    inputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """The gradients with respect to `x` (if `inputs`), `w`, `gamma`, `dy` of the scalar product of
    what `block_backward` returns with `along`, whose first part None is zero."""
    stride, padding, pool, _ = how
    conv = _conv(x, seen[0], (w.shape[1], w.shape[2]), stride, padding, len(w))
    to_x = torch.empty_like(x) if inputs else None
    to_w = w.new_empty(x.shape[0], *w.shape[1:])
    out = to_x, to_w, torch.empty_like(gamma), torch.empty_like(dy)
    norm = _norm(seen[0], pool=pool)
    _call("block_second", conv, norm, x, w, gamma, *seen, dy, *along, *out)
    return out
