"""Prototypical networks: no inner loop, the mean of a class's features is its classifier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.hooks import one_task
from innerloop.algorithms.network import Layers
from innerloop.algorithms.options import AlgorithmOptions
from innerloop.algorithms.overriding import each, is_own
from innerloop.algorithms.shared_body import features_in_place
from innerloop.errors import UserError, one_of
from innerloop.functional import Params, mean_of_losses, repeat_each
from innerloop.models.layers import HeadedModel
from innerloop.tasks.episodes import Episodes

PROTOTYPES = "prototypes@"
# So that softmax can tell classes apart: cosines are 1 at most.
COSINE_SCALE = 10.0


class ProtoNet(Algorithm):
    """Prototypical networks: a query belongs to the class with the nearest mean.

    Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning", Eq. 1 and 2:
    the prototype of a class is the mean of its support features; the logit of a class is minus
    the squared Euclidean distance of the query's features to its prototype.  Training tasks
    may have more classes than test tasks, which is better (section 3.1 there).

    Args:
        model: a `HeadedModel`, whose features are taken and whose head is not used, or any
            network from `[B, ...]` to features `[B, F]`.
        distance: `"euclidean"`, as in the paper; or `"cosine"`: the logit of a class is 10 times
            the cosine between the query's features and the prototype, as suits most pretrained
            networks (Chen et al. 2019, "A Closer Look at Few-shot Classification", section 3.3).
        options: `loss`, `metric`, `bn`, `chunk_size`, `execution` of `Algorithm`.

    Raises:
        UserError: see `Algorithm`.
    """

    inner_steps = 0

    def __init__(
        self,
        model: nn.Module,
        *,
        distance: str = "euclidean",
        **options: Unpack[AlgorithmOptions],
    ) -> None:
        super().__init__(model, **options)
        one_of(DISTANCES, distance=distance)
        self.distance = distance

    def init_params(self) -> Params:
        return {name: p for name, p in super().init_params().items() if self.uses(name)}

    def uses(self, name: str) -> bool:
        return not (isinstance(self.model, HeadedModel) and name.startswith("head."))

    @property
    def counts_ways(self) -> bool:
        return True

    def ways(self, labels: Tensor, n_way: int | None) -> int | None:
        if labels.is_floating_point():
            raise UserError("prototypes are of classes: ProtoNet cannot learn regression")
        return super().ways(labels, n_way)

    def phase(self, progress: float) -> None:
        """Nothing here depends on it."""

    def embed(self, params: Params, x: Tensor) -> Tensor:
        """Features `[B, F]` of `x`, or `[T, B, F]` of T tasks where the network takes them."""
        if isinstance(self.model, HeadedModel):
            return self.features(params, x)
        features = self.call(params, x)
        if not isinstance(features, Tensor):
            raise UserError(
                "ProtoNet compares features [B, F]: let the network return them as a tensor, not "
                f"a {type(features).__name__}"
            )
        return features

    def forward(self, params: Params, x: Tensor) -> Tensor:
        """Logits `[B, N]` of `x` from the prototypes among `params`."""
        return self._compare(self.embed(params, x), params[PROTOTYPES])

    @each(0, 0)
    def forward_each(self, params: Params, x: Tensor) -> Tensor:
        if len(x) == 1:
            return one_task(self.forward, params, x)
        return ProtoNet.forward(self, params, x)

    def inner_loop(
        self,
        params: Params,
        support_x: Tensor,
        support_y: Tensor,
        *,
        inner_steps: int | None = None,
        n_way: int | None = None,
    ) -> Iterator[Params]:
        """Yields once, whatever `inner_steps`: `params` with the prototypes `[N, F]`."""
        n_way = self.ways(support_y, n_way)
        assert n_way is not None
        features = _of_examples(self.embed(params, support_x), support_y)
        yield params | {PROTOTYPES: prototypes(features, support_y, n_way)}

    def mean_gradient(
        self, params: Params, episodes: Episodes, progress: float, *, of_features: bool = False
    ) -> tuple[Params, Params]:
        def losses(params: Params) -> tuple[Tensor, Params]:
            if of_features:
                tasks = features_in_place(self, params, episodes)
                return self.score_each(self._logits(tasks), tasks.query_y)
            (weights,) = self.loops(params, episodes)
            return self.query_loss_each(weights, episodes)

        return mean_of_losses(losses, params)

    def loops(
        self, params: Params, tasks: Episodes, *, inner_steps: int | None = None
    ) -> Iterator[Params]:
        """`inner_loop` of T tasks."""
        weights = repeat_each(params, tasks.num_tasks)
        if tasks.num_tasks == 1:
            one = self.embed(params, tasks.support_x[0])
            features = _of_examples(one, tasks.support_y[0])[None]
        else:
            features = self.embed(weights, tasks.support_x)
        yield weights | {PROTOTYPES: prototypes(features, tasks.support_y, tasks.ways())}

    def scores_each(
        self,
        params: Params,
        tasks: Episodes,
        *,
        inner_steps: int | None,
        every_step: bool,
        of_features: bool = False,
    ) -> list[Params]:
        if of_features:
            return [self.score_each(self._logits(tasks), tasks.query_y)[1]]
        if tasks.num_tasks == 1:
            return super().scores_each(
                params, tasks, inner_steps=inner_steps, every_step=every_step
            )
        (weights,) = self.loops(params, tasks)
        return [self.query_loss_each(weights, tasks)[1]]

    def _logits(self, tasks: Episodes) -> Tensor:
        """Logits `[T, B, N]` of queries from features `[T, B, F]` of both sets."""
        centres = prototypes(tasks.support_x, tasks.support_y, tasks.ways())
        return self._compare(tasks.query_x, centres)

    def _compare(self, features: Tensor, centres: Tensor) -> Tensor:
        """Logits `[..., B, N]` of features `[..., B, F]`."""
        return DISTANCES[self.distance](features, centres)

    def why_not_together(self, training: bool) -> str | None:
        if any(is_own(self, method, ProtoNet) for method in ("inner_loop", "embed")):
            return f"{type(self).__name__} overrides what is computed for one task"
        if not Layers(self.model).take_tasks:
            return "the features of a network of one's own are taken for one task at a time"
        return None

    def body_stays(self, progress: float) -> bool:
        return True

    def body_stays_in_use(self) -> bool:
        return True


def _of_examples(features: Tensor, labels: Tensor) -> Tensor:
    """`features` of one task; see that they, and the labels, are of whole examples.

    Raises:
        UserError: they are of places in an example.  A mean over the examples would then be taken
            along another axis, where the sizes happen to fit.
    """
    if labels.ndim != 1:
        raise UserError(
            "ProtoNet compares whole examples, with one class label each, and the labels of a task "
            f"have shape {list(labels.shape)}: give one an example, or take MAML"
        )
    if features.ndim != 2:
        raise UserError(
            "ProtoNet compares features [B, F], one row an example, and the network returns "
            f"{list(features.shape)}: let it end with nn.Flatten(), or with a mean over the places"
        )
    return features


def prototypes(features: Tensor, labels: Tensor, n_way: int) -> Tensor:
    """The mean feature of each class `[..., N, F]`, from `[..., B, F]` and labels `[..., B]`."""
    # Not one_hot, which looks at the values and so cannot be used inside vmap.
    classes = torch.arange(n_way, device=labels.device)
    members = (labels.unsqueeze(-1) == classes).to(features.dtype)
    return members.mT @ features / members.sum(dim=-2).unsqueeze(-1)


def minus_squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Minus the squared Euclidean distances `[..., A, B]` of `[..., A, F]` and `[..., B, F]`."""
    squares = a.square().sum(dim=-1, keepdim=True), b.square().sum(dim=-1).unsqueeze(-2)
    return 2 * a @ b.mT - squares[0] - squares[1]


def scaled_cosines(a: Tensor, b: Tensor) -> Tensor:
    """Ten times the cosines `[..., A, B]` between `[..., A, F]` and `[..., B, F]`."""
    return COSINE_SCALE * F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT


DISTANCES = {"euclidean": minus_squared_distances, "cosine": scaled_cosines}
