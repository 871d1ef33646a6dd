"""Whether a loss depends on the weights at all, as far as autograd can see."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from innerloop.algorithms import noise
from innerloop.algorithms.hooks import Hooks
from innerloop.errors import UserError
from innerloop.functional import Params
from innerloop.tasks.episodes import Episodes


def check_reached(
    algorithm: Hooks,
    params: Params,
    episodes: Episodes,
    progress: float,
    keys: Sequence[int],
    grads: Params,
) -> None:
    """Refuse gradients that are zero because nothing leads from the loss to the weights.

    Others may be zero by right, of a network without a weight that can be trained, for instance,
    and a part of the weights may be left out.  Once a gradient is not zero, nobody looks again.

    Args:
        grads: of `params`, for these tasks.

    Raises:
        UserError: nothing leads there.
    """
    if not grads:
        return
    learnt = (g for name, g in grads.items() if name not in algorithm.moving_averages)
    if any(bool(g.count_nonzero()) for g in learnt):
        algorithm._reached = True
        return
    if not any(p.requires_grad for p in algorithm.model.parameters()):
        return
    leaves = {
        name: p.detach().requires_grad_(p.is_floating_point() or p.is_complex())
        for name, p in params.items()
        if name not in algorithm.moving_averages
    }
    task = Episodes(*(part[0] for part in episodes))
    with torch.enable_grad(), noise.calls(training=True, keys=keys[:1]), noise.task(0):
        loss, _ = algorithm.loss_after_adaptation(leaves, task, episodes.n_way, progress)
    if not loss.requires_grad:
        raise UserError(
            "the loss does not depend on the weights, so nothing can be learnt: look for "
            "torch.no_grad(), detach() or item() on the way from the weights to the loss, and for "
            "a loss that only counts, such as a share of errors"
        )
