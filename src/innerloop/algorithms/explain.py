"""How tasks are computed, in words."""

from __future__ import annotations

from innerloop.algorithms.execution import (
    candidates,
    has_failed,
    why_not,
    why_slower_stacked,
    why_slower_under_vmap,
)
from innerloop.algorithms.hooks import Hooks
from innerloop.algorithms.network import Layers


def explain(algorithm: Hooks, progress: float) -> str:
    """How tasks are computed in training, and why not in another way."""
    ways = candidates(algorithm, progress, training=True)
    kinds = [kind for kind in algorithm._failed if kind.startswith("training")]
    failed = any(has_failed(algorithm, kind, ways) for kind in kinds)
    way = ways[-1] if failed else ways[0]
    lines = [f"{way}: {_MEANINGS[way]}"]
    if algorithm.execution == "auto":
        layers = Layers(algorithm.model)
        reasons = {
            "shared_body": why_not(algorithm, "shared_body", progress, training=True),
            "stacked": why_not(algorithm, "stacked", progress, training=True)
            or why_slower_stacked(layers),
        }
        if way == "loop":
            reasons["vmap"] = why_slower_under_vmap(algorithm, layers) or why_not(
                algorithm, "vmap", progress, training=True
            )
        if failed:
            reasons[ways[0]] = "it fails for this network or loss"
        lines += [
            f"not {other}: {reason}" for other, reason in reasons.items() if reason and other != way
        ]
    network = algorithm.network
    if way == "stacked" and network.apart:
        lines.append(f"in it by vmap, or one task after the other: {', '.join(network.apart)}")
    if network.without:
        lines.append(f"without gradients, unused or cut off: {', '.join(network.without)}")
    return "\n".join(lines)


_MEANINGS = {
    "stacked": "all tasks together, with an axis of tasks on images and weights",
    "shared_body": "the features of all tasks in one batch, as the inner loop moves the head alone",
    "vmap": "torch.func.vmap over the tasks, one by one where it fails",
    "loop": "one task after the other, by plain autograd",
}
