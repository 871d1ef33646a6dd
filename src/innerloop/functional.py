"""Pure functions over dicts of tensors: derivatives, the inner update, and parameter algebra.

Everything here works inside `torch.func`'s transforms and outside of them, where plain autograd
takes the derivatives: it carries whatever PyTorch can differentiate.  Functions whose name ends in
`_each` treat the leading axis of every tensor as one of tasks.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.errors import UserError
from innerloop.given import check_rate, keeping
from innerloop.keywords import keywords_checked
from innerloop.ops.kernels import in_transform as in_transform

__all__ = [
    "Loss",
    "Params",
    "Rates",
    "accuracy",
    "add",
    "clip_norm",
    "descend",
    "detach",
    "dot",
    "gradient",
    "gradients",
    "inner_step",
    "mean_squared_error",
    "norm",
    "subtract",
    "zeros_like",
]

Params = dict[str, Tensor]
"""Tensors by parameter name: weights, gradients, metrics."""
Loss = Callable[[Params], Tensor]
"""From weights to a scalar."""
Rates = float | Mapping[str, Tensor | float]
"""Inner learning rates: a number; or one entry a parameter name, each a number or a tensor that
broadcasts against the parameter."""
_twice: ContextVar[list[bool] | None] = ContextVar("twice", default=None)
# The label that PyTorch's losses ignore.
NO_LABEL = -100


def gradient(loss: Loss, params: Params, *, create_graph: bool = False) -> Params:
    """The gradient of `loss` by parameter name; zeros for what it does not depend on.

    Args:
        loss: of weights; a scalar, or `[T]`, whose sum is differentiated: where task t's loss
            depends on its own slice of the weights alone, that is every task's own gradient.
        params: the weights.
        create_graph: record it, so that it can itself be differentiated.
    """
    (found,), _ = gradients(lambda p: (loss(p).sum(), {}), params, create_graph=create_graph)
    return found


def gradients(
    loss: Callable[..., tuple[Tensor, Any]], *trees: Params, create_graph: bool = False
) -> tuple[tuple[Params, ...], Any]:
    """The gradients of a scalar with respect to several dicts of tensors.

    Args:
        loss: of the dicts; returns the scalar, and anything else beside it.
        trees: the dicts.
        create_graph: as for `gradient`.

    Returns:
        The gradients, one dict for each of `trees`; and what `loss` returned beside the scalar.
    """
    if torch.is_inference_mode_enabled():
        raise UserError(
            "adaptation takes gradients, which torch.inference_mode() does not allow: use "
            "torch.no_grad() in its place"
        )
    if create_graph and (twice := _twice.get()) is not None:
        twice[0] = True
    if in_transform():
        places = tuple(range(len(trees)))
        given = trees if create_graph else tuple(detach(tree) for tree in trees)
        found, beside = torch.func.grad(keeping(loss), argnums=places, has_aux=True)(*given)
        return tuple(found) if create_graph else tuple(detach(g) for g in found), beside
    recorded = create_graph and torch.is_grad_enabled()
    with torch.enable_grad():
        given = tuple({name: _leaf(p, recorded) for name, p in tree.items()} for tree in trees)
        leaves = [p for tree in given for p in tree.values()]
        value, beside = keeping(loss)(*given)
    if value.requires_grad:
        flat = torch.autograd.grad(value, leaves, create_graph=recorded, materialize_grads=True)
    else:
        flat = tuple(torch.zeros_like(p) for p in leaves)
    # PyTorch 2.6 asks for gradients of the zeros that it fills in for unused parameters.
    flat = flat if recorded else tuple(g.detach() for g in flat)
    each = iter(flat)
    return tuple({name: next(each) for name in tree} for tree in trees), beside


@contextlib.contextmanager
def noticing_second() -> Iterator[list[bool]]:
    """Within this context a list says whether a gradient was taken that can be differentiated."""
    twice = [False]
    token = _twice.set(twice)
    try:
        yield twice
    finally:
        _twice.reset(token)


def _leaf(p: Tensor, recorded: bool) -> Tensor:
    return p if recorded and p.requires_grad else p.detach().requires_grad_()


def second_derivatives(
    loss: Callable[[Params, Params], Tensor], params: Params, fast: Params, along: Params
) -> tuple[Params, Params]:
    """Products of the second derivatives of `loss(params, fast)` with `along`, a tangent of `fast`.

    Reverse over reverse: forward mode does not stop at `torch.no_grad()`, so it would take what a
    network or a loss computes there for more than a constant.

    Returns:
        `∂²L/∂params∂fast · along`, and `∂²L/∂fast² · along`, which is the Hessian-vector product.
    """

    def directional(params: Params, fast: Params) -> tuple[Tensor, Params]:
        slope = gradient(lambda f: loss(params, f), fast, create_graph=True)
        return dot(slope, along), {}

    found, _ = gradients(directional, params, fast)
    return found[0], found[1]


def pullback(
    function: Callable[..., Params], *trees: Params, cotangent: Params
) -> tuple[Params, ...]:
    """Derivatives of `function`'s outputs, weighted by `cotangent`, for each of its arguments."""
    return gradients(lambda *given: (dot(function(*given), cotangent), {}), *trees)[0]


def mean_of_losses(
    losses: Callable[[Params], tuple[Tensor, Params]], params: Params
) -> tuple[Params, Params]:
    """The gradient of the mean of the losses `[T]` of all tasks, and the mean of each metric."""

    def mean_loss(params: Params) -> tuple[Tensor, Params]:
        each, metrics = losses(params)
        return each.mean(), {name: m.mean() for name, m in metrics.items()}

    (found,), metrics = gradients(mean_loss, params)
    return found, metrics


def descend(params: Params, gradient: Params, inner_lr: Rates) -> Params:
    """`params - inner_lr * gradient`, name by name.

    Raises:
        UserError: rates by name that leave one out, or a rate that is no number and no tensor that
            broadcasts against its parameter.
    """
    if isinstance(inner_lr, Mapping):
        missing = [name for name in params if name not in inner_lr]
        if missing:
            raise UserError(
                f"there is no inner learning rate for {', '.join(missing)}: give one entry a "
                "parameter name"
            )
        return {name: _less(name, p, gradient[name], inner_lr[name]) for name, p in params.items()}
    return {name: _less(name, p, gradient[name], inner_lr) for name, p in params.items()}


def _less(name: str, p: Tensor, g: Tensor, rate: Tensor | float) -> Tensor:
    check_rate(name, rate, p.shape)
    # A number takes one pass over memory, and one for the derivative.
    return p - rate * g if isinstance(rate, Tensor) else p.add(g, alpha=-rate)


def inner_step(
    loss: Loss,
    params: Params,
    *,
    inner_lr: Rates,
    max_norm: float | None = None,
    first_order: bool = False,
) -> Params:
    """One step of gradient descent, as a function that can be differentiated.

    The update is `params[name] - inner_lr * gradient[name]` (MAML, Finn et al. 2017, Eq. 1:
    θ' = θ - α ∇L(θ), with θ = `params`, α = `inner_lr`).  Nothing is changed in place.

    Args:
        loss: the support loss as a function of the fast weights; returns a scalar.
        params: the weights to start from.
        inner_lr: the inner learning rate: a number, or one entry a parameter name, each a number
            or a tensor that broadcasts against the parameter.
        max_norm: scale the gradient so that its global norm is at most this.
        first_order: treat the gradient as a constant when the result is differentiated.

    Returns:
        The new weights.
    """
    slope = gradient(loss, params, create_graph=not first_order)
    return descend(params, slope if max_norm is None else clip_norm(slope, max_norm), inner_lr)


@keywords_checked
def adapt_steps(
    loss: Loss,
    params: Params,
    *,
    inner_lr: Rates,
    inner_steps: int,
    max_norm: float | None = None,
    first_order: bool = False,
) -> Iterator[Params]:
    """Deprecated: repeat `innerloop.functional.inner_step`, or call an algorithm's `inner_loop`."""
    warnings.warn(
        "innerloop.adapt_steps is deprecated: call innerloop.functional.inner_step in a loop, or "
        "the inner_loop of an algorithm",
        DeprecationWarning,
        stacklevel=2,
    )
    options: dict[str, Any] = {"max_norm": max_norm, "first_order": first_order}

    def steps() -> Iterator[Params]:
        weights = params
        yield weights
        for _ in range(inner_steps):
            weights = inner_step(loss, weights, inner_lr=inner_lr, **options)
            yield weights

    return steps()


def add(a: Params, b: Params) -> Params:
    """`a + b`, name by name."""
    return {name: a[name] + b[name] for name in a}


def subtract(a: Params, b: Params) -> Params:
    """`a - b`, name by name."""
    return {name: a[name] - b[name] for name in a}


def detach(params: Params) -> Params:
    """The same values, through which no gradient flows."""
    return {name: p.detach() for name, p in params.items()}


def zeros_like(params: Params) -> Params:
    """Zeros of the same shapes."""
    return {name: torch.zeros_like(p) for name, p in params.items()}


def dot(a: Params, b: Params) -> Tensor:
    """The inner product over all entries of all tensors, a scalar.

    Real and imaginary parts of complex entries count as two.
    """
    return torch.stack([_products(a[name], b[name]).sum() for name in a]).sum()


def _products(a: Tensor, b: Tensor) -> Tensor:
    return (a.conj() * b).real if a.is_complex() else a * b


def norm(params: Params) -> Tensor:
    """The Euclidean norm over all entries of all tensors, a scalar."""
    return dot(params, params).sqrt()


def clip_norm(gradient: Params, max_norm: float) -> Params:
    """Scale `gradient` so that its norm is at most `max_norm`; NaN stays NaN."""
    return {name: g[0] for name, g in clip_norm_each(with_task(gradient), max_norm).items()}


def dot_each(a: Params, b: Params) -> Tensor:
    """The inner product of each task, `[T]`."""
    each = [_products(a[name], b[name]).reshape(len(a[name]), -1).sum(1) for name in a]
    return torch.stack(each).sum(0)


def scale_each(params: Params, factors: Tensor) -> Params:
    """Each task's weights times its own factor, from `factors` `[T]`."""
    return {name: p * factors.view(-1, *[1] * (p.ndim - 1)) for name, p in params.items()}


def clip_norm_each(gradient: Params, max_norm: float) -> Params:
    """Scale each task's gradient so that its norm is at most `max_norm`; NaN stays NaN."""
    # The smallest float keeps a zero gradient at zero instead of 0/0.
    lengths = dot_each(gradient, gradient).add(1e-30).sqrt()
    return scale_each(gradient, torch.clamp(max_norm / lengths, max=1.0))


def with_task(params: Params) -> Params:
    """One task's weights with an axis of tasks, `[1, ...]`."""
    return {name: p.unsqueeze(0) for name, p in params.items()}


def repeat_each(params: Params, tasks: int) -> Params:
    """The same weights for each of T tasks, `[T, ...]`, in the same memory."""
    if tasks == 1:
        return with_task(params)
    return {name: _repeat(p, tasks) for name, p in params.items()}


def _repeat(p: Tensor, tasks: int) -> Tensor:
    repeated: Tensor = _Repeat.apply(p, tasks)  # type: ignore[no-untyped-call]
    return repeated


class _Repeat(torch.autograd.Function):
    """`[...]` to `[T, ...]` without a copy; the derivative is the sum over the tasks."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, tasks: int) -> Tensor:
        return p.expand(tasks, *p.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        # PyTorch's sum is 30 times slower where the axes are not in the order of memory.
        order = sorted(range(gradient.ndim), key=gradient.stride, reverse=True)
        total = gradient.permute(order).sum(order.index(0), keepdim=True)
        return total.permute([order.index(axis) for axis in range(gradient.ndim)])[0], None


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of the squared differences, a scalar.

    Raises:
        UserError: shapes that differ, which would be spread over each other in silence.
    """
    if outputs.shape != targets.shape:
        raise UserError(
            f"outputs have shape {tuple(outputs.shape)} and targets {tuple(targets.shape)}: give "
            "the targets the shape of the outputs, for instance [T, K, 1]"
        )
    return (outputs - targets).square().mean()


def accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Share of right answers, 0..1, from logits `[..., B, N]` and labels `[..., B]`."""
    # Of at least single precision: half precision counts to 2,048 alone.
    dtype = torch.promote_types(outputs.dtype, torch.float32)
    # Not every whole type can be compared.
    labels = labels.long()
    counted = labels != NO_LABEL
    right = (outputs.argmax(dim=-1) == labels) & counted
    return right.to(dtype).sum(dim=-1) / counted.sum(dim=-1)


def cross_entropy_each(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy of each task, `[T]`, from `[T, B, N]` and labels `[T, B]`."""
    if len(outputs) == 1:
        return F.cross_entropy(outputs.squeeze(0), targets.squeeze(0)).unsqueeze(0)
    each = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
    # PyTorch's mean leaves out labels that are marked to be ignored.
    return each.view(targets.shape).sum(dim=1) / (targets != NO_LABEL).sum(dim=1)


def are_labels(outputs: Any, targets: Any, *, tasks: bool = False) -> bool:
    """True if these are logits `[B, N]` and class labels `[B]`; with an axis before for `tasks`."""
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
        return False
    whole = not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
    whole = whole and not outputs.is_complex()
    return (
        whole
        and targets.ndim == 1 + tasks
        and outputs.ndim == 2 + tasks
        and outputs.shape[-1] > 1
        and outputs.shape[:-1] == targets.shape
    )
