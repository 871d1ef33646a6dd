"""A head that is learnt as MAML and ANIL learn: a few steps of gradient descent from zero."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from innerloop.algorithms.anil import ANIL
from innerloop.heads.linear import Stages
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

    Features are centred by their mean.  The rate is one over the largest curvature of softmax
    cross-entropy, half the largest variance along any direction (Böhning 1992), so that the support
    loss falls in every step whatever the body.

    Args:
        x, labels, n_way: as for `innerloop.heads.linear.cosine`.
        steps: None for 20.
    """
    centre = x.mean(axis=0)
    x = x - centre
    anil = ANIL(
        OnFeatures(x.shape[1]),
        inner_lr=rate(x),
        inner_steps=steps or STEPS,
        adapted="head.weight",
    )
    params = {name: p.double() for name, p in anil.init_params().items()}
    support = torch.from_numpy(x)
    with torch.no_grad():
        fast = list(anil.inner_loop(params, support, torch.from_numpy(labels), n_way=n_way))
        # What is linear is known by its values at zero and along each axis.
        predict = anil.predictor(params, support, torch.from_numpy(probes(x.shape[1])))
        values = [SCALE * predict(weights).numpy() for weights in fast]
    weights = [v[1:] - v[0] for v in values]
    return Stages(weights, [v[0] - centre @ w for v, w in zip(values, weights, strict=True)])


def probes(width: int) -> np.ndarray:
    """Zero, and a one along each axis, `[width + 1, width]`."""
    return np.concatenate([np.zeros((1, width)), np.eye(width)])


def rate(centred: np.ndarray) -> float:
    """The inner learning rate for centred features `[n, D]`."""
    variance = float(np.linalg.norm(centred, ord=2)) ** 2 / len(centred)
    # Of features that are all the same, nothing is learnt at any rate.
    return 2 / variance if variance > 1e-12 else 1.0
