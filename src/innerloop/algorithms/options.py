"""The keywords that algorithms hand on to the classes they are made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

from torch import Tensor

from innerloop.algorithms.scores import Metric
from innerloop.inner import InnerOptimizer


class AlgorithmOptions(TypedDict, total=False):
    """The keywords of every algorithm; `Algorithm` explains each."""

    loss: Callable[[Any, Any], Tensor]
    metric: Metric
    bn: str
    chunk_size: int | None
    execution: str


class GradientBasedOptions(AlgorithmOptions, total=False):
    """The keywords of algorithms by gradient descent; `GradientBased` explains those added."""

    adapted: str | None
    inner_reduction: str
    inner_max_norm: float | None
    inner_optimizer: InnerOptimizer | None


class MAMLOptions(GradientBasedOptions, total=False):
    """The keywords of `MAML` and what is made from it; `MAML` explains those added."""

    second_order_from: float
    derivative: str
