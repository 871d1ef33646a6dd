"""The algorithm of a trained network, set up for new tasks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.algorithms.anil import ANIL
from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.gradient_based import GradientBased
from innerloop.algorithms.maml import MAML
from innerloop.algorithms.meta_sgd import MetaSGD
from innerloop.algorithms.overriding import overrides
from innerloop.build import build_algorithm
from innerloop.config import TrainConfig
from innerloop.errors import one_of
from innerloop.models.norms import check_batch_norm, has_batch_norm
from innerloop.runs.loading import Loaded

# In how many parts the one step of training is taken, and how much smaller the temperature is then:
# small steps stop while the logits are still small.
PARTS, SHARPER = 4, 0.4
# Algorithms whose steps have nothing to them but a rate; a subclass may be otherwise.
BY_RATE = (MAML, ANIL, MetaSGD)


def algorithm_in_use(loaded: Loaded, bn: str) -> Algorithm:
    """The algorithm of `loaded`, which is not changed, with batch statistics from elsewhere.

    Args:
        bn: where batch norm takes the statistics for queries from; running statistics that a
            pretrained network keeps stay constants whatever is given.

    Raises:
        UserError: the algorithm or the network cannot take them from there.
    """
    config = loaded.config
    if isinstance(config, TrainConfig):
        mode: Any = "frozen" if config.bn == "frozen" else bn
        return build_algorithm(replace(config, bn=mode), loaded.model, loaded.num_classes)
    algorithm = loaded.algorithm
    if algorithm.bn in (bn, "frozen") or not has_batch_norm(algorithm.model):
        return algorithm
    one_of(algorithm.bn_modes, bn=bn)
    check_batch_norm(algorithm.model, own_only=bn == "support", frozen=False)
    changed = copy.copy(algorithm)
    changed.bn = bn
    return changed


class Way(NamedTuple):
    """A way to learn a support set.

    Attributes:
        algorithm: whose inner loop it is.
        steps: of the inner loop; None for as many as in training.
        sharper: factor of the temperature.
    """

    algorithm: Algorithm
    steps: int | None
    sharper: float = 1.0


def ways_in_use(
    algorithm: Algorithm, tested: int | None, *, several: bool, asked: int | None = None
) -> list[Way]:
    """How to learn a support set, the best first; another follows in case its loss rises.

    The one step of training from a shared head moves the head alone, so in use no other weights
    move either: each picture goes through the body once.  Where a class has several pictures, their
    gradients agree, and the step overshoots; of features of unit length it is then taken in `PARTS`
    of its length (`python -m research.several_shots`).  Where the rate is so high that even these
    overshoot, so that the support loss rises, and for other features, it is better taken whole, as
    in training.

    All others take as many steps as in the tests; with several pictures no more than in training.

    Args:
        algorithm: as it was trained.
        tested: inner steps of the tests; None for as many as in training.
        several: a class has more than one picture.
        asked: inner steps that were asked for, and are taken as they are; None for none.
    """
    if asked is not None or not algorithm.inner_steps:
        return [Way(algorithm, asked or tested)]
    if (
        isinstance(algorithm, MAML)
        and type(algorithm) in BY_RATE
        and "rates" not in vars(algorithm)
        and algorithm.inner_steps == 1
        and algorithm.first_step_moves_only_the_head
    ):
        whole = Way(algorithm.of_head(1), 1)
        if several and getattr(algorithm.model, "unit_features", False):
            return [Way(algorithm.of_head(1 / PARTS), PARTS, SHARPER), whole]
        return [whole]
    if several and tested:
        tested = min(tested, algorithm.inner_steps)
    return [Way(algorithm, tested)]


def with_classes_alike(algorithm: Algorithm, *, recorded: bool = False) -> Algorithm:
    """One whose inner loop weighs the classes alike, however many examples each has.

    In training all have equally many.  The mean over examples would all but give up a class with
    one beside others with five.  Prototypes weigh classes alike in any case; the inner loss of a
    class that overrides `inner_loop` or `inner_loss`, or is no `GradientBased`, is its own affair.

    Args:
        algorithm: it is not changed.
        recorded: for a graph, in which labels are not known: a loss of one's own stays as it is.
    """
    if not isinstance(algorithm, GradientBased):
        return algorithm
    changed = copy.copy(algorithm)
    if algorithm.loss is F.cross_entropy and not overrides(algorithm, "support_loss"):
        changed.loss = class_mean_cross_entropy
    elif not recorded:
        # A hook may be set on the object itself, see `overrides`, which mypy does not foresee.
        changed.support_loss = partial(  # type: ignore[method-assign]
            _class_mean, algorithm.support_loss
        )
    return changed


def class_mean_cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """The mean over the classes of the mean cross-entropy of their examples, a scalar.

    Args:
        outputs: logits `[B, N]`.
        labels: `[B]`.
    """
    # Comparisons, not bincount, which could not be exported.
    members = labels.unsqueeze(-1) == torch.arange(outputs.shape[-1], device=labels.device)
    counts = members.sum(dim=0).clamp(min=1)
    return F.cross_entropy(outputs, labels, weight=1 / counts.to(outputs.dtype))


def _class_mean(loss: Callable[[Any, Any], Tensor], outputs: Tensor, labels: Tensor) -> Tensor:
    """The same of any loss that is a mean over examples."""
    rows = [labels == label for label in labels.unique()]
    return torch.stack([loss(outputs[own], labels[own]) for own in rows]).mean()
