"""The baseline without meta-learning: ordinary training, then fine-tuning."""

from __future__ import annotations

from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.algorithms import noise
from innerloop.algorithms.gradient_based import GradientBased
from innerloop.algorithms.options import GradientBasedOptions
from innerloop.algorithms.shared_body import channels_last
from innerloop.errors import UserError
from innerloop.functional import Params, gradients
from innerloop.models.layers import statistics_by_group
from innerloop.models.norms import check_batch_norm
from innerloop.rates import InnerRates
from innerloop.tasks.episodes import Episodes


class FineTune(GradientBased):
    """Train one network on the data of all tasks, then adapt it to a new task.

    For classes: a classifier of all training classes at once; a task then gets a new last
    layer, trained on its support set while the body stays (the Baseline of Chen, Liu, Kira,
    Wang, Huang 2019, "A Closer Look at Few-shot Classification").  For regression: one
    network for all tasks' examples, then fine-tuned (the pre-trained baseline of Finn et al. 2017,
    section 5.1).  The gap to this baseline is what meta-learning gains.

    Args:
        model: for classes, a `HeadedModel`; its head is the new last layer as it starts.
        inner_lr, inner_steps: of the adaptation, see `GradientBased`.
        num_classes: number of training classes, which the labels of `meta_gradient`'s episodes
            count; None for regression.
        options: `adapted`, `inner_reduction`, `inner_max_norm`, `inner_optimizer` of
            `GradientBased`; `loss`, `metric`, `bn`, `chunk_size`, `execution` of `Algorithm`.
            `adapted` is by default the head, or all in regression.

    Raises:
        UserError: a value out of range, or a network without a head.
    """

    labels = "class"

    def __init__(
        self,
        model: nn.Module,
        inner_lr: InnerRates = 0.1,
        inner_steps: int = 20,
        *,
        num_classes: int | None = None,
        **options: Unpack[GradientBasedOptions],
    ) -> None:
        if options.get("adapted") is None:
            options["adapted"] = "all" if num_classes is None else "head"
        super().__init__(model, inner_lr, inner_steps, **options)
        # All tasks go through the network in one batch.
        check_batch_norm(model, own_only=self.bn != "frozen", frozen=self.bn == "frozen")
        if num_classes is not None and not hasattr(getattr(model, "head", None), "weight"):
            raise UserError(
                "fine-tuning of classes needs a network whose last layer is a linear one called "
                "head: an innerloop.models.HeadedModel"
            )
        self.num_classes = num_classes

    def init_params(self) -> Params:
        params = super().init_params()
        if self.num_classes is None:
            return params
        row = self.model.get_parameter("head.weight").detach()
        shape = (self.num_classes, row.shape[1])
        return params | {
            "classifier@weight": row.new_zeros(shape),
            "classifier@bias": row.new_zeros(shape[0]),
        }

    def phase(self, progress: float) -> None:
        """Nothing here depends on it."""

    def task_gradient(
        self, params: Params, task: Episodes, n_way: int | None, progress: float
    ) -> tuple[Params, Params]:
        return self.mean_gradient(params, task.with_task(), progress)

    def mean_gradient(
        self, params: Params, episodes: Episodes, progress: float, *, of_features: bool = False
    ) -> tuple[Params, Params]:
        """One plain batch of all tasks' data, whichever way tasks are computed."""
        x = torch.cat([episodes.support_x, episodes.query_x], dim=1)
        y = torch.cat([episodes.support_y, episodes.query_y], dim=1).flatten(0, 1)

        def loss(params: Params) -> tuple[Tensor, Params]:
            params = channels_last(params)
            # Batch statistics of one task's images at a time, as at test time.
            with statistics_by_group(x.shape[1], total=len(y)), noise.at(0):
                if self.num_classes is None:
                    return self.score(self.forward(params, x.flatten(0, 1)), y)
                features = self.features(params, x.flatten(0, 1))
            weight, bias = params["classifier@weight"], params["classifier@bias"]
            return self.score(F.linear(features, weight, bias), y)

        (found,), metrics = gradients(loss, params)
        return found, metrics

    def why_not_together(self, training: bool) -> str | None:
        if training and self.network.draws:
            return "dropout draws for one task at a time"
        return super().why_not_together(training)

    def body_stays(self, progress: float) -> bool:
        return True
