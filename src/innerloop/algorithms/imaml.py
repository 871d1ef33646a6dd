"""iMAML: the meta-gradient from the end point of the inner loop, not from its path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

from torch import Tensor, nn

from innerloop.algorithms import noise
from innerloop.algorithms.checks import check_loss
from innerloop.algorithms.gradient_based import GradientBased
from innerloop.algorithms.options import GradientBasedOptions
from innerloop.algorithms.overriding import directly, each
from innerloop.algorithms.support import Support
from innerloop.errors import UserError, above_zero, number_of_steps
from innerloop.functional import (
    Params,
    add,
    dot_each,
    gradients,
    scale_each,
    second_derivatives,
    subtract,
    zeros_like,
)
from innerloop.rates import InnerRates
from innerloop.tasks.episodes import Episodes


class IMAML(GradientBased):
    """MAML with implicit gradients.

    Rajeswaran, Finn, Kakade, Levine 2019, "Meta-Learning with Implicit Gradients".  The
    inner loop descends on L_support(φ) + λ/2 ‖φ - θ‖² (Eq. 3).  If it came to the
    minimum φ*, the meta-gradient would be (I + H/λ)⁻¹ ∇L_query(φ*), with H the Hessian of
    the support loss at φ* (Lemma 1, Eq. 6).  Conjugate gradient solves that system with one
    Hessian-vector product a step (Algorithm 2): memory does not depend on `inner_steps`.

    Args:
        model, inner_lr, inner_steps: see `GradientBased`.  Enough steps that the minimum
            is nearly reached.
        regularization: λ, greater than 0.
        cg_steps: conjugate-gradient steps, at least 1.
        options: `adapted`, `inner_reduction`, `inner_max_norm`, `inner_optimizer` of
            `GradientBased`; `loss`, `metric`, `bn`, `chunk_size`, `execution` of `Algorithm`.

    Raises:
        UserError: a value out of range, or an inner optimiser with weight decay.
    """

    def __init__(
        self,
        model: nn.Module,
        inner_lr: InnerRates = 0.1,
        inner_steps: int = 16,
        *,
        regularization: float = 2.0,
        cg_steps: int = 5,
        **options: Unpack[GradientBasedOptions],
    ) -> None:
        super().__init__(model, inner_lr, inner_steps, **options)
        if getattr(self.inner_optimizer, "weight_decay", 0):
            raise UserError(
                "weight decay in the inner optimiser would move the minimum that iMAML's "
                "meta-gradient is taken at: put the decay into the loss"
            )
        above_zero(regularization=regularization)
        number_of_steps(cg_steps=cg_steps)
        self.regularization, self.cg_steps = regularization, cg_steps

    @each(None, 0, 0, None, check=check_loss)
    def inner_loss_each(self, params: Params, fast: Params, support: Support, step: int) -> Tensor:
        start = self.started(params, support.n_way, len(support.x), list(fast))
        away = subtract(fast, start)
        pull = self.regularization / 2 * dot_each(away, away)
        losses = directly(super().inner_loss_each)(params, fast, support, step)
        return losses + pull

    def phase(self, progress: float) -> None:
        """Nothing here depends on it."""

    def task_gradient(
        self, params: Params, task: Episodes, n_way: int | None, progress: float
    ) -> tuple[Params, Params]:
        return self.mean_gradient(params, task.with_task(n_way), progress)

    def mean_gradient(
        self, params: Params, episodes: Episodes, progress: float, *, of_features: bool = False
    ) -> tuple[Params, Params]:
        *_, weights = self.loops(params, episodes, first_order=True)
        fast = {name: weights[name].detach() for name in self.adapted_names}
        support = Support(episodes.support_x, episodes.support_y, episodes.n_way)
        end = self.inner_steps

        def query_loss(params: Params, fast: Params) -> tuple[Tensor, Params]:
            all_weights = self.weights(params, fast, support, end)
            with noise.at(end, query=True):
                losses, metrics = self.query_loss_each(all_weights, episodes)
            return losses.sum(), {name: m.mean() for name, m in metrics.items()}

        def products(v: Params) -> tuple[Params, Params]:
            """Of the whole inner loss F, pull included: ∂²F/∂θ∂φ v / λ and (I + H/λ) v."""
            found = second_derivatives(
                lambda params, fast: self.inner_losses(params, fast, support, end),
                params,
                fast,
                v,
            )
            to_params, to_fast = (
                {name: p / self.regularization for name, p in part.items()} for part in found
            )
            return to_params, to_fast

        (direct, g), metrics = gradients(query_loss, params, fast)
        v = conjugate_gradient(lambda v: products(v)[1], g, self.cg_steps)
        # How the minimum moves with θ: ∂²F/∂φ² dφ = -∂²F/∂φ∂θ dθ.
        total = subtract(direct, products(v)[0])
        return {name: g / episodes.num_tasks for name, g in total.items()}, metrics


def conjugate_gradient(system: Callable[[Params], Params], target: Params, steps: int) -> Params:
    """`steps` steps towards x with `system(x) = target`, for each of T tasks.

    Hestenes and Stiefel 1952; from x = 0, for a symmetric positive system.  A system that is
    solved early stays solved.
    """
    x, residual, direction = zeros_like(target), target, target
    square = dot_each(residual, residual)
    for _ in range(steps):
        image = system(direction)
        # The smallest float keeps 0/0 at 0.
        length = square / (dot_each(direction, image) + 1e-30)
        x = add(x, scale_each(direction, length))
        residual = subtract(residual, scale_each(image, length))
        square, before = dot_each(residual, residual), square
        direction = add(residual, scale_each(direction, square / (before + 1e-30)))
    return x
