"""Derivatives written out with operators that other runtimes have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from innerloop.errors import UserError

aten = torch.ops.aten


def _convolution_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """A convolution's derivatives for inputs, weights and bias, which are convolutions too."""
    if transposed:
        raise UserError(
            "the derivative of a transposed convolution cannot be exported: adapt less of the "
            "network, for instance its head"
        )
    axes = range(2, x.ndim)
    dx = dw = db = None
    if wanted[0]:
        # What the forward pass rounds off at the far edge.
        left = [
            x.shape[a] - (dy.shape[a] - 1) * s + 2 * p - d * (weight.shape[a] - 1) - 1
            for a, s, p, d in zip(axes, stride, padding, dilation, strict=True)
        ]
        dx = aten.convolution(dy, weight, None, stride, padding, dilation, True, left, groups)
    if wanted[1]:
        # Examples and channels change places: the examples are what is summed over.
        swapped = x.unflatten(1, (groups, -1)).transpose(0, 2).flatten(1, 2)
        kernel = dy.unflatten(1, (groups, -1)).movedim(0, 2).flatten(0, 1)
        none = [0] * len(stride)
        dw = aten.convolution(
            swapped, kernel, None, dilation, padding, stride, False, none, groups
        ).transpose(0, 1)
        for axis in axes:
            dw = dw.narrow(axis, 0, weight.shape[axis])
    if wanted[2]:
        db = dy.sum([0, *axes])
    return dx, dw, db


def _max_pool_backward(
    dy: Tensor,
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    indices: Tensor,
) -> Tensor:
    zeros = torch.zeros_like(x).flatten(-2)
    return zeros.scatter_add(-1, indices.flatten(-2), dy.flatten(-2)).view_as(x)


def decompositions() -> dict[Any, Callable[..., Any]]:
    """By PyTorch operator, what it is made of; operators that are left out stay as they are."""
    from torch._decomp import core_aten_decompositions

    table = dict(core_aten_decompositions())
    # Its decomposition asks for the number of parts, which the number of examples decides.
    table.pop(aten.split.Tensor, None)
    table[aten.convolution_backward.default] = _convolution_backward
    table[aten.max_pool2d_with_indices_backward.default] = _max_pool_backward
    return table


class WrittenOut(TorchFunctionMode):
    """Where derivatives are taken, replaces operations for which no runtime has one.

    PyTorch's own decompositions come too late for that: after the derivative was taken.
    """

    def __torch_function__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        plain = _PLAIN.get(func)
        if plain is not None and torch.is_grad_enabled():
            return plain(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    from torch._decomp.decompositions import affine_grid_generator

    found: Tensor = affine_grid_generator(theta, list(size), bool(align_corners))
    return found


def _grid_sample(
    x: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    from torch._decomp.decompositions import _grid_sampler_2d

    if x.ndim != 4:
        raise UserError("the derivative of grid_sample is exported for images alone, [B, C, H, W]")
    interpolation = ("bilinear", "nearest", "bicubic").index(mode)
    padding = ("zeros", "border", "reflection").index(padding_mode)
    found: Tensor = _grid_sampler_2d(x, grid, interpolation, padding, bool(align_corners))
    return found


_PLAIN: dict[Any, Callable[..., Tensor]] = {
    F.affine_grid: _affine_grid,
    F.grid_sample: _grid_sample,
}
