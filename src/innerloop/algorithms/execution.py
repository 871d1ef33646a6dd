"""How tasks are computed: the one place that decides.

Four ways, all of which give the same numbers:

- `stacked`: all tasks together, with a leading axis of tasks on images and weights, by plain
  autograd.  For networks that take such an axis, or the tensors of `ops.stacked`; the fastest.
- `shared_body`: where the inner loop leaves the body alone, its features are computed for the
  images of all tasks in one batch; the head is stacked.
- `vmap`: `torch.func.vmap` over the tasks.  For most others.
- `loop`: one task after the other, by plain autograd.  For whatever PyTorch can differentiate.

`execution="auto"` takes `shared_body` or `stacked` where they are exact, else `loop` for networks
that are known to be slow under `vmap`, else `vmap`.  Where `vmap` turns out to fail, `loop` takes
its place, with a line of log that says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from innerloop.algorithms import noise
from innerloop.algorithms.apart import T, first, stack
from innerloop.algorithms.checks import checked_episodes, task_keys
from innerloop.algorithms.hooks import Hooks, overrides
from innerloop.algorithms.modules import is_untouched, takes_tasks
from innerloop.algorithms.network import stacking
from innerloop.algorithms.settings import WAYS
from innerloop.algorithms.shared_body import (
    features_in_place,
    is_head_on_features,
    keeps_tasks_apart,
)
from innerloop.errors import UserError, first_line
from innerloop.functional import Params
from innerloop.ops import kernels
from innerloop.tasks.episodes import Episodes

_log = logging.getLogger("innerloop")
# On a CPU `vmap` makes slow operations of these; a loop over the tasks is faster.
_SLOW_UNDER_VMAP = (nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase)


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
    if why_not(algorithm, "shared_body", progress, training=training) is None:
        return ["shared_body"]
    exact = why_not(algorithm, "stacked", progress, training=training) is None
    if exact and _why_slower_stacked(algorithm, progress, training) is None:
        return ["stacked"] if takes_tasks(algorithm.model) else ["stacked", "loop"]
    return ["loop"] if _why_slower_under_vmap(algorithm) else ["vmap", "loop"]


def _why_slower_stacked(algorithm: Hooks, progress: float, training: bool) -> str | None:
    if not _kernels_serve(algorithm.model):
        return "there are no compiled kernels for these layers (widths are multiples of 16)"
    return None


def _why_slower_under_vmap(algorithm: Hooks) -> str | None:
    if algorithm.network.writes_weights:
        return "a forward pass writes to the weights"
    slow = {type(m).__name__ for m in algorithm.model.modules() if isinstance(m, _SLOW_UNDER_VMAP)}
    on_cpu = all(not p.is_cuda for p in algorithm.model.parameters())
    if slow and on_cpu and not algorithm.network.is_own:
        return f"on a CPU {', '.join(sorted(slow))} would be slower than in a loop"
    return None


def why_not(algorithm: Hooks, way: str, progress: float, *, training: bool) -> str | None:
    """Why `way` would not be exact for this algorithm and network; None if it is."""
    if way == "stacked":
        return _why_not_stacked(algorithm, training)
    if way == "shared_body":
        return _why_not_shared_body(algorithm, progress, training)
    return None


def _why_not_stacked(algorithm: Hooks, training: bool) -> str | None:
    if not takes_tasks(algorithm.model):
        reason = algorithm.network.why_not_each()
        if reason is not None:
            return f"{type(algorithm.model).__name__} does not take several tasks at once: {reason}"
    if algorithm.bn not in ("transductive", "frozen"):
        return f"bn={algorithm.bn!r} normalises each task's queries by statistics of its own"
    return _overridden(algorithm, ["forward"], training) or algorithm.why_not_together(training)


def _why_not_shared_body(algorithm: Hooks, progress: float, training: bool) -> str | None:
    if not is_head_on_features(algorithm):
        return "the network is not a body with a linear head of its own on its features"
    if not keeps_tasks_apart(algorithm):
        return "batch norm of PyTorch would mix the tasks in one batch"
    if not all(is_untouched(m) for m in algorithm.model.modules()):
        return "a layer has hooks or a forward of its own, which are made for one task"
    if algorithm.network.mixes_rows:
        return "the body mixes the rows of a batch, so that tasks would change each other"
    if training and algorithm.network.draws:
        return "dropout draws for one task at a time"
    hooks = ["forward", "inner_loss", "query_outputs", "query_loss"]
    reason = _overridden(algorithm, hooks, training) or algorithm.why_not_together(training)
    if reason:
        return reason
    stays = algorithm.body_stays(progress) if training else algorithm.body_stays_in_use()
    return None if stays else "the inner loop changes the body"


def _overridden(algorithm: Hooks, hooks: Sequence[str], training: bool) -> str | None:
    pairs = [(hook, f"{hook}_each") for hook in hooks]
    if training:
        whole = ("task_gradient", "loss_after_adaptation")
        pairs += [(hook, "mean_gradient") for hook in whole]
    for hook, together in pairs:
        if overrides(algorithm, hook, together):
            return f"{type(algorithm).__name__} overrides {hook}, which is about one task"
    return None


def _kernels_serve(model: nn.Module) -> bool:
    own = not takes_tasks(model)
    kinds = (nn.Conv1d, nn.Conv2d) if own else nn.Conv2d
    layers = [m for m in model.modules() if isinstance(m, kinds)]
    served = [kernels.serve(m.weight, m.out_channels) for m in layers]
    # A network of a user's own may have layers that go one by one.
    return not served or any(served) if own else all(served)


def explain(algorithm: Hooks, progress: float) -> str:
    """How tasks are computed in training, and why not in another way."""
    ways = candidates(algorithm, progress, training=True)
    failed = any(kind.startswith("training") for kind in algorithm._failed)
    way = ways[-1] if failed else ways[0]
    lines = [f"{way}: {_MEANINGS[way]}"]
    if algorithm.execution == "auto":
        reasons = {
            "shared_body": why_not(algorithm, "shared_body", progress, training=True),
            "stacked": why_not(algorithm, "stacked", progress, training=True)
            or _why_slower_stacked(algorithm, progress, True),
            "vmap": _why_slower_under_vmap(algorithm) if way == "loop" else None,
        }
        if failed:
            reasons["vmap"] = "it fails for this network or loss"
        lines += [
            f"not {other}: {reason}" for other, reason in reasons.items() if reason and other != way
        ]
    return "\n".join(lines)


_MEANINGS = {
    "stacked": "all tasks together, with an axis of tasks on images and weights",
    "shared_body": "the features of all tasks in one batch, as the inner loop moves the head alone",
    "vmap": "torch.func.vmap over the tasks, one by one where it fails",
    "loop": "one task after the other, by plain autograd",
}


def fastest(algorithm: Hooks, params: Params, episodes: Episodes, progress: float = 1.0) -> str:
    """The way with the shortest meta-gradient, measured: two of each way, the second counts."""
    before, times = algorithm.execution, {}
    keys = tuple(range(episodes.num_tasks))
    try:
        for way in WAYS:
            if why_not(algorithm, way, progress, training=True):
                continue
            algorithm.execution = way
            try:
                for _ in range(2):
                    start = time.perf_counter()
                    meta_gradient(algorithm, params, episodes, progress, keys)
                    times[way] = time.perf_counter() - start
            except _NOT_ABOUT_THE_WAY:
                raise
            except Exception:
                times.pop(way, None)
    finally:
        algorithm.execution = before
    if not times:  # it says why
        meta_gradient(algorithm, params, episodes, progress, keys)
    return min(times, key=lambda way: times[way])


def meta_gradient(
    algorithm: Hooks,
    params: Params,
    episodes: Episodes,
    progress: float,
    keys: Sequence[int] | None,
) -> tuple[Params, Params]:
    """See `Algorithm.meta_gradient`."""
    episodes = checked_episodes(algorithm, episodes, training=True)
    algorithm.network.look(episodes.support_x[0])
    with algorithm.network.unchanged(), task_keys(algorithm, episodes.num_tasks, keys) as keys:
        return _in_chunks(algorithm, params, episodes, progress, keys)


def _in_chunks(
    algorithm: Hooks,
    params: Params,
    episodes: Episodes,
    progress: float,
    keys: Sequence[int],
) -> tuple[Params, Params]:
    size = algorithm.chunk_size or episodes.num_tasks
    if episodes.num_tasks <= size:
        grads, metrics = _chunk_gradient(algorithm, params, episodes, progress, keys)
        # In memory as the parameters are, which PyTorch's optimisers on a GPU insist on.
        return {name: g.contiguous() for name, g in grads.items()}, metrics
    means = []
    for i, chunk in enumerate(episodes.chunks(size)):
        share = chunk.num_tasks / episodes.num_tasks
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
    n_way = episodes.n_way

    def by(way: str) -> tuple[Params, Params]:
        given, features = algorithm.arranged(params, way), way == "shared_body"
        with noise.calls(training=True, keys=keys):
            if way in ("stacked", "shared_body"):
                with stacking():
                    return algorithm.mean_gradient(given, episodes, progress, of_features=features)
            # One gradient a task, averaged afterwards.  To differentiate through vmap instead
            # gives wrong numbers with batch norm and layer norm (PyTorch 2.13), see
            # tests/algorithms/test_maml.py.
            found = _one_by_one(
                way, lambda task: algorithm.task_gradient(given, task, n_way, progress), episodes
            )
            return tuple({n: v.mean(dim=0) for n, v in part.items()} for part in found)  # type: ignore[return-value]

    kind = "training" if algorithm.derivative_now(progress) == "first" else "training, 2nd order"
    return _first_that_works(algorithm, kind, candidates(algorithm, progress, training=True), by)


def score_steps(
    algorithm: Hooks,
    params: Params,
    episodes: Episodes,
    inner_steps: int | None,
    every_step: bool,
) -> Params:
    """See `Algorithm.score_steps`."""
    episodes = checked_episodes(algorithm, episodes, training=False)
    algorithm.network.look(episodes.support_x[0])

    def scored(tasks: Episodes, of_features: bool = False) -> Params:
        scores = algorithm.scores_each(
            params, tasks, inner_steps=inner_steps, every_step=every_step, of_features=of_features
        )
        return {name: torch.stack([s[name] for s in scores], dim=1) for name in scores[0]}

    def of_one(task: Episodes) -> Params:
        return first(scored(task.with_task()))

    def by(way: str) -> Params:
        with torch.no_grad(), noise.in_use(episodes.num_tasks):
            if way == "stacked":
                return scored(episodes)
            if way == "shared_body":
                return scored(features_in_place(algorithm, params, episodes), True)
            return _one_by_one(way, of_one, episodes)

    ways = candidates(algorithm, 1.0, training=False)
    return _first_that_works(algorithm, "use", ways, by)


def adapt_all(
    algorithm: Hooks,
    params: Params,
    support_x: Tensor,
    support_y: Tensor,
    inner_steps: int | None,
    n_way: int | None,
) -> list[Params]:
    """See `Algorithm.inner_loop_each`."""
    tasks = Episodes(support_x, support_y, support_x, support_y, n_way=n_way)
    tasks = checked_episodes(algorithm, tasks, training=False)
    algorithm.network.look(support_x[0])

    def of_one(task: Episodes) -> list[Params]:
        x, y = task.support_x, task.support_y
        steps = algorithm.inner_loop(params, x, y, inner_steps=inner_steps, n_way=tasks.n_way)
        return list(steps)

    def by(way: str) -> list[Params]:
        with torch.no_grad(), noise.in_use(len(support_x)):
            if way == "stacked":
                return list(algorithm.loops(params, tasks, inner_steps=inner_steps))
            return _one_by_one(way, of_one, tasks)

    ways = candidates(algorithm, 1.0, training=False)
    ways = ["loop"] if ways == ["shared_body"] or len(support_x) == 1 else ways
    return _first_that_works(algorithm, "use", ways, by)


def _one_by_one(way: str, function: Callable[[Episodes], T], episodes: Episodes) -> T:
    """`function` of each task on its own, stacked."""
    n_way = episodes.n_way
    if way == "vmap":

        def of_task(index: Tensor, *sets: Tensor) -> T:
            with noise.task(0, index):
                return function(Episodes(*sets, n_way=n_way))

        places = torch.arange(episodes.num_tasks, device=episodes.support_x.device)
        return torch.func.vmap(of_task, randomness="error")(places, *episodes)
    found = []
    for i, task in enumerate(episodes.tasks()):
        with noise.task(i):
            found.append(function(task))
    return stack(found)


# Errors that no other way would change.
_NOT_ABOUT_THE_WAY = (UserError, KeyboardInterrupt, MemoryError, torch.OutOfMemoryError)


def _first_that_works(
    algorithm: Hooks, kind: str, ways: Sequence[str], by: Callable[[str], T]
) -> T:
    """The result of the first way that works, which is remembered."""
    way = algorithm._failed.get(kind, ways[0]) if len(ways) > 1 else ways[0]
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            return _first_that_works(algorithm, kind, ways, by)
    try:
        return by(way)
    except _NOT_ABOUT_THE_WAY:
        raise
    except Exception as error:
        if way == ways[-1]:
            raise _clearer(error, algorithm, way) from error
        failure = error
    try:
        found = by(ways[-1])
    except _NOT_ABOUT_THE_WAY:
        raise
    except Exception as error:
        raise _clearer(error, algorithm, ways[-1]) from error
    if not algorithm._failed:
        _log.warning(
            "%s cannot be computed by %s, so its tasks go one by one (%s)",
            type(algorithm.model).__name__,
            way,
            first_line(failure),
        )
    algorithm._failed[kind] = ways[-1]
    return found


def _clearer(error: Exception, algorithm: Hooks, way: str) -> Exception:
    """The same error, reworded where PyTorch's message says too little."""
    text = first_line(error)
    if isinstance(error, IndexError) and "out of bounds" in text and "Target" in text:
        return UserError(
            f"a class label is not among the network's outputs ({text}): labels run from 0 to N-1, "
            "and the last layer needs a row for each class, or head='shared'"
        )
    if "forward AD" in text or "forward-mode" in text.lower():
        return UserError(
            f"an operation of the network or the loss has no forward derivative ({text}): use "
            "derivative='reverse', or leave execution at 'auto'"
        )
    return error
