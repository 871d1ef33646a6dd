"""The settings of an inner loop by gradient descent, checked whenever they are set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innerloop.algorithms.adapted import rates_by_name
from innerloop.algorithms.base import Algorithm
from innerloop.errors import above_zero, given, number_of_steps, one_of
from innerloop.rates import check_rates

REDUCTIONS = ("mean", "per_shot")


class InnerSettings(Algorithm):
    """What `GradientBased` checks of its settings; see there."""

    adapted_names: list[str]

    def _checked_inner_lr(self, inner_lr: Any) -> Any:
        given(inner_lr=inner_lr)
        check_rates(inner_lr)
        self._rates: Mapping[str, float] | None = None
        # Before that is known, patterns have no meaning.
        if isinstance(inner_lr, Mapping) and "adapted_names" in vars(self):
            self._rates = rates_by_name(inner_lr, self.model, self.adapted_names)
        return inner_lr

    def _checked_inner_steps(self, inner_steps: Any) -> Any:
        given(inner_steps=inner_steps)
        number_of_steps(inner_steps=inner_steps)
        return inner_steps

    def _checked_inner_max_norm(self, inner_max_norm: Any) -> Any:
        above_zero(inner_max_norm=inner_max_norm)
        return inner_max_norm

    def _checked_inner_reduction(self, inner_reduction: Any) -> Any:
        one_of(REDUCTIONS, inner_reduction=inner_reduction)
        return inner_reduction
