"""Norms of each image by itself: group, instance and layer norm, with scales of each task.

With m(.) the mean over the pixels of a group of channels, s = 1/sqrt(variance + eps) and
x̂ = (x - m(x)) s, y = γ x̂ + β.  With g = γ dy and P(g) = g - m(g) - x̂ m(g x̂):

    dx = s P(g),  dγ = Σ dy x̂,  dβ = Σ dy.

For the second derivative let v, a, b stand for these three in a scalar product, as in norm.py,
and q = m(v g) - m(v) m(g) - m(v x̂) m(g x̂):

    ∂/∂x = s P(a dy - s (v m(g x̂) + g m(v x̂))) - s² q x̂,
    ∂/∂γ = Σ dy s P(v),
    ∂/∂dy = γ s P(v) + a x̂ + b.
"""

from __future__ import annotations

import functools
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from innerloop.ops import kernels
from innerloop.ops.kernels import Operation, images, images_back, third_derivatives


def group_norm(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, group: int, eps: float
) -> Tensor:
    """The norm of `[T, B, C, H, W]` by `groups` groups of `group` channels each.

    Args:
        x: C is a multiple of 16; channels beyond the last group are zeros, and stay zero.
        weight, bias: `[T, C]`.
        groups, group: those of instance norm have one channel each.
        eps: added to the variance.
    """
    y: Tensor = _GroupNorm.apply(x, weight, bias, groups, group, eps)[0]
    return y


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """`[T, ..., C]` normalised over the last axis, times and plus `[T, C]`."""
    channels = x.shape[-1]
    rows = x.flatten(1, -2)[..., None, None]
    return group_norm(rows, weight, bias, 1, channels, eps).reshape(x.shape)


class _GroupNorm(Operation):
    """Outputs; and mean and rstd of each group."""

    axes = 4, 1, 1

    @staticmethod
    def forward(
        x: Tensor, gamma: Tensor, beta: Tensor, groups: int, group: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        y, mean, rstd = kernels.group_norm_forward(
            images(x), gamma.contiguous(), beta.contiguous(), groups, group, eps
        )
        return images_back(y, x), mean, rstd

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        x, gamma, _, *ctx.how = inputs
        _, mean, rstd = output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, gamma, mean, rstd)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 6
        x, gamma, mean, rstd = ctx.saved_tensors
        found = _GroupNormBackward.apply(x, gamma, dy, mean, rstd, *ctx.how)
        return *found, None, None, None


class _GroupNormBackward(Operation):
    """The derivatives with respect to inputs, weight and bias, from that of the outputs."""

    axes = 4, 1, 4, 2, 2

    @staticmethod
    def forward(
        x: Tensor,
        gamma: Tensor,
        dy: Tensor,
        mean: Tensor,
        rstd: Tensor,
        groups: int,
        group: int,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        dx, dgamma, dbeta = kernels.group_norm_backward(
            images(x),
            gamma.contiguous(),
            mean.contiguous(),
            rstd.contiguous(),
            images(dy),
            group,
        )
        return images_back(dx, x), dgamma, dbeta

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        tensors, ctx.how = inputs[:5], inputs[5:]
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *tangent: Tensor) -> tuple[Tensor | None, ...]:
        found = _GroupNormSecond.apply(*ctx.saved_tensors, *tangent, *ctx.how)
        return *found, None, None, None, None, None


class _GroupNormSecond(Operation):
    """The derivative of `_GroupNormBackward`, for inputs, weight and `dy`."""

    axes = 4, 1, 4, 2, 2, 4, 1, 1

    @staticmethod
    def forward(
        x: Tensor,
        gamma: Tensor,
        dy: Tensor,
        mean: Tensor,
        rstd: Tensor,
        v: Tensor,
        a: Tensor,
        b: Tensor,
        groups: int,
        group: int,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        to_x, to_gamma, to_dy = kernels.group_norm_second(
            images(x),
            gamma.contiguous(),
            mean.contiguous(),
            rstd.contiguous(),
            images(dy),
            (images(v), a.contiguous(), b.contiguous()),
            group,
        )
        return images_back(to_x, x), to_gamma, images_back(to_dy, dy)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        x, gamma, dy, _, _, v, a, b, *ctx.how = inputs
        ctx.save_for_backward(x, gamma, dy, v, a, b)

    @staticmethod
    def backward(ctx: Any, *dz: Tensor) -> tuple[Tensor | None, ...]:
        groups, group, eps = ctx.how
        first = functools.partial(_first, groups=groups, group=group, eps=eps)
        given = ctx.saved_tensors
        *to, v, a, b = third_derivatives(first, given[:3], given[3:], dz)
        return *to, None, None, v, a, b, None, None, None


def _first(
    x: Tensor, gamma: Tensor, dy: Tensor, *, groups: int, group: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What `_GroupNormBackward` is, by operators all of whose derivatives are right.

    PyTorch's third one of its own layer norm is not.
    """

    def by_group(values: Tensor) -> Tensor:
        grouped: Tensor = values[:, :, : groups * group].unflatten(2, (groups, group))
        return grouped

    def m(values: Tensor) -> Tensor:
        return values.mean((3, 4, 5), keepdim=True)

    beyond = x.shape[2] - groups * group
    of_x, of_dy = by_group(x), by_group(dy)
    apart = of_x - m(of_x)
    g = of_dy * by_group(gamma[:, None, :, None, None])
    s = (m(apart**2) + eps).rsqrt()
    unit_x = apart * s
    dx = (s * (g - m(g) - unit_x * m(g * unit_x))).flatten(2, 3)
    to_gamma = F.pad((of_dy * unit_x).sum((1, 4, 5)).flatten(1), (0, beyond))
    return F.pad(dx, (0, 0, 0, 0, 0, beyond)), to_gamma, dy.sum((1, 3, 4))
