"""Model-agnostic meta-learning."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.head_step import head_step_gradient
from innerloop.episodes import Episodes
from innerloop.errors import UserError
from innerloop.functional import Params, adapt_steps, add, subtract
from innerloop.models.layers import HeadedModel, SharedHead

REDUCTIONS = ("mean", "per_shot")


class MAML(Algorithm):
    """MAML: learn initial weights from which a few gradient steps solve a new task.

    Finn, Abbeel, Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of
    Deep Networks".  Inner loop, Eq. 1: θ'ᵢ = θ - α ∇L_support(θ), repeated.  Outer
    loop, Algorithm 2: the gradient with respect to θ of the mean over tasks of
    L_query(θ'ᵢ).  In our names: θ is `params`, α `inner_lr`.

    Args:
        model: see `Algorithm`.
        inner_lr: α, greater than 0.
        inner_steps: gradient steps in training, at least 1.
        first_order: treat the inner gradients as constants (first-order MAML):
            cheaper, and no longer the gradient of the query loss.
        inner_reduction: of the support loss: `"mean"` over the N*K examples, or
            `"per_shot"`, their sum divided by K, as in the paper's code: N times
            the mean, so that its α of 0.4 at 5-way is 2.0 for the mean.
        inner_max_norm: clip each inner gradient to this norm; None for no clipping.
        options: `loss`, `bn`, `chunk_size` of `Algorithm`.

    Raises:
        UserError: a value out of range.

    Example:
        >>> import innerloop, torch
        >>> maml = innerloop.MAML(innerloop.models.MLP(4, 2), inner_lr=0.1, inner_steps=3)
        >>> x, y = torch.randn(8, 6, 4), torch.randint(2, (8, 6))
        >>> grads, metrics = maml.meta_gradient(
        ...     maml.init_params(), innerloop.Episodes(x, y, x, y)
        ... )
        >>> sorted(metrics)
        ['accuracy', 'loss']
    """

    def __init__(
        self,
        model: nn.Module,
        inner_lr: float = 0.4,
        inner_steps: int = 1,
        first_order: bool = False,
        *,
        inner_reduction: str = "mean",
        inner_max_norm: float | None = None,
        **options,
    ) -> None:
        super().__init__(model, **options)
        if inner_steps < 1:
            raise UserError(f"inner_steps must be at least 1, not {inner_steps}")
        if not inner_lr > 0:
            raise UserError(f"inner_lr must be greater than 0, not {inner_lr}")
        if inner_reduction not in REDUCTIONS:
            raise UserError(
                f"inner_reduction must be one of {', '.join(REDUCTIONS)}, not {inner_reduction!r}"
            )
        if inner_max_norm is not None and not inner_max_norm > 0:
            raise UserError(f"inner_max_norm must be greater than 0, not {inner_max_norm}")
        self.inner_lr, self.inner_steps, self.first_order = inner_lr, inner_steps, first_order
        self.inner_reduction, self.inner_max_norm = inner_reduction, inner_max_norm

    def support_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What the inner loop descends on; a scalar."""
        loss = self.loss(outputs, targets)
        return loss * outputs.shape[-1] if self.inner_reduction == "per_shot" else loss

    def adapt_steps(
        self,
        params: Params,
        support_x: Tensor,
        support_y: Tensor,
        *,
        inner_steps: int | None = None,
        n_way: int | None = None,
    ) -> Iterator[Params]:
        n_way = self.count_ways(support_y) if n_way is None else n_way
        return adapt_steps(
            lambda fast: self.support_loss(self.forward(fast, support_x), support_y),
            self.fast_weights(params, n_way),
            inner_lr=self.inner_lr,
            inner_steps=self.inner_steps if inner_steps is None else inner_steps,
            max_norm=self.inner_max_norm,
        )

    def task_gradient(
        self, params: Params, task: Episodes, n_way: int | None
    ) -> tuple[Params, Params]:
        def adapt(params: Params) -> Params:
            return self.adapt(params, task.support_x, task.support_y, n_way=n_way)

        def loss_after_adaptation(params: Params) -> tuple[Tensor, Params]:
            return self.query_loss(adapt(params), task)

        if not self.first_order:
            return torch.func.grad(loss_after_adaptation, has_aux=True)(params)

        # First order: what the inner loop added is a constant shift of the weights.
        shift = subtract(adapt(params), self.fast_weights(params, n_way))

        def loss_after_shift(params: Params) -> tuple[Tensor, Params]:
            return self.query_loss(add(self.fast_weights(params, n_way), shift), task)

        return torch.func.grad(loss_after_shift, has_aux=True)(params)

    def chunk_gradient(self, params: Params, episodes: Episodes) -> tuple[Params, Params]:
        if self.first_step_moves_only_the_head and self.inner_steps == 1:
            return head_step_gradient(self, params, episodes)
        return super().chunk_gradient(params, episodes)

    @property
    def first_step_moves_only_the_head(self) -> bool:
        """Whether the first inner step is known to leave all but the last layer alone.

        The gradient of softmax cross-entropy with respect to the logits sums to
        zero over the classes.  While all rows of the head are the same, what flows
        back into the features is therefore zero, whatever the weights.
        """
        # The body sees all tasks in one batch, which only our own batch norm can keep apart.
        foreign = nn.modules.batchnorm._BatchNorm
        return (
            isinstance(self.model, HeadedModel)
            and isinstance(self.model.head, SharedHead)
            and self.loss is F.cross_entropy
            and not any(isinstance(module, foreign) for module in self.model.modules())
        )
