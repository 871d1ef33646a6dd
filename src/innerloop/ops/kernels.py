"""Dispatch convolution and batch norm with per-task weights to the device's kernels.

PyTorch has no such operators: under `vmap` a convolution becomes a grouped one and the
rest passes over memory many times.  The kernels do a task's work in the cache and take
several element-wise operations in one pass.  For a CPU (`cpu/`) they are plain C without
PyTorch's headers, compiled when the package is installed where there is a C compiler; on a GPU
(`gpu/`) they are matrix products and Triton.  Everything works without them, more slowly.
`INNERLOOP_KERNELS=0` in the environment leaves them out.

What the functions do is said in `cpu/binding.py`.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from innerloop.ops.cpu import binding, library
from innerloop.ops.cpu.episodes import EpisodeSource
from innerloop.ops.cpu.library import LANES, TYPES
from innerloop.ops.gpu import operators as gpu

__all__ = [
    "LANES",
    "EpisodeSource",
    "block_backward",
    "block_forward",
    "block_second",
    "conv_forward",
    "conv_inputs",
    "conv_weights",
    "halves",
    "norm_backward",
    "norm_forward",
    "norm_second",
    "ready",
    "serve",
    "without",
]

_use: ContextVar[bool] = ContextVar("use", default=os.environ.get("INNERLOOP_KERNELS") != "0")


def serve(x: Tensor, *channels: int) -> bool:
    """True if a kernel supports the dtype, device and channel counts of `x`."""
    if x.dtype not in TYPES or any(c % LANES or not c for c in channels) or not x.numel():
        return False
    return _use.get() if _on_gpu(x) else x.device.type == "cpu" and ready()


def _on_gpu(x: Tensor) -> bool:
    return x.device.type == "cuda"


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
norm_forward = _by_device(binding.norm_forward)
norm_backward = _by_device(binding.norm_backward)
norm_second = _by_device(binding.norm_second)
block_forward = _by_device(binding.block_forward)
block_backward = _by_device(binding.block_backward)
block_second = _by_device(binding.block_second)
