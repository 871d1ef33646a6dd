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
    algorithm: Algorithm,
    tasks: Mapping[str, Tasks],
    say: Callable[[str], None],
    *,
    for_classifier: bool,
) -> None:
    """Say so where a network gives something else than a logit for each class.

    Training goes on with more outputs than classes, as where a network gives features, and at its
    end no classifier takes the run.  With a softmax before that of the loss little gradient is
    left.

    Args:
        algorithm: has the network.
        tasks: by part.
        say: told what is wrong.
        for_classifier: also say where there are more outputs than classes.
    """
    found = _outputs(algorithm, tasks)
    if found is None:
        return
    most = _most_ways(tasks) if for_classifier else None
    if most is not None and found.shape[1] > most:
        say(
            f"the network gives {found.shape[1]} outputs, and tasks have {most} classes: no "
            "classifier will take this run. Let the last layer have n_way outputs, which a "
            "function with an argument n_way is told; if these are features, name the network "
            "by body (--body) in place of model, or train by protonet"
        )
    if _are_probabilities(found):
        say(
            "the network gives probabilities, and the loss, cross_entropy, takes logits, of "
            "which it computes a softmax itself: leave out that of the network, or give a loss "
            "of your own"
        )


def _most_ways(tasks: Mapping[str, Tasks]) -> int | None:
    """The most classes that a task has; None where they cannot be told."""
    most = 0
    # What fails here says so when it counts.
    with contextlib.suppress(Exception):
        for part in tasks.values():
            ways = getattr(part, "n_way", None) or int(draw(part, 0, 1).support_y.max()) + 1
            most = max(most, *ways) if isinstance(ways, tuple | list) else max(most, ways)
        return most
    return None


def _are_probabilities(outputs: Tensor) -> bool:
    if outputs.shape[1] < 2 or bool((outputs < 0).any()):
        return False
    sums = outputs.sum(dim=1)
    return torch.allclose(sums, torch.ones_like(sums), atol=1e-3)


def _outputs(algorithm: Algorithm, tasks: Mapping[str, Tasks]) -> Tensor | None:
    """Of the first task's support set, `[B, N]`; None where the loss takes no logits of classes."""
    if isinstance(algorithm, ProtoNet) or algorithm.loss is not F.cross_entropy:
        return None
    with contextlib.suppress(Exception), torch.no_grad(), noise.generators_kept():
        x, y, *_ = (t[0] for t in draw(next(iter(tasks.values())), 0, 1))
        if not y.is_floating_point():
            found = algorithm.network(algorithm.init_params(), x)
            return found if isinstance(found, Tensor) and found.ndim == 2 else None
    return None
