"""A training run from its settings to its results: begun, or taken up again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from innerloop import __version__
from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.execution import fastest
from innerloop.build import (
    SINUSOID,
    absolute_paths,
    build_algorithm,
    build_model,
    build_samplers,
    num_classes,
)
from innerloop.config import TrainConfig
from innerloop.data.base import ImageClasses
from innerloop.errors import UserError
from innerloop.evaluation import evaluate
from innerloop.files import held, remove_unfinished, write_whole
from innerloop.functional import Params
from innerloop.ops.precision import products
from innerloop.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    RESULTS,
    State,
    cut_metrics,
    keep_checkpoints,
    new_folder,
    new_state,
    read_config,
    read_state,
    refuse_used,
    restore,
)
from innerloop.tasks.protocol import TaskSampler
from innerloop.training.distributed import World
from innerloop.training.loop import meta_train
from innerloop.training.report import Report, SilentReport
from innerloop.training.signals import stop_requests


@dataclass(frozen=True)
class Run:
    """What a training run leaves behind.

    Attributes:
        folder: the run folder.
        algorithm: the algorithm with its network.
        params: the meta-parameters that did best on validation.
        results: test results, see `evaluate`, with `iterations`, `seconds` and more.
        interrupted: the run was stopped before its end and can be resumed.
    """

    folder: Path
    algorithm: Algorithm
    params: Params
    results: dict[str, Any]
    interrupted: bool = False


def train(
    config: TrainConfig | None = None,
    *,
    out: str | Path | None = None,
    data: ImageClasses | str | None = None,
    report: Report | None = None,
    **settings: Any,
) -> Run:
    """Meta-train, choose the best weights on validation tasks, test them.

    Args:
        config: the settings; None for the `quick` recipe on glyphs.
        out: a new folder for the run; None for the next free one below `runs/`.
        data: a data set object in place of `config.data`, or a value for it.
        report: shows progress; None for silence.
        settings: single settings that differ from `config`, see `TrainConfig`.

    Returns:
        The finished run; its folder holds config, metrics, checkpoint, weights,
        results and a picture.

    Raises:
        UserError: settings or data that do not fit, a folder in use, a diverging loss.
    """
    if isinstance(data, ImageClasses):
        settings["data"] = data.name
    elif data is not None:
        settings["data"] = data
    given_settings = {**config.to_dict(), **settings} if config else settings
    asked = absolute_paths(TrainConfig.from_dict(given_settings))
    given = data if isinstance(data, ImageClasses) else None
    with _world(report) as (world, report, until_done):
        until_done.enter_context(products(asked.precision, asked.device))
        if out is not None:
            # Said before data is prepared, which may take long.
            world.from_main(lambda: refuse_used(Path(out)))
        config, algorithm, samplers = _make_ready(asked, given, report, world)
        config = _measured(config, algorithm, samplers["train"], world)
        folder = Path(world.from_main(lambda: str(_start_folder(out, config, until_done))))
        state = new_state(config, algorithm)
        return _run(config, folder, algorithm, samplers, state, report, world)


def _measured(
    config: TrainConfig, algorithm: Algorithm, train: TaskSampler, world: World
) -> TrainConfig:
    """`config` with `execution: fastest` replaced by the way that is, so that resuming keeps it."""
    if config.execution != "fastest":
        return config
    tasks = len(world.share(config.meta_batch_size))
    way = world.from_main(
        lambda: fastest(algorithm, algorithm.init_params(), train.batch(0, tasks))
    )
    algorithm.execution = way
    return dataclasses.replace(config, execution=way)  # type: ignore[arg-type]


def _start_folder(
    out: str | Path | None, config: TrainConfig, until_done: contextlib.ExitStack
) -> Path:
    """A new run folder with the config in it, held by this process."""
    folder = new_folder(out, config)
    until_done.enter_context(held(folder))
    # Another process may have been faster.
    refuse_used(folder)
    remove_unfinished(folder)
    with write_whole(folder / CONFIG) as file:
        file.write(yaml.safe_dump(config.to_dict(), sort_keys=False).encode())
    return folder


def resume(folder: str | Path, *, report: Report | None = None) -> Run:
    """Go on with an interrupted run, from its folder alone.

    The result is that of a run that was never interrupted, to the last bit
    (on the same machine and number of threads, without `max_seconds`).

    Raises:
        UserError: `folder` is no run folder, all its checkpoints are damaged, or another
            process is working in it.
    """
    folder = Path(folder)
    with _world(report) as (world, report, until_done):
        # Rank 0 reads, and tells the others: the folder may be on its machine alone.
        asked = world.from_main(lambda: _take_up(folder, until_done))
        until_done.enter_context(products(asked.precision, asked.device))
        config, algorithm, samplers = _make_ready(asked, None, report, world)
        saved = world.from_main(lambda: read_state(folder, samplers["train"], report.warning))
        state = new_state(config, algorithm)
        if saved is not None:
            restore(state, saved, f"the checkpoint in {folder}")
        world.from_main(lambda: cut_metrics(folder, state))
        return _run(config, folder, algorithm, samplers, state, report, world)


def _take_up(folder: Path, until_done: contextlib.ExitStack) -> TrainConfig:
    """The config of a run folder, which is held by this process from now on."""
    config = read_config(folder)
    until_done.enter_context(held(folder))
    for place in (folder, folder / CHECKPOINTS):
        remove_unfinished(place)
    return config


@contextlib.contextmanager
def _world(report: Report | None) -> Iterator[tuple[World, Report, contextlib.ExitStack]]:
    """The processes of the run, of which only the first one reports, and what ends with it."""
    world = World.join()
    with contextlib.ExitStack() as until_done:
        yield world, report if report and world.is_main else SilentReport(), until_done
        # After an error there is nobody to part from.
        world.leave()


def _make_ready(
    config: TrainConfig, data: ImageClasses | None, report: Report, world: World
) -> tuple[TrainConfig, Algorithm, dict[str, TaskSampler]]:
    """Build what a run works with; `data` None is built too, from `config`."""
    world.share(config.meta_batch_size)
    world.use(config.device)
    return world.main_first(lambda: _build(config, data, report))


def _build(
    config: TrainConfig, data: ImageClasses | None, report: Report
) -> tuple[TrainConfig, Algorithm, dict[str, TaskSampler]]:
    if config.threads:
        torch.set_num_threads(config.threads)
    if data is not None and data.name == SINUSOID:
        raise UserError("a data set of images cannot be called sinusoid: give it another name")
    config, samplers = build_samplers(config, data, progress=report.shows_progress)
    train = samplers["train"]
    model = build_model(config, train.input_shape)
    return config, build_algorithm(config, model, num_classes(train)), samplers


def _run(
    config: TrainConfig,
    folder: Path,
    algorithm: Algorithm,
    samplers: dict[str, TaskSampler],
    state: State,
    report: Report,
    world: World,
) -> Run:
    """Train from `state` to the end, then test; or stop early with a checkpoint."""
    report.start(config, folder, state.iteration)
    with stop_requests() as stop, report.training(config):
        stopped = meta_train(config, folder, algorithm, samplers, state, report, stop, world)
    if stopped:
        report.interrupted(folder, state.iteration)
        return Run(folder, algorithm, state.best, {}, interrupted=True)

    # Every process tests, as every process validates: none has to wait for the result.
    with report.testing(config.test_tasks) as on_progress:
        results = evaluate(
            algorithm,
            state.best,
            samplers["test"],
            tasks=config.test_tasks,
            inner_steps=config.eval_inner_steps,
            on_progress=on_progress,
        )
    results |= {
        "algorithm": config.algorithm,
        "iterations": state.iteration,
        "best_iteration": state.best_iteration,
        "seconds": round(state.seconds, 1),
        "ms_per_iteration": round(1000 * state.step_seconds / state.iteration, 2),
        "seed": config.seed,
        "parameters": sum(p.numel() for p in state.best.values()),
        "versions": {
            "innerloop": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    if not world.is_main:
        return Run(folder, algorithm, state.best, results)
    with write_whole(folder / RESULTS) as file:
        file.write(json.dumps(results, indent=1).encode())
    # Plotting is slow to import, and of no use to a run that does not get here.
    from innerloop.plots.figures import plot_run

    plot_run(folder, algorithm, state.best, samplers["test"], config.eval_inner_steps)
    # Nothing can go wrong with this run any more.
    keep_checkpoints(folder, 1)
    report.finished(folder, results)
    return Run(folder, algorithm, state.best, results)
