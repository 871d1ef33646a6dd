"""What is tried of a loss: does it depend on the weights, twice, and does it draw numbers?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.autograd.function import once_differentiable

from innerloop.algorithms import noise
from innerloop.algorithms.hooks import Hooks
from innerloop.algorithms.inspection import nodes_of
from innerloop.algorithms.rows import copied, differ
from innerloop.errors import UserError, no_second_derivative
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
    given = _leaves(algorithm, params), episodes.task(0), episodes.n_way, progress
    with torch.enable_grad(), noise.calls(training=True, keys=keys[:1]), noise.task(0):
        loss, _ = algorithm.loss_after_adaptation(*given)
    if not loss.requires_grad:
        raise UserError(
            "the loss does not depend on the weights, so nothing can be learnt: look for "
            "torch.no_grad(), detach() or item() on the way from the weights to the loss, and for "
            "a loss that only counts, such as a share of errors"
        )


def check_twice(algorithm: Hooks, params: Params, episodes: Episodes, keys: Sequence[int]) -> None:
    """Refuse functions that are marked as once differentiable, after a second derivative.

    PyTorch's error for these is raised by `backward()` alone: `torch.autograd.grad` does not come
    to it, and takes what leads through them for zero.

    Raises:
        UserError: the network or the loss has one.
    """
    task = episodes.task(0)
    with torch.enable_grad(), noise.calls(training=True, keys=keys[:1]), noise.task(0):
        loss, _ = algorithm.query_loss(_first_weights(algorithm, params, task), task)
    for node in nodes_of(loss):
        function = getattr(node, "_forward_cls", None)
        if function and getattr(function.backward, "__code__", None) is _ONCE:
            raise no_second_derivative(f"{function.__name__} is marked @once_differentiable")
    algorithm._twice = True


def try_loss(algorithm: Hooks, params: Params, episodes: Episodes, *, training: bool) -> None:
    """Find out whether a loss of the user's own draws random numbers, before it is first used.

    Raises:
        UserError: it gives other values for the same outputs, targets and seeds.
    """
    task = episodes.task(0)
    found: list[list[torch.Tensor]] = []
    with torch.enable_grad(), noise.calls(training=training), noise.task(0):
        try:
            fast = _first_weights(algorithm, params, task)
            outputs = algorithm.query_outputs(fast, task.support_x, task.query_x)
            for _ in range(2):
                with noise.watching(x=task.query_x) as seen:
                    found.append([algorithm.loss(copied(outputs), copied(task.query_y)).detach()])
        except Exception:
            # The call that counts says what is wrong.
            return
    if differ(found):
        raise UserError(
            "the loss gives another value when it is called again with the same outputs, targets "
            "and seeds: it draws from a generator of its own, or counts, so that a resumed run "
            "would be another one. Let it draw from the global generators, which are seeded for "
            "each task, or let the network return what it needs"
        )
    if seen.globally or seen.dropout:
        algorithm._loss_draws = seen.globally
    algorithm._loss_tried = True


_ONCE = once_differentiable(lambda ctx: None).__code__


def _first_weights(algorithm: Hooks, params: Params, task: Episodes) -> Params:
    """The first weights that the inner loop gives for a task."""
    n_way = algorithm.ways(task.support_y, task.n_way)
    given = _leaves(algorithm, params), task.support_x, task.support_y
    return next(iter(algorithm.inner_loop(*given, n_way=n_way)))


def _leaves(algorithm: Hooks, params: Params) -> Params:
    """The meta-parameters, to be differentiated."""
    return {
        name: p.detach().requires_grad_(p.is_floating_point() or p.is_complex())
        for name, p in params.items()
        if name not in algorithm.moving_averages
    }
