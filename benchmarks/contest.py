"""What timing against other libraries has in common: compared first, then timed in turns."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

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
# precision the tutorial's network, whose rows of the head are equal at first, makes much of
# rounding.)
TOLERANCE = 1e-8


def rounds_of(once: float, rounds: int) -> int:
    """How many of `rounds` a contestant gets that takes `once` seconds."""
    return min(rounds, max(LEAST_ROUNDS, int(SECONDS_EACH / once)))


def recorded(
    maml: innerloop.MAML, params: Params, episodes: Episodes, precision: str
) -> MetaGradient:
    """As training computes it on a GPU."""
    meta_gradient = RecordedMetaGradient(maml, print)
    return in_precision(precision, lambda: meta_gradient(params, episodes, 1.0)[0])


def in_precision(precision: str, meta_gradient: MetaGradient) -> MetaGradient:
    def within() -> Params:
        with products(precision, "cuda"):
            return meta_gradient()

    return within


def seconds(meta_gradient: MetaGradient, device: str) -> float:
    """What one call takes, until the device has done it."""
    started = time.perf_counter()
    meta_gradient()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


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
