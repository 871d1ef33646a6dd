"""The compiled functions as functions of tensors.

All tensors are packed, with the channels innermost: images `[T, B, H, W, C]`, convolution
weights `[T, KH, KW, in, out]`, batch-norm vectors `[T, C]`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from innerloop.ops.cpu import library
from innerloop.ops.cpu.library import LANES, TYPES, Conv, Norm

# Stride, padding, pool and relu of a block.
How = tuple[int, int, bool, bool]


def _call(name: str, *arguments: ctypes.Structure | Tensor | None) -> None:
    """The function of this name for the type of the first tensor.

    Raises:
        MemoryError: there is none left; what the function has written means nothing.
    """
    dtype = next(a.dtype for a in arguments if isinstance(a, Tensor))
    library.call(
        f"{name}_{TYPES[dtype]}",
        *(
            ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a and ctypes.byref(a)
            for a in arguments
        ),
    )


def _conv(
    x: Sequence[int],
    y: Sequence[int],
    kernel: tuple[int, int],
    stride: int,
    padding: int,
    weights: int | None = None,
) -> Conv:
    """A convolution from shape `x` to shape `y`, with weights for so many tasks."""
    shared = weights is not None and weights < x[0]
    return Conv(*x, *y[2:], *kernel, stride, padding, shared, False, torch.get_num_threads())


def _out_size(x: Tensor, kernel: tuple[int, int], stride: int, padding: int) -> list[int]:
    sizes = zip(x.shape[2:4], kernel, strict=True)
    found = [(n + 2 * padding - k) // stride + 1 for n, k in sizes]
    if min(found) < 1:
        raise RuntimeError(
            f"images of {tuple(x.shape[2:4])} are too small for a kernel of {kernel}"
        )
    return found


def conv_forward(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    """The convolution `[T, B, H', W', out]` of `x` with `w`, `[1, ...]` if all tasks share it."""
    kernel = w.shape[1], w.shape[2]
    y = x.new_empty(*x.shape[:2], *_out_size(x, kernel, stride, padding), w.shape[-1])
    _call("conv_forward", _conv(x.shape, y.shape, kernel, stride, padding, len(w)), x, w, y)
    return y


def conv_inputs(dy: Tensor, w: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
    """The gradient with respect to inputs of height and width `size` from that of the outputs."""
    dx = dy.new_empty(*dy.shape[:2], *size, w.shape[-2])
    shape = _conv(dx.shape, dy.shape, (w.shape[1], w.shape[2]), stride, padding, len(w))
    _call("conv_inputs", shape, dy, w, dx)
    return dx


def conv_weights(
    x: Tensor, dy: Tensor, kernel: tuple[int, int], stride: int, padding: int
) -> Tensor:
    """The gradient with respect to the weights from that of the outputs."""
    dw = x.new_empty(x.shape[0], *kernel, x.shape[-1], dy.shape[-1])
    _call("conv_weights", _conv(x.shape, dy.shape, kernel, stride, padding), x, dy, dw)
    return dw


def _norm(x: Sequence[int], *, relu: bool = False, pool: bool, eps: float = 0.0) -> Norm:
    return Norm(*x, relu, pool, eps, torch.get_num_threads())


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
    argmax = torch.empty(y.shape, dtype=torch.uint8)
    mean, rstd = torch.empty_like(gamma), torch.empty_like(gamma)
    shape = _norm(x.shape, relu=relu, pool=pool, eps=eps)
    _call("norm_forward", shape, x, gamma, beta, y, mean, rstd, argmax)
    return y, mean, rstd, argmax


def norm_backward(
    x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor, argmax: Tensor, dy: Tensor, pool: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients with respect to `x`, `gamma` and `beta` from that of the outputs."""
    out = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(gamma)
    _call("norm_backward", _norm(x.shape, pool=pool), x, gamma, mean, rstd, argmax, dy, *out)
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
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients with respect to `x`, `gamma`, `dy` of the scalar product of what
    `norm_backward` returns with `tangent`."""
    out = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(dy)
    _call(
        "norm_second", _norm(x.shape, pool=pool), x, gamma, mean, rstd, argmax, dy, *tangent, *out
    )
    return out


def _block(x: Tensor, w: Tensor, how: How, eps: float = 0.0) -> tuple[Conv, Norm, list[int]]:
    """The shapes of both parts, and that of the convolution's output."""
    stride, padding, pool, relu = how
    kernel = w.shape[1], w.shape[2]
    z = [*x.shape[:2], *_out_size(x, kernel, stride, padding), w.shape[-1]]
    conv = _conv(x.shape, z, kernel, stride, padding, len(w))
    return conv, _norm(z, relu=relu, pool=pool, eps=eps), z


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
    argmax = torch.empty(y.shape, dtype=torch.uint8)
    z = torch.empty_like(y) if norm.pool and x.shape[-1] < LANES else x.new_empty(shape)
    mean, rstd = torch.empty_like(gamma), torch.empty_like(gamma)
    _call("block_forward", conv, norm, x, w, gamma, beta, z, y, mean, rstd, argmax)
    return z, y, mean, rstd, argmax


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

    `seen` is the first, mean, rstd and argmax of what `block_forward` returns.
    """
    conv, norm, _ = _block(x, w, how)
    dx = torch.empty_like(x) if inputs else None
    dw = w.new_empty(x.shape[0], *w.shape[1:])
    out = dx, dw, torch.empty_like(gamma), torch.empty_like(gamma)
    _call("block_backward", conv, norm, x, w, gamma, *seen, dy, *out)
    return out


def block_second(
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    seen: tuple[Tensor, Tensor, Tensor, Tensor],
    dy: Tensor,
    tangent: tuple[Tensor | None, Tensor, Tensor, Tensor],
    how: How,
    inputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """The gradients with respect to `x` (if `inputs`), `w`, `gamma`, `dy` of the scalar product of
    what `block_backward` returns with `tangent`, whose first part None is zero."""
    conv, norm, _ = _block(x, w, how)
    to_x = torch.empty_like(x) if inputs else None
    to_w = w.new_empty(x.shape[0], *w.shape[1:])
    out = to_x, to_w, torch.empty_like(gamma), torch.empty_like(dy)
    _call("block_second", conv, norm, x, w, gamma, *seen, dy, *tangent, *out)
    return out
