"""Layer norm whose scales and shifts are the tasks' own, in one pass over the rows.

With m(.) the mean over the channels of a row, s = 1/sqrt(variance + eps) and x̂ = (x - m(x)) s,
y = γ x̂ + β.  With g = γ dy and P(g) = g - m(g) - x̂ m(g x̂):

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

from torch import Tensor

from innerloop.ops import kernels
from innerloop.ops.kernels import Operation, third_derivatives


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor | None:
    """`[T, ..., C]` normalised over the last axis, times and plus `[T, C]`.

    None where there is no kernel for it.
    """
    if weight is None or bias is None or weight.ndim != 2 or kernels.in_transform():
        return None
    if not (x.is_cpu and x.dtype == weight.dtype == bias.dtype and kernels.serve(x, x.shape[-1])):
        return None
    y: Tensor = _LayerNorm.apply(x.flatten(1, -2), weight, bias, eps)[0]
    return y.view(x.shape)


class _LayerNorm(Operation):
    """Outputs; and mean and rstd of each row."""

    axes = 2, 1, 1

    @staticmethod
    def forward(
        x: Tensor, gamma: Tensor, beta: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        return kernels.layer_norm_forward(
            x.contiguous(), gamma.contiguous(), beta.contiguous(), eps
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        x, gamma, _, ctx.eps = inputs
        _, mean, rstd = output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, gamma, mean, rstd)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 4
        x, gamma, mean, rstd = ctx.saved_tensors
        return *_LayerNormBackward.apply(x, gamma, dy, mean, rstd, ctx.eps), None


class _LayerNormBackward(Operation):
    """The derivatives with respect to inputs, weight and bias, from that of the outputs."""

    axes = 2, 1, 2, 1, 1

    @staticmethod
    def forward(
        x: Tensor, gamma: Tensor, dy: Tensor, mean: Tensor, rstd: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        given = (t.contiguous() for t in (x, gamma, mean, rstd, dy))
        return kernels.layer_norm_backward(*given)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        *tensors, ctx.eps = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *tangent: Tensor) -> tuple[Tensor | None, ...]:
        found = _LayerNormSecond.apply(*ctx.saved_tensors, *tangent, ctx.eps)
        return *found, None, None, None


class _LayerNormSecond(Operation):
    """The derivative of `_LayerNormBackward`, for inputs, weight and `dy`."""

    axes = 2, 1, 2, 1, 1, 2, 1, 1

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
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        tangent = v.contiguous(), a.contiguous(), b.contiguous()
        return kernels.layer_norm_second(
            x.contiguous(),
            gamma.contiguous(),
            mean.contiguous(),
            rstd.contiguous(),
            dy.contiguous(),
            tangent,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        x, gamma, dy, _, _, *tangent, ctx.eps = inputs
        ctx.save_for_backward(x, gamma, dy, *tangent)

    @staticmethod
    def backward(ctx: Any, *dz: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, dy, *tangent = ctx.saved_tensors
        first = functools.partial(_first, eps=ctx.eps)
        *to, v, a, b = third_derivatives(first, (x, gamma, dy), tuple(tangent), dz)
        return *to, None, None, v, a, b, None


def _first(x: Tensor, gamma: Tensor, dy: Tensor, *, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """What `_LayerNormBackward` is, by operators all of whose derivatives are right.

    PyTorch's third one of its own layer norm is not.
    """

    def m(values: Tensor) -> Tensor:
        return values.mean(-1, keepdim=True)

    apart, g = x - m(x), gamma[:, None] * dy
    s = (m(apart**2) + eps).rsqrt()
    unit_x = apart * s
    return s * (g - m(g) - unit_x * m(g * unit_x)), (dy * unit_x).sum(1), dy.sum(1)
