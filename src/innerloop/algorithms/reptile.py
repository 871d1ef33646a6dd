"""Reptile: move towards what a task's weights become under ordinary training."""

from __future__ import annotations

import torch
from torch import nn

from innerloop.algorithms.gradient_based import GradientBased, Support
from innerloop.errors import at_least
from innerloop.functional import Params, zeros_like
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
            turn from the task's, which come in random order; None for all.  At use every
            step sees the whole support set.
        options: `adapted`, `inner_reduction`, `inner_max_norm` of `GradientBased`;
            `loss`, `bn`, `chunk_size` of `Algorithm`.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        inner_lr: float = 0.1,
        inner_steps: int = 5,
        *,
        inner_batch_size: int | None = None,
        **options,
    ) -> None:
        super().__init__(model, inner_lr, inner_steps, **options)
        at_least(1, inner_batch_size=inner_batch_size)
        self.inner_batch_size = inner_batch_size

    def phase(self, progress: float) -> None:
        """Nothing here depends on it."""

    def task_gradient(
        self,
        params: Params,
        task: Episodes,
        n_way: int | None,
        progress: float,
        tasks: int | None = None,
    ) -> tuple[Params, Params]:
        axis = 0 if tasks is None else 1
        x = torch.cat([task.support_x, task.query_x], axis)
        y = torch.cat([task.support_y, task.query_y], axis)
        data = Support(x, y, n_way, batch_size=self.inner_batch_size, tasks=tasks)
        *_, adapted = self.inner_loop(params, data, first_order=True)
        grads = zeros_like(params)
        for name in self.adapted_names:
            difference = params[name] - adapted[name]
            # A shared row moves by what the rows of the classes move on average.
            shared = difference.shape[axis:] != params[name].shape
            grads[name] = difference.mean(axis, keepdim=True) if shared else difference
        return grads, self.query_loss(adapted, task, tasks)[1]

    def chunk_gradient(
        self, params: Params, episodes: Episodes, progress: float
    ) -> tuple[Params, Params]:
        if not self.side_by_side:
            return super().chunk_gradient(params, episodes, progress)
        n_way, tasks = self.count_ways(episodes.support_y), episodes.num_tasks
        grads, metrics = self.task_gradient(params, episodes, n_way, progress, tasks)
        means = {name: g.mean(dim=0) for name, g in grads.items() if name in self.adapted_names}
        return grads | means, {name: m.mean() for name, m in metrics.items()}
