"""The short cut for tasks that all share the body of the network.

The features of all tasks' images then come from one plain batch, and only the head has an axis of
tasks.
"""

from __future__ import annotations

from collections.abc import Callable

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
    f_support, f_query = (features_of_set(algorithm, params, x) for x in (support_x, query_x))
    return f_support, f_query


def features_of_set(algorithm: Hooks, params: Params, x: Tensor) -> Tensor:
    """Features `[T, B, F]` of one set of T tasks `[T, B, ...]`, by its own batch statistics."""
    tasks, rows = x.shape[:2]
    with statistics_by_group(rows, total=tasks * rows):
        found: Tensor = algorithm.features(params, x.flatten(0, 1)).unflatten(0, (tasks, rows))
    return found


def predict_from_features(
    algorithm: Hooks, params: Params, support_x: Tensor, query_x: Tensor
) -> Callable[[Params], Tensor]:
    """See `Algorithm.predictor`: the body sees the queries once, whatever the head becomes."""
    if algorithm.bn == "support":
        _, features = features_of_sets(algorithm, params, support_x[None], query_x[None])
    else:
        features = features_of_set(algorithm, params, query_x[None])

    def predict(fast: Params) -> Tensor:
        # In double precision: products of float32 round by how many queries there are.
        head = {n: p[None].double() for n, p in fast.items() if n.startswith("head.")}
        return head_outputs(head, features.double())[0].to(features.dtype)

    return predict


def head_outputs(weights: Params, features: Tensor) -> Tensor:
    """The outputs `[T, B, N]` of a linear head for features `[T, B, F]`."""
    return ops.linear(features, weights["head.weight"], weights.get("head.bias"))


def channels_last(params: Params) -> Params:
    """The same values; on a CPU, convolutions are faster with the channels innermost."""
    return {
        name: p.to(memory_format=torch.channels_last) if p.ndim == 4 else p
        for name, p in params.items()
    }
