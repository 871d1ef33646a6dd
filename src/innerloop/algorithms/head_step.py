"""The meta-gradient of one inner step from a shared head, without vmap over the network.

From a shared head the first inner step moves nothing but the head (see
`MAML.first_step_moves_only_the_head`).  All tasks then still have the same
body: its features are computed for all images in one plain batch, which on a CPU
is several times faster, and only the head has a task axis.  The numbers are those of the
general path; a test holds them equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from innerloop.episodes import Episodes
from innerloop.functional import Params, adapt_steps, add, detach, subtract
from innerloop.models.layers import HeadedModel, statistics_by_group

if TYPE_CHECKING:
    from innerloop.algorithms.maml import MAML


def head_step_gradient(maml: MAML, params: Params, episodes: Episodes) -> tuple[Params, Params]:
    """As `MAML.meta_gradient`, for `inner_steps=1`, a shared head and cross-entropy."""
    assert isinstance(maml.model, HeadedModel)
    head_module: nn.Module = maml.model.head
    head = [name for name in params if name.startswith("head.")]

    def mean_loss(params: Params) -> tuple[Tensor, Params]:
        support, query = features(maml, params, episodes)
        start = maml.fast_weights(
            {name: params[name] for name in head}, maml.count_ways(episodes.support_y)
        )

        def head_outputs(fast: Params, features: Tensor) -> Tensor:
            weights = {name.removeprefix("head."): p for name, p in fast.items()}
            return torch.func.functional_call(head_module, weights, (features,))

        def task_loss(support, support_y, query, query_y):
            def support_loss(fast: Params) -> Tensor:
                return maml.support_loss(head_outputs(fast, support), support_y)

            *_, fast = adapt_steps(
                support_loss,
                start,
                inner_lr=maml.inner_lr,
                inner_steps=1,
                max_norm=maml.inner_max_norm,
            )
            if maml.first_order:
                fast = add(start, detach(subtract(fast, start)))
            return maml.judge(head_outputs(fast, query), query_y)

        losses, metrics = torch.func.vmap(task_loss)(
            support, episodes.support_y, query, episodes.query_y
        )
        return losses.mean(), {name: m.mean() for name, m in metrics.items()}

    # Plain autograd for the body: there is no task axis that torch.func would be needed for.
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    with torch.enable_grad():
        loss, metrics = mean_loss(leaves)
    gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, gradients, strict=True)), metrics


def features(maml: MAML, params: Params, episodes: Episodes) -> tuple[Tensor, Tensor]:
    """Features of all tasks' support and query sets, `[T, N*K, F]` and `[T, N*Q, F]`."""
    tasks = episodes.num_tasks
    support, queries = episodes.support_x.shape[1], episodes.query_x.shape[1]
    # On a CPU, convolutions are faster with the channels innermost.
    params = {
        name: p.to(memory_format=torch.channels_last) if p.ndim == 4 else p
        for name, p in params.items()
    }
    if maml.bn == "support":
        together = torch.cat([episodes.support_x, episodes.query_x], dim=1).flatten(0, 1)
        with statistics_by_group(support + queries, first=support):
            f = maml.features(params, together).unflatten(0, (tasks, support + queries))
        return f[:, :support], f[:, support:]
    with statistics_by_group(support):
        f_support = maml.features(params, episodes.support_x.flatten(0, 1))
    with statistics_by_group(queries):
        f_query = maml.features(params, episodes.query_x.flatten(0, 1))
    return f_support.unflatten(0, (tasks, support)), f_query.unflatten(0, (tasks, queries))
