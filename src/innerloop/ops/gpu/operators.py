"""The operations of `kernels` for a GPU: matrix products, and the rest in Triton.

A convolution is one matrix product for each task, of the patches of its images with its weights.
That keeps a GPU busy where PyTorch's grouped convolution does not, and its derivatives are
products too.  Where there is no Triton, PyTorch's operators do the rest, with more traffic.

Shapes and meaning are those of the functions of the same name in `kernels`; the derivatives of
batch norm are worked out in `ops/autograd/norm.py`, those of a block in `ops/autograd/block.py`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.errors import first_line

# Images, height and width: what statistics are taken over.
_PIXELS = (1, 2, 3)
# A plain variable: the threads in which autograd works on a GPU see no context variables.
_half = False


@contextlib.contextmanager
def half_products() -> Iterator[None]:
    """Within this context factors and results of products are rounded to bfloat16."""
    global _half
    before, _half = _half, True
    try:
        yield
    finally:
        _half = before


@functools.cache
def _tiles(device: torch.device) -> ModuleType | None:
    """The operations in Triton, where that is installed and works."""
    try:
        tiles = importlib.import_module("innerloop.ops.gpu.tiles")
    except ImportError:
        return None
    try:
        tiles.patches(torch.ones(1, 1, 1, 1, 1, device=device), (1, 1), 1, 0, torch.float32)
    except Exception as error:  # No C compiler, an old GPU: Triton has an exception for each.
        warnings.warn(
            f"Triton does not work here ({first_line(error)}): PyTorch's operators do its part, "
            "more slowly",
            stacklevel=2,
        )
        return None
    return tiles


def _triton(x: Tensor, entries: int = 0) -> Any:
    """The operations in Triton where they can serve: they count with 32 bits."""
    return _tiles(x.device) if x.is_cuda and max(x.numel(), entries) < 2**31 else None


def _product(a: Tensor, b: Tensor, add: Tensor | None = None) -> Tensor:
    """`[T, m, k]` times `[T, k, n]`, plus `add` `[T, m, n]`."""
    if _half and b.dtype != torch.float64:
        product = torch.bmm(a.bfloat16(), b.bfloat16()).float()
        return product if add is None else add + product
    return torch.bmm(a, b) if add is None else torch.baddbmm(add, a, b)


# A convolution and its derivatives, in two halves each: patches, `[T, B, H', W', KH * KW * C]`,
# are what each output pixel sees.  Tasks that share their weights are one long batch.


def _patches(x: Tensor, kernel: tuple[int, int], stride: int, padding: int) -> Tensor:
    if _one_to_one(kernel, stride, padding):
        return x
    if tiles := _triton(x, x.numel() * kernel[0] * kernel[1]):
        half = _half and x.dtype == torch.float32
        dtype = torch.bfloat16 if half else x.dtype
        made: Tensor = tiles.patches(x, kernel, stride, padding, dtype)
        return made
    x = F.pad(x, (0, 0, padding, padding, padding, padding))
    patches = x.unfold(2, kernel[0], stride).unfold(3, kernel[1], stride)
    return patches.permute(0, 1, 2, 3, 5, 6, 4).flatten(4)


def _one_to_one(kernel: tuple[int, int], stride: int, padding: int) -> bool:
    """True if each output pixel sees only the input pixel at its place."""
    return (*kernel, stride, padding) == (1, 1, 1, 0)


def _outputs(patches: Tensor, w: Tensor, add: Tensor | None = None) -> Tensor:
    rows = patches.reshape(len(w), -1, patches.shape[-1])
    add = None if add is None else add.reshape(len(w), -1, w.shape[-1])
    return _product(rows, w.flatten(1, 3), add).view(*patches.shape[:4], -1)


def _to_weights(
    patches: Tensor, dy: Tensor, kernel: tuple[int, int], add: Tensor | None = None
) -> Tensor:
    tasks, rows = len(dy), dy[0, ..., 0].numel()
    entries, outputs = patches.shape[-1], dy.shape[-1]
    # Long sums for a small result would leave most of the GPU idle: they are taken in parts.
    parts = _parts(rows, wanted=256 // (tasks * -(-entries // 64) * -(-outputs // 64)))
    a = patches.reshape(tasks * parts, -1, entries).mT
    b = dy.reshape(tasks * parts, -1, outputs)
    if parts > 1:
        dw = _product(a, b).view(tasks, parts, entries, outputs).sum(dim=1)
        dw = dw if add is None else dw + add.flatten(1, 3)
    else:
        dw = _product(a, b, None if add is None else add.flatten(1, 3))
    return dw.view(tasks, *kernel, -1, outputs)


def _parts(rows: int, wanted: int) -> int:
    """Into how many equal parts of at least 256 `rows` fall: `wanted` or more, if they can."""
    able = [n for n in range(1, rows // 256 + 1) if rows % n == 0] or [1]
    return next((n for n in able if n >= wanted), able[-1])


def _to_patches(dy: Tensor, w: Tensor, add: Tensor | None = None) -> Tensor:
    entries = w[0, ..., 0].numel()
    add = None if add is None else add.reshape(len(w), -1, entries)
    rows = dy.reshape(len(w), -1, dy.shape[-1])
    return _product(rows, w.flatten(1, 3).mT, add).view(*dy.shape[:4], entries)


def _fold(
    patches: Tensor, size: tuple[int, int], kernel: tuple[int, int], stride: int, padding: int
) -> Tensor:
    """Sums, for each pixel of the inputs, of its places in the patches."""
    if _one_to_one(kernel, stride, padding):
        return patches
    tasks, images, height, width = patches.shape[:4]
    channels = patches.shape[-1] // (kernel[0] * kernel[1])
    shape = tasks, images, *size, channels
    if tiles := _triton(patches, tasks * images * size[0] * size[1] * channels):
        sums: Tensor = tiles.fold(patches, shape, kernel, stride, padding)
        return sums
    # PyTorch's fold wants [B, C * KH * KW, H' * W'].
    columns = patches.view(tasks * images, height * width, -1, channels).permute(0, 3, 2, 1)
    x = F.fold(columns.flatten(1, 2), size, kernel, padding=padding, stride=stride)
    return x.view(tasks, images, channels, *size).permute(0, 1, 3, 4, 2).contiguous()


def conv_forward(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    return _outputs(_patches(x, (w.shape[1], w.shape[2]), stride, padding), w)


def conv_weights(
    x: Tensor, dy: Tensor, kernel: tuple[int, int], stride: int, padding: int
) -> Tensor:
    return _to_weights(_patches(x, kernel, stride, padding), dy, kernel)


def conv_inputs(dy: Tensor, w: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
    return _fold(_to_patches(dy, w), size, (w.shape[1], w.shape[2]), stride, padding)


def norm_forward(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    pool: bool,
    slope: float,
    first: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if first is None and (tiles := _triton(x)):
        found: tuple[Tensor, Tensor, Tensor, Tensor]
        found = tiles.norm_forward(x, gamma, beta, eps, pool, slope)
        return found
    variance, mean = torch.var_mean(x[:, :first], _PIXELS, correction=0)
    rstd = (variance + eps).rsqrt()
    y = torch.addcmul(_each(beta), x - _each(mean), _each(gamma * rstd))
    if pool:
        y, argmax = _windows(y).max(dim=4)
    else:
        argmax = torch.zeros((), dtype=torch.int64, device=x.device)
    if slope != 1:
        argmax = torch.where(y > 0, argmax, argmax + 4)
        y = F.leaky_relu(y, slope) if slope else y.relu()
    return y, mean, rstd, argmax.to(torch.uint8).expand(y.shape).contiguous()


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
    if first is None and (tiles := _triton(x)):
        found: tuple[Tensor, Tensor, Tensor]
        found = tiles.norm_backward(x, gamma, mean, rstd, argmax, dy, pool, slope)
        return found
    g, x_hat = _to_pixels(dy, argmax, pool, slope, x), (x - _each(mean)) * _each(rstd)
    dbeta, dgamma = g.sum(_PIXELS), (g * x_hat).sum(_PIXELS)
    pixels = x[0, :first, ..., 0].numel()
    of_g = _without(g, x_hat, dbeta / pixels, dgamma / pixels, first)
    return _each(gamma * rstd) * of_g, dgamma, dbeta


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
    return _norm_second(x, gamma, mean, rstd, argmax, dy, tangent, pool, slope, first)[:3]


def _norm_second(
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Also what `norm_backward` has for the inputs, which is nearly done on the way."""
    if first is None and (tiles := _triton(x)):
        found: tuple[Tensor, Tensor, Tensor, Tensor]
        found = tiles.norm_second(x, gamma, mean, rstd, argmax, dy, tangent, pool, slope)
        return found
    v, a, b = tangent
    g, x_hat = _to_pixels(dy, argmax, pool, slope, x), (x - _each(mean)) * _each(rstd)
    pixels = x[0, :first, ..., 0].numel()
    mg, mgx, mvg = (t.sum(_PIXELS) / pixels for t in (g, g * x_hat, v * g))
    mv, mvx = (t[:, :first].mean(_PIXELS) for t in (v, v * x_hat))
    q = mvg - mv * mg - mvx * mgx
    factor = gamma * rstd
    # What P of norm.py is applied to is a sum of v and g, and P is linear.
    of_v, of_g = _without(v, x_hat, mv, mvx), _without(g, x_hat, mg, mgx, first)
    of_statistics = _each(factor * mgx) * of_v + _each(factor * q) * x_hat
    if first is not None:
        of_statistics[:, first:] = 0
    to_x = _each(rstd) * (_each(a - factor * mvx) * of_g - of_statistics)
    to_y = torch.addcmul(_each(b), x_hat, _each(a)) + _each(factor) * of_v
    return to_x, rstd * pixels * q, _at_argmax(to_y, argmax, pool, slope), _each(factor) * of_g


def _each(of_channels: Tensor) -> Tensor:
    """`[T, C]` to `[T, 1, 1, 1, C]`."""
    return of_channels[:, None, None, None]


def _without(
    g: Tensor, x_hat: Tensor, mean: Tensor, mean_x_hat: Tensor, first: int | None = None
) -> Tensor:
    """P(g) of norm.py, given m(g) and m(g x̂)."""
    out = g - _each(mean) - x_hat * _each(mean_x_hat)
    return out if first is None else torch.cat([out[:, :first], g[:, first:]], dim=1)


def _windows(y: Tensor) -> Tensor:
    """The four pixels of each 2 x 2 window, `[T, B, H, W, C]` to `[T, B, H//2, W//2, 4, C]`."""
    height, width = (n // 2 * 2 for n in y.shape[2:4])
    y = y[:, :, :height, :width].unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    return y.transpose(3, 4).flatten(4, 5)


def _chosen(argmax: Tensor) -> Tensor:
    """True if each of four pixels is the one at `argmax`: `[T, B, h, w, 4, C]`."""
    return (argmax & 3).unsqueeze(4) == torch.arange(4, device=argmax.device)[:, None]


def _sloped(value: Tensor, argmax: Tensor, slope: float) -> Tensor:
    """What of `value`, or of its derivative, is left where the slope was applied."""
    if slope == 1:
        return value
    return torch.where(argmax < 4, value, slope * value if slope else 0)


def _to_pixels(dy: Tensor, argmax: Tensor, pool: bool, slope: float, x: Tensor) -> Tensor:
    """The derivative for every pixel of `x` from that of the outputs."""
    dy = _sloped(dy, argmax, slope)
    if not pool:
        return dy
    g = torch.where(_chosen(argmax), dy.unsqueeze(4), 0).unflatten(4, (2, 2)).transpose(3, 4)
    g = g.flatten(4, 5).flatten(2, 3)
    # Rows and columns that no window holds.
    rows, columns = (n - m for n, m in zip(x.shape[2:4], g.shape[2:4], strict=True))
    return F.pad(g, (0, 0, 0, columns, 0, rows)) if rows or columns else g


def _at_argmax(y: Tensor, argmax: Tensor, pool: bool, slope: float) -> Tensor:
    """The entries of `y` at `argmax` of the outputs, with the slope where it was applied."""
    if pool:
        y = torch.where(_chosen(argmax), _windows(y), 0).sum(dim=4)
    return _sloped(y, argmax, slope)


def block_forward(
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    how: tuple[int, int, bool, float],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    stride, padding, pool, slope = how
    z = conv_forward(x, w, stride, padding)
    return z, *norm_forward(z, gamma, beta, eps, pool, slope)


def block_backward(
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    seen: tuple[Tensor, Tensor, Tensor, Tensor],
    dy: Tensor,
    how: tuple[int, int, bool, float],
    inputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    stride, padding, pool, slope = how
    z, mean, rstd, argmax = seen
    dz, dgamma, dbeta = norm_backward(z, gamma, mean, rstd, argmax, dy, pool, slope)
    dw = conv_weights(x, dz, (w.shape[1], w.shape[2]), stride, padding)
    dx = conv_inputs(dz, w, (x.shape[2], x.shape[3]), stride, padding) if inputs else None
    return dx, dw, dgamma, dbeta


def block_second(
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    seen: tuple[Tensor, Tensor, Tensor, Tensor],
    dy: Tensor,
    tangent: tuple[Tensor | None, Tensor, Tensor, Tensor],
    how: tuple[int, int, bool, float],
    inputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    stride, padding, pool, slope = how
    kernel, size = (w.shape[1], w.shape[2]), (x.shape[2], x.shape[3])
    z, mean, rstd, argmax = seen
    vx, vw, a, b = tangent
    of_x, of_vx = _patches(x, kernel, stride, padding), None
    v = _outputs(of_x, vw)
    if vx is not None:
        of_vx = _patches(vx, kernel, stride, padding)
        v = _outputs(of_vx, w, add=v)
    to_z, to_gamma, to_dy, dz = _norm_second(
        z, gamma, mean, rstd, argmax, dy, (v, a, b), pool, slope
    )
    to_w = _to_weights(of_x, to_z, kernel)
    if of_vx is not None:
        to_w = _to_weights(of_vx, dz, kernel, add=to_w)
    to_x = None
    if inputs:
        taps = _to_patches(dz, vw, add=_to_patches(to_z, w))
        to_x = _fold(taps, size, kernel, stride, padding)
    return to_x, to_w, to_gamma, to_dy
