"""The arms of `benchmarks.bugs`: a small MAML in torch.func, in which each bug is a switch."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vjp, vmap

import innerloop
from innerloop.functional import dot

Params = dict[str, Tensor]

WAYS, TEST_QUERIES = 5, 15  # classes a task, test queries a class
INNER_LR, INNER_STEPS, WIDTH = 0.4, 3, 16
PULL, IMPLICIT_STEPS, CG_STEPS = 2.0, 6, 5  # of iMAML; PULL is the paper's lambda


@dataclasses.dataclass(frozen=True)
class Arm:
    """The correct way, and what a bug changes."""

    method: str = "maml"  # or "imaml", "protonet"
    detach: bool = False  # the inner gradient counts as a constant
    outside: bool = False  # the gradient of vmap instead of vmap of the gradient
    norm: str = "batch"  # or "none"
    adapt_norm: bool = True  # the inner loop moves scale and shift, too
    inputs: str = "ink"  # or "raw", 0..255
    same_task: bool = False  # every worker draws the same task
    restart_every: int | None = None  # start over: data and optimiser, but not the weights
    system: str = "I + H/pull"  # that iMAML solves
    squared: bool = True  # the distances of ProtoNet
    seed: int = 0


# The correct arm first, then those that are compared with it.
ARMS: dict[str, Arm] = {
    "right": Arm(),
    "another seed": Arm(seed=1),
    "a third seed": Arm(seed=2),
    "a fourth seed": Arm(seed=3),
    "detached": Arm(detach=True),
    "grad of vmap": Arm(outside=True),
    "norm not adapted": Arm(adapt_norm=False),
    "inputs 0..255": Arm(inputs="raw"),
    "no norm": Arm(norm="none"),
    "no norm, inputs 0..255": Arm(norm="none", inputs="raw"),
    "workers with one seed": Arm(same_task=True),
    "resumed every 50": Arm(restart_every=50),
    "iMAML": Arm(method="imaml"),
    "iMAML, I + pull H": Arm(method="imaml", system="I + pull H"),
    "ProtoNet": Arm(method="protonet"),
    "ProtoNet, not squared": Arm(method="protonet", squared=False),
}
# What some arms are compared with instead of "right".
BASE = {
    "no norm, inputs 0..255": "no norm",
    "iMAML, I + pull H": "iMAML",
    "ProtoNet, not squared": "ProtoNet",
}


# --- the network -------------------------------------------------------------------------------


def init_weights(seed: int) -> Params:
    """Four convolutions with stride 2, and a head of zeros."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for i, inputs in enumerate([1, WIDTH, WIDTH, WIDTH]):
        w = torch.randn(WIDTH, inputs, 3, 3, generator=generator)
        weights[f"conv{i}"] = w * (2 / (9 * inputs)) ** 0.5
        weights[f"scale{i}"], weights[f"shift{i}"] = torch.ones(WIDTH), torch.zeros(WIDTH)
    return {**weights, "head": torch.zeros(WAYS, 4 * WIDTH), "bias": torch.zeros(WAYS)}


def network(
    weights: Params,
    x: Tensor,
    norm: str = "batch",
    *,
    first: int | None = None,
    running: list[tuple[Tensor, Tensor]] | None = None,
    seen: list[tuple[Tensor, Tensor]] | None = None,
    features: bool = False,
) -> Tensor:
    """Pictures `[B, 1, 28, 28]` to logits `[B, WAYS]`.

    Batch norm takes its statistics from the whole batch, from its `first` pictures, or from
    `running`; what it finds is noted in `seen`.
    """
    for i in range(4):
        x = F.conv2d(x, weights[f"conv{i}"], stride=2, padding=1)
        scale, shift = weights[f"scale{i}"], weights[f"shift{i}"]
        if norm == "none":
            x = x * scale[:, None, None] + shift[:, None, None]
        else:
            if seen is not None:
                variance, mean = torch.var_mean(x, (0, 2, 3))
                seen.append((mean, variance))
            if running is not None:
                x = F.batch_norm(x, *running[i], scale, shift, training=False)
            elif first is not None:
                variance, mean = torch.var_mean(x[:first], (0, 2, 3), correction=0)
                x = F.batch_norm(x, mean, variance, scale, shift, training=False)
            else:
                x = F.batch_norm(x, None, None, scale, shift, training=True)
        x = F.relu(x)
    x = x.flatten(1)
    return x if features else F.linear(x, weights["head"], weights["bias"])


# --- the methods -------------------------------------------------------------------------------


def inner_step(arm: Arm, weights: Params, fast: Params, x: Tensor, y: Tensor, **norm) -> Params:
    """One step on the support set; for iMAML with the pull back to `weights`."""

    def loss(fast: Params) -> Tensor:
        value = F.cross_entropy(network(fast, x, arm.norm, **norm), y)
        if arm.method == "imaml":
            away = torch.stack([(fast[n] - weights[n]).square().sum() for n in fast]).sum()
            value = value + PULL / 2 * away
        return value

    gradient = grad(loss)(fast)
    if arm.detach:
        gradient = {name: g.detach() for name, g in gradient.items()}
    still = () if arm.adapt_norm else ("scale", "shift")
    rate = 0.1 if arm.method == "imaml" else INNER_LR
    return {n: w if n.startswith(still) else w - rate * gradient[n] for n, w in fast.items()}


def adapt(arm: Arm, weights: Params, x: Tensor, y: Tensor, **norm) -> Params:
    """The fast weights of one task."""
    fast = weights
    for _ in range(IMPLICIT_STEPS if arm.method == "imaml" else INNER_STEPS):
        fast = inner_step(arm, weights, fast, x, y, **norm)
    return fast


def prototype_logits(arm: Arm, weights: Params, sx: Tensor, sy: Tensor, qx: Tensor) -> Tensor:
    """Minus the distance of each query to each class mean."""
    support, queries = (network(weights, x, features=True) for x in (sx, qx))
    # one_hot does not go through vmap.
    of_class = (sy == torch.arange(WAYS)[:, None]).to(support)
    means = of_class @ support / of_class.sum(1, keepdim=True)
    square = (queries[:, None] - means).square().sum(-1)
    return -square if arm.squared else -(square + 1e-12).sqrt()


def outputs(
    arm: Arm, weights: Params, sx: Tensor, sy: Tensor, qx: Tensor, bn: str, running: Any
) -> Tensor:
    """Logits of the queries of one task, after adaptation."""
    if arm.method == "protonet":
        return prototype_logits(arm, weights, sx, sy, qx)
    if bn == "running":
        fast = adapt(arm, weights, sx, sy, running=running)
        return network(fast, qx, arm.norm, running=running)
    fast = adapt(arm, weights, sx, sy)
    if bn == "support":
        return network(fast, torch.cat([sx, qx]), arm.norm, first=len(sx))[len(sx) :]
    if bn == "transductive":
        return network(fast, qx, arm.norm)
    # The same queries, a few at a time: "3", or those of one class, "class" (they come sorted).
    size = TEST_QUERIES if bn == "class" else int(bn)
    return torch.cat([network(fast, part, arm.norm) for part in qx.split(size)])


def implicit_gradient(arm: Arm, weights: Params, sx, sy, qx, qy) -> tuple[Params, Tensor]:
    """iMAML: conjugate gradient on the system that the arm names."""
    fast = {n: w.detach() for n, w in adapt(arm, weights, sx, sy).items()}
    g, loss = torch.func.grad_and_value(lambda w: F.cross_entropy(network(w, qx), qy))(fast)
    curvature = vjp(grad(lambda w: F.cross_entropy(network(w, sx), sy)), fast)[1]
    share = 1 / PULL if arm.system == "I + H/pull" else PULL
    v = {n: torch.zeros_like(t) for n, t in g.items()}
    rest, way, square = g, g, dot(g, g)
    for _ in range(CG_STEPS):
        h = curvature(way)[0]
        image = {n: way[n] + share * h[n] for n in way}
        length = square / (dot(way, image) + 1e-30)
        v = {n: v[n] + length * way[n] for n in v}
        rest = {n: rest[n] - length * image[n] for n in v}
        square, before = dot(rest, rest), square
        way = {n: rest[n] + square / (before + 1e-30) * way[n] for n in v}
    return v, loss


def meta_gradient(arm: Arm, weights: Params, batch: innerloop.Episodes) -> tuple[Params, float]:
    """The mean over the tasks, and the mean query loss."""

    def loss(weights: Params, sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor) -> Tensor:
        return F.cross_entropy(outputs(arm, weights, sx, sy, qx, "transductive", None), qy)

    axes = (None, 0, 0, 0, 0)
    if arm.outside:
        grads, value = torch.func.grad_and_value(lambda w: vmap(loss, axes)(w, *batch).mean())(
            weights
        )
        return grads, value.item()
    one = (
        (lambda *task: implicit_gradient(arm, *task))
        if arm.method == "imaml"
        else torch.func.grad_and_value(loss)
    )
    grads, value = vmap(one, axes)(weights, *batch)
    return {n: g.mean(0) for n, g in grads.items()}, value.mean().item()
