"""Batch norm with what usually follows it: max-pooling and ReLU.

Batch norm.  Per channel, over the n pixels of a batch: s = 1/sqrt(variance + eps), which is `rstd`,
x̂ = (x - mean) s, z = γ x̂ + β.  Write m(.) for the mean over the pixels and
P(g) = g - m(g) - x̂ m(g x̂).  With g the derivative of the loss with respect to z:

    dx = γ s P(g),  dγ = Σ g x̂,  dβ = Σ g.

For the second derivative let v, a, b stand for the three results in a scalar product
L = Σ v dx + a dγ + b dβ.  As the derivative of s with respect to x is -s² x̂ / n, that of a
function f of x̂ is s P(∂f/∂x̂), and Σ v P(g) = n (m(v g) - m(v) m(g) - m(v x̂) m(g x̂)) =: n q:

    ∂L/∂x = s P(-γ s (v m(g x̂) + g m(v x̂)) + a g) - γ s² q x̂,
    ∂L/∂γ = s n q,
    ∂L/∂g = γ s P(v) + a x̂ + b.

The last is also how z changes when x, γ, β change by v, a, b: L's matrix of second
derivatives is symmetric.  Pooling chooses pixels and leaky ReLU a factor for
each; the choices have no derivative.

Where the first images alone give the statistics, n is the number of their pixels, i is 1 for these
and 0 for the others; m(g), m(g x̂) and m(v g) stay sums over all pixels by n, m(v) and m(v x̂) are
of these.  P(g) = g - i (m(g) + x̂ m(g x̂)) then; in ∂L/∂x, v and x̂ are multiplied by i; and in ∂L/∂g
what stands for P(v) is v - m(v) - x̂ m(v x̂) for all pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from innerloop.ops import kernels
from innerloop.ops.kernels import (
    Operation,
    images,
    images_back,
    or_zeros,
    vectors,
    vectors_back,
)


def batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    pool: bool,
    slope: float,
    first: int | None = None,
) -> Tensor:
    """Batch norm by the batch's own statistics, then 2 x 2 max-pooling, then leaky ReLU.

    Args:
        x: `[B, C, H, W]`, C a multiple of 16; or `[T, B, C, H, W]`, with T batches.
        weight, bias: `[C]` or `[T, C]`.
        eps: added to the variance.
        pool: whether there is pooling.
        slope: of what is negative, 0 to 1: 0 is ReLU, 1 leaves it as it is.
        first: so many leading images of a batch give the statistics; None for all.
    """
    y: Tensor = _Norm.apply(x, weight, bias, eps, pool, slope, first)[0]
    return y


class _Norm(Operation):
    """Outputs; and mean, rstd, and argmax, which pixels were chosen."""

    axes = 4, 1, 1

    @staticmethod
    def forward(
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        eps: float,
        pool: bool,
        slope: float,
        first: int | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        y, mean, rstd, argmax = kernels.norm_forward(
            images(x), vectors(gamma), vectors(beta), eps, pool, slope, first
        )
        return (
            images_back(y, x),
            vectors_back(mean, gamma),
            vectors_back(rstd, gamma),
            images_back(argmax, x),
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        x, gamma, _, _, *ctx.how = inputs
        _, mean, rstd, argmax = output
        ctx.mark_non_differentiable(mean, rstd, argmax)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, gamma, mean, rstd, argmax)
        ctx.save_for_forward(x, gamma, mean, rstd, argmax)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 7
        x, gamma, *seen = ctx.saved_tensors
        to_x, to_gamma, to_beta = _NormBackward.apply(x, gamma, dy, *seen, *ctx.how)
        return to_x, to_gamma, to_beta, None, None, None, None

    @staticmethod
    def jvp(
        ctx: Any,
        x_tangent: Tensor,
        gamma_tangent: Tensor | None,
        beta_tangent: Tensor | None,
        *_: None,
    ) -> tuple[Tensor, None, None, None]:
        x, gamma, mean, rstd, argmax = ctx.saved_tensors
        nothing = torch.zeros_like(argmax, dtype=x.dtype)
        tangent = (
            or_zeros(x_tangent, x),
            or_zeros(gamma_tangent, gamma),
            or_zeros(beta_tangent, gamma),
        )
        change = _NormSecond.apply(x, gamma, nothing, mean, rstd, argmax, *tangent, *ctx.how)[2]
        return change, None, None, None


class _NormBackward(Operation):
    """The derivatives with respect to inputs, weight and bias, from that of the outputs.

    Mean, standard deviation and argmax are given to save work; that they depend on the inputs is
    part of the derivative all the same.
    """

    axes = 4, 1, 4, 1, 1, 4

    @staticmethod
    def forward(
        x: Tensor,
        gamma: Tensor,
        dy: Tensor,
        mean: Tensor,
        rstd: Tensor,
        argmax: Tensor,
        pool: bool,
        slope: float,
        first: int | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        dx, dgamma, dbeta = kernels.norm_backward(
            images(x),
            vectors(gamma),
            vectors(mean),
            vectors(rstd),
            images(argmax),
            images(dy),
            pool,
            slope,
            first,
        )
        return images_back(dx, x), vectors_back(dgamma, gamma), vectors_back(dbeta, gamma)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        tensors, ctx.how = inputs[:6], inputs[6:]
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, v: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor | None, ...]:
        return *_NormSecond.apply(*ctx.saved_tensors, v, a, b, *ctx.how), *[None] * 6

    @staticmethod
    def jvp(
        ctx: Any,
        x_tangent: Tensor | None,
        gamma_tangent: Tensor | None,
        dy_tangent: Tensor | None,
        *_: None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, gamma, dy, *seen = ctx.saved_tensors
        # Linear in dy; and the matrix of second derivatives is symmetric.
        tangent = or_zeros(x_tangent, x), or_zeros(gamma_tangent, gamma), torch.zeros_like(gamma)
        dx, dgamma, _ = _NormSecond.apply(x, gamma, dy, *seen, *tangent, *ctx.how)
        if dy_tangent is None:
            return dx, dgamma, torch.zeros_like(gamma)
        parts = _NormBackward.apply(x, gamma, dy_tangent, *seen, *ctx.how)
        return dx + parts[0], dgamma + parts[1], parts[2]


class _NormSecond(Operation):
    """The derivative of `_NormBackward`, for inputs, weight and `dy`; itself without one."""

    axes = 4, 1, 4, 1, 1, 4, 4, 1, 1

    @staticmethod
    def forward(
        x: Tensor,
        gamma: Tensor,
        dy: Tensor,
        mean: Tensor,
        rstd: Tensor,
        argmax: Tensor,
        v: Tensor,
        a: Tensor,
        b: Tensor,
        pool: bool,
        slope: float,
        first: int | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        to_x, to_gamma, to_dy = kernels.norm_second(
            images(x),
            vectors(gamma),
            vectors(mean),
            vectors(rstd),
            images(argmax),
            images(dy),
            (images(v), vectors(a), vectors(b)),
            pool,
            slope,
            first,
        )
        return images_back(to_x, x), vectors_back(to_gamma, gamma), images_back(to_dy, dy)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(
            "there is no third derivative of the compiled batch norm: "
            "set INNERLOOP_KERNELS=0 in the environment"
        )
