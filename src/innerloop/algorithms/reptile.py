"""Reptile: move towards what a task's weights become under ordinary training."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import nn

from innerloop.algorithms import noise
from innerloop.algorithms.gradient_based import GradientBased
from innerloop.algorithms.options import GradientBasedOptions
from innerloop.errors import at_least
from innerloop.functional import Params, detach, zeros_like
from innerloop.rates import InnerRates
from innerloop.tasks.episodes import Episodes


class Reptile(GradientBased):
    """Reptile: train on a task for some steps, then move the initial weights towards the result.

    Nichol, Achiam, Schulman 2018, "On First-Order Meta-Learning Algorithms", Algorithm 2:
    φ ← φ + ε (mean of φ̃ᵢ - φ), where φ̃ᵢ are the weights after k steps of gradient descent on
    mini-batches of task i.  The "meta-gradient" is φ - mean of φ̃ᵢ, which any optimiser may
    take; plain SGD with learning rate ε gives the equation.

    In training, support and query drawings together are the task's data: nothing is
    held out.  The loss of the metrics is that of the adapted weights on the queries, which they
    have been trained on.  The paper's transductive figures are those of
    `bn="transductive"`, its others those of `bn="support"`.

    Args:
        model, inner_lr, inner_steps: see `GradientBased`.
        inner_batch_size: examples in the mini-batch of an inner step in training, taken in
            turn from the task's, which come in random order; None for all.  At test time every
            step sees the whole support set.
        options: `adapted`, `inner_reduction`, `inner_max_norm`, `inner_optimizer` of
            `GradientBased`; `loss`, `metric`, `bn`, `chunk_size`, `execution` of `Algorithm`.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        inner_lr: InnerRates = 0.1,
        inner_steps: int = 5,
        *,
        inner_batch_size: int | None = None,
        **options: Unpack[GradientBasedOptions],
    ) -> None:
        super().__init__(model, inner_lr, inner_steps, **options)
        at_least(1, inner_batch_size=inner_batch_size)
        self.inner_batch_size = inner_batch_size

    def phase(self, progress: float) -> None:
        """Nothing here depends on it."""

    def task_gradient(
        self, params: Params, task: Episodes, n_way: int | None, progress: float
    ) -> tuple[Params, Params]:
        return self.mean_gradient(params, task.with_task(n_way), progress)

    def mean_gradient(
        self, params: Params, episodes: Episodes, progress: float, *, of_features: bool = False
    ) -> tuple[Params, Params]:
        x = torch.cat([episodes.support_x, episodes.query_x], dim=1)
        y = torch.cat([episodes.support_y, episodes.query_y], dim=1)
        data = episodes._replace(support_x=x, support_y=y)
        *_, adapted = self.loops(params, data, first_order=True, batch_size=self.inner_batch_size)
        grads = zeros_like(params)
        for name in self.adapted_names:
            difference = params[name] - adapted[name]
            # A shared row moves by what the rows of the classes move on average.
            if difference.shape[1:] != params[name].shape:
                difference = difference.mean(dim=1, keepdim=True)
            grads[name] = difference.mean(dim=0)
        with noise.at(self.inner_steps, query=True):
            _, metrics = self.query_loss_each(adapted, episodes)
        return detach(grads), {name: m.mean() for name, m in metrics.items()}
