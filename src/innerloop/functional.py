"""The inner loop, as pure functions over dicts of tensors.

Every inner loop of this package, in training, evaluation and use, is made of
`inner_step`; the mixed mode, which needs the gradient of each step, of its `descend`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from innerloop.errors import UserError

Params = dict[str, Tensor]
Loss = Callable[[Params], Tensor]
Rates = float | Mapping[str, Tensor | float]


def adapt_steps(
    loss: Loss,
    params: Params,
    *,
    inner_lr: Rates,
    inner_steps: int,
    max_norm: float | None = None,
    first_order: bool = False,
) -> Iterator[Params]:
    """Gradient descent on a task's support loss: yields the fast weights of every step.

    Args:
        inner_steps: number of steps, 0 or more.
        loss, params, inner_lr, max_norm, first_order: as for `inner_step`.

    Yields:
        `inner_steps + 1` dicts: `params` itself, then the weights after each step.

    Example:
        >>> loss = lambda p: (p["w"] ** 2).sum()
        >>> *_, last = adapt_steps(loss, {"w": torch.ones(1)}, inner_lr=0.25, inner_steps=2)
        >>> last["w"].item()
        0.25
    """
    yield params
    for _ in range(inner_steps):
        params = inner_step(
            loss, params, inner_lr=inner_lr, max_norm=max_norm, first_order=first_order
        )
        yield params


def inner_step(
    loss: Loss,
    params: Params,
    *,
    inner_lr: Rates,
    max_norm: float | None = None,
    first_order: bool = False,
    of_tasks: bool = False,
) -> Params:
    """One step of gradient descent, as a function that can be differentiated.

    The update is `params[name] - inner_lr * gradient[name]` (MAML, Finn et al.
    2017, Eq. 1: θ' = θ - α ∇L(θ), with θ = `params`, α = `inner_lr`).  Nothing is
    changed in place, so the result can be differentiated with `torch.func.grad`
    and carried over many tasks by `torch.func.vmap`.

    Args:
        loss: the support loss as a function of the fast weights; returns a scalar.
        params: the weights to start from.
        inner_lr: the inner learning rate: a number, or one entry a parameter name,
            each a number or a tensor that broadcasts against the parameter.
        max_norm: scale the gradient so that its global norm is at most this.
        first_order: treat the gradient as a constant when the result is differentiated.
        of_tasks: `params` are those of T tasks, `[T, ...]`, and `loss` returns `[T]`, the
            loss of each task.  This is for plain autograd, not for torch.func's transforms;
            there is no `max_norm`.

    Returns:
        The new weights.
    """
    if of_tasks:
        gradient = _gradient_of_tasks(loss, params, create_graph=not first_order)
        return descend(params, gradient, inner_lr)
    # With detached weights no graph of the gradient is recorded in the first place.
    gradient = torch.func.grad(loss)(detach(params) if first_order else params)
    return descend(params, detach(gradient) if first_order else gradient, inner_lr, max_norm)


def _gradient_of_tasks(loss: Loss, params: Params, *, create_graph: bool) -> Params:
    """Every task's gradient of its own loss: as no other depends on its weights, of the sum."""
    with torch.enable_grad():
        leaves = {
            n: p if create_graph and p.requires_grad else p.detach().requires_grad_()
            for n, p in params.items()
        }
        total = loss(leaves).sum()
    gradients = torch.autograd.grad(
        total, list(leaves.values()), create_graph=create_graph, materialize_grads=True
    )
    return dict(zip(leaves, gradients, strict=True))


def for_tasks(params: Params, tasks: int | None) -> Params:
    """The same weights for each of T tasks, `[T, ...]`, in the same memory; None: as they are."""
    if tasks is None:
        return params
    return {name: _ForTasks.apply(p, tasks) for name, p in params.items()}


class _ForTasks(torch.autograd.Function):
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


def descend(
    params: Params, gradient: Params, inner_lr: Rates, max_norm: float | None = None
) -> Params:
    """`params - inner_lr * gradient`, name by name, the gradient clipped to `max_norm`."""
    if max_norm is not None:
        gradient = clip_norm(gradient, max_norm)
    if isinstance(inner_lr, Mapping):
        return {name: p - inner_lr[name] * gradient[name] for name, p in params.items()}
    # One pass over memory, and one for the derivative.
    return {name: p.add(gradient[name], alpha=-inner_lr) for name, p in params.items()}


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
    """The inner product over all entries of all tensors, a scalar."""
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()


def norm(params: Params) -> Tensor:
    """The Euclidean norm over all entries of all tensors, a scalar."""
    return dot(params, params).sqrt()


def clip_norm(gradient: Params, max_norm: float) -> Params:
    """Scale `gradient` so that its norm is at most `max_norm`; NaN stays NaN."""
    # The smallest float keeps a zero gradient at zero instead of 0/0.
    total = dot(gradient, gradient).add(1e-30).sqrt()
    scale = torch.clamp(max_norm / total, max=1.0)
    return {name: g * scale for name, g in gradient.items()}


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
    """Share of right answers, a scalar in 0..1, from logits `[B, N]` and labels `[B]`."""
    return (outputs.argmax(dim=-1) == labels).to(outputs.dtype).mean(dim=-1)
