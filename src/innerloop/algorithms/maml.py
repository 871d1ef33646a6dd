"""Model-agnostic meta-learning."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.algorithms import noise
from innerloop.algorithms.apart import first
from innerloop.algorithms.checks import checked_counts
from innerloop.algorithms.gradient_based import GradientBased
from innerloop.algorithms.inner_loops import counted
from innerloop.algorithms.mixed_mode import mixed_mode_gradient
from innerloop.algorithms.options import GradientBasedOptions
from innerloop.algorithms.overriding import is_own, overrides
from innerloop.algorithms.shared_body import features_in_place, head_outputs
from innerloop.errors import one_of, share_of_training
from innerloop.functional import Params, mean_of_losses
from innerloop.models.layers import SharedHead
from innerloop.rates import InnerRates
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
        options: `adapted`, `inner_reduction`, `inner_max_norm`, `inner_optimizer` of
            `GradientBased`; `loss`, `metric`, `bn`, `chunk_size`, `execution` of `Algorithm`.

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
        inner_lr: InnerRates = 0.4,
        inner_steps: int = 1,
        first_order: bool = False,
        *,
        second_order_from: float = 0.0,
        derivative: str = "reverse",
        **options: Unpack[GradientBasedOptions],
    ) -> None:
        super().__init__(model, inner_lr, inner_steps, **options)
        self.first_order, self.second_order_from = first_order, second_order_from
        self.derivative = derivative

    def _checked_second_order_from(self, second_order_from: Any) -> Any:
        share_of_training(second_order_from=second_order_from)
        return second_order_from

    def _checked_derivative(self, derivative: Any) -> Any:
        one_of(DERIVATIVES, derivative=derivative)
        return derivative

    def loss_after_adaptation_each(
        self, params: Params, tasks: Episodes, progress: float, *, of_features: bool = False
    ) -> tuple[Tensor, Params]:
        """The query losses of the fast weights of T tasks, `[T]`, and metrics."""
        counts, metrics = self._counts(progress), dict[str, Tensor]()
        total = torch.zeros((), device=tasks.query_x.device)
        first_order = self.is_first_order(progress)
        steps = self.loops(params, tasks, first_order=first_order, of_features=of_features)
        if is_own(self, "inner_loop", GradientBased):
            steps = counted(self, steps, len(counts))
        for step, (count, weights) in enumerate(zip(counts, steps, strict=True)):
            if count:
                with noise.at(step, query=True):
                    loss, metrics = self._query_loss(weights, tasks, of_features)
                total = total + count * loss
        return total, metrics

    def _query_loss(
        self, weights: Params, tasks: Episodes, of_features: bool
    ) -> tuple[Tensor, Params]:
        if of_features:
            return self.score_each(head_outputs(weights, tasks.query_x), tasks.query_y)
        return self.query_loss_each(weights, tasks)

    def loss_after_adaptation(
        self, params: Params, task: Episodes, n_way: int | None, progress: float
    ) -> tuple[Tensor, Params]:
        return first(self.loss_after_adaptation_each(params, task.with_task(n_way), progress))

    def task_gradient(
        self, params: Params, task: Episodes, n_way: int | None, progress: float
    ) -> tuple[Params, Params]:
        if self.derivative_now(progress) != "mixed":
            return super().task_gradient(params, task, n_way, progress)
        counts = self._counts(progress)
        return mixed_mode_gradient(self, params, task.with_task(n_way), counts)

    def mean_gradient(
        self, params: Params, episodes: Episodes, progress: float, *, of_features: bool = False
    ) -> tuple[Params, Params]:
        if self.derivative_now(progress) == "mixed" and not of_features:
            return mixed_mode_gradient(self, params, episodes, self._counts(progress))

        def losses(params: Params) -> tuple[Tensor, Params]:
            tasks = features_in_place(self, params, episodes) if of_features else episodes
            return self.loss_after_adaptation_each(params, tasks, progress, of_features=of_features)

        return mean_of_losses(losses, params)

    def is_first_order(self, progress: float) -> bool:
        """True if second derivatives are dropped at this point of training."""
        return self.first_order or progress < self.second_order_from

    def derivative_now(self, progress: float) -> str:
        if self.is_first_order(progress):
            return "first"
        own = overrides(self, "loss_after_adaptation") or self.why_not_together(True)
        # A subclass that has its own inner loop is differentiated through.
        return "reverse" if own else self.derivative

    def step_weights(self, progress: float) -> list[float]:
        """The weights of the query losses before the first and after each inner step."""
        return [0.0] * self.inner_steps + [1.0]

    def _counts(self, progress: float) -> list[float]:
        what = f"step_weights of {type(self).__name__}"
        return checked_counts(self.step_weights(progress), what, self.inner_steps + 1)

    def phase(self, progress: float) -> Hashable:
        """A subclass that depends on `progress` in another way says so here."""
        return self.is_first_order(progress), *self.step_weights(progress)

    def body_stays(self, progress: float) -> bool:
        return self.keeps_body or (self.inner_steps == 1 and self.first_step_moves_only_the_head)

    @property
    def first_step_moves_only_the_head(self) -> bool:
        """True if the first inner step is known to change only the last layer.

        The gradient of softmax cross-entropy with respect to the logits sums to
        zero over the classes.  While all rows of the head are the same, what flows
        back into the features is therefore zero, whatever the weights.
        """
        # Weight decay moves weights whose gradient is zero, and Adam makes rounding errors large.
        if self.inner_optimizer is not None:
            return False
        shared = isinstance(getattr(self.model, "head", None), SharedHead)
        own = any(overrides(self, hook) for hook in ("support_loss", "update"))
        own = own or any(is_own(self, method, GradientBased) for method in ("start", "rest"))
        return shared and self.loss is F.cross_entropy and not own
