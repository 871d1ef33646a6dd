"""Dispatch convolution and batch norm with per-task weights to the device's kernels.

PyTorch has no such operators: under `vmap` a convolution becomes a grouped one and the
rest passes over memory many times.  The kernels do a task's work in the cache and take
several element-wise operations in one pass.  For a CPU (`cpu/`) they are plain C without
PyTorch's headers, compiled when the package is installed where there is a C compiler; on a GPU
(`gpu/`) they are matrix products and Triton.  Everything works without them, more slowly.
`INNERLOOP_KERNELS=0` in the environment leaves them out.

What the functions do is said in `cpu/binding.py`.  They take tensors with the channels innermost,
and always a task axis; `images`, `weights`, `vectors` and `Operation` lie between PyTorch's order
of axes, `vmap`, and theirs.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, autograd

from innerloop.ops.cpu import binding, library
from innerloop.ops.cpu.episodes import EpisodeSource
from innerloop.ops.cpu.library import LANES, TYPES
from innerloop.ops.gpu import operators as gpu

__all__ = [
    "LANES",
    "EpisodeSource",
    "Operation",
    "arranged",
    "block_backward",
    "block_forward",
    "block_second",
    "conv_forward",
    "conv_inputs",
    "conv_weights",
    "depthwise_forward",
    "depthwise_inputs",
    "depthwise_weights",
    "halves",
    "images",
    "images_back",
    "many",
    "missing",
    "multiply",
    "norm_backward",
    "norm_forward",
    "norm_second",
    "of_its_own",
    "or_zeros",
    "ready",
    "serve",
    "serve_apart",
    "serve_filled",
    "third_derivatives",
    "vectors",
    "vectors_back",
    "weights",
    "weights_back",
    "wide_images",
    "wide_weights",
    "with_tasks",
    "without",
]

_use: ContextVar[bool] = ContextVar("use", default=os.environ.get("INNERLOOP_KERNELS") != "0")


def serve(x: Tensor, *channels: int, depthwise: bool = False) -> bool:
    """True if a kernel supports the dtype, device and channel counts of `x`.

    On a GPU PyTorch's own operators are fast for a convolution that is `depthwise`.
    """
    if x.dtype not in TYPES or any(c % LANES or not c for c in channels) or not x.numel():
        return False
    if _on_gpu(x):
        return _use.get() and not depthwise
    return x.is_cpu and ready()


def missing(channels: int) -> int:
    """How many are missing from a multiple of 16, which a kernel makes."""
    return -channels % LANES


# Below so many channels the zeros that are missing take longer than tasks by themselves.
_FEWEST = 6


def serve_filled(x: Tensor, channels: int, *, depthwise: bool = False) -> bool:
    """`serve`; or on a CPU, if a kernel makes so many with channels of zeros besides."""
    more = missing(channels)
    filled = not more or (x.is_cpu and channels >= _FEWEST)
    return filled and serve(x, channels + more, depthwise=depthwise)


def serve_apart(x: Tensor, channels: int, *scales: Tensor) -> bool:
    """`serve_filled`, for norms of each image by itself, which have kernels for a CPU alone."""
    alike = all(t.dtype == x.dtype for t in scales)
    # They have no forward derivatives.
    return x.is_cpu and alike and not in_transform() and serve_filled(x, channels)


# Weights of a task from which on it matters how their derivatives lie in memory.
_MANY = 2**12
# Weights of a task beyond which they leave the cache, for which the kernels are not made.
_LARGE = 2**18


def many(weight: Tensor) -> bool:
    """True if weights `[T, out, in]` are so many that one call of PyTorch is not the fastest."""
    return weight.dtype in TYPES and weight.shape[-2] * weight.shape[-1] >= _MANY


def multiply(x: Tensor, weight: Tensor) -> bool:
    """True if the kernels multiply `[T, B, in]` by `[T, out, in]` faster than PyTorch does.

    On a processor of Intel the library that PyTorch brings, which is Intel's, is the faster one.
    """
    rows, columns = weight.shape[-2:]
    if not serve(x, rows, columns):
        return False
    return _on_gpu(x) or not (rows * columns > _LARGE or _has_mkl())


@functools.cache
def _has_mkl() -> bool:
    found = library.load()
    intel = found is not None and bool(found.made_by_intel())
    return intel and torch.backends.mkl.is_available()


def _on_gpu(x: Tensor) -> bool:
    return x.is_cuda


def ready() -> bool:
    """True if there are kernels for this processor and they are not switched off."""
    return _use.get() and library.load() is not None


def halves() -> bool:
    """True if there are kernels and a processor that multiply bfloat16 numbers."""
    found = library.load()
    return _use.get() and found is not None and bool(found.have_halves())


@contextlib.contextmanager
def without() -> Iterator[None]:
    """Use PyTorch's operators instead of kernels within this context."""
    token = _use.set(False)
    try:
        yield
    finally:
        _use.reset(token)


def _by_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`; for tensors on a GPU the one of the same name for those."""
    there = getattr(gpu, function.__name__)

    @functools.wraps(function)
    def on_either(x: Tensor, *rest: Any) -> Any:
        if not _on_gpu(x):
            return function(x, *rest)
        # Triton launches on the current GPU, whichever the tensors are on.
        with torch.cuda.device_of(x):
            return there(x, *rest)

    return on_either


conv_forward = _by_device(binding.conv_forward)
conv_inputs = _by_device(binding.conv_inputs)
conv_weights = _by_device(binding.conv_weights)
# For a CPU alone, see `serve`.
depthwise_forward = binding.depthwise_forward
depthwise_inputs = binding.depthwise_inputs
depthwise_weights = binding.depthwise_weights
group_norm_forward = binding.group_norm_forward
group_norm_backward = binding.group_norm_backward
group_norm_second = binding.group_norm_second
linear_forward = binding.linear_forward
linear_weights = binding.linear_weights
norm_forward = _by_device(binding.norm_forward)
norm_backward = _by_device(binding.norm_backward)
norm_second = _by_device(binding.norm_second)
block_forward = _by_device(binding.block_forward)
block_backward = _by_device(binding.block_backward)
block_second = _by_device(binding.block_second)


def arranged(weight: Tensor) -> Tensor:
    """The same weight `[out, in, KH, KW]` or `[out, in, K]`, in the kernels' memory layout."""
    turned = weight.movedim((0, 1), (-1, -2)).contiguous()
    return turned.movedim((-1, -2), (0, 1))


# Between PyTorch's order of axes and that of the kernels, which always have a task axis.


def images(x: Tensor) -> Tensor:
    return with_tasks(x, 4).permute(0, 1, 3, 4, 2).contiguous()


def images_back(x: Tensor, like: Tensor) -> Tensor:
    x = x.permute(0, 1, 4, 2, 3)
    return of_its_own(x if like.ndim == 5 else x[0])


def of_its_own(x: Tensor) -> Tensor:
    """`x`, no longer a view: what a custom function returns cannot be changed in place if it is."""
    return x.new_empty(0).set_(x.untyped_storage(), x.storage_offset(), x.shape, x.stride())


def weights(w: Tensor, *, once: bool = True) -> Tensor:
    """If `once`, weights shared by all tasks keep a task axis of 1."""
    w = with_tasks(w, 4)
    w = w[:1] if once and w.stride(0) == 0 else w
    return w.permute(0, 3, 4, 2, 1).contiguous()


def weights_back(w: Tensor, tasks: bool) -> Tensor:
    w = w.permute(0, 4, 3, 1, 2)
    return w if tasks else w[0]


def vectors(v: Tensor) -> Tensor:
    return with_tasks(v, 1).contiguous()


def vectors_back(v: Tensor, like: Tensor) -> Tensor:
    return v if like.ndim == 2 else v[0]


# A kernel whose output are images makes a multiple of LANES channels.


def wide_images(x: Tensor) -> Tensor:
    """Images in the kernels' order, with channels of zeros besides."""
    return F.pad(x, (0, missing(x.shape[-1])))


def wide_weights(w: Tensor) -> Tensor:
    """Weights in the kernels' order, for images with channels of zeros besides."""
    return F.pad(w, (0, 0, 0, missing(w.shape[-2])))


def with_tasks(t: Tensor, dims: int) -> Tensor:
    return t if t.ndim > dims else t[None]


class Operation(autograd.Function):
    """A function of tensors, no argument of which has a default, with a rule for vmap.

    At every call PyTorch looks for defaults, which takes as long as a small kernel.  Plain autograd
    here goes past that, to where PyTorch's `apply` comes to in the end.
    """

    # The leading arguments are tensors or None: how many axes one task's have.
    axes: ClassVar[tuple[int, ...]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "forward" in vars(cls):
            # Under transforms it still looks, but at what is written down.
            forward: Any = cls.forward
            forward.__signature__ = inspect.signature(forward)

    @classmethod
    def apply(cls, *arguments: Any) -> Any:
        if _unwrapped is None or in_transform():
            return super().apply(*arguments)  # type: ignore[no-untyped-call]
        beyond: Any = super(autograd.Function, cls)
        return beyond.apply(*_unwrapped(arguments))

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        """The new axis becomes the task axis, or is merged with it; results have it first."""
        size, axes = info.batch_size, cls.axes
        tensors = [
            t if t is None else t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
            for t, dim in zip(arguments[: len(axes)], in_dims[: len(axes)], strict=True)
        ]
        within = [
            t.shape[1]
            for t, n in zip(tensors, axes, strict=True)
            if t is not None and t.ndim == n + 2
        ]
        if within:
            tasks = size, within[0]
            tensors = [
                t if t is None else _each(t, n, tasks).flatten(0, 1)
                for t, n in zip(tensors, axes, strict=True)
            ]
        out = cls.apply(*tensors, *arguments[len(axes) :])
        one = isinstance(out, Tensor)
        if within:
            out = out.unflatten(0, tasks) if one else tuple(t.unflatten(0, tasks) for t in out)
        return out, 0 if one else (0,) * len(out)


def _each(t: Tensor, axes: int, tasks: tuple[int, int]) -> Tensor:
    """Expand to `[T, ...]` where the task axes of `tasks` are missing."""
    return t if t.ndim == axes + 2 else t[:, None].expand(*tasks, *t.shape[1:])


# True inside `torch.func.vmap`, `grad`, `jvp` or another of these transforms.  Not public, as what
# follows; a PyTorch without them gets the longer way.
in_transform: Callable[[], bool] = getattr(
    torch._C, "_are_functorch_transforms_active", lambda: True
)
_unwrapped: Any
try:
    # What is left of a transform's tensors when it is over, as in the function that vjp returns.
    from torch._functorch.utils import unwrap_dead_wrappers as _unwrapped
except ImportError:
    _unwrapped = None


def third_derivatives(
    first: Callable[..., tuple[Tensor, ...]],
    given: tuple[Tensor, ...],
    tangent: tuple[Tensor, ...],
    gradients: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """For an operation whose kernels end at its second derivative.

    Args:
        first: its first derivatives by PyTorch's operators, of `given`.
        given, tangent: what its second derivative was given: where `first` is, and what its
            results are multiplied by.
        gradients: with respect to the second derivative's results, which are as `given`.

    Returns:
        The gradients with respect to `given` and `tangent`, themselves differentiable.
    """

    def second(*arguments: Tensor) -> tuple[Tensor, ...]:
        pulled: tuple[Tensor, ...] = torch.func.vjp(first, *arguments[: len(given)])[1](
            arguments[len(given) :]
        )
        return pulled

    pulled: tuple[Tensor, ...] = torch.func.vjp(second, *given, *tangent)[1](gradients)
    return pulled


def or_zeros(t: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if t is None else t
