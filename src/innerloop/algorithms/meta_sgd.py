"""Meta-SGD: MAML with a learnt inner rate for every single weight."""

from __future__ import annotations

import torch

from innerloop.algorithms.hooks import taken
from innerloop.algorithms.maml import MAML
from innerloop.functional import Params


class MetaSGD(MAML):
    """Meta-SGD: learn the direction and the length of the inner step with the initial weights.

    Li, Zhou, Chen, Li 2017, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning",
    Eq. 2 and Algorithm 1: θ' = θ - α ∘ ∇L_support(θ), where α has the shape of θ and is
    learnt along with it.  One inner step in the paper.

    The meta-parameter `rate@NAME` is α of parameter NAME as a multiple of its `inner_lr`; it
    starts at 1 and may become negative.  (As a multiple, so that the outer optimiser's steps
    suit it whatever `inner_lr` is.)

    Args:
        model, inner_lr, inner_steps, first_order, derivative, second_order_from, options: see
            `MAML`.

    Raises:
        UserError: a value out of range.
    """

    def init_params(self) -> Params:
        params = super().init_params()
        changed = taken(params, self.adapted_names)
        rates = {f"rate@{name}": torch.ones_like(p) for name, p in changed.items()}
        return params | rates

    def rates(self, params: Params, step: int) -> Params:
        return {
            name: self.inner_lr_of(name) * params[f"rate@{name}"] for name in self.adapted_names
        }
