"""Operations of layers, with fast rules for a task axis.

`linear`, `conv2d` and `batch_norm` take the compiled kernels where these can serve, else PyTorch's
operators; the numbers are the same up to rounding.  `conv_block` is a convolution and batch norm
with less memory traffic, whose derivatives are here; those of the others are in `autograd/`.

With the names of norm.py, z = conv(x, w) and y follows from z.  The derivative goes through
dz; for the second one, vx, vw, a, b stand for dx, dw, dγ, dβ in a scalar product L:

    dx = conv_inputs(dz, w) and dw = conv_weights(x, dz) give ∂L/∂dz = conv(vx, w) + conv(x, vw);
    from there norm.py's second derivative gives ∂L/∂z, ∂L/∂γ and ∂L/∂dy;
    ∂L/∂w = conv_weights(vx, dz) + conv_weights(x, ∂L/∂z), and ∂L/∂x likewise.

As there, ∂L/∂dy is also how y changes when x, w, γ, β change by vx, vw, a, b.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from innerloop.errors import UserError
from innerloop.ops import autograd, kernels
from innerloop.ops.autograd.max_pool import max_pool_2x2
from innerloop.ops.cpu import attention as kernel_of_attention
from innerloop.ops.cpu.shapes import How, Seen
from innerloop.ops.kernels import (
    Operation,
    images,
    images_back,
    or_zeros,
    vectors,
    vectors_back,
    weights,
    weights_back,
    wide_images,
    wide_weights,
)
from innerloop.ops.moments import by_first


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`[B, in]` to `[B, out]`, or `[T, B, in]` to `[T, B, out]` with T weights and biases."""
    if has_torch_function((x, weight)):
        return handle_torch_function(linear, (x, weight), x, weight, bias)
    if weight.ndim == 2:
        return F.linear(x, weight, bias)
    if x.ndim == 3 and x.dtype == weight.dtype and kernels.many(weight):
        return autograd.linear(x, weight, bias)
    return x @ weight.mT if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(scale q kᵀ) v, from `[..., S, d]` each; of one shape the kernel takes them."""
    if has_torch_function((q, k, v)):
        return handle_torch_function(attention, (q, k, v), q, k, v, scale)
    if kernels.ready() and not kernels.in_transform() and kernel_of_attention.serves(q, k, v):
        return autograd.attention(q, k, v, scale)
    return (q * scale @ k.mT).softmax(-1) @ v


def conv2d(
    x: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0, depthwise: bool = False
) -> Tensor:
    """The convolution of `[B, in, H, W]` with `[out, in, KH, KW]`, without a bias; or of T of each.

    If `depthwise`, of every channel by itself, with weights `[C, 1, KH, KW]`.
    """
    if has_torch_function((x, weight)):
        named: Any = {"stride": stride, "padding": padding, "depthwise": depthwise}
        return handle_torch_function(conv2d, (x, weight), x, weight, **named)
    if kernels.serve(x, weight.shape[-4], depthwise=depthwise):
        return autograd.conv2d(x, weight, stride, padding, depthwise)
    groups = weight.shape[-4] if depthwise else 1
    if weight.ndim == 4:
        return F.conv2d(x, weight, None, stride, padding, 1, groups)
    # The tasks side by side, as groups of channels.
    how = None, stride, padding, 1, groups * len(weight)
    return _apart(F.conv2d(_abreast(x), weight.flatten(0, 1), *how), len(weight))


def batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    pool: bool = False,
    slope: float = 1.0,
    group: int | None = None,
    first: int | None = None,
) -> Tensor:
    """Batch norm by the batch's own statistics, then 2 x 2 max-pooling, then leaky ReLU.

    Args:
        x: `[B, C]` or `[B, C, ...]`; or with T weights `[T, B, C, ...]`.
        weight, bias: `[C]`, or `[T, C]`.
        eps: added to the variance.
        pool: whether there is pooling.
        slope: of what is negative, 0 to 1: 0 is ReLU, 1 leaves it as it is.
        group: rows of `x` that are a batch of their own; None for all.
        first: so many leading rows of a batch give the statistics; None for all.

    Returns:
        `x`'s shape; with `pool`, height and width are halved, rounded down.

    Raises:
        UserError: there is one value per channel to take statistics of.
    """
    how: dict[str, Any] = {"pool": pool, "slope": slope, "first": first}
    if has_torch_function((x, weight)):
        of = x, weight
        return handle_torch_function(batch_norm, of, *of, bias, eps, group=group, **how)
    served = kernels.serve(x, weight.shape[-1])
    # A batch that is one set is not divided: exported, it may then have any size.
    if group is not None and group != x.shape[0]:
        if not served and first is None:
            # Faster than side by side.
            parts = x.split(group)
            return torch.cat([batch_norm(p, weight, bias, eps, **how) for p in parts])
        # Groups are tasks with the same weights.
        sets = x.unflatten(0, (-1, group))
        weight, bias = (v.expand(len(sets), -1) for v in (weight, bias))
        return batch_norm(sets, weight, bias, eps, **how).flatten(0, 1)
    tasks = weight.ndim == 2
    _see_several((first or x.shape[tasks]) * math.prod(x.shape[2 + tasks :]))
    if tasks and x.ndim == 4:
        # Series are images of one row.
        return batch_norm(x.unsqueeze(-2), weight, bias, eps, **how).squeeze(-2)
    if served and x.ndim - weight.ndim == 3:
        return autograd.batch_norm(x, weight, bias, eps, **how)
    if first is not None:
        all_of = (x, weight, bias) if tasks else (x[None], weight[None], bias[None])
        y = by_first(*all_of, eps, first)
        y = y if tasks else y[0]
    elif tasks:
        y = F.batch_norm(_abreast(x), None, None, weight.flatten(), bias.flatten(), True, 0.0, eps)
        y = _apart(y, len(weight))
    else:
        y = F.batch_norm(x, None, None, weight, bias, True, 0.0, eps)
    return after_norm(y, pool=pool, slope=slope)


def conv_block(
    x: Tensor,
    kernel: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    stride: int,
    padding: int,
    pool: bool,
    slope: float,
) -> Tensor:
    """`conv2d` of `x` with `kernel`, then `batch_norm`; fused where a kernel supports it."""
    if has_torch_function((x, kernel)):
        how: dict[str, Any] = {"stride": stride, "padding": padding, "pool": pool, "slope": slope}
        return handle_torch_function(conv_block, (x, kernel), x, kernel, weight, bias, eps, **how)
    if kernels.serve(x, kernel.shape[-4]):
        found = _Block.apply(x, kernel, weight, bias, eps, (stride, padding, pool, slope))
        y: Tensor = found[0]
        *_, rows, _, height, width = found[1].shape
        _see_several(rows * height * width)
        return y
    x = conv2d(x, kernel, stride=stride, padding=padding)
    return batch_norm(x, weight, bias, eps, pool=pool, slope=slope)


def _see_several(values: int) -> None:
    # In an exported graph the number is not known.
    if isinstance(values, int) and values == 1:
        raise UserError(
            "batch norm sees one value per channel, whose mean is that value and whose variance is "
            "zero: give it more examples or larger inputs, or use a norm of each example "
            "(nn.GroupNorm, nn.LayerNorm)"
        )


def after_norm(x: Tensor, *, pool: bool, slope: float) -> Tensor:
    """2 x 2 max-pooling if `pool`, then leaky ReLU."""
    if pool:
        tasks = x.ndim == 5
        y = max_pool_2x2(x.flatten(0, 1) if tasks else x)
        x = y.unflatten(0, x.shape[:2]) if tasks else y
    if slope == 1:
        return x
    return F.leaky_relu(x, slope) if slope else F.relu(x)


def _abreast(x: Tensor) -> Tensor:
    """`[T, B, C, ...]` as one batch of images with the channels of all tasks, `[B, T*C, ...]`."""
    return x.transpose(0, 1).flatten(1, 2)


def _apart(x: Tensor, tasks: int) -> Tensor:
    """The way back: `[B, T*C, ...]` to `[T, B, C, ...]`."""
    y: Tensor = x.unflatten(1, (tasks, -1))
    return y.transpose(0, 1)


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
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
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
        packed_x, packed_w, seen = _packed(x, w, z, mean, rstd, argmax, how, inputs)
        dx, dw, dgamma, dbeta = kernels.block_backward(
            packed_x, packed_w, vectors(gamma), seen, images(dy), how, inputs
        )
        return *_unpacked(dx, dw, x), vectors_back(dgamma, gamma), vectors_back(dbeta, gamma)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
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
        packed_x, packed_w, seen = _packed(x, w, z, mean, rstd, argmax, how, inputs)
        packed_vx, packed_vw = None if vx is None else images(vx), weights(vw, once=False)
        if packed_x.shape[-1] != packed_vw.shape[-2]:
            packed_vx = None if packed_vx is None else wide_images(packed_vx)
            packed_vw = wide_weights(packed_vw)
        tangent = packed_vx, packed_vw, vectors(a), vectors(b)
        to_x, to_w, to_gamma, to_dy = kernels.block_second(
            packed_x, packed_w, vectors(gamma), seen, images(dy), tangent, how, inputs
        )
        return *_unpacked(to_x, to_w, x), vectors_back(to_gamma, gamma), images_back(to_dy, dy)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(
            "there is no third derivative of the compiled blocks: "
            "set INNERLOOP_KERNELS=0 in the environment"
        )


def _packed(
    x: Tensor,
    w: Tensor,
    z: Tensor,
    mean: Tensor,
    rstd: Tensor,
    argmax: Tensor,
    how: How,
    inputs: bool,
) -> tuple[Tensor, Tensor, Seen]:
    """What the kernels take: inputs, weights, and what `kernels.block_forward` has kept.

    Where the derivative for pictures is wanted (`inputs`), which hardly ever happens, they have
    channels of zeros besides, and the convolution's output is there as a whole.
    """
    x, w = images(x), weights(w)
    wide = inputs and x.shape[-1] % kernels.LANES
    if wide:
        x, w = wide_images(x), wide_weights(w)
    kept = kernels.conv_forward(x, w, how[0], how[1]) if wide else images(z)
    return x, w, (kept, vectors(mean), vectors(rstd), images(argmax))


def _unpacked(dx: Tensor | None, dw: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """The derivatives for inputs `x` (where there is one) and weights, in PyTorch's order."""
    channels, tasks = x.shape[-3], x.ndim == 5
    if dw.shape[-2] != channels:
        dw = dw[..., :channels, :].contiguous()
    if dx is None:
        return (weights_back(dw, tasks),)
    if dx.shape[-1] != channels:
        dx = dx[..., :channels].contiguous()
    return images_back(dx, x), weights_back(dw, tasks)


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
