"""Prototypical networks: no inner loop, the mean of a class's features is its classifier."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.body import gradient_through_features, keeps_tasks_apart
from innerloop.errors import UserError
from innerloop.functional import Params
from innerloop.models.layers import HeadedModel
from innerloop.tasks.episodes import Episodes

PROTOTYPES = "prototypes@"


class ProtoNet(Algorithm):
    """Prototypical networks: a query belongs to the class with the nearest mean.

    Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning", Eq. 1 and 2:
    the prototype of a class is the mean of its support features; the logit of a class is minus
    the squared Euclidean distance of the query's features to its prototype.  Training tasks
    may have more classes than test tasks, which is better (section 3.1 there).

    Args:
        model: a `HeadedModel`, whose features are taken and whose head is not used, or any
            network from `[B, ...]` to features `[B, F]`.
        options: `loss`, `bn`, `chunk_size` of `Algorithm`.

    Raises:
        UserError: see `Algorithm`.
    """

    inner_steps = 0

    def init_params(self) -> Params:
        params = super().init_params()
        if isinstance(self.model, HeadedModel):
            return {name: p for name, p in params.items() if not name.startswith("head.")}
        return params

    def count_ways(self, labels: Tensor) -> int:
        if labels.is_floating_point():
            raise UserError("prototypes are of classes: ProtoNet cannot learn regression")
        return self._classes_of(labels)

    def phase(self, progress: float) -> None:
        """Nothing here depends on it."""

    def embed(self, params: Params, x: Tensor) -> Tensor:
        """Features `[B, F]` of `x`."""
        if isinstance(self.model, HeadedModel):
            return self.features(params, x)
        return super().forward(params, x)

    def forward(self, params: Params, x: Tensor) -> Tensor:
        """Logits `[B, N]` of `x` from the prototypes among `params`."""
        return minus_squared_distances(self.embed(params, x), params[PROTOTYPES])

    def adaptation(
        self, params: Params, x: Tensor, y: Tensor, inner_steps: int | None, n_way: int | None
    ) -> Iterator[Params]:
        """Yields once, whatever `inner_steps`: `params` with the prototypes `[N, F]`."""
        assert n_way is not None
        yield params | {PROTOTYPES: prototypes(self.embed(params, x), y, n_way)}

    def task_gradient(
        self, params: Params, task: Episodes, n_way: int | None, progress: float
    ) -> tuple[Params, Params]:
        def loss(params: Params) -> tuple[Tensor, Params]:
            return self.query_loss(
                self.adapt(params, task.support_x, task.support_y, n_way=n_way), task
            )

        return torch.func.grad(loss, has_aux=True)(params)

    def chunk_gradient(
        self, params: Params, episodes: Episodes, progress: float
    ) -> tuple[Params, Params]:
        if not (isinstance(self.model, HeadedModel) and keeps_tasks_apart(self.model)):
            return super().chunk_gradient(params, episodes, progress)
        n_way = self.count_ways(episodes.support_y)

        def loss(params: Params, task: Episodes) -> tuple[Tensor, Params]:
            centres = prototypes(task.support_x, task.support_y, n_way)
            return self.judge(minus_squared_distances(task.query_x, centres), task.query_y)

        return gradient_through_features(self, params, episodes, loss)


def prototypes(features: Tensor, labels: Tensor, n_way: int) -> Tensor:
    """The mean feature of each class `[N, F]`, from features `[B, F]` and labels `[B]`."""
    # Not one_hot, which looks at the values and so cannot be used inside vmap.
    classes = torch.arange(n_way, device=labels.device)
    members = (labels.unsqueeze(1) == classes).to(features.dtype)
    return members.T @ features / members.sum(dim=0).unsqueeze(1)


def minus_squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Minus the squared Euclidean distances `[A, B]` of `[A, F]` and `[B, F]`."""
    return 2 * a @ b.T - a.square().sum(dim=1, keepdim=True) - b.square().sum(dim=1)
