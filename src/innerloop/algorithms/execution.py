"""How tasks are computed: the one place that decides, and one meta-gradient so computed.

Four ways, all of which give the same numbers:

- `stacked`: all tasks together, with a leading axis of tasks on images and weights, by plain
  autograd.  For networks that take such an axis, or the tensors of `ops.stacked`; the fastest.
- `shared_body`: where the inner loop leaves the body alone, its features are computed for the
  images of all tasks in one batch; the head is stacked.
- `vmap`: `torch.func.vmap` over the tasks.  For most others.
- `loop`: one task after the other, by plain autograd.  For whatever PyTorch can differentiate.

`execution="auto"` takes `shared_body` or `stacked` where they are exact, else `loop` for networks
that `vmap` makes slow or differentiates wrongly, else `vmap`.  Where that turns out to fail, `loop`
takes its place, with a line of log that says so.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from innerloop.algorithms import noise
from innerloop.algorithms.apart import T, one_by_one
from innerloop.algorithms.arguments import checked_episodes, checking, given_episodes, unchanged
from innerloop.algorithms.checks import checked_gradient
from innerloop.algorithms.hooks import Hooks
from innerloop.algorithms.network import Layers, is_own, stacking
from innerloop.algorithms.overriding import overrides
from innerloop.algorithms.reached import check_reached, check_twice, try_loss
from innerloop.errors import UserError, clearer, first_line, share_of_training
from innerloop.functional import Params, detach, noticing_second
from innerloop.ops import kernels
from innerloop.ops.stacked import NotStackableError
from innerloop.tasks.episodes import Episodes

_log = logging.getLogger("innerloop")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)  # what there may be kernels for
# On a CPU `vmap` makes slow operations of these; a loop over the tasks is faster.
_SLOW_UNDER_VMAP = (nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase)


class MetaGradient(Hooks):
    """Hooks with a meta-gradient made of them."""

    def meta_gradient(
        self,
        params: Params,
        episodes: Episodes,
        progress: float = 1.0,
        *,
        keys: Sequence[int] | None = None,
    ) -> tuple[Params, Params]:
        """The mean of the tasks' gradients.

        Args:
            params: the meta-parameters by name; they are not changed.
            episodes: T tasks.
            progress: the share of training that is done, 0..1, for what changes meanwhile.
            keys: T integers from which the masks of dropout follow, one a task; None to draw them
                from PyTorch's global generator.

        Returns:
            `(grads, metrics)`: gradients by parameter name, and the tasks' mean of
            each metric, scalars: `loss` (query loss), for class labels `accuracy`
            (query accuracy, 0..1).
        """
        share_of_training(progress=progress)
        episodes, first = given_episodes(episodes)
        with checking(self, params, *first, also=episodes):
            return _meta_gradient(self, detach(params), episodes, progress, keys)


def _meta_gradient(
    algorithm: Hooks,
    params: Params,
    episodes: Episodes,
    progress: float,
    keys: Sequence[int] | None,
) -> tuple[Params, Params]:
    episodes = checked_episodes(algorithm, episodes, training=True)
    algorithm.look(episodes.support_x[0])
    if not algorithm._loss_tried:
        try_loss(algorithm, params, episodes, training=True)
    tasks = len(episodes.support_x)
    with algorithm.network.unchanged(), task_keys(algorithm, tasks, keys) as keys:
        with noticing_second() as twice:
            grads, metrics = _in_chunks(algorithm, params, episodes, progress, keys)
        if twice[0] and not algorithm._twice:
            check_twice(algorithm, params, episodes, keys)
        if not algorithm._reached:
            check_reached(algorithm, params, episodes, progress, keys, grads)
    return grads, metrics


def _in_chunks(
    algorithm: Hooks,
    params: Params,
    episodes: Episodes,
    progress: float,
    keys: Sequence[int],
) -> tuple[Params, Params]:
    tasks = len(episodes.support_x)
    size = algorithm.chunk_size or tasks
    if tasks <= size:
        grads, metrics = _chunk_gradient(algorithm, params, episodes, progress, keys)
        # In memory as the parameters are, which PyTorch's optimisers on a GPU insist on.
        return {name: g.contiguous() for name, g in grads.items()}, metrics
    means = []
    for i, chunk in enumerate(episodes.chunks(size)):
        share = chunk.num_tasks / tasks
        some = keys[i * size : (i + 1) * size] if len(keys) > 1 else keys
        parts = _chunk_gradient(algorithm, params, chunk, progress, some)
        means.append([{name: share * v for name, v in part.items()} for part in parts])
    grads, metrics = (
        {name: torch.stack([part[name] for part in parts]).sum(dim=0) for name in parts[0]}
        for parts in zip(*means, strict=True)
    )
    return grads, metrics


def _chunk_gradient(
    algorithm: Hooks,
    params: Params,
    episodes: Episodes,
    progress: float,
    keys: Sequence[int],
) -> tuple[Params, Params]:
    """The meta-gradient of tasks that fit into memory together."""
    n_way, kind = episodes.n_way, type(algorithm).__name__

    def by(way: str) -> tuple[Params, Params]:
        given, features = algorithm.arranged(params, way), way == "shared_body"
        # A hook that changed them would do so for the next task or step.
        with noise.calls(training=True, keys=keys), unchanged(algorithm, given):
            if way in ("stacked", "shared_body"):
                with stacking():
                    found = algorithm.mean_gradient(given, episodes, progress, of_features=features)
                return checked_gradient(found, f"mean_gradient of {kind}", given)

            # One gradient a task, averaged afterwards.  To differentiate through vmap instead
            # gives wrong numbers with batch norm and layer norm (PyTorch 2.13), see
            # tests/algorithms/test_maml.py.
            def of_task(task: Episodes) -> tuple[Params, Params]:
                found = algorithm.task_gradient(given, task, n_way, progress)
                return checked_gradient(found, f"task_gradient of {kind}", given)

            parts = one_by_one(way, of_task, episodes)
            return tuple({n: v.mean(dim=0) for n, v in part.items()} for part in parts)  # type: ignore[return-value]

    order = "training" if algorithm.derivative_now(progress) == "first" else "training, 2nd order"
    return first_that_works(algorithm, order, candidates(algorithm, progress, training=True), by)


class NotThisWayError(UserError):
    """Raised where a way that was asked for fails, and another does not."""


# Errors that no other way would change.
NOT_ABOUT_THE_WAY = (UserError, KeyboardInterrupt, MemoryError, torch.OutOfMemoryError)


def first_that_works(algorithm: Hooks, kind: str, ways: Sequence[str], by: Callable[[str], T]) -> T:
    """The result of the first way that works; what fails is remembered."""
    way = ways[-1] if has_failed(algorithm, kind, ways) else ways[0]
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            return first_that_works(algorithm, kind, ways, by)
    try:
        return by(way)
    except NOT_ABOUT_THE_WAY:
        raise
    except Exception as error:
        if way == ways[-1]:
            asked = algorithm.execution == way != "loop"
            raise (_of_the_way(error, way, by) if asked else clearer(error)) from error
        failure = error
    try:
        found = by(ways[-1])
    except NOT_ABOUT_THE_WAY:
        raise
    except Exception as error:
        raise clearer(error) from error
    about = _failing(algorithm, way)
    if about not in algorithm._failed.values():
        _log.warning(
            "%s cannot be computed by %s, so its tasks go one by one (%s)",
            type(algorithm.model).__name__,
            way,
            first_line(failure),
        )
    algorithm._failed[kind] = about
    return found


def has_failed(algorithm: Hooks, kind: str, ways: Sequence[str]) -> bool:
    """True if the first of several ways is known to fail for a kind of computation."""
    return len(ways) > 1 and algorithm._failed.get(kind) == _failing(algorithm, ways[0])


def _failing(algorithm: Hooks, way: str) -> tuple[Any, ...]:
    """What a failure of `way` is about: with another network or loss the reason may be gone."""
    return way, algorithm.network.called, algorithm.loss, algorithm.metric, algorithm.bn


def _of_the_way(error: Exception, way: str, by: Callable[[str], T]) -> Exception:
    """The error for a way that was asked for; that of the network itself, if a loop fails, too."""
    try:
        by("loop")
    except NOT_ABOUT_THE_WAY:
        raise
    except Exception as own:
        return clearer(own)
    reason = str(error) if isinstance(error, NotStackableError) else first_line(error)
    return NotThisWayError(
        f"execution={way!r} is not possible here: {reason}. execution='auto' goes task by task "
        "where it has to"
    )


@contextlib.contextmanager
def task_keys(algorithm: Hooks, tasks: int, keys: Sequence[int] | None) -> Iterator[Sequence[int]]:
    """One integer a task; from PyTorch's global generator where none are given.

    Afterwards that is as it was if no network asked for random numbers.
    """
    if keys is not None:
        keys = tuple(int(key) for key in keys)
        if len(keys) != tasks:
            raise UserError(f"keys are {len(keys)} for {tasks} tasks: give one integer a task")
        yield keys
    elif algorithm.network.is_own and algorithm._loss_draws is None:
        yield (0,)
    else:
        with noise.keys_drawn(tasks) as keys:
            yield keys


def candidates(algorithm: Hooks, progress: float, *, training: bool) -> list[str]:
    """The ways to try, the best first; only one if it was asked for.

    Raises:
        UserError: the way that was asked for is not exact here; it says why.
    """
    asked = algorithm.execution
    if asked != "auto":
        reason = why_not(algorithm, asked, progress, training=training)
        if reason is None:
            return [asked]
        # What was asked for in training may not suit testing, which takes more steps.
        if training or why_not(algorithm, asked, progress, training=True):
            raise UserError(f"execution={asked!r} is not possible here: {reason}")
    layers, stays = Layers(algorithm.model), _body_stays(algorithm, progress, training)
    if stays and _why_not_shared_body(algorithm, stays, training, layers) is None:
        return ["shared_body"]
    exact = _why_not_stacked(algorithm, training, layers) is None
    if exact and why_slower_stacked(layers) is None:
        return ["stacked"] if layers.take_tasks else ["stacked", "loop"]
    alone = why_slower_under_vmap(algorithm, layers) or _why_not_vmap(algorithm, training)
    return ["loop"] if alone else ["vmap", "loop"]


def why_slower_stacked(layers: Layers) -> str | None:
    found = [m for m in layers.all if isinstance(m, _CONVOLUTIONS)]
    # A network of a user's that takes tasks by itself is called without the rules, which fill up.
    serve = kernels.serve if layers.take_tasks and not is_own(layers) else kernels.serve_filled
    served = [serve(m.weight, m.out_channels) for m in found]
    # A network of a user's own may have layers that go one by one.
    if not served or (all(served) if layers.take_tasks else any(served)):
        return None
    return "there are no compiled kernels for these layers, this type or this machine"


def why_slower_under_vmap(algorithm: Hooks, layers: Layers) -> str | None:
    if algorithm.network.writes_weights:
        return "a forward pass writes to the weights"
    slow = {type(m).__name__ for m in layers.all if isinstance(m, _SLOW_UNDER_VMAP)}
    on_cpu = all(not p.is_cuda for p in algorithm.model.parameters())
    if slow and on_cpu and not algorithm.network.is_own:
        return f"on a CPU {', '.join(sorted(slow))} would be slower than in a loop"
    return None


def why_not(algorithm: Hooks, way: str, progress: float, *, training: bool) -> str | None:
    """Why `way` would not be exact for this algorithm and network; None if it is."""
    layers = Layers(algorithm.model)
    if way == "stacked":
        return _why_not_stacked(algorithm, training, layers)
    if way == "shared_body":
        stays = _body_stays(algorithm, progress, training)
        return _why_not_shared_body(algorithm, stays, training, layers)
    return _why_not_vmap(algorithm, training) if way == "vmap" else None


def _why_not_vmap(algorithm: Hooks, training: bool) -> str | None:
    # In use there are first derivatives alone, none inside another.
    return algorithm.network.why_not_in_transforms() if training else None


def _why_not_stacked(algorithm: Hooks, training: bool, layers: Layers) -> str | None:
    if not layers.take_tasks:
        reason = algorithm.network.why_not_each()
        if reason is not None:
            return f"{type(algorithm.model).__name__} does not take several tasks at once: {reason}"
    if algorithm.bn not in ("transductive", "support", "frozen"):
        return f"bn={algorithm.bn!r} normalises each task's queries by statistics of its own"
    return _overridden(algorithm, ["forward"], training) or algorithm.why_not_together(training)


def _why_not_shared_body(
    algorithm: Hooks, stays: bool, training: bool, layers: Layers
) -> str | None:
    if not algorithm.network.is_head_on_features():
        return "the network is not a body with a linear head of its own on its features"
    if not keeps_tasks_apart(algorithm, layers):
        return "batch norm of PyTorch would mix the tasks in one batch"
    if not layers.untouched:
        return "a layer has hooks or a forward of its own, which are made for one task"
    if algorithm.network.mixes_rows:
        return "the body mixes the rows of a batch, so that tasks would change each other"
    if training and algorithm.network.draws:
        return "dropout draws for one task at a time"
    hooks = ["forward", "inner_loss", "query_outputs", "query_loss"]
    reason = _overridden(algorithm, hooks, training) or algorithm.why_not_together(training)
    return reason or (None if stays else "the inner loop changes the body")


def _body_stays(algorithm: Hooks, progress: float, training: bool) -> bool:
    return algorithm.body_stays(progress) if training else algorithm.body_stays_in_use()


def _overridden(algorithm: Hooks, hooks: Sequence[str], training: bool) -> str | None:
    pairs = [(hook, f"{hook}_each") for hook in hooks]
    if training:
        whole = ("task_gradient", "loss_after_adaptation")
        pairs += [(hook, "mean_gradient") for hook in whole]
    for hook, together in pairs:
        if overrides(algorithm, hook, together):
            return f"{type(algorithm).__name__} overrides {hook}, which is about one task"
    return None


def keeps_tasks_apart(algorithm: Hooks, layers: Layers) -> bool:
    """True if images of several tasks can go through the body in one batch.

    The batch norm of this package can be told which images belong together, PyTorch's cannot,
    unless it uses statistics that do not depend on the batch.
    """
    foreign = nn.modules.batchnorm._BatchNorm
    return not any(
        isinstance(m, foreign) and not (algorithm.bn == "frozen" and m.running_mean is not None)
        for m in layers.all
    )
