"""Model-agnostic meta-learning."""

from __future__ import annotations

from collections.abc import Hashable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.algorithms.body import gradient_through_features, plain_gradient
from innerloop.algorithms.gradient_based import GradientBased, Support
from innerloop.algorithms.mixed_mode import mixed_mode_gradient
from innerloop.errors import one_of, share_of_training
from innerloop.functional import Params
from innerloop.models.layers import SharedHead
from innerloop.tasks.episodes import Episodes

DERIVATIVES = ("reverse", "mixed")


class MAML(GradientBased):
    """MAML: learn initial weights from which a few gradient steps solve a new task.

    Finn, Abbeel, Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of
    Deep Networks".  Inner loop, Eq. 1: θ'ᵢ = θ - α ∇L_support(θ), repeated.  Outer
    loop, Algorithm 2: the gradient with respect to θ of the mean over tasks of
    L_query(θ'ᵢ).  In our names: θ is `params`, α `inner_lr`.

    Args:
        model, inner_lr, inner_steps: see `GradientBased`.
        first_order: treat the inner gradients as constants (first-order MAML):
            cheaper, and no longer the gradient of the query loss.
        second_order_from: do so for this first share of training only, 0..1
            (derivative-order annealing; Antoniou et al. 2019).
        derivative: how second derivatives are taken: `"reverse"`, through the recorded
            inner loop; or `"mixed"`, step by step from the last to the first, so that
            memory grows by the weights of each inner step alone, not by its graph.
            The numbers are the same.
        options: `adapted`, `inner_reduction`, `inner_max_norm` of `GradientBased`;
            `loss`, `bn`, `chunk_size` of `Algorithm`.

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
        second_order_from: float = 0.0,
        derivative: str = "reverse",
        **options,
    ) -> None:
        super().__init__(model, inner_lr, inner_steps, **options)
        share_of_training(second_order_from=second_order_from)
        one_of(DERIVATIVES, derivative=derivative)
        self.first_order, self.second_order_from = first_order, second_order_from
        self.derivative = derivative

    def is_first_order(self, progress: float) -> bool:
        """Whether second derivatives are dropped at this point of training."""
        return self.first_order or progress < self.second_order_from

    def step_weights(self, progress: float) -> list[float]:
        """How much the query loss before the first and after each inner step counts."""
        return [0.0] * self.inner_steps + [1.0]

    def phase(self, progress: float) -> Hashable:
        """A subclass that depends on `progress` in another way says so here."""
        return self.is_first_order(progress), *self.step_weights(progress)

    def task_gradient(
        self, params: Params, task: Episodes, n_way: int | None, progress: float
    ) -> tuple[Params, Params]:
        if self.derivative == "mixed" and not self.is_first_order(progress):
            return mixed_mode_gradient(self, params, task, n_way, self.step_weights(progress))

        def loss(params: Params) -> tuple[Tensor, Params]:
            return self.loss_after_adaptation(params, task, n_way, progress)

        return torch.func.grad(loss, has_aux=True)(params)

    def loss_after_adaptation(
        self,
        params: Params,
        task: Episodes,
        n_way: int | None,
        progress: float,
        tasks: int | None = None,
    ) -> tuple[Tensor, Params]:
        """What is differentiated: the query loss of the fast weights, and metrics.

        With `tasks`, those of T tasks, `[T]`: `task` then has a leading axis of tasks.
        """
        support = Support(task.support_x, task.support_y, n_way, tasks=tasks)
        first_order, counts = self.is_first_order(progress), self.step_weights(progress)
        total, metrics = torch.zeros(()), dict[str, Tensor]()
        steps = self.inner_loop(params, support, first_order=first_order)
        for count, weights in zip(counts, steps, strict=True):
            if count:
                loss, metrics = self.query_loss(weights, task, tasks)
                total = total + count * loss
        return total, metrics

    def chunk_gradient(
        self, params: Params, episodes: Episodes, progress: float
    ) -> tuple[Params, Params]:
        head_alone = self.keeps_body or (
            self.inner_steps == 1 and self.first_step_moves_only_the_head
        )
        if head_alone and self.features_in_one_batch:
            return self._gradient_of_the_head(params, episodes, progress)
        reverse = self.derivative == "reverse" or self.is_first_order(progress)
        if self.side_by_side and reverse:
            return self.gradient_side_by_side(params, episodes, progress)
        return super().chunk_gradient(params, episodes, progress)

    def gradient_side_by_side(
        self, params: Params, episodes: Episodes, progress: float
    ) -> tuple[Params, Params]:
        """The inner loops of all tasks by plain autograd, see `side_by_side`."""
        n_way = self.count_ways(episodes.support_y)

        def mean_loss(params: Params) -> tuple[Tensor, Params]:
            losses, metrics = self.loss_after_adaptation(
                params, episodes, n_way, progress, episodes.num_tasks
            )
            return losses.mean(), {name: m.mean() for name, m in metrics.items()}

        return plain_gradient(mean_loss, params)

    def _gradient_of_the_head(
        self, params: Params, episodes: Episodes, progress: float
    ) -> tuple[Params, Params]:
        """Where the inner loop moves the last layer alone, the body sees all tasks in one batch."""
        n_way, first_order = self.count_ways(episodes.support_y), self.is_first_order(progress)
        head = [name for name in self.adapted_names if name.startswith("head.")]

        def loss_after_adaptation(params: Params, task: Episodes) -> tuple[Tensor, Params]:
            support = Support(task.support_x, task.support_y, n_way, self.head_outputs)
            *_, weights = self.inner_loop(params, support, first_order=first_order, names=head)
            return self.judge(self.head_outputs(weights, task.query_x), task.query_y)

        return gradient_through_features(self, params, episodes, loss_after_adaptation)

    @property
    def first_step_moves_only_the_head(self) -> bool:
        """Whether the first inner step is known to leave all but the last layer alone.

        The gradient of softmax cross-entropy with respect to the logits sums to
        zero over the classes.  While all rows of the head are the same, what flows
        back into the features is therefore zero, whatever the weights.
        """
        shared = isinstance(getattr(self.model, "head", None), SharedHead)
        return shared and self.loss is F.cross_entropy
