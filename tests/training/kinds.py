"""Runs of each kind, small enough to be killed in a test: `begin(kind, out, report)`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

import innerloop
from innerloop.data.augment import Compose, RandomCrop, RandomHorizontalFlip
from innerloop.training.report import Report, SilentReport
from tests.training import own

LOOP: dict[str, Any] = {"iterations": 12, "meta_batch_size": 2, "val_every": 4, "val_tasks": 4}
LOOP |= {"test_tasks": 4, "threads": 1}
FILE = str(Path(own.__file__))


class Kill(SilentReport):
    """Ends the process within an iteration, without a chance to write anything."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def step(self, iteration: int, loss: float, share: float) -> None:
        if iteration == self.iteration:
            os.kill(os.getpid(), signal.SIGKILL)


def pictures() -> innerloop.data.Examples:
    """Sixteen classes of six pictures, from a data set of PyTorch's."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(96, 1, 8, 8, generator=generator)
    return innerloop.data.from_dataset(TensorDataset(x, torch.arange(96) % 16))


def network(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), *layers, nn.Linear(8, 3))


def of_objects(algorithm: Any, parts: Any, **changes: Any) -> Callable[..., Any]:
    """A run by `fit`, all of whose objects are made anew."""

    def begin(out: Path, report: Report | None, resume: bool) -> Any:
        train, val, _ = parts()
        settings: dict[str, Any] = {**LOOP, **changes}
        return innerloop.fit(
            algorithm(), train, val=val, out=out, report=report, resume=resume, **settings
        )

    return begin


def of_settings(**changes: Any) -> Callable[..., Any]:
    """A run by `train`, taken up from its folder alone."""

    def begin(out: Path, report: Report | None, resume: bool) -> Any:
        if resume:
            return innerloop.resume(out, report=report)
        settings: dict[str, Any] = {**LOOP, **changes}
        return innerloop.train(out=out, report=report, **settings)

    return begin


def augmented() -> Any:
    augment = Compose(RandomCrop(2), RandomHorizontalFlip())
    return innerloop.split_tasks(pictures(), n_way=3, k_query=2, augment=augment)


def varying() -> Any:
    shapes: dict[str, Any] = {"n_way": (2, 3), "k_shot": (1, 3), "meta_batch_size": 2}
    return innerloop.split_tasks(pictures(), k_query=2, **shapes)


def series() -> Any:
    return own.train(), own.val(), own.val()


KINDS: dict[str, Callable[..., Any]] = {
    "own algorithm": of_objects(own.algorithm, series),
    "own optimiser and schedule": of_objects(
        own.algorithm, series, meta_optimizer=torch.optim.AdamW, schedule=own.rate
    ),
    "by reference": of_settings(
        model=f"{FILE}:make",
        data=f"{FILE}:load",
        algorithm=f"{FILE}:Damped",
        loss=f"{FILE}:focal",
        metric=f"{FILE}:certainty",
        inner_reduction="mean",
        n_way=3,
        width=8,
    ),
    "augmented data set": of_objects(lambda: innerloop.MAML(network(), 0.1, 2), augmented),
    "varying ways": of_objects(lambda: innerloop.MAML(network(), 0.1, 2), varying),
    "dropout": of_objects(lambda: innerloop.MAML(network(nn.Dropout(0.3)), 0.1, 2), augmented),
    "own prototypes": of_objects(lambda: innerloop.ProtoNet(network()), augmented),
    "regression": of_settings(data="sinusoid", width=8),
    "inner Adam": of_settings(
        data="sinusoid", width=8, inner_optimizer="adam", inner_lr=0.001, inner_steps=2
    ),
    "rates by pattern": of_settings(
        data="sinusoid", width=8, inner_lr={"head.*": 0.02, "*": 0.005}, inner_momentum=0.5
    ),
}


def begin_and_be_killed(kind: str, out: str, iteration: int) -> None:
    KINDS[kind](Path(out), Kill(iteration), False)
