"""What is tried of a loss: does it depend on the weights, twice, and does it draw numbers?"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from innerloop.algorithms import noise
from innerloop.algorithms.hooks import Hooks
from innerloop.algorithms.inner_loops import steps_of
from innerloop.algorithms.inspection import leaves_of, nodes_of
from innerloop.algorithms.kept import changed, numbers_outside, read_of, warn_of_numbers
from innerloop.algorithms.rows import copied, differ, moved
from innerloop.algorithms.trials import close
from innerloop.errors import UserError, no_second_derivative
from innerloop.functional import Params, dot, zeros_like
from innerloop.tasks.episodes import Episodes
from innerloop.trees import is_foreign

_log = logging.getLogger("innerloop")
# Takes the losses of the first inner step, with their graphs, while somebody looks.
INNER_LOSSES: ContextVar[list[Tensor] | None] = ContextVar("inner_losses", default=None)


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
    check_own_weights(algorithm, params, episodes, training=True, keys=keys[:1])
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


def check_own_weights(
    algorithm: Hooks,
    params: Params,
    episodes: Episodes,
    *,
    training: bool,
    keys: Sequence[int] = (0,),
    queries: bool = True,
) -> None:
    """Refuse hooks of the user's that use the network's own weights, once, in one step of one task.

    There the graph shows it, which vmap hides, and which evaluation does without.

    Args:
        queries: whether the query loss counts, beside the inner loss.

    Raises:
        UserError: the inner loss or the query loss does.
    """
    if algorithm._reached or algorithm._own_tried or not may_use_own_weights(algorithm):
        return
    task, leaves = episodes.task(0), _leaves(algorithm, params)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        noise.generators_kept(),
        noise.calls(training=training, keys=keys),
        noise.task(0),
    ):
        *_, weights = islice(_inner_loop(algorithm, leaves, task), 2)
        if not queries:
            return
        try:
            loss, _ = algorithm.checked_query_loss(weights, task)
        except Exception:
            # The call that counts says what is wrong.
            return
    refuse_own_weights("query loss", loss, algorithm.model, leaves)
    algorithm._own_tried = True


def check_twice(algorithm: Hooks, params: Params, episodes: Episodes, keys: Sequence[int]) -> None:
    """Refuse functions that are marked as once differentiable, after a second derivative.

    PyTorch's error for these is raised by `backward()` alone: `torch.autograd.grad` does not come
    to it, and takes what leads through them for zero.  Of other functions of the user's own it is
    tried whether second derivatives are those of the first ones.

    Raises:
        UserError: the network or the loss has one.
    """
    task = episodes.task(0)
    with torch.enable_grad(), noise.calls(training=True, keys=keys[:1]), noise.task(0):
        loss, _ = algorithm.checked_query_loss(
            next(_inner_loop(algorithm, _leaves(algorithm, params), task)), task
        )
        losses = [loss, *_inner_losses_of(algorithm, params, task)]
    if any(node.name().startswith(_OF_A_GRADIENT) for node in nodes_of(losses)):
        _log.warning(
            "a loss holds a gradient of nn.LayerNorm, and PyTorch's third derivative of that is "
            "wrong, which the second order takes: write the norm with mean() and sqrt(), as a "
            "module of your own, or take first_order=True"
        )
    own = set()
    for node in nodes_of(loss):
        function = getattr(node, "_forward_cls", None)
        if function and getattr(function.backward, "__code__", None) is _ONCE:
            raise no_second_derivative(f"{function.__name__} is marked @once_differentiable")
        if function and not function.__module__.startswith(_KNOWN):
            own.add(function.__name__)
    if own and _loses_second(algorithm, params, task, keys[0]):
        _log.warning(
            "second derivatives of the network or the loss are not those of its first derivatives: "
            "%s has a backward through whose results autograd does not come back to the inputs "
            "(.data, detach(), NumPy, a tensor that forward computed and kept), so that terms of "
            "the meta-gradient are missing. Compute backward from inputs and outputs that "
            "ctx.save_for_backward holds, by operations on tensors, or take first_order=True",
            ", ".join(sorted(own)),
        )
    algorithm._twice = True


def _inner_losses_of(algorithm: Hooks, params: Params, task: Episodes) -> list[Tensor]:
    """The losses of the first inner step, with their graphs."""
    seen: list[Tensor] = []
    token = INNER_LOSSES.set(seen)
    try:
        next(islice(_inner_loop(algorithm, _leaves(algorithm, params), task), 1, 2), None)
    finally:
        INNER_LOSSES.reset(token)
    return seen


def _loses_second(algorithm: Hooks, params: Params, task: Episodes, key: int) -> bool:
    """True if second derivatives are not the differences of first ones, which are those of losses.

    Where first derivatives are not those of the loss (a straight-through estimator, `detach()`)
    there is nothing that second ones would have to be.
    """
    doubles = {n: p.double() if p.is_floating_point() else p for n, p in params.items()}
    sets = (t.double() if t.is_floating_point() else t for t in task)
    task, generator = Episodes(*sets, n_way=task.n_way), torch.Generator().manual_seed(0)

    def slope(weights: Params) -> tuple[Tensor, Params, Params]:
        """The loss, the leaves that it is of, and its gradient."""
        leaves = _leaves(algorithm, weights)
        with torch.enable_grad(), noise.calls(training=True, keys=[key]), noise.task(0):
            loss, _ = algorithm.checked_query_loss(next(_inner_loop(algorithm, leaves, task)), task)
            return loss, leaves, _gradients(loss, leaves)

    # Twice, for a kink may lie between two places.
    for _ in range(2):
        at = {n: moved(p, generator) for n, p in doubles.items()}
        along = {
            n: torch.randn(p.shape, generator=generator, device="cpu").to(p) for n, p in at.items()
        }
        # Not every network can be called in double precision.
        with contextlib.suppress(Exception):
            _, leaves, first = slope(at)
            onward = dot(first, {n: along[n] for n in first})
            second = _gradients(onward, leaves)
            (more, _, up), (less, _, down) = (
                slope({n: p + sign * _STEP * along[n] for n, p in at.items()}) for sign in (1, -1)
            )
            honest = close([(more - less).detach() / (2 * _STEP)], [onward.detach()], 1e-4)
            changes = [(up[n] - down[n]).detach() / (2 * _STEP) for n in second]
            if honest and not close(changes, list(second.values()), 1e-3):
                continue
        return False
    return True


def _gradients(value: Tensor, leaves: Params) -> Params:
    if not value.requires_grad:
        return zeros_like(leaves)
    how: dict[str, Any] = {"create_graph": True, "allow_unused": True, "materialize_grads": True}
    return dict(zip(leaves, torch.autograd.grad(value, list(leaves.values()), **how), strict=True))


def try_loss(algorithm: Hooks, params: Params, episodes: Episodes, *, training: bool) -> None:
    """Find out whether a loss of the user's own draws random numbers, before it is first used.

    Raises:
        UserError: it gives other values for the same outputs, targets and seeds, or uses the
            network's own weights.
    """
    network = algorithm.network
    if network.left_behind and (
        names := network.left_behind & read_of(algorithm.loss, network.module)
    ):
        raise UserError(
            f"the loss reads {', '.join(sorted(names))} of the network itself, and forward leaves "
            "that in a copy, of which each call has its own, so that the loss would see what was "
            "there before: let the network return it beside its outputs"
        )
    task = episodes.task(0)
    found: list[list[Tensor]] = []
    with torch.enable_grad(), noise.calls(training=training), noise.task(0):
        try:
            fast = next(_inner_loop(algorithm, _leaves(algorithm, params), task))
            outputs = algorithm.query_outputs(fast, task.support_x, task.query_x)
            for _ in range(2):
                before = numbers_outside(algorithm.loss)
                with noise.watching(x=task.query_x) as seen:
                    value = algorithm.loss(copied(outputs), copied(task.query_y))
                found.append([value.detach()])
        except Exception:
            # The call that counts says what is wrong.
            return
    refuse_own_weights("loss", value, algorithm.model)
    if differ(found, same_rows=True):
        raise UserError(
            "the loss gives another value when it is called again with the same outputs, targets "
            "and seeds: it draws from a generator of its own, or counts, so that a resumed run "
            "would be another one. Let it draw from the global generators, which are seeded for "
            "each task, or let the network return what it needs. For a warm-up take progress, "
            "which loss_after_adaptation and mean_gradient of an algorithm are given, or set an "
            "attribute of the loss between two meta-gradients"
        )
    warn_of_numbers("loss", changed(before, numbers_outside(algorithm.loss)))
    if seen.globally or seen.dropout:
        algorithm._loss_draws = seen.globally
    algorithm._loss_tried = True


def may_use_own_weights(algorithm: Hooks) -> bool:
    """True if there is code of the user's in an inner loss that nobody has looked at: its hooks.

    The network is looked at for itself, and so is a loss (`try_loss`), if it can be.
    """
    kind = type(algorithm)
    own = is_foreign(kind) or any(callable(getattr(kind, name, None)) for name in vars(algorithm))
    return own or not algorithm._loss_tried


def refuse_own_weights(kind: str, value: Tensor, model: nn.Module, *given: Params) -> None:
    """Refuse a loss that was computed from the network's own weights, for which others stand.

    Args:
        kind: what the loss is called in the message.
        value: the loss, with its graph.
        model: the network.
        given: weights that the loss may use; the network's own may be among them.

    Raises:
        UserError: it was.
    """
    reached = leaves_of(nodes_of(value)) - {id(p) for params in given for p in params.values()}
    for name, p in model.named_parameters():
        if id(p) in reached:
            raise UserError(
                f"the {kind} uses the network's parameter {name} itself, and not the adapted "
                "weights in its place, so that what it adds would be a constant: let the network "
                "return what the loss needs of its weights, such as a penalty, beside its "
                "outputs. For weight decay in the inner loop there is "
                "innerloop.inner.SGD(weight_decay=...)"
            )


_ONCE = once_differentiable(lambda ctx: None).__code__
# Packages whose functions are known; what PyTorch makes of a user's operators is not.
_KNOWN = ("torch.autograd.", "torch.nn.", "torch.utils.", "innerloop.")
_STEP = 1e-7
# PyTorch's node of the gradient of a layer norm, whose second derivative is wrong (2.13).
_OF_A_GRADIENT = "NativeLayerNormBackwardBackward"


def _inner_loop(algorithm: Hooks, params: Params, task: Episodes) -> Iterator[Params]:
    """The weights of a task, from those that its inner loop begins with on."""
    n_way = algorithm.ways(task.support_y, task.n_way)
    return steps_of(algorithm, params, task.support_x, task.support_y, n_way=n_way)


def _leaves(algorithm: Hooks, params: Params) -> Params:
    """The meta-parameters, to be differentiated."""
    return {
        name: p.detach().requires_grad_(p.is_floating_point() or p.is_complex())
        for name, p in params.items()
        if name not in algorithm.moving_averages
    }
