"""The short cut for tasks that all share the body of the network.

The features of all tasks' images then come from one plain batch, and only the head has an axis of
tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from innerloop import ops
from innerloop.algorithms.hooks import Hooks
from innerloop.functional import Params
from innerloop.models.layers import statistics_by_group
from innerloop.tasks.episodes import Episodes


def features_in_place(algorithm: Hooks, params: Params, episodes: Episodes) -> Episodes:
    """The episodes with features in place of inputs."""
    support, query = features_of_sets(
        algorithm, channels_last(params), episodes.support_x, episodes.query_x
    )
    return episodes._replace(support_x=support, query_x=query)


def features_of_sets(
    algorithm: Hooks, params: Params, support_x: Tensor, query_x: Tensor
) -> tuple[Tensor, Tensor]:
    """Features of the support and query sets of T tasks, batch norm as `algorithm.bn` says.

    Args:
        algorithm: on a `HeadedModel`.
        params: of the body, the same for all tasks.
        support_x: `[T, N*K, ...]`.
        query_x: `[T, N*Q, ...]`.

    Returns:
        `[T, N*K, F]` and `[T, N*Q, F]`.
    """
    tasks, support, queries = *support_x.shape[:2], query_x.shape[1]
    if algorithm.bn == "support":
        together = torch.cat([support_x, query_x], dim=1).flatten(0, 1)
        with statistics_by_group(support + queries, first=support, total=together.shape[0]):
            f = algorithm.features(params, together).unflatten(0, (tasks, support + queries))
        return f[:, :support], f[:, support:]
    with statistics_by_group(support, total=tasks * support):
        f_support = algorithm.features(params, support_x.flatten(0, 1))
    with statistics_by_group(queries, total=tasks * queries):
        f_query = algorithm.features(params, query_x.flatten(0, 1))
    return f_support.unflatten(0, (tasks, support)), f_query.unflatten(0, (tasks, queries))


def head_outputs(weights: Params, features: Tensor) -> Tensor:
    """The outputs `[T, B, N]` of a linear head for features `[T, B, F]`."""
    return ops.linear(features, weights["head.weight"], weights.get("head.bias"))


def channels_last(params: Params) -> Params:
    """The same values; on a CPU, convolutions are faster with the channels innermost."""
    return {
        name: p.to(memory_format=torch.channels_last) if p.ndim == 4 else p
        for name, p in params.items()
    }
