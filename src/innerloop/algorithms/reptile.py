"""Reptile: move towards what a task's weights become under ordinary training."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from innerloop.algorithms.gradient_based import GradientBased, Network
from innerloop.episodes import Episodes
from innerloop.errors import UserError
from innerloop.functional import Params, zeros_like


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
        if inner_batch_size is not None and inner_batch_size < 1:
            raise UserError(f"inner_batch_size must be at least 1, not {inner_batch_size}")
        self.inner_batch_size = inner_batch_size

    def inner_loss(
        self,
        params: Params,
        fast: Params,
        x: Tensor,
        y: Tensor,
        step: int,
        n_way: int | None,
        network: Network | None = None,
    ) -> Tensor:
        size = self.inner_batch_size
        if size is not None and size < len(y):
            batch = torch.arange(step * size, (step + 1) * size, device=y.device) % len(y)
            x, y = x[batch], y[batch]
        return super().inner_loss(params, fast, x, y, step, n_way, network)

    def adapt_steps(self, params: Params, *support: Tensor, **options) -> Iterator[Params]:
        # At use, a few steps on mini-batches could leave out classes.
        whole = copy.copy(self)
        whole.inner_batch_size = None
        return GradientBased.adapt_steps(whole, params, *support, **options)

    def task_gradient(
        self, params: Params, task: Episodes, n_way: int | None, progress: float
    ) -> tuple[Params, Params]:
        x = torch.cat([task.support_x, task.query_x])
        y = torch.cat([task.support_y, task.query_y])
        *_, adapted = self.inner_loop(params, x, y, n_way=n_way)
        grads = zeros_like(params)
        for name in self.adapted_names:
            difference = params[name] - adapted[name]
            # A shared row moves by what the rows of the classes move on average.
            shared = difference.shape != params[name].shape
            grads[name] = difference.mean(dim=0, keepdim=True) if shared else difference
        return grads, self.query_loss(adapted, task)[1]
