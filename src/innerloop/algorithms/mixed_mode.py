"""MAML's meta-gradient without a record of the inner loop.

Reverse mode through the inner loop keeps the graph of every step until the end.  Here
only the fast weights and the gradient of each step are kept; then one walks back
through the steps, each with one Hessian-vector product, computed forward over reverse
(MixFlow-MG, Kemaev et al. 2025).  At any time there is the graph of a single step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from innerloop.algorithms.gradient_based import Support
from innerloop.functional import Params, add, descend, zeros_like
from innerloop.tasks.episodes import Episodes

if TYPE_CHECKING:
    from innerloop.algorithms.maml import MAML


def mixed_mode_gradient(
    maml: MAML, params: Params, task: Episodes, n_way: int | None, counts: Sequence[float]
) -> tuple[Params, Params]:
    """As `MAML.task_gradient`; the query loss after step i counts `counts[i]` times."""
    support = Support(task.support_x, task.support_y, n_way)

    def update(params: Params, fast: Params, gradient: Params, step: int) -> Params:
        return descend(fast, gradient, maml.rates(params, step), maml.inner_max_norm)

    def support_loss(params: Params, fast: Params, step: int) -> Tensor:
        return maml.inner_loss(params, fast, support, step)

    def query_loss(params: Params, fast: Params, step: int) -> tuple[Tensor, Params]:
        loss, metrics = maml.query_loss({**maml.rest(params, n_way, step), **fast}, task)
        return counts[step] * loss, metrics

    def start(params: Params) -> Params:
        return maml.start(params, n_way)

    fast = start(params)
    trail: list[tuple[Params, Params]] = []
    for step in range(maml.inner_steps):
        gradient = torch.func.grad(support_loss, argnums=1)(params, fast, step)
        trail.append((fast, gradient))
        fast = update(params, fast, gradient, step)

    # The derivatives of the loss that counts with respect to `params` and the fast
    # weights of a step, from the last step to the first.
    to_params, to_fast = zeros_like(params), zeros_like(fast)
    metrics: Params = {}
    for step in reversed(range(maml.inner_steps + 1)):
        if step < maml.inner_steps:
            fast, gradient = trail.pop()
            direct, to_fast, to_gradient = _through_update(
                update, params, fast, gradient, step, to_fast
            )
            second, onward = _through_gradient(support_loss, params, fast, step, to_gradient)
            to_params, to_fast = add(add(to_params, direct), second), add(to_fast, onward)
        if counts[step]:
            (direct, onward), judged = torch.func.grad(query_loss, argnums=(0, 1), has_aux=True)(
                params, fast, step
            )
            to_params, to_fast = add(to_params, direct), add(to_fast, onward)
            metrics = metrics or judged
    through_start = torch.func.vjp(start, params)[1]
    return add(to_params, through_start(to_fast)[0]), metrics


def _through_update(update, params, fast, gradient, step, to_next):
    """Derivatives with respect to `params`, `fast` and `gradient` from that of the next weights."""
    return torch.func.vjp(lambda *v: update(*v, step), params, fast, gradient)[1](to_next)


def _through_gradient(support_loss, params, fast, step, to_gradient):
    """Derivatives with respect to `params` and `fast` from that of the support gradient.

    The second derivatives of the loss are symmetric: the products that reverse mode
    would take are the directional derivative of the whole gradient along `to_gradient`.
    """
    whole = torch.func.grad(support_loss, argnums=(0, 1))
    return torch.func.jvp(lambda fast: whole(params, fast, step), (fast,), (to_gradient,))[1]
