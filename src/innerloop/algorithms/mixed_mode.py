"""MAML's meta-gradient without a record of the inner loop.

Reverse mode through the inner loop keeps the graph of every step until the end.  Here
only the fast weights and the gradient of each step are kept; then one walks back
through the steps, each with one Hessian-vector product (MixFlow-MG, Kemaev et al. 2025).
At any time there is the graph of a single step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from innerloop.algorithms import noise
from innerloop.algorithms.gradient_based import GradientBased, Support
from innerloop.functional import (
    Params,
    add,
    gradient,
    gradients,
    pullback,
    repeat_each,
    second_derivatives,
    zeros_like,
)
from innerloop.tasks.episodes import Episodes


def mixed_mode_gradient(
    maml: GradientBased, params: Params, tasks: Episodes, counts: Sequence[float]
) -> tuple[Params, Params]:
    """As `MAML.mean_gradient`; the query loss after step i counts `counts[i]` times."""
    number, n_way = tasks.num_tasks, tasks.n_way
    support = Support(tasks.support_x, tasks.support_y, n_way)

    def support_loss(params: Params, fast: Params, step: int) -> Tensor:
        return maml.inner_loss_each(params, fast, support, step)

    def update(params: Params, fast: Params, slope: Params, step: int) -> Params:
        return maml.update_each(params, fast, slope, step)

    def query_loss(params: Params, fast: Params, step: int) -> tuple[Tensor, Params]:
        with noise.at(step, query=True):
            weights = maml.weights(params, fast, support, step)
            losses, metrics = maml.query_loss_each(weights, tasks)
        return counts[step] * losses.mean(), {name: m.mean() for name, m in metrics.items()}

    def start(params: Params) -> Params:
        return repeat_each(maml.start(params, n_way), number)

    fast = start(params)
    trail: list[tuple[Params, Params]] = []
    for step in range(maml.inner_steps):
        slope = gradient(partial(support_loss, params, step=step), fast)
        trail.append((fast, slope))
        fast = update(params, fast, slope, step)

    # The derivatives of the loss that counts with respect to `params` and the fast
    # weights of a step, from the last step to the first.
    to_params, to_fast = zeros_like(params), zeros_like(fast)
    metrics: Params = {}
    for step in reversed(range(maml.inner_steps + 1)):
        if step < maml.inner_steps:
            fast, slope = trail.pop()
            direct, to_fast, to_slope = pullback(
                partial(update, step=step), params, fast, slope, cotangent=to_fast
            )
            second, onward = second_derivatives(
                partial(support_loss, step=step), params, fast, to_slope
            )
            to_params, to_fast = add(add(to_params, direct), second), add(to_fast, onward)
        if counts[step]:
            (direct, onward), scored = gradients(partial(query_loss, step=step), params, fast)
            to_params, to_fast = add(to_params, direct), add(to_fast, onward)
            metrics = metrics or scored
    (through_start,) = pullback(start, params, cotangent=to_fast)
    return add(to_params, through_start), metrics
