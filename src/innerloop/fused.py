"""Convolution and batch norm on the compiled kernels, differentiable twice, with a task axis.

Each operation and each of its derivatives is a `torch.autograd.Function` whose own
derivatives are operations of this file.  Under `vmap` the task axis goes to the kernels as
it is.  Tensors have PyTorch's order of axes, `[T, B, C, H, W]` and `[T, out, in, KH, KW]`, with T
left out where there is none; in memory the channels are innermost, and nothing is copied
as long as everything comes from here (`arranged` brings weights into that order).

Batch norm.  Per channel, over the n pixels of a batch: s = 1/sqrt(variance + eps),
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
derivatives is symmetric.  Pooling and ReLU choose pixels, and the choice has no derivative.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from innerloop import kernels


def conv2d(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The convolution of `[B, in, H, W]` with `[out, in, KH, KW]`, out a multiple of 16."""
    return _Conv.apply(x, weight, stride, padding)


def batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, *, pool: bool, relu: bool
) -> Tensor:
    """Batch norm by the batch's own statistics, then 2 x 2 max-pooling, then ReLU.

    Args:
        x: `[B, C, H, W]`, C a multiple of 16; or `[T, B, C, H, W]`, with T batches.
        weight, bias: `[C]` or `[T, C]`.
        eps: added to the variance.
        pool, relu: what comes after the batch norm.
    """
    return _Norm.apply(x, weight, bias, eps, pool, relu)[0]


def arranged(weight: Tensor) -> Tensor:
    """`[out, in, KH, KW]` with the same values, in memory as the kernels want it."""
    return weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)


# Between PyTorch's order of axes and that of the kernels, which always have a task axis.


def _images(x: Tensor) -> Tensor:
    return _with_tasks(x, 4).permute(0, 1, 3, 4, 2).contiguous()


def _images_back(x: Tensor, like: Tensor) -> Tensor:
    x = x.permute(0, 1, 4, 2, 3)
    return x if like.ndim == 5 else x[0]


def _weights(w: Tensor) -> Tensor:
    w = _with_tasks(w, 4)
    # The same for all tasks, and only once in memory.
    w = w[:1] if w.stride(0) == 0 else w
    return w.permute(0, 3, 4, 2, 1).contiguous()


def _vectors(v: Tensor) -> Tensor:
    return _with_tasks(v, 1).contiguous()


def _vectors_back(v: Tensor, like: Tensor) -> Tensor:
    return v if like.ndim == 2 else v[0]


def _with_tasks(t: Tensor, dims: int) -> Tensor:
    return t if t.ndim > dims else t[None]


def _over_tasks(function: Any, info: Any, in_dims: tuple, dims: tuple[int, ...], arguments: tuple):
    """The rule for vmap: the new axis becomes the task axis, or is merged with it.

    Args:
        function: an operation of this file.
        info, in_dims: from vmap.
        dims: of the leading arguments, which are tensors, how many axes one task has.
        arguments: of the operation.
    """
    size = info.batch_size
    tensors = [
        t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
        for t, dim in zip(arguments, in_dims[: len(dims)], strict=False)
    ]
    nested = any(t.ndim == d + 2 for t, d in zip(tensors, dims, strict=True))
    if nested:
        inner = next(t.shape[1] for t, d in zip(tensors, dims, strict=True) if t.ndim == d + 2)
        tensors = [
            (t if t.ndim == d + 2 else t[:, None].expand(size, inner, *t.shape[1:])).flatten(0, 1)
            for t, d in zip(tensors, dims, strict=True)
        ]
    out = function.apply(*tensors, *arguments[len(dims) :])
    if nested:
        one = isinstance(out, Tensor)
        parts = [t.unflatten(0, (size, inner)) for t in ([out] if one else out)]
        out = parts[0] if one else tuple(parts)
    return out, 0 if isinstance(out, Tensor) else (0,) * len(out)


def _sharing_weights(function: Any, info: Any, in_dims: tuple, x: Tensor, w: Tensor, *rest: Any):
    """The rule for vmap where tasks may share weights: they are then one long batch."""
    if in_dims[1] is None and x.ndim == 5 and w.ndim == 4:
        merged = function.apply(x.movedim(in_dims[0], 0).flatten(0, 1), w, *rest)
        return merged.unflatten(0, (info.batch_size, -1)), 0
    return _over_tasks(function, info, in_dims, (4, 4), (x, w, *rest))


def _signed(function: Any) -> Any:
    """Write down the signature of `forward`, which PyTorch otherwise works out at every call."""
    function.forward.__signature__ = inspect.signature(function.forward)
    return function


@_signed
class _Conv(torch.autograd.Function):
    """Inputs and weights to outputs."""

    @staticmethod
    def forward(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
        return _images_back(kernels.conv_forward(_images(x), _weights(w), stride, padding), x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, w, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(x, w)
        ctx.save_for_forward(x, w)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        how = ctx.stride, ctx.padding
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = _ConvInputs.apply(dy, w, tuple(x.shape[-2:]), *how)
        if ctx.needs_input_grad[1]:
            dw = _ConvWeights.apply(x, dy, tuple(w.shape[-2:]), *how)
        return dx, dw, None, None

    @staticmethod
    def jvp(ctx: Any, x_along: Tensor | None, w_along: Tensor | None, *_: None) -> Tensor:
        x, w = ctx.saved_tensors
        how = ctx.stride, ctx.padding
        return _sum(
            None if x_along is None else _Conv.apply(x_along, w, *how),
            None if w_along is None else _Conv.apply(x, w_along, *how),
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, w: Tensor, stride: int, padding: int) -> Any:
        return _sharing_weights(_Conv, info, in_dims, x, w, stride, padding)


@_signed
class _ConvInputs(torch.autograd.Function):
    """The derivative with respect to the inputs, from that of the outputs and the weights."""

    @staticmethod
    def forward(dy: Tensor, w: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
        inputs = w.shape[-3]
        if inputs % kernels.LANES:
            # Hardly ever asked for: images are not learnt.
            pad = (0, 0, 0, 0, 0, -inputs % kernels.LANES)
            padded = torch.nn.functional.pad(w, pad)
            dx = kernels.conv_inputs(_images(dy), _weights(padded), size, stride, padding)
            return _images_back(dx[..., :inputs].contiguous(), dy)
        dx = kernels.conv_inputs(_images(dy), _weights(w), size, stride, padding)
        return _images_back(dx, dy)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        dy, w, ctx.size, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(dy, w)
        ctx.save_for_forward(dy, w)

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> tuple[Tensor | None, ...]:
        dy, w = ctx.saved_tensors
        how = ctx.stride, ctx.padding
        to_dy = to_w = None
        if ctx.needs_input_grad[0]:
            to_dy = _Conv.apply(dx, w, *how)
        if ctx.needs_input_grad[1]:
            to_w = _ConvWeights.apply(dx, dy, tuple(w.shape[-2:]), *how)
        return to_dy, to_w, None, None, None

    @staticmethod
    def jvp(ctx: Any, dy_along: Tensor | None, w_along: Tensor | None, *_: None) -> Tensor:
        dy, w = ctx.saved_tensors
        how = ctx.size, ctx.stride, ctx.padding
        return _sum(
            None if dy_along is None else _ConvInputs.apply(dy_along, w, *how),
            None if w_along is None else _ConvInputs.apply(dy, w_along, *how),
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple, dy: Tensor, w: Tensor, *rest: Any) -> Any:
        return _sharing_weights(_ConvInputs, info, in_dims, dy, w, *rest)


@_signed
class _ConvWeights(torch.autograd.Function):
    """The derivative with respect to the weights, from the inputs and that of the outputs."""

    @staticmethod
    def forward(
        x: Tensor, dy: Tensor, kernel: tuple[int, int], stride: int, padding: int
    ) -> Tensor:
        dw = kernels.conv_weights(_images(x), _images(dy), kernel, stride, padding)
        dw = dw.permute(0, 4, 3, 1, 2)
        return dw if x.ndim == 5 else dw[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, dy, ctx.kernel, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(x, dy)
        ctx.save_for_forward(x, dy)

    @staticmethod
    def backward(ctx: Any, dw: Tensor) -> tuple[Tensor | None, ...]:
        x, dy = ctx.saved_tensors
        how = ctx.stride, ctx.padding
        to_x = to_dy = None
        if ctx.needs_input_grad[0]:
            to_x = _ConvInputs.apply(dy, dw, tuple(x.shape[-2:]), *how)
        if ctx.needs_input_grad[1]:
            to_dy = _Conv.apply(x, dw, *how)
        return to_x, to_dy, None, None, None

    @staticmethod
    def jvp(ctx: Any, x_along: Tensor | None, dy_along: Tensor | None, *_: None) -> Tensor:
        x, dy = ctx.saved_tensors
        how = ctx.kernel, ctx.stride, ctx.padding
        return _sum(
            None if x_along is None else _ConvWeights.apply(x_along, dy, *how),
            None if dy_along is None else _ConvWeights.apply(x, dy_along, *how),
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, dy: Tensor, *rest: Any) -> Any:
        return _over_tasks(_ConvWeights, info, in_dims, (4, 4), (x, dy, *rest))


@_signed
class _Norm(torch.autograd.Function):
    """Outputs; and mean, one over the standard deviation, and places of the chosen pixels."""

    @staticmethod
    def forward(
        x: Tensor, gamma: Tensor, beta: Tensor, eps: float, pool: bool, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        y, mean, scale, place = kernels.norm_forward(
            _images(x), _vectors(gamma), _vectors(beta), eps, pool, relu
        )
        return (
            _images_back(y, x),
            _vectors_back(mean, gamma),
            _vectors_back(scale, gamma),
            _images_back(place, x),
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        x, gamma, _, _, ctx.pool, _ = inputs
        _, mean, scale, place = output
        ctx.mark_non_differentiable(mean, scale, place)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, gamma, mean, scale, place)
        ctx.save_for_forward(x, gamma, mean, scale, place)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 6
        x, gamma, *seen = ctx.saved_tensors
        to_x, to_gamma, to_beta = _NormBackward.apply(x, gamma, dy, *seen, ctx.pool)
        return to_x, to_gamma, to_beta, None, None, None

    @staticmethod
    def jvp(
        ctx: Any, x_along: Tensor, gamma_along: Tensor | None, beta_along: Tensor | None, *_: None
    ) -> tuple[Tensor, None, None, None]:
        x, gamma, mean, scale, place = ctx.saved_tensors
        nothing = torch.zeros_like(place, dtype=x.dtype)
        along = _or_zeros(x_along, x), _or_zeros(gamma_along, gamma), _or_zeros(beta_along, gamma)
        change = _NormSecond.apply(x, gamma, nothing, mean, scale, place, *along, ctx.pool)[2]
        return change, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> Any:
        return _over_tasks(_Norm, info, in_dims, (4, 1, 1), arguments)


@_signed
class _NormBackward(torch.autograd.Function):
    """The derivatives with respect to inputs, weight and bias, from that of the outputs.

    Mean, standard deviation and places are given to save work; that they depend on the inputs is
    part of the derivative all the same.
    """

    @staticmethod
    def forward(
        x: Tensor,
        gamma: Tensor,
        dy: Tensor,
        mean: Tensor,
        scale: Tensor,
        place: Tensor,
        pool: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        dx, dgamma, dbeta = kernels.norm_backward(
            _images(x),
            _vectors(gamma),
            _vectors(mean),
            _vectors(scale),
            _images(place),
            _images(dy),
            pool,
        )
        return _images_back(dx, x), _vectors_back(dgamma, gamma), _vectors_back(dbeta, gamma)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        *tensors, ctx.pool = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, v: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor | None, ...]:
        return *_NormSecond.apply(*ctx.saved_tensors, v, a, b, ctx.pool), None, None, None, None

    @staticmethod
    def jvp(
        ctx: Any,
        x_along: Tensor | None,
        gamma_along: Tensor | None,
        dy_along: Tensor | None,
        *_: None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, gamma, dy, *seen = ctx.saved_tensors
        # Linear in dy; and the matrix of second derivatives is symmetric.
        along = _or_zeros(x_along, x), _or_zeros(gamma_along, gamma), torch.zeros_like(gamma)
        dx, dgamma, _ = _NormSecond.apply(x, gamma, dy, *seen, *along, ctx.pool)
        if dy_along is None:
            return dx, dgamma, torch.zeros_like(gamma)
        parts = _NormBackward.apply(x, gamma, dy_along, *seen, ctx.pool)
        return dx + parts[0], dgamma + parts[1], parts[2]

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> Any:
        return _over_tasks(_NormBackward, info, in_dims, (4, 1, 4, 1, 1, 4), arguments)


@_signed
class _NormSecond(torch.autograd.Function):
    """The derivative of `_NormBackward`, for inputs, weight and `dy`; itself without one."""

    @staticmethod
    def forward(
        x: Tensor,
        gamma: Tensor,
        dy: Tensor,
        mean: Tensor,
        scale: Tensor,
        place: Tensor,
        v: Tensor,
        a: Tensor,
        b: Tensor,
        pool: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        to_x, to_gamma, to_dy = kernels.norm_second(
            _images(x),
            _vectors(gamma),
            _vectors(mean),
            _vectors(scale),
            _images(place),
            _images(dy),
            (_images(v), _vectors(a), _vectors(b)),
            pool,
        )
        return _images_back(to_x, x), _vectors_back(to_gamma, gamma), _images_back(to_dy, dy)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(
            "there is no third derivative of the compiled batch norm: "
            "set INNERLOOP_KERNELS=0 in the environment"
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> Any:
        dims = (4, 1, 4, 1, 1, 4, 4, 1, 1)
        return _over_tasks(_NormSecond, info, in_dims, dims, arguments)


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor:
    parts = [t for t in (a, b) if t is not None]
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _or_zeros(t: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if t is None else t
