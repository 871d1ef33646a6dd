"""Which way tasks are computed: the one place that decides.

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

from collections.abc import Sequence

from torch import nn

from innerloop.algorithms.hooks import Hooks, overrides
from innerloop.algorithms.network import is_untouched, takes_tasks
from innerloop.errors import UserError
from innerloop.ops import kernels

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
    if not algorithm.network.is_head_on_features():
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


def keeps_tasks_apart(algorithm: Hooks) -> bool:
    """True if images of several tasks can go through the body in one batch.

    The batch norm of this package can be told which images belong together, PyTorch's cannot,
    unless it uses statistics that do not depend on the batch.
    """
    foreign = nn.modules.batchnorm._BatchNorm
    return not any(
        isinstance(m, foreign) and not (algorithm.bn == "frozen" and m.running_mean is not None)
        for m in algorithm.model.modules()
    )
