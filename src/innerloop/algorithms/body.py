"""The meta-gradient where the inner loop leaves the body of the network alone.

All tasks then share the body: its features are computed for all images in one plain
batch, which on a CPU is several times faster than under vmap, and only what
comes after the body has a task axis.  The numbers are those of the general path; a test
holds them equal.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm
from innerloop.functional import Params, detach
from innerloop.models.layers import statistics_by_group
from innerloop.tasks.episodes import Episodes

# Meta-parameters and one task whose inputs are features, to the query loss and metrics.
FeatureLoss = Callable[[Params, Episodes], tuple[Tensor, Params]]


def gradient_through_features(
    algorithm: Algorithm, params: Params, episodes: Episodes, task_loss: FeatureLoss
) -> tuple[Params, Params]:
    """The meta-gradient of the mean of `task_loss` over tasks of one chunk, and its metrics."""

    def mean_loss(params: Params) -> tuple[Tensor, Params]:
        support, query = features_of_sets(
            algorithm, channels_last(params), episodes.support_x, episodes.query_x
        )
        seen = Episodes(support, episodes.support_y, query, episodes.query_y)
        losses, metrics = torch.func.vmap(task_loss, in_dims=(None, 0))(params, seen)
        return losses.mean(), {name: m.mean() for name, m in metrics.items()}

    return plain_gradient(mean_loss, params)


def plain_gradient(
    loss: Callable[[Params], tuple[Tensor, Params]], params: Params
) -> tuple[Params, Params]:
    """The gradient and the metrics of `loss` by plain autograd.

    Without a task axis in the body there is nothing that torch.func would be needed for.
    """
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    with torch.enable_grad():
        value, metrics = loss(leaves)
    gradients = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
    # PyTorch 2.6 asks for gradients of the zeros that it fills in for unused parameters.
    return detach(dict(zip(leaves, gradients, strict=True))), metrics


def features_of_sets(
    algorithm: Algorithm, params: Params, support_x: Tensor, query_x: Tensor
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
        with statistics_by_group(support + queries, first=support):
            f = algorithm.features(params, together).unflatten(0, (tasks, support + queries))
        return f[:, :support], f[:, support:]
    with statistics_by_group(support):
        f_support = algorithm.features(params, support_x.flatten(0, 1))
    with statistics_by_group(queries):
        f_query = algorithm.features(params, query_x.flatten(0, 1))
    return f_support.unflatten(0, (tasks, support)), f_query.unflatten(0, (tasks, queries))


def channels_last(params: Params) -> Params:
    """The same values; on a CPU, convolutions are faster with the channels innermost."""
    return {
        name: p.to(memory_format=torch.channels_last) if p.ndim == 4 else p
        for name, p in params.items()
    }


def keeps_tasks_apart(model: nn.Module) -> bool:
    """Whether images of several tasks can go through `model` in one batch.

    The batch norm of this package can be told which images belong together, PyTorch's cannot.
    """
    foreign = nn.modules.batchnorm._BatchNorm
    return not any(isinstance(module, foreign) for module in model.modules())
