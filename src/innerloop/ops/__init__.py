"""Layers with a task axis: `autograd/` on top of `kernels`, for CPUs and GPUs."""

from innerloop.ops.autograd.max_pool import max_pool_2x2
from innerloop.ops.dispatch import after_norm, attention, batch_norm, conv2d, conv_block, linear

__all__ = [
    "after_norm",
    "attention",
    "batch_norm",
    "conv2d",
    "conv_block",
    "linear",
    "max_pool_2x2",
]
