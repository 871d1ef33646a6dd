"""Whether a network of a user's own gives a logit for each class of its tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.algorithms import Algorithm, ProtoNet, noise
from innerloop.tasks.protocol import Tasks, draw


def warn_of_outputs(
    algorithm: Algorithm, tasks: Mapping[str, Tasks], say: Callable[[str], None]
) -> None:
    """Say so where there are more outputs than classes, or probabilities in place of logits.

    Training goes on with them.  At its end no classifier takes a run with more outputs, as of
    features; and a softmax before that of the loss leaves little of the gradient.

    Args:
        algorithm: has the network.
        tasks: by part.
        say: told what is wrong.
    """
    if isinstance(algorithm, ProtoNet) or algorithm.loss is not F.cross_entropy:
        return
    found: Tensor | None = None
    most = 0
    # What fails here says so when it counts.
    with contextlib.suppress(Exception), torch.no_grad(), noise.generators_kept():
        for part in tasks.values():
            x, y, *_ = (t[0] for t in draw(part, 0, 1))
            ways = getattr(part, "n_way", None) or int(y.max()) + 1
            most = max(most, *ways) if isinstance(ways, tuple | list) else max(most, ways)
            if found is None and not y.is_floating_point():
                found = algorithm.network(algorithm.init_params(), x)
        if isinstance(found, Tensor) and found.ndim == 2 and found.shape[1] > most:
            say(
                f"the network gives {found.shape[1]} outputs, and tasks have {most} classes: no "
                "classifier will take this run. Let the last layer have n_way outputs, which a "
                "function with an argument n_way is told; if these are features, name the network "
                "by body (--body) in place of model, or train by protonet"
            )
        if isinstance(found, Tensor) and _are_probabilities(found):
            say(
                "the network gives probabilities, and the loss, cross_entropy, takes logits, of "
                "which it computes a softmax itself: leave out that of the network, or give a loss "
                "of your own"
            )


def _are_probabilities(outputs: Tensor) -> bool:
    if outputs.ndim != 2 or outputs.shape[1] < 2 or bool((outputs < 0).any()):
        return False
    sums = outputs.sum(dim=1)
    return torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
