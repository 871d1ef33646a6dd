"""The operations of `kernels` in PyTorch's operators, for a GPU.

A convolution is one matrix product for each task, of the patches of its images with its weights.
That keeps a GPU busy where PyTorch's grouped convolution does not, and its derivatives are
products too.  Shapes and meaning are those of the functions of the same name in `kernels`; the
derivatives of batch norm are worked out in `fused/norm.py`, those of a block in `fused/block.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

# Images, height and width: what statistics are taken over.
_PIXELS = (1, 2, 3)
# A plain variable: the threads in which autograd works on a GPU see no context variables.
_half = False


@contextlib.contextmanager
def half_products() -> Iterator[None]:
    """Within this context the factors of products are rounded to bfloat16."""
    global _half
    before, _half = _half, True
    try:
        yield
    finally:
        _half = before


def _product(a: Tensor, b: Tensor) -> Tensor:
    """`[T, m, k]` times `[T, k, n]`."""
    if _half and a.dtype == torch.float32:
        return torch.bmm(a.bfloat16(), b.bfloat16()).float()
    return torch.bmm(a, b)


def _patches(x: Tensor, kernel: tuple[int, int], stride: int, padding: int) -> Tensor:
    """What each output pixel sees: a view `[T, B, H', W', KH, KW, C]` of padded `x`."""
    x = F.pad(x, (0, 0, padding, padding, padding, padding))
    patches = x.unfold(2, kernel[0], stride).unfold(3, kernel[1], stride)
    return patches.permute(0, 1, 2, 3, 5, 6, 4)


def conv_forward(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    patches = _patches(x, (w.shape[1], w.shape[2]), stride, padding)
    # Tasks that share their weights are one long batch.
    rows = patches.reshape(len(w), -1, w[0, ..., 0].numel())
    return _product(rows, w.flatten(1, 3)).view(*patches.shape[:4], -1)


def conv_weights(
    x: Tensor, dy: Tensor, kernel: tuple[int, int], stride: int, padding: int
) -> Tensor:
    patches = _patches(x, kernel, stride, padding).flatten(4).flatten(1, 3)
    return _product(patches.mT, dy.flatten(1, 3)).view(len(x), *kernel, x.shape[-1], -1)


def conv_inputs(dy: Tensor, w: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
    tasks, images, height, width, outputs = dy.shape
    kernel, inputs = (w.shape[1], w.shape[2]), w.shape[3]
    patches = _product(dy.reshape(len(w), -1, outputs), w.flatten(1, 3).mT)
    # PyTorch's fold wants [B, C * KH * KW, H' * W'].
    columns = patches.view(tasks * images, height * width, -1, inputs).permute(0, 3, 2, 1)
    x = F.fold(columns.flatten(1, 2), size, kernel, padding=padding, stride=stride)
    return x.view(tasks, images, inputs, *size).permute(0, 1, 3, 4, 2).contiguous()


def norm_forward(
    x: Tensor, gamma: Tensor, beta: Tensor, eps: float, pool: bool, relu: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    variance, mean = torch.var_mean(x, _PIXELS, correction=0)
    scale = (variance + eps).rsqrt()
    y = torch.addcmul(_each(beta), x - _each(mean), _each(gamma * scale))
    if pool:
        y, place = _windows(y).max(dim=4)
    else:
        place = torch.zeros((), dtype=torch.int64, device=x.device)
    if relu:
        place = torch.where(y > 0, place, 4)
        y = y.relu()
    return y, mean, scale, place.to(torch.uint8).expand(y.shape).contiguous()


def norm_backward(
    x: Tensor, gamma: Tensor, mean: Tensor, scale: Tensor, place: Tensor, dy: Tensor, pool: bool
) -> tuple[Tensor, Tensor, Tensor]:
    g, x_hat = _to_pixels(dy, place, pool, x), (x - _each(mean)) * _each(scale)
    dbeta, dgamma = g.sum(_PIXELS), (g * x_hat).sum(_PIXELS)
    pixels = x[0, ..., 0].numel()
    return _each(gamma * scale) * _without(g, x_hat, dbeta / pixels, dgamma / pixels), dgamma, dbeta


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
    v, a, b = along
    g, x_hat = _to_pixels(dy, place, pool, x), (x - _each(mean)) * _each(scale)
    mg, mv, mgx, mvx, mvg = (t.mean(_PIXELS) for t in (g, v, g * x_hat, v * x_hat, v * g))
    q = mvg - mv * mg - mvx * mgx
    factor = gamma * scale
    # What P of norm.py is applied to is a sum of v and g, and P is linear.
    of_v, of_g = _without(v, x_hat, mv, mvx), _without(g, x_hat, mg, mgx)
    to_x = _each(scale) * (
        _each(a - factor * mvx) * of_g - _each(factor * mgx) * of_v - _each(factor * q) * x_hat
    )
    to_y = torch.addcmul(_each(b), x_hat, _each(a)) + _each(factor) * of_v
    pixels = x[0, ..., 0].numel()
    return to_x, scale * pixels * q, _at_places(to_y, place, pool)


def _each(of_channels: Tensor) -> Tensor:
    """`[T, C]` to `[T, 1, 1, 1, C]`."""
    return of_channels[:, None, None, None]


def _without(g: Tensor, x_hat: Tensor, mean: Tensor, mean_x_hat: Tensor) -> Tensor:
    """P(g) of norm.py, given m(g) and m(g x̂)."""
    return g - _each(mean) - x_hat * _each(mean_x_hat)


def _windows(y: Tensor) -> Tensor:
    """The four pixels of each 2 x 2 window, `[T, B, H, W, C]` to `[T, B, H//2, W//2, 4, C]`."""
    height, width = (n // 2 * 2 for n in y.shape[2:4])
    y = y[:, :, :height, :width].unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    return y.transpose(3, 4).flatten(4, 5)


def _chosen(place: Tensor) -> Tensor:
    """Whether each of four pixels is the one at `place`: `[T, B, h, w, 4, C]`."""
    return place.unsqueeze(4) == torch.arange(4, device=place.device)[:, None]


def _to_pixels(dy: Tensor, place: Tensor, pool: bool, x: Tensor) -> Tensor:
    """The derivative for every pixel of `x` from that of the outputs."""
    if not pool:
        return torch.where(place == 0, dy, 0)
    g = torch.where(_chosen(place), dy.unsqueeze(4), 0).unflatten(4, (2, 2)).transpose(3, 4)
    g = g.flatten(4, 5).flatten(2, 3)
    # Rows and columns that no window holds.
    rows, columns = (n - m for n, m in zip(x.shape[2:4], g.shape[2:4], strict=True))
    return F.pad(g, (0, 0, 0, columns, 0, rows)) if rows or columns else g


def _at_places(y: Tensor, place: Tensor, pool: bool) -> Tensor:
    """The entries of `y` at the places of the outputs; 0 where the ReLU made them so."""
    if not pool:
        return torch.where(place == 0, y, 0)
    return torch.where(_chosen(place), _windows(y), 0).sum(dim=4)


def block_forward(
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    how: tuple[int, int, bool, bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    stride, padding, pool, relu = how
    z = conv_forward(x, w, stride, padding)
    return z, *norm_forward(z, gamma, beta, eps, pool, relu)


def block_backward(
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    seen: tuple[Tensor, Tensor, Tensor, Tensor],
    dy: Tensor,
    how: tuple[int, int, bool, bool],
    inputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    stride, padding, pool, _ = how
    z, mean, scale, place = seen
    dz, dgamma, dbeta = norm_backward(z, gamma, mean, scale, place, dy, pool)
    dw = conv_weights(x, dz, (w.shape[1], w.shape[2]), stride, padding)
    dx = conv_inputs(dz, w, (x.shape[2], x.shape[3]), stride, padding) if inputs else None
    return dx, dw, dgamma, dbeta


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
    stride, padding, pool, _ = how
    kernel, size = (w.shape[1], w.shape[2]), (x.shape[2], x.shape[3])
    z, mean, scale, place = seen
    vx, vw, a, b = along
    v = conv_forward(x, vw, stride, padding)
    if vx is not None:
        v = v + conv_forward(vx, w, stride, padding)
    dz, _, _ = norm_backward(z, gamma, mean, scale, place, dy, pool)
    to_z, to_gamma, to_dy = norm_second(z, gamma, mean, scale, place, dy, (v, a, b), pool)
    to_w = conv_weights(x, to_z, kernel, stride, padding)
    if vx is not None:
        to_w = to_w + conv_weights(vx, dz, kernel, stride, padding)
    to_x = None
    if inputs:
        to_x = conv_inputs(to_z, w, size, stride, padding)
        to_x = to_x + conv_inputs(dz, vw, size, stride, padding)
    return to_x, to_w, to_gamma, to_dy
