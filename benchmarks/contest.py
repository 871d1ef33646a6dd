"""Shared by all timings against other libraries: compare first, then time in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import innerloop
from innerloop import Episodes
from innerloop.functional import Params
from innerloop.ops.precision import products
from innerloop.training.recorded import RecordedMetaGradient

MetaGradient = Callable[[], Params]

ROUNDS, LEAST_ROUNDS = 12, 3
# A contestant that is slow gets fewer rounds, so that all are done within the hour.
SECONDS_EACH = 45.0
# Of the difference from our gradient in double precision, relative to its length.  (In single
# precision, the tutorial's network magnifies rounding errors, as the rows of its head are equal at
# first.)
TOLERANCE = 1e-8


@dataclass(frozen=True)
class Workload:
    """A workload: `tasks` of N-way K-shot with Q queries a class, `steps` inner steps.

    Args:
        network: makes the network.
        shape: of one example.
        without: contestants that are left out on a CPU, with the order, and why.
    """

    network: Callable[[], nn.Module]
    tasks: int
    n_way: int
    k_shot: int
    k_query: int
    steps: int
    lr: float
    shape: tuple[int, ...] = (1, 28, 28)
    without: tuple[tuple[str, str, str], ...] = ()

    def make(self) -> nn.Module:
        """The network, with the same weights every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.network()

    def targets(self, x: Tensor, per_class: int) -> Tensor:
        """Of examples `x` `[T, B, ...]`: their classes `[T, B]`."""
        return torch.arange(self.n_way).repeat_interleave(per_class).repeat(self.tasks, 1)

    def episodes(self, dtype: torch.dtype, device: str = "cpu") -> Episodes:
        generator = torch.Generator().manual_seed(0)

        def part(per_class: int) -> tuple[Tensor, Tensor]:
            size = (self.tasks, self.n_way * per_class, *self.shape)
            x = torch.rand(size, generator=generator)
            return x.to(dtype), self.targets(x, per_class)

        return Episodes(*part(self.k_shot), *part(self.k_query)).to(device)


def rounds_of(once: float, rounds: int) -> int:
    """How many of `rounds` a contestant gets whose first call took `once` seconds."""
    return min(rounds, max(LEAST_ROUNDS, int(SECONDS_EACH / once)))


def recorded(
    maml: innerloop.MAML, params: Params, episodes: Episodes, precision: str
) -> MetaGradient:
    """As training computes it on a GPU."""
    meta_gradient = RecordedMetaGradient(maml, print)
    return in_precision(precision, lambda: meta_gradient(params, episodes, 1.0)[0])


def in_precision(precision: str, meta_gradient: MetaGradient, device: str = "cuda") -> MetaGradient:
    def within() -> Params:
        with products(precision, device):
            return meta_gradient()

    return within


def seconds(meta_gradient: MetaGradient, device: str) -> float:
    """Seconds of one call, until the device has finished."""
    started = time.perf_counter()
    meta_gradient()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turns(
    running: dict[str, MetaGradient], rounds: dict[str, int], device: str = "cpu"
) -> dict[str, dict[str, Any]]:
    """Seconds of every contestant, each as often as its `rounds` say; another begins each turn."""
    names = list(running)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(max(rounds.values(), default=0)):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            if turn < rounds[name]:
                taken[name].append(seconds(running[name], device))
    return {
        name: {
            "rounds": rounds[name],
            "seconds": [round(s, 5) for s in found],
            "median": median(found),
        }
        for name, found in taken.items()
    }


def difference(ours: Params, theirs: Params) -> float:
    """The length of the difference of two gradients, relative to that of the first."""
    apart = sum((ours[name] - theirs[name]).square().sum() for name in ours)
    return (apart / sum(g.square().sum() for g in ours.values())).sqrt().item()


def agreed(name: str, ours: Params, theirs: Params) -> float:
    """`difference`, where it is within the tolerance; otherwise the measurement ends."""
    apart = difference(ours, theirs)
    if not apart <= TOLERANCE:
        raise SystemExit(f"{name} computes another gradient: they differ by {apart:.1e}")
    return apart
