"""Convolution and batch norm, each task with weights of its own: compiled for a CPU.

PyTorch has no such operators: under `vmap` a convolution becomes a grouped one and the
rest passes over memory many times.  The kernels do a task's work in the cache and take
several element-wise operations in one pass.  They are plain C without PyTorch's headers,
compiled when the package is installed where there is a C compiler; everything works
without them, more slowly.  `INNERLOOP_KERNELS=0` in the environment leaves them out.

On a GPU the functions of the same names in gpu.py do the work.

Two more draw the episodes of a meta-batch, and fetch their images, turned and scaled in one pass.

All tensors here but these images are packed, with the channels innermost: images `[T, B, H, W, C]`,
convolution weights `[T, KH, KW, in, out]`, batch-norm vectors `[T, C]`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.ops.gpu import operators as gpu

# Channels that a vector register of the kernels holds, at its most.
LANES = 16
_TYPES = {torch.float32: "float32", torch.float64: "float64"}
# Stride, padding, pool and relu of a block.
How = tuple[int, int, bool, bool]
_use: ContextVar[bool] = ContextVar("use", default=os.environ.get("INNERLOOP_KERNELS") != "0")


def serve(x: Tensor, *channels: int) -> bool:
    """Whether there are kernels for `x`, with so many channels of outputs."""
    if x.dtype not in _TYPES or any(c % LANES for c in channels) or not x.numel():
        return False
    return _use.get() if _on_gpu(x) else x.device.type == "cpu" and ready()


def _on_gpu(x: Tensor) -> bool:
    return x.device.type == "cuda"


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
            file = Path(__file__).parent / "cpu" / f"_{variant}{suffix}"
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


class _Source(ctypes.Structure):
    _fields_ = [
        ("key", ctypes.c_uint64),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("pooled", "pool_start", "pool_size"),
                *("starts", "counts", "position", "images"),
            )
        ),
        ("pools", ctypes.c_long),
        *(
            (name, ctypes.c_int)
            for name in (
                *("n_way", "k_shot", "k_query", "turns", "by_class"),
                *("channels", "height", "width"),
            )
        ),
        *((name, ctypes.c_float) for name in ("zero", "unit")),
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


class EpisodeSource:
    """Draws the episodes of an `EpisodeSampler`, and fetches their images.

    Args:
        arrays: by the names that they have in `kernels.c`: `images` `uint8` `[M, C, H, W]`, the
            others `int64`, with one number a class.  Nothing is checked here: a number that
            is not that of an image reads elsewhere.
        settings: the numbers, by name.
    """

    def __init__(self, arrays: dict[str, np.ndarray], settings: dict[str, float]) -> None:
        dtypes = {"images": np.uint8}
        self._arrays = {
            name: np.ascontiguousarray(array, dtype=dtypes.get(name, np.int64))
            for name, array in arrays.items()
        }
        addresses = {name: array.ctypes.data for name, array in self._arrays.items()}
        channels, height, width = arrays["images"].shape[1:]
        self._source = _Source(
            **addresses, **settings, channels=channels, height=height, width=width
        )
        n, k, q = (self._source.n_way, self._source.k_shot, self._source.k_query)
        self._sizes = n * k, n * q
        self._shape = channels, height, width

    def plan(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is in `count` episodes from `start` on.

        Returns:
            Numbers of images, quarter turns as `numpy.rot90` counts them, and labels; each
            `int64` `[count, N*K + N*Q]`, the support set first.
        """
        index, turns, labels = np.empty((3, count, sum(self._sizes)), dtype=np.int64)
        addresses = [array.ctypes.data for array in (index, turns, labels)]
        self._run("plan_episodes", start, count, addresses)
        return index, turns, labels

    def make(self, start: int, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The images, float32 `[count, N*K, C, H, W]`, and labels `[count, N*K]` of the support
        sets, and those of the query sets."""
        support, query = self._sizes
        out = (
            torch.empty(count, support, *self._shape),
            torch.empty(count, support, dtype=torch.int64),
            torch.empty(count, query, *self._shape),
            torch.empty(count, query, dtype=torch.int64),
        )
        self._run("make_episodes", start, count, [tensor.data_ptr() for tensor in out])
        return out

    def _run(self, name: str, start: int, count: int, out: list[int]) -> None:
        # Not through _call: PyTorch makes no tensor of a memory-mapped array that is read-only.
        getattr(_library(), name)(
            ctypes.byref(self._source),
            ctypes.c_uint64(start),
            ctypes.c_long(count),
            torch.get_num_threads(),
            *map(ctypes.c_void_p, out),
        )


def _by_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hand tensors on a GPU to the function of the same name in gpu.py."""
    there = getattr(gpu, function.__name__)

    @functools.wraps(function)
    def on_either(x: Tensor, *rest: Any) -> Any:
        if not _on_gpu(x):
            return function(x, *rest)
        # Triton launches on the current GPU, whichever the tensors are on.
        with torch.cuda.device_of(x):
            return there(x, *rest)

    return on_either


def _conv(
    x: Sequence[int],
    y: Sequence[int],
    kernel: tuple[int, int],
    stride: int,
    padding: int,
    weights: int | None = None,
) -> _Conv:
    """A convolution from shape `x` to shape `y`, with weights for so many tasks."""
    shared = weights is not None and weights < x[0]
    return _Conv(*x, *y[2:], *kernel, stride, padding, shared, False, torch.get_num_threads())


def _out_size(x: Tensor, kernel: tuple[int, int], stride: int, padding: int) -> list[int]:
    sizes = zip(x.shape[2:4], kernel, strict=True)
    found = [(n + 2 * padding - k) // stride + 1 for n, k in sizes]
    if min(found) < 1:
        raise RuntimeError(
            f"images of {tuple(x.shape[2:4])} are too small for a kernel of {kernel}"
        )
    return found


@_by_device
def conv_forward(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    """The convolution `[T, B, H', W', out]` of `x` with `w`, `[1, ...]` if all tasks share it."""
    kernel = w.shape[1], w.shape[2]
    y = x.new_empty(*x.shape[:2], *_out_size(x, kernel, stride, padding), w.shape[-1])
    _call("conv_forward", _conv(x.shape, y.shape, kernel, stride, padding, len(w)), x, w, y)
    return y


@_by_device
def conv_inputs(dy: Tensor, w: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
    """The gradient with respect to inputs of height and width `size` from that of the outputs."""
    dx = dy.new_empty(*dy.shape[:2], *size, w.shape[-2])
    shape = _conv(dx.shape, dy.shape, (w.shape[1], w.shape[2]), stride, padding, len(w))
    _call("conv_inputs", shape, dy, w, dx)
    return dx


@_by_device
def conv_weights(
    x: Tensor, dy: Tensor, kernel: tuple[int, int], stride: int, padding: int
) -> Tensor:
    """The gradient with respect to the weights from that of the outputs."""
    dw = x.new_empty(x.shape[0], *kernel, x.shape[-1], dy.shape[-1])
    _call("conv_weights", _conv(x.shape, dy.shape, kernel, stride, padding), x, dy, dw)
    return dw


def _norm(x: Sequence[int], *, relu: bool = False, pool: bool, eps: float = 0.0) -> _Norm:
    return _Norm(*x, relu, pool, eps, torch.get_num_threads())


@_by_device
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
    shape = _norm(x.shape, relu=relu, pool=pool, eps=eps)
    _call("norm_forward", shape, x, gamma, beta, y, mean, scale, place)
    return y, mean, scale, place


@_by_device
def norm_backward(
    x: Tensor, gamma: Tensor, mean: Tensor, scale: Tensor, place: Tensor, dy: Tensor, pool: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients with respect to `x`, `gamma` and `beta` from that of the outputs."""
    out = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(gamma)
    _call("norm_backward", _norm(x.shape, pool=pool), x, gamma, mean, scale, place, dy, *out)
    return out


@_by_device
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
    _call("norm_second", _norm(x.shape, pool=pool), x, gamma, mean, scale, place, dy, *along, *out)
    return out


def _block(x: Tensor, w: Tensor, how: How, eps: float = 0.0) -> tuple[_Conv, _Norm, list[int]]:
    """The shapes of both parts, and that of the convolution's output."""
    stride, padding, pool, relu = how
    kernel = w.shape[1], w.shape[2]
    z = [*x.shape[:2], *_out_size(x, kernel, stride, padding), w.shape[-1]]
    conv = _conv(x.shape, z, kernel, stride, padding, len(w))
    return conv, _norm(z, relu=relu, pool=pool, eps=eps), z


@_by_device
def block_forward(
    x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor, eps: float, how: How
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Convolution and `norm_forward`; `how` is stride, padding, pool and relu.

    Returns:
        The output of the convolution, or what pooling has chosen of it where the other functions
        make the rest anew (see block.inc); and what `norm_forward` returns.
    """
    conv, norm, shape = _block(x, w, how, eps)
    height, width = (n // 2 if norm.pool else n for n in shape[2:4])
    if min(height, width) < 1:
        raise RuntimeError(f"nothing is left of {tuple(shape[2:4])} pixels after 2 x 2 pooling")
    y = x.new_empty(*shape[:2], height, width, shape[-1])
    place = torch.empty(y.shape, dtype=torch.uint8)
    z = torch.empty_like(y) if norm.pool and x.shape[-1] < LANES else x.new_empty(shape)
    mean, scale = torch.empty_like(gamma), torch.empty_like(gamma)
    _call("block_forward", conv, norm, x, w, gamma, beta, z, y, mean, scale, place)
    return z, y, mean, scale, place


@_by_device
def block_backward(
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    seen: tuple[Tensor, Tensor, Tensor, Tensor],
    dy: Tensor,
    how: How,
    inputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """The gradients with respect to `x` (if `inputs`), `w`, `gamma` and `beta` from that of `y`.

    `seen` is the first, mean, scale and place of what `block_forward` returns.
    """
    conv, norm, _ = _block(x, w, how)
    dx = torch.empty_like(x) if inputs else None
    dw = w.new_empty(x.shape[0], *w.shape[1:])
    out = dx, dw, torch.empty_like(gamma), torch.empty_like(gamma)
    _call("block_backward", conv, norm, x, w, gamma, *seen, dy, *out)
    return out


@_by_device
def block_second(
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    seen: tuple[Tensor, Tensor, Tensor, Tensor],
    dy: Tensor,
    along: tuple[Tensor | None, Tensor, Tensor, Tensor],
    how: How,
    inputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """The gradients with respect to `x` (if `inputs`), `w`, `gamma`, `dy` of the scalar product of
    what `block_backward` returns with `along`, whose first part None is zero."""
    conv, norm, _ = _block(x, w, how)
    to_x = torch.empty_like(x) if inputs else None
    to_w = w.new_empty(x.shape[0], *w.shape[1:])
    out = to_x, to_w, torch.empty_like(gamma), torch.empty_like(dy)
    _call("block_second", conv, norm, x, w, gamma, *seen, dy, *along, *out)
    return out
