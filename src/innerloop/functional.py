"""The inner loop, as pure functions over dicts of tensors.

There is one inner loop in this package, `adapt_steps`; training, evaluation
and everything else that adapts a network call it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

Params = dict[str, Tensor]
Loss = Callable[[Params], Tensor]


def adapt_steps(
    loss: Loss,
    params: Params,
    *,
    inner_lr: float | Mapping[str, Tensor | float],
    inner_steps: int,
    max_norm: float | None = None,
) -> Iterator[Params]:
    """Gradient descent on a task's support loss: yields the fast weights of every step.

    The update is `params[name] - inner_lr * gradient[name]` (MAML, Finn et al.
    2017, Eq. 1: θ' = θ - α ∇L(θ), with θ = `params`, α = `inner_lr`).  Nothing is
    changed in place, so the result can be differentiated with `torch.func.grad`
    and carried over many tasks by `torch.func.vmap`.

    Args:
        loss: the support loss as a function of the fast weights; returns a scalar.
        params: the weights to start from.
        inner_lr: the inner learning rate: a number, or one entry a parameter name,
            each a number or a tensor that broadcasts against the parameter.
        inner_steps: number of steps, 0 or more.
        max_norm: scale each step's gradient so that its global norm is at most this.

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
        gradient = torch.func.grad(loss)(params)
        if max_norm is not None:
            gradient = clip_norm(gradient, max_norm)
        params = descend(params, gradient, inner_lr)
        yield params


def descend(params: Params, gradient: Params, lr: float | Mapping[str, Tensor | float]) -> Params:
    """`params - lr * gradient`, name by name."""
    if isinstance(lr, Mapping):
        return {name: p - lr[name] * gradient[name] for name, p in params.items()}
    return {name: p - lr * gradient[name] for name, p in params.items()}


def add(a: Params, b: Params) -> Params:
    """`a + b`, name by name."""
    return {name: a[name] + b[name] for name in a}


def subtract(a: Params, b: Params) -> Params:
    """`a - b`, name by name."""
    return {name: a[name] - b[name] for name in a}


def detach(params: Params) -> Params:
    """The same values, through which no gradient flows."""
    return {name: p.detach() for name, p in params.items()}


def norm(params: Params) -> Tensor:
    """The Euclidean norm over all entries of all tensors, a scalar."""
    return torch.stack([p.square().sum() for p in params.values()]).sum().sqrt()


def clip_norm(gradient: Params, max_norm: float) -> Params:
    """Scale `gradient` so that its norm is at most `max_norm`; NaN stays NaN."""
    # The smallest float keeps a zero gradient at zero instead of 0/0.
    total = torch.stack([g.square().sum() for g in gradient.values()]).sum().add(1e-30).sqrt()
    scale = torch.clamp(max_norm / total, max=1.0)
    return {name: g * scale for name, g in gradient.items()}


def accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Share of right answers, a scalar in 0..1, from logits `[B, N]` and labels `[B]`."""
    return (outputs.argmax(dim=-1) == labels).to(outputs.dtype).mean(dim=-1)
