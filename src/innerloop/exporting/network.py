"""What is exported, as functions of tensors: the adapted network, and the learner."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.scores import logits_of
from innerloop.data.polarity import (
    APART,
    END,
    EVEN,
    HALF,
    MIDDLE,
    OUTER,
    apart,
    frame,
    surfaces,
)
from innerloop.exporting.tracing import exported, record, sizes_unlike
from innerloop.functional import Params
from innerloop.models.layers import given_statistics, seen_statistics

# Logits that differ by more are not the same: rounding is a thousandth of this.
TOLERANCE = 1e-3


class Pixels(NamedTuple):
    """From bytes to what the network takes.

    Attributes:
        raw: the network takes 0..255.
        inverted: ink is dark; None where the support images tell.
    """

    raw: bool
    inverted: bool | None

    def __call__(self, images: Tensor, support: Tensor | None = None) -> Tensor:
        """What the network takes, from bytes `[B, C, H, W]` and those of the support set."""
        x = images.float()
        if self.raw:
            return x
        x = x / 255
        if self.inverted is None:
            assert support is not None
            return torch.where(ink_is_dark(support), 1 - x, x)
        return 1 - x if self.inverted else x


def ink_is_dark(images: Tensor) -> Tensor:
    """`data.polarity.ink_is_dark` of grey bytes `[S, 1, H, W]`, a boolean scalar.

    There stands why; this is the same for a graph.
    """
    every = apart(*map(int, images.shape[2:]))
    x = images[:, 0, ::every, ::every].double()
    darkness, least, most = _by_edges_and_skewness(x)
    if deep := frame(*map(int, x.shape[1:])):
        inside = x[:, deep:-deep, deep:-deep]
        outer, inner = _median(_edges(x)), _median(_edges(inside))
        far = APART * (most - least)
        below, above = (most - outer > far) & (inner - least > far), outer - least > far
        framed = below | (above & (most - inner > far))
        within, low, high = _by_edges_and_skewness(inside)
        drawn = high - low > HALF * (most - least)
        darkness = torch.where(framed & drawn, within, darkness)
    total = darkness.sum()
    return (total > 0) | ((total == 0) & (images.double().mean() > MIDDLE))


def _by_edges_and_skewness(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    paper = _median(_edges(x))
    pixels = x.flatten(1)
    ordered = pixels.sort(dim=1).values
    outer = int(OUTER * pixels.shape[1])
    least, most = ordered[:, outer], ordered[:, -1 - outer]
    fitted = [torch.from_numpy(each) for each in surfaces(*map(int, x.shape[1:]))]
    rests = [pixels - (pixels @ surface) @ surface.T for surface in fitted]
    each = [-(r**3).mean(dim=1) / (r**2).mean(dim=1).sqrt().clamp(min=1e-3) ** 3 for r in rests]
    darkness = torch.stack(each).mean(dim=0)
    darkness = torch.where(darkness.abs() < EVEN, 0, darkness).clamp(-1, 1)
    darkness = torch.where(paper - least > END * (most - least), 1, darkness)
    return torch.where(most - paper > END * (most - least), -1, darkness), least, most


def _edges(x: Tensor) -> Tensor:
    """The outermost pixels of pictures `[S, H, W]`, in order."""
    return torch.cat([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], dim=1).sort(dim=1).values


def _median(ordered: Tensor) -> Tensor:
    middle = ordered.shape[1] // 2  # of an even number
    return (ordered[:, middle - 1] + ordered[:, middle]) / 2


class Learnt(NamedTuple):
    """What an adapted network predicts by.

    Attributes:
        algorithm, params: as in `Loaded`.
        fast: the adapted weights.
        support_x: `[S, C, H, W]` as the network takes it.
        pixels: from bytes to that.
        temperature: divides the logits.
    """

    algorithm: Algorithm
    params: Params
    fast: Params
    support_x: Tensor
    pixels: Pixels
    temperature: float


class _Adapted(nn.Module):
    def __init__(self, recorded: nn.Module) -> None:
        super().__init__()
        self.recorded = recorded

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"probabilities": self.recorded(images)}


def adapted(learnt: Learnt) -> ExportedProgram:
    """Bytes `images` `[B, C, H, W]` to `probabilities` `[B, N]`.

    Raises:
        UserError: the network cannot be exported.
    """
    outputs = _outputs(learnt)

    def classify(images: Tensor) -> Tensor:
        return (outputs(learnt.pixels(images)) / learnt.temperature).softmax(dim=1)

    shape = learnt.support_x.shape
    example = torch.zeros(next(sizes_unlike(*shape)), *shape[1:], dtype=torch.uint8)
    module = _Adapted(record(classify, example))
    axes = {"images": {0: Dim("images", min=1)}}
    return exported(module, (example,), axes, lambda x: {"probabilities": classify(x)})


def _outputs(learnt: Learnt) -> Callable[[Tensor], Tensor]:
    """From queries to logits; without the support set, where its statistics can stand for it."""
    algorithm, params, support_x = learnt.algorithm, learnt.params, learnt.support_x

    def outputs(x: Tensor) -> Tensor:
        found: Tensor = algorithm.predictor(params, support_x, x)(learnt.fast)
        return found

    if algorithm.bn != "support":
        return outputs
    plain = copy.copy(algorithm)
    plain.bn = "transductive"
    with torch.no_grad(), seen_statistics(unbiased=False) as statistics:
        plain.predictor(params, support_x, support_x)(learnt.fast)

    def by_constants(x: Tensor) -> Tensor:
        with given_statistics(statistics):
            found: Tensor = plain.predictor(params, support_x, x)(learnt.fast)
            return found

    # A norm that is called twice has other statistics each time.
    probe = torch.cat([support_x.flip(0), 0.5 * support_x])
    with torch.no_grad():
        same = torch.allclose(outputs(probe), by_constants(probe), TOLERANCE, TOLERANCE)
    return by_constants if same else outputs


class _Learner(nn.Module):
    """Counts the classes; to the recorded inner loop their number is the length of an axis."""

    def __init__(self, recorded: nn.Module, temperature: float, any_ways: bool) -> None:
        super().__init__()
        self.recorded, self.temperature, self.any_ways = recorded, temperature, any_ways

    def forward(self, support: Tensor, labels: Tensor, queries: Tensor) -> dict[str, Tensor]:
        ways = labels
        if self.any_ways:
            n_way = labels.max().item() + 1
            torch._check(n_way >= 2)
            ways = torch.arange(n_way)
        logits = self.recorded(support, labels, queries, ways)
        probabilities = (logits / self.temperature).softmax(dim=-1)
        return {"logits": logits, "probabilities": probabilities}


def learner(
    algorithm: Algorithm,
    params: Params,
    shape: tuple[int, ...],
    pixels: Pixels,
    *,
    inner_steps: int,
    n_way: int | None,
    temperature: float,
) -> ExportedProgram:
    """A support set and queries to outputs before the first and after each inner step.

    It takes bytes `support` `[S, C, H, W]`, `labels` `[S]`, and bytes `queries` `[Q, C, H, W]`, and
    gives `logits` and `probabilities` `[steps + 1, Q, N]`.

    Args:
        shape: `(C, H, W)`.
        n_way: N of a network that is made for so many classes; None to count the labels.

    Raises:
        UserError: the network or the algorithm cannot be exported.
    """

    def learn(support: Tensor, labels: Tensor, queries: Tensor, ways: Tensor) -> Tensor:
        x, queries = pixels(support, support), pixels(queries, support)
        predict = algorithm.predictor(params, x, queries)
        classes = n_way or ways.shape[0]
        steps = algorithm.inner_loop(params, x, labels, inner_steps=inner_steps, n_way=classes)
        return torch.stack([logits_of(predict(weights)) for weights in steps])

    sizes = sizes_unlike(*shape, n_way or 0)
    s, q, n = (next(sizes) for _ in range(3))
    support = torch.zeros(s, *shape, dtype=torch.uint8)
    queries = torch.zeros(q, *shape, dtype=torch.uint8)
    labels = torch.arange(s) % (n_way or n)
    recorded = record(learn, support, labels, queries, torch.arange(n))
    number = Dim("supports", min=2)
    axes: dict[str, dict[int, Any]] = {
        "support": {0: number},
        "labels": {0: number},
        "queries": {0: Dim("queries", min=1)},
    }
    return exported(
        _Learner(recorded, temperature, n_way is None),
        (support, labels, queries),
        axes,
        lambda x, y, q: {"logits": learn(x, y, q, torch.arange(int(y.max()) + 1))},
    )
