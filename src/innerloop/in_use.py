"""The algorithm of a trained network, set up for new tasks."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from innerloop.algorithms.base import Algorithm
from innerloop.build import build_algorithm
from innerloop.config import TrainConfig
from innerloop.errors import one_of
from innerloop.models.layers import check_batch_norm, has_batch_norm
from innerloop.runs.loading import Loaded


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
