"""Convolution, norms, linear layers and attention on the compiled kernels, differentiable twice.

Each operation and each of its derivatives is a `torch.autograd.Function` whose own
derivatives are operations of this package.  Convolution and batch norm have a task axis, which
under `vmap` goes to the kernels as it is.  Tensors have PyTorch's order of axes,
`[T, B, C, H, W]` and `[T, out, in, KH, KW]`, with T left out where there is none; in memory the
channels are innermost, and nothing is copied as long as everything comes from here (`arranged`
brings weights into that order).
"""

from innerloop.ops.autograd.attention import attention, unbind
from innerloop.ops.autograd.convolution import conv2d, conv_transpose2d
from innerloop.ops.autograd.group_norm import group_norm, layer_norm
from innerloop.ops.autograd.linear import linear
from innerloop.ops.autograd.norm import batch_norm
from innerloop.ops.kernels import arranged

__all__ = [
    "arranged",
    "attention",
    "batch_norm",
    "conv2d",
    "conv_transpose2d",
    "group_norm",
    "layer_norm",
    "linear",
    "unbind",
]
