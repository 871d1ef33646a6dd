"""iMAML: the meta-gradient from the place where the inner loop ends, not from its path."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from innerloop.algorithms.gradient_based import GradientBased, Support
from innerloop.errors import above_zero, at_least
from innerloop.functional import Params, add, detach, dot, subtract, zeros_like
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
        options: `adapted`, `inner_reduction`, `inner_max_norm` of `GradientBased`;
            `loss`, `bn`, `chunk_size` of `Algorithm`.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        inner_lr: float = 0.1,
        inner_steps: int = 16,
        *,
        regularization: float = 2.0,
        cg_steps: int = 5,
        **options,
    ) -> None:
        super().__init__(model, inner_lr, inner_steps, **options)
        above_zero(regularization=regularization)
        at_least(1, cg_steps=cg_steps)
        self.regularization, self.cg_steps = regularization, cg_steps

    def inner_loss(self, params: Params, fast: Params, support: Support, step: int) -> Tensor:
        away = subtract(fast, self.start(params, support.n_way, list(fast)))
        square = dot if support.tasks is None else torch.func.vmap(dot)
        pull = self.regularization / 2 * square(away, away)
        return super().inner_loss(params, fast, support, step) + pull

    def phase(self, progress: float) -> None:
        """Nothing here depends on it."""

    def task_gradient(
        self, params: Params, task: Episodes, n_way: int | None, progress: float
    ) -> tuple[Params, Params]:
        weights = detach(self.adapt(params, task.support_x, task.support_y, n_way=n_way))
        fast = {name: weights[name] for name in self.adapted_names}

        def query_loss(params: Params, fast: Params) -> tuple[Tensor, Params]:
            return self.query_loss({**self.rest(params, n_way, 0), **fast}, task)

        # Of the support loss alone, without the pull.
        support = Support(task.support_x, task.support_y, n_way)
        support_gradient = torch.func.grad(super().inner_loss, argnums=(0, 1))

        def hessian_product(v: Params) -> tuple[Params, Params]:
            """∂²L/∂θ∂φ v and H v: forward over reverse."""
            return torch.func.jvp(
                lambda fast: support_gradient(params, fast, support, 0), (fast,), (v,)
            )[1]

        def system(v: Params) -> Params:
            h = hessian_product(v)[1]
            return {name: v[name] + h[name] / self.regularization for name in v}

        (direct, g), metrics = torch.func.grad(query_loss, argnums=(0, 1), has_aux=True)(
            params, fast
        )
        v = conjugate_gradient(system, g, self.cg_steps)
        through_start = torch.func.vjp(lambda p: self.start(p, n_way), params)[1]
        grads = add(direct, through_start(v)[0])
        # Weights outside the inner loop: they move the minimum, too.
        cross = hessian_product(v)[0]
        return {name: g - cross[name] / self.regularization for name, g in grads.items()}, metrics


def conjugate_gradient(system, target: Params, steps: int) -> Params:
    """`steps` steps towards x with `system(x) = target`, for a symmetric positive system.

    Hestenes and Stiefel 1952; from x = 0.  A system that is solved early stays solved.
    """
    x, residual, direction = zeros_like(target), target, target
    square = dot(residual, residual)
    for _ in range(steps):
        image = system(direction)
        # The smallest float keeps 0/0 at 0.
        length = square / (dot(direction, image) + 1e-30)
        x = {n: x[n] + length * direction[n] for n in x}
        residual = {n: residual[n] - length * image[n] for n in x}
        square, before = dot(residual, residual), square
        direction = {n: residual[n] + square / (before + 1e-30) * direction[n] for n in x}
    return x
