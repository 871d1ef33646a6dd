"""`fit` on a user's own objects, and `resume` of any run."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from innerloop.algorithms.base import Algorithm
from innerloop.build import check_device
from innerloop.config import TrainConfig
from innerloop.errors import UserError
from innerloop.files import at_home
from innerloop.keywords import keywords_checked
from innerloop.outer_loop import OPTIMIZERS, SCHEDULES, OuterLoop
from innerloop.references import (
    absolute,
    call,
    check_trust,
    find,
    is_reference,
    reference_to,
    trust,
)
from innerloop.runs.fit_config import OBJECTS, FitConfig
from innerloop.runs.folder import CONFIG, read_config
from innerloop.tasks.protocol import Tasks, check_tasks, is_maker, name_of
from innerloop.tasks.sampler import EpisodeSampler
from innerloop.training.job import Job
from innerloop.training.outputs import warn_of_outputs
from innerloop.training.report import Report
from innerloop.training.run import Run, build_job, go_on, start

AlgorithmSource = Algorithm | Callable[[], Algorithm] | str
"""An algorithm, a function without arguments that makes it, or a reference to such a function."""
TasksSource = Tasks | Callable[[], Tasks] | str
"""Tasks, a function without arguments that makes them, or a reference to such a function."""


@keywords_checked
def fit(
    algorithm: AlgorithmSource,
    train: TasksSource,
    *,
    val: TasksSource | None = None,
    test: TasksSource | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    report: Report | None = None,
    iterations: int = OuterLoop.iterations,
    max_seconds: float | None = OuterLoop.max_seconds,
    meta_batch_size: int = OuterLoop.meta_batch_size,
    meta_optimizer: str | Callable[..., Optimizer] = OuterLoop.meta_optimizer,
    meta_lr: float = OuterLoop.meta_lr,
    schedule: str | Callable[[float], float] = OuterLoop.schedule,
    clip_value: float | None = OuterLoop.clip_value,
    clip_norm: float | None = OuterLoop.clip_norm,
    seed: int = OuterLoop.seed,
    val_every: int = OuterLoop.val_every,
    val_tasks: int = OuterLoop.val_tasks,
    test_tasks: int = OuterLoop.test_tasks,
    eval_inner_steps: int | None = OuterLoop.eval_inner_steps,
    threads: int | None = OuterLoop.threads,
    device: str | torch.device = OuterLoop.device,
    precision: Literal["float32", "tf32", "bf16"] = OuterLoop.precision,
) -> Run:
    """Meta-train your own algorithm, on your own network and tasks; test the best weights.

    The network itself is not changed: the trained weights are in the run.  What is written is what
    `train` writes.  A run is resumed exactly, to the last bit, with the same objects: the
    checkpoint has a fingerprint of them, and others are refused.

    Args:
        algorithm: any `Algorithm` on any `nn.Module`.  This, and every source of tasks, can also
            be a function without arguments that makes it, or a reference to one, `MODULE:NAME` or
            `FILE.py:NAME`; what a module's own function made need not be passed to `resume`.
        train: training tasks, any `Tasks`.
        val: tasks to choose the best weights by; None for the last weights.
        test: tasks for the test at the end; None for no test.
        out: the folder for the run; None for the next free one below `runs/`.
        resume: go on with the run in `out`; start it where nothing is there yet.  With other
            `iterations` or `max_seconds` it goes on to that length, see `resume`.
        report: shows progress, such as `TerminalReport()`; None for silence.
        iterations, max_seconds, meta_batch_size, meta_lr, clip_value, clip_norm, val_every,
            val_tasks, test_tasks, eval_inner_steps, threads, precision: see `OuterLoop`.
        meta_optimizer: a name, or a class or function that is called with the parameters and `lr=`.
        schedule: a name, or a function from the share of the run that is done, 0..1, to a factor.
        seed: of the masks of dropout; weights and tasks are yours.
        device: where the network is; tasks are moved there.

    Raises:
        UserError: values out of range, objects that do not fit, a folder in use, a run that began
            otherwise, a diverging loss.

    Warns:
        UserWarning: `val` or `test` are training tasks, or have classes in common with them; or
            the network ends in a softmax, before that of cross_entropy.

    Example:
        >>> import innerloop, tempfile, torch
        >>> maml = innerloop.MAML(innerloop.models.MLP(1, 1), 0.01, loss=torch.nn.MSELoss())
        >>> run = innerloop.fit(
        ...     maml, innerloop.SinusoidSampler(), out=tempfile.mkdtemp(), iterations=2, clip_norm=1
        ... )
        >>> run.results["iterations"]
        2
    """
    given: dict[str, Any] = {"algorithm": algorithm, "train": train, "val": val, "test": test}
    functions = {"meta_optimizer": meta_optimizer, "schedule": schedule}
    known = (*OPTIMIZERS, *SCHEDULES)
    given |= {n: f for n, f in functions.items() if callable(f) or f not in known}
    outer = OuterLoop(
        iterations=iterations,
        max_seconds=max_seconds,
        meta_batch_size=meta_batch_size,
        meta_optimizer=meta_optimizer if isinstance(meta_optimizer, str) else "own:function",
        meta_lr=meta_lr,
        schedule=schedule if isinstance(schedule, str) else "own:function",
        clip_value=clip_value,
        clip_norm=clip_norm,
        seed=seed,
        val_every=val_every,
        val_tasks=val_tasks,
        test_tasks=test_tasks,
        eval_inner_steps=eval_inner_steps,
        threads=threads,
        device=str(device),
        precision=precision,
    )
    for name in ("algorithm", "train", *functions):
        if given.get(name, name) is None:
            raise UserError(f"{name} must not be None")
    given = {name: value for name, value in given.items() if value is not None}
    trust(text for text in map(_reference, given.values()) if text is not None)

    def make(report: Report) -> Job:
        job = _job(outer.to_dict(), given)
        warn_of_outputs(job.algorithm, job.tasks, warnings.warn, for_classifier=False)
        return job

    if resume and out is None:
        raise UserError("resume=True needs out, the folder of the run")
    if resume and (at_home(str(out)) / CONFIG).exists():
        folder = at_home(str(out))
        if not isinstance(read_config(folder), FitConfig):
            raise UserError(f"the run in {folder} was begun by train: use innerloop.resume")
        return go_on(folder, outer, make, report=report)
    return start(outer, make, out=out, report=report)


@keywords_checked
def resume(
    folder: str | Path,
    *,
    algorithm: AlgorithmSource | None = None,
    train: TasksSource | None = None,
    val: TasksSource | None = None,
    test: TasksSource | None = None,
    meta_optimizer: Callable[..., Optimizer] | None = None,
    schedule: Callable[[float], float] | None = None,
    iterations: int | None = None,
    max_seconds: float | None = None,
    trust: bool = False,
    report: Report | None = None,
) -> Run:
    """Go on with an interrupted run, or give a finished one more iterations.

    The result is that of a run that was never interrupted, to the last bit
    (on the same machine and number of threads, without `max_seconds`).  With more `iterations` it
    is that of a run as long from the start, where the old length is a multiple of `val_every`;
    otherwise the validation at the old end is one more.  A run whose schedule or algorithm
    depends on its length cannot be given another.

    Args:
        folder: the run folder.
        iterations, max_seconds: a new length; None for that of the run.
        algorithm, train, val, test, meta_optimizer, schedule: the objects that a run by `fit` began
            with, as far as they were not made by functions that can be imported.
        trust: run the code that the folder names, although you never used it on this machine.
        report: shows progress; None for silence.

    Raises:
        UserError: `folder` is not a run folder, all its checkpoints are damaged, another process is
            working in it, its data is gone, an object is missing, or one differs from what the run
            began with (the message says how), or the run cannot have that length.
    """
    folder = at_home(folder)
    config = read_config(folder)
    length: dict[str, Any] = {"iterations": iterations, "max_seconds": max_seconds}
    length = {name: value for name, value in length.items() if value is not None}
    config = dataclasses.replace(config, **length)
    given: dict[str, Any] = {"algorithm": algorithm, "train": train, "val": val, "test": test}
    given |= {"meta_optimizer": meta_optimizer, "schedule": schedule}
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(config, TrainConfig):
        if given:
            raise UserError(f"{folder} names all that it needs: leave out {', '.join(given)}")
        config = config.found_in(folder)
        config.check_data(
            folder, lambda name: f"write its new place as {name} into {folder / CONFIG}"
        )
        check_trust(config.references, folder, trust)
        return go_on(folder, config, lambda report: build_job(config, None, report), report=report)
    needed = {name: text for name, text in config.made_by.items() if name not in given}
    missing = [name for name, text in needed.items() if text is None]
    if missing:
        raise UserError(
            f"the run in {folder} began with objects that cannot be imported: pass "
            f"{', '.join(f'{name}=' for name in missing)} to resume"
        )
    check_trust([text for text in needed.values() if text], folder, trust)
    unknown = given.keys() - config.made_by.keys()
    if unknown:
        raise UserError(f"the run in {folder} began without {', '.join(sorted(unknown))}")
    outer = {n: v for n, v in config.to_dict().items() if n in OuterLoop().to_dict()}
    objects = {name: given.get(name, text) for name, text in config.made_by.items()}
    return go_on(folder, config, lambda report: _job(outer, objects), report=report)


def _reference(value: Any) -> str | None:
    """What a run folder records of an object: where to find what makes it."""
    if isinstance(value, str):
        return absolute(value) if is_reference(value) else None
    return None if isinstance(value, Algorithm) else reference_to(value)


def _job(outer: Mapping[str, Any], given: Mapping[str, Any]) -> Job:
    """What a run works with, from objects, functions that make them, or references to these."""
    made: dict[str, Any] = {}
    for name in OBJECTS:
        if name not in given:
            continue
        value = given[name]
        if isinstance(value, str):
            value = find(value)
        if name in ("meta_optimizer", "schedule"):
            kind = value.func if isinstance(value, functools.partial) else value
            if not callable(value) or (name == "schedule" and isinstance(kind, type)):
                what = f"the class {kind.__name__}" if isinstance(kind, type) else repr(value)
                raise UserError(
                    f"{name} must be a name or a function, see innerloop.fit; not {what}"
                )
        elif not isinstance(value, Algorithm | nn.Module) and is_maker(value):
            value = call(_reference(value) or name, value)
        made[name] = value
    algorithm = made.pop("algorithm")
    if not isinstance(algorithm, Algorithm):
        raise UserError(f"algorithm must be an innerloop.Algorithm, not {type(algorithm).__name__}")
    tasks: dict[str, Tasks] = {
        name: made[name] for name in ("train", "val", "test") if name in made
    }
    check_tasks(**tasks)
    _check_place(algorithm, str(outer["device"]))
    config = FitConfig(
        **outer,
        algorithm=type(algorithm).__name__,
        model=type(algorithm.model).__name__,
        data=name_of(tasks["train"]),
        inputs=_inputs(tasks["train"]),
        made_by={name: _reference(value) for name, value in given.items()},
    )
    return Job(
        config,
        algorithm,
        tasks,
        optimizer=made.get("meta_optimizer"),
        schedule=made.get("schedule"),
        own=True,
    )


def _inputs(train: Tasks) -> str:
    """How the tasks scale bytes, so that it is repeated at test time; 0 to 1 if unknown."""
    if isinstance(train, EpisodeSampler) and train.data.pixels:
        return train.inputs
    return FitConfig.inputs


def _check_place(algorithm: Algorithm, device: str) -> None:
    """Raise a `UserError` where the network is elsewhere than the run is to be computed."""
    check_device(device)
    for name, p in algorithm.model.named_parameters():
        if p.is_meta:
            raise UserError(
                f"{name} of the network is on the meta device and has no values: make the network "
                f"on {device}, or give it memory by network.to_empty(device={device!r}) and load "
                "its weights"
            )
        if p.device.type != device.partition(":")[0]:
            raise UserError(
                f"device is {device}, but {name} of the network is on {p.device}: move the network "
                f"first, network.to({device!r}), or give device={str(p.device)!r}"
            )
