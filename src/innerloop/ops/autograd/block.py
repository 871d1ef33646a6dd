"""A block, which is a convolution and then a batch norm: the same operations with less traffic.

With the names of norm.py, z = conv(x, w) and y follows from z.  The derivative goes through
dz; for the second one, vx, vw, a, b stand for dx, dw, dγ, dβ in a scalar product L:

    dx = conv_inputs(dz, w) and dw = conv_weights(x, dz) give ∂L/∂dz = conv(vx, w) + conv(x, vw);
    from there norm.py's second derivative gives ∂L/∂z, ∂L/∂γ and ∂L/∂dy;
    ∂L/∂w = conv_weights(vx, dz) + conv_weights(x, ∂L/∂z), and ∂L/∂x likewise.

As there, ∂L/∂dy is also how y changes when x, w, γ, β change by vx, vw, a, b.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.ops import kernels
from innerloop.ops.autograd.layout import (
    Operation,
    images,
    images_back,
    or_zeros,
    vectors,
    vectors_back,
    weights,
    weights_back,
)
from innerloop.ops.kernels import How

# What `kernels.block_forward` keeps, mean, rstd and argmax.
Seen = tuple[Tensor, Tensor, Tensor, Tensor]


def fused_block(
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    *,
    stride: int,
    padding: int,
    pool: bool,
    relu: bool,
) -> Tensor:
    """`conv2d`, then `batch_norm`."""
    how = (stride, padding, pool, relu)
    return _Block.apply(x, weight, gamma, beta, eps, how)[0]


class _Block(Operation):
    """The output; and what `kernels.block_forward` keeps for the derivatives, see norm.py."""

    axes = 4, 4, 1, 1

    @staticmethod
    def forward(
        x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor, eps: float, how: How
    ) -> tuple[Tensor, ...]:
        z, y, mean, rstd, argmax = kernels.block_forward(
            images(x), weights(w), vectors(gamma), vectors(beta), eps, how
        )
        return (
            images_back(y, x),
            images_back(z, x),
            vectors_back(mean, gamma),
            vectors_back(rstd, gamma),
            images_back(argmax, x),
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        x, w, gamma, _, _, ctx.how = inputs
        _, *seen = output
        ctx.mark_non_differentiable(*seen)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, w, gamma, *seen)
        ctx.save_for_forward(x, w, gamma, *seen)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 6
        x, w, gamma, *seen = ctx.saved_tensors
        inputs = ctx.needs_input_grad[0]
        found = _BlockBackward.apply(x, w, gamma, dy, *seen, ctx.how, inputs)
        return (*(found if inputs else (None, *found)), None, None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        x, w, gamma, *seen = ctx.saved_tensors
        nothing = torch.zeros_like(seen[-1], dtype=x.dtype)
        tangent = _tangent(tangents[0], w, tangents[1], gamma, tangents[2], tangents[3])
        change = _BlockSecond.apply(x, w, gamma, nothing, *seen, *tangent, ctx.how, False)[-1]
        return change, None, None, None, None


class _BlockBackward(Operation):
    """The derivatives for inputs (if `inputs`), weights, gamma and beta, from that of y."""

    axes = 4, 4, 1, 4, 4, 1, 1, 4

    @staticmethod
    def forward(
        x: Tensor,
        w: Tensor,
        gamma: Tensor,
        dy: Tensor,
        z: Tensor,
        mean: Tensor,
        rstd: Tensor,
        argmax: Tensor,
        how: How,
        inputs: bool,
    ) -> tuple[Tensor, ...]:
        seen = images(z), vectors(mean), vectors(rstd), images(argmax)
        arrays = images(x), weights(w), seen
        channels = x.shape[-3]
        wide = inputs and channels % kernels.LANES
        wide_x, wide_w, seen = _widened(*arrays, how) if wide else arrays
        dx, dw, dgamma, dbeta = kernels.block_backward(
            wide_x, wide_w, vectors(gamma), seen, images(dy), how, inputs
        )
        if wide:
            dx, dw = _cut(dx, dw, channels)
        out = weights_back(dw, x.ndim == 5), vectors_back(dgamma, gamma), vectors_back(dbeta, gamma)
        return out if dx is None else (images_back(dx, x), *out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        *tensors, ctx.how, ctx.inputs = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        w, gamma = tensors[1:3]
        vx, vw, a, b = gradients if ctx.inputs else (None, *gradients)
        tangent = _tangent(vx, w, vw, gamma, a, b)
        # The inputs may depend on what is learnt though their derivative was not asked for.
        inputs = ctx.needs_input_grad[0]
        found = _BlockSecond.apply(*tensors, *tangent, ctx.how, inputs)
        return (*(found if inputs else (None, *found)), *[None] * 6)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        x, w, gamma, _, *seen = tensors = ctx.saved_tensors
        x_tangent, w_tangent, gamma_tangent, dy_tangent = tangents[:4]
        # Linear in dy; and the matrix of second derivatives is symmetric.
        tangent = _tangent(x_tangent, w, w_tangent, gamma, gamma_tangent, None)
        *change, _ = _BlockSecond.apply(*tensors, *tangent, ctx.how, ctx.inputs)
        change.append(torch.zeros_like(gamma))
        if dy_tangent is None:
            return tuple(change)
        more = _BlockBackward.apply(x, w, gamma, dy_tangent, *seen, ctx.how, ctx.inputs)
        return tuple(a + b for a, b in zip(change, more, strict=True))


class _BlockSecond(Operation):
    """The derivative of `_BlockBackward`, for inputs (if `inputs`), weights, gamma and dy."""

    axes = 4, 4, 1, 4, 4, 1, 1, 4, 4, 1, 1, 4

    @staticmethod
    def forward(
        x: Tensor,
        w: Tensor,
        gamma: Tensor,
        dy: Tensor,
        z: Tensor,
        mean: Tensor,
        rstd: Tensor,
        argmax: Tensor,
        vw: Tensor,
        a: Tensor,
        b: Tensor,
        vx: Tensor | None,
        how: How,
        inputs: bool,
    ) -> tuple[Tensor, ...]:
        seen = images(z), vectors(mean), vectors(rstd), images(argmax)
        arrays = images(x), weights(w), seen
        wide_vx, wide_vw = None if vx is None else images(vx), weights(vw, once=False)
        channels = x.shape[-3]
        wide = inputs and channels % kernels.LANES
        wide_x, wide_w, seen = _widened(*arrays, how) if wide else arrays
        if wide:
            wide_vx = None if wide_vx is None else _wide_images(wide_vx)
            wide_vw = _wide_weights(wide_vw)
        tangent = wide_vx, wide_vw, vectors(a), vectors(b)
        to_x, to_w, to_gamma, to_dy = kernels.block_second(
            wide_x, wide_w, vectors(gamma), seen, images(dy), tangent, how, inputs
        )
        if wide:
            to_x, to_w = _cut(to_x, to_w, channels)
        out = weights_back(to_w, x.ndim == 5), vectors_back(to_gamma, gamma), images_back(to_dy, dy)
        return out if to_x is None else (images_back(to_x, x), *out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(
            "there is no third derivative of the compiled blocks: "
            "set INNERLOOP_KERNELS=0 in the environment"
        )


def _wide_images(x: Tensor) -> Tensor:
    """Images with channels of zeros, up to as many as a kernel takes whose output they are."""
    return F.pad(x, (0, -x.shape[-1] % kernels.LANES))


def _wide_weights(w: Tensor) -> Tensor:
    return F.pad(w, (0, 0, 0, -w.shape[-2] % kernels.LANES))


def _cut(x: Tensor, w: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Without the channels of zeros."""
    return x[..., :channels].contiguous(), w[..., :channels, :].contiguous()


def _widened(x: Tensor, w: Tensor, seen: Seen, how: How) -> tuple[Tensor, Tensor, Seen]:
    """For derivatives with respect to pictures, which are hardly ever asked for."""
    x, w = _wide_images(x), _wide_weights(w)
    _, mean, rstd, argmax = seen
    return x, w, (kernels.conv_forward(x, w, how[0], how[1]), mean, rstd, argmax)


def _tangent(
    vx: Tensor | None,
    w: Tensor,
    vw: Tensor | None,
    gamma: Tensor,
    a: Tensor | None,
    b: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """What `_BlockSecond` takes, with zeros where nothing is given."""
    return or_zeros(vw, w), or_zeros(a, gamma), or_zeros(b, gamma), vx
