"""The compiled functions as functions of tensors.

All tensors are packed, with the channels innermost: images `[T, B, H, W, C]`, convolution
weights `[T, KH, KW, in, out]`, batch-norm vectors `[T, C]`.  Where shapes (see shapes.py) or types
do not fit each other, every function raises RuntimeError: compiled code would read and write
elsewhere.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from innerloop.ops.cpu import library, shapes
from innerloop.ops.cpu.library import TYPES, Norm
from innerloop.ops.cpu.shapes import How, Seen


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


def conv_forward(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    """The convolution `[T, B, H', W', out]` of `x` with `w`, `[1, ...]` if all tasks share it."""
    shapes.weights_fit(w.shape, x.shape)
    shape, of_y = shapes.conv(
        x.shape, w.shape[-1], (w.shape[1], w.shape[2]), stride, padding, len(w)
    )
    y = x.new_empty(of_y)
    _call("conv_forward", shape, x, w, y)
    return y


def conv_inputs(dy: Tensor, w: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
    """The gradient with respect to inputs of height and width `size` from that of the outputs."""
    of_x = *dy.shape[:2], *size, w.shape[-2]
    shapes.multiple(of_x[-1])
    shapes.weights_fit(w.shape, of_x)
    shape, of_y = shapes.conv(of_x, w.shape[-1], (w.shape[1], w.shape[2]), stride, padding, len(w))
    shapes.fits(of_y, gradient=dy)
    dx = dy.new_empty(of_x)
    _call("conv_inputs", shape, dy, w, dx)
    return dx


def conv_weights(
    x: Tensor, dy: Tensor, kernel: tuple[int, int], stride: int, padding: int
) -> Tensor:
    """The gradient with respect to the weights from that of the outputs."""
    shape, of_y = shapes.conv(x.shape, dy.shape[-1], kernel, stride, padding)
    shapes.fits(of_y, gradient=dy)
    dw = x.new_empty(x.shape[0], *kernel, x.shape[-1], dy.shape[-1])
    _call("conv_weights", shape, x, dy, dw)
    return dw


def depthwise_forward(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    """The convolution of each channel by itself, with `w` `[T, KH, KW, 1, C]` or `[1, ...]`."""
    shape, of_y = shapes.depthwise(x.shape, w.shape, stride, padding)
    y = x.new_empty(of_y)
    _call("depthwise_forward", shape, x, w, y)
    return y


def depthwise_inputs(
    dy: Tensor, w: Tensor, size: tuple[int, int], stride: int, padding: int
) -> Tensor:
    """The gradient with respect to inputs of height and width `size` from that of the outputs."""
    of_x = *dy.shape[:2], *size, dy.shape[-1]
    shape, of_y = shapes.depthwise(of_x, w.shape, stride, padding)
    shapes.fits(of_y, gradient=dy)
    dx = dy.new_empty(of_x)
    _call("depthwise_inputs", shape, dy, w, dx)
    return dx


def depthwise_weights(
    x: Tensor, dy: Tensor, kernel: tuple[int, int], stride: int, padding: int
) -> Tensor:
    """The gradient with respect to the weights from that of the outputs."""
    of_w = x.shape[0], *kernel, 1, x.shape[-1]
    shape, of_y = shapes.depthwise(x.shape, of_w, stride, padding)
    shapes.fits(of_y, gradient=dy)
    dw = x.new_empty(of_w)
    _call("depthwise_weights", shape, x, dy, dw)
    return dw


def linear_forward(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    """Rows `[T, B, out]` of `[T, B, in]`, weights `[T, out, in]` or `[1, ...]`, bias `[T, out]`."""
    shape, of_y = shapes.linear(x.shape, w.shape)
    shapes.fits((of_y[0], of_y[2]), bias=bias)
    y = x.new_empty(of_y)
    _call("linear_forward", shape, x, w, bias, y)
    return y


def linear_weights(dy: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients with respect to weights and bias from that of the outputs and the inputs."""
    tasks, _, outputs = dy.shape
    shape, of_y = shapes.linear(x.shape, (tasks, outputs, x.shape[2]))
    shapes.fits(of_y, gradient=dy)
    dw, dbias = x.new_empty(tasks, outputs, x.shape[2]), x.new_empty(tasks, outputs)
    _call("linear_weights", shape, dy, x, dw, dbias)
    return dw, dbias


def group_norm_forward(
    x: Tensor, gamma: Tensor, beta: Tensor, groups: int, group: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Each image normalised by `groups` groups of so many channels, those beyond them zeros.

    Returns:
        Outputs; mean and one over the standard deviation of each group, `[T, B, groups]`.
    """
    shape = shapes.group_norm(x.shape, groups, group, eps)
    shapes.fits((x.shape[0], x.shape[-1]), gamma=gamma, beta=beta)
    of_groups = *x.shape[:2], groups
    out = torch.empty_like(x), x.new_empty(of_groups), x.new_empty(of_groups)
    _call(_kind(x, group) + "_forward", shape, x, gamma, beta, *out)
    return out


def group_norm_backward(
    x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor, dy: Tensor, group: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients with respect to `x`, `gamma` and `beta` from that of the outputs."""
    shape = _group_norm(x, gamma, mean, rstd, dy, group)
    out = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(gamma)
    _call(_kind(x, group) + "_backward", shape, x, gamma, mean, rstd, dy, *out)
    return out


def group_norm_second(
    x: Tensor,
    gamma: Tensor,
    mean: Tensor,
    rstd: Tensor,
    dy: Tensor,
    tangent: tuple[Tensor, Tensor, Tensor],
    group: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The derivative of `group_norm_backward`, as `norm_second` is that of `norm_backward`."""
    v, a, b = tangent
    shape = _group_norm(x, gamma, mean, rstd, dy, group)
    shapes.fits(x.shape, v=v)
    shapes.fits(gamma.shape, a=a, b=b)
    out = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(dy)
    _call(_kind(x, group) + "_second", shape, x, gamma, mean, rstd, dy, v, a, b, *out)
    return out


def _group_norm(
    x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor, dy: Tensor, group: int
) -> Norm:
    groups = mean.shape[-1]
    shape = shapes.group_norm(x.shape, groups, group)
    shapes.fits((x.shape[0], x.shape[-1]), gamma=gamma)
    shapes.fits((*x.shape[:2], groups), mean=mean, rstd=rstd)
    shapes.fits(x.shape, gradient=dy)
    return shape


def _kind(x: Tensor, group: int) -> str:
    """Layer norm's kernels, for rows in one group, keep their sums in registers."""
    rows = x.shape[2] == x.shape[3] == 1 and group == x.shape[-1]
    return "layer_norm" if rows else "group_norm"


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
    shape, of_y = shapes.norm(x.shape, first=first, pool=pool, slope=slope, eps=eps)
    shapes.fits((x.shape[0], x.shape[-1]), gamma=gamma, beta=beta)
    y, argmax = x.new_empty(of_y), x.new_empty(of_y, dtype=torch.uint8)
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
    shape, of_y = shapes.norm(x.shape, first=first, pool=pool, slope=slope)
    shapes.fits((x.shape[0], x.shape[-1]), gamma=gamma, mean=mean, rstd=rstd)
    shapes.fits(of_y, argmax=argmax, gradient=dy)
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
    shape, of_y = shapes.norm(x.shape, first=first, pool=pool, slope=slope)
    shapes.fits((x.shape[0], x.shape[-1]), gamma=gamma, mean=mean, rstd=rstd, a=a, b=b)
    shapes.fits(of_y, argmax=argmax, gradient=dy)
    shapes.fits(x.shape, v=v)
    out = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(dy)
    _call("norm_second", shape, x, gamma, mean, rstd, argmax, dy, v, a, b, *out)
    return out


def block_forward(
    x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor, eps: float, how: How
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Convolution and `norm_forward`; `how` is stride, padding, pool and slope.

    Returns:
        The output of the convolution, or what pooling has chosen of it where the other functions
        make the rest again (see block.inc); and what `norm_forward` returns.
    """
    shape = shapes.block(x, w, how, eps)
    shapes.fits(shape.vector, gamma=gamma, beta=beta)
    kept, y = x.new_empty(shape.kept), x.new_empty(shape.y)
    argmax = x.new_empty(shape.y, dtype=torch.uint8)
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
    shape = shapes.block(x, w, how)
    shape.fits(gamma, seen, dy)
    if inputs:
        shapes.multiple(x.shape[-1])
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
    shape = shapes.block(x, w, how)
    shape.fits(gamma, seen, dy)
    shapes.fits(x.shape, vx=vx)
    shapes.fits(shape.w, vw=vw)
    shapes.fits(shape.vector, a=a, b=b)
    if inputs:
        shapes.multiple(x.shape[-1])
    to_x, to_w = torch.empty_like(x) if inputs else None, w.new_empty(shape.w)
    out = to_x, to_w, torch.empty_like(gamma), torch.empty_like(dy)
    _call("block_second", shape.conv, shape.norm, x, w, gamma, *seen, dy, vx, vw, a, b, *out)
    return out
