"""A head that is learnt as MAML and ANIL learn: a few steps of gradient descent from zero."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from innerloop.algorithms.anil import ANIL
from innerloop.heads.linear import Stages, class_weights
from innerloop.in_use import class_mean_cross_entropy
from innerloop.models.layers import HeadedModel, SharedHead

# Chosen as those of the other heads.
STEPS, SCALE = 20, 2.6


class OnFeatures(HeadedModel):
    """A body that gives its input, and a head with a row of zeros for every class.

    Args:
        width: D.
    """

    takes_tasks = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = SharedHead(width)

    def features(self, x: Tensor) -> Tensor:
        return x


def inner_loop(x: np.ndarray, labels: np.ndarray, n_way: int, steps: int | None = None) -> Stages:
    """The inner loop of `ANIL` on the weights of a linear head; logits before and after each step.

    Features are centred by their mean, and the loss is softmax cross-entropy; both are means over
    the classes.  The rate is one over the largest curvature of the loss, half the largest variance
    along any direction (Böhning 1992), so that it falls in every step whatever the body.

    Args:
        x, labels, n_way: as for `innerloop.heads.linear.cosine`.
        steps: None for 20.
    """
    weights = class_weights(labels, n_way)
    centre = np.average(x, axis=0, weights=weights)
    x = x - centre
    anil = ANIL(
        OnFeatures(x.shape[1]),
        inner_lr=rate(x, weights),
        loss=class_mean_cross_entropy,
        inner_steps=steps or STEPS,
        adapted="head.weight",
    )
    params = {name: p.double() for name, p in anil.init_params().items()}
    support = torch.from_numpy(x)
    with torch.no_grad():
        fast = list(anil.inner_loop(params, support, torch.from_numpy(labels), n_way=n_way))
        # What is linear is known by its values at zero and along each axis.
        predict = anil.predictor(params, support, torch.from_numpy(probes(x.shape[1])))
        values = [SCALE * predict(adapted).numpy() for adapted in fast]
    maps = [v[1:] - v[0] for v in values]
    return Stages(maps, [v[0] - centre @ m for v, m in zip(values, maps, strict=True)])


def probes(width: int) -> np.ndarray:
    """Zero, and a one along each axis, `[width + 1, width]`."""
    return np.concatenate([np.zeros((1, width)), np.eye(width)])


def rate(centred: np.ndarray, weights: np.ndarray) -> float:
    """The inner learning rate for centred features `[n, D]` with weights `[n]`, 1 on average."""
    weighed = np.sqrt(weights)[:, None] * centred
    variance = float(np.linalg.norm(weighed, ord=2)) ** 2 / len(centred)
    # Of features that are all the same, nothing is learnt at any rate.
    return 2 / variance if variance > 1e-12 else 1.0
