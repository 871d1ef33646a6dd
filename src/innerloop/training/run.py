"""A training run from its objects to its results, new or resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import platform
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import torch

from innerloop import __version__
from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.fastest import fastest
from innerloop.build import (
    build_algorithm,
    build_model,
    build_samplers,
    normalization_of,
    num_classes,
)
from innerloop.config import TrainConfig
from innerloop.data.base import ClassIndexed
from innerloop.errors import UserError
from innerloop.evaluation import evaluate
from innerloop.files import at_home, held, remove_unfinished, write_whole
from innerloop.functional import Params
from innerloop.ops.precision import products
from innerloop.outer_loop import OuterLoop
from innerloop.recipes import REGRESSION
from innerloop.references import find, is_reference, trust
from innerloop.runs.fit_config import FitConfig
from innerloop.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    PICTURE,
    RESULTS,
    State,
    beside,
    cut_metrics,
    keep_checkpoints,
    new_folder,
    read_config,
    read_state,
    refuse_used,
    save_state,
)
from innerloop.settings import TrainSettings
from innerloop.sizes import given_sizes
from innerloop.tasks.protocol import draw, input_shape_of
from innerloop.training.distributed import World, is_main
from innerloop.training.job import Job
from innerloop.training.leaks import warn_of_leaks
from innerloop.training.length import check_length
from innerloop.training.loop import meta_train, progress
from innerloop.training.outputs import warn_of_outputs
from innerloop.training.phases import phases
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
    data: ClassIndexed | str | None = None,
    report: Report | None = None,
    **settings: Unpack[TrainSettings],
) -> Run:
    """Meta-train, choose the best weights on validation tasks, test them.

    Builds what the settings name, and then does what `fit` does.

    Args:
        config: the settings; None for the `quick` recipe on glyphs.
        out: a new folder for the run; None for the next free one below `runs/`.
        data: a data set object in place of `config.data`, or a value for it.
        report: shows progress; None for silence.
        settings: single settings that differ from `config`, see `TrainConfig`.  Ways, shots and
            queries that the data is too small for are lowered, with a warning, unless they are
            given here or differ from the recipe.

    Returns:
        The finished run; its folder holds config, metrics, checkpoint, weights,
        results and a picture.

    Raises:
        UserError: settings or data that do not fit, a folder in use, a diverging loss.
    """
    named: dict[str, Any] = {**settings}
    if data is not None:
        named["data"] = data.name if isinstance(data, ClassIndexed) else data
    sizes = given_sizes(config, named)
    asked = TrainConfig.from_dict({**config.to_dict(), **named} if config else named).absolute()
    given = data if isinstance(data, ClassIndexed) else None

    def make(to: Report) -> Job:
        # Where nothing is shown, only a warning of Python's is seen.
        say = to.warning if report is not None or not is_main() else warnings.warn
        return build_job(asked, given, to, sizes, say)

    trust(asked.references)
    _check_apart(out, asked.data)
    return start(asked, make, out=out, report=report)


def _check_apart(out: str | Path | None, data: str) -> None:
    """Raise a `UserError` for a run in a folder of pictures, whose charts would be among them."""
    if out is None or not at_home(data).is_dir():
        return
    folder = at_home(out)
    taken = folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG).exists()
    if taken and folder.resolve().is_relative_to(at_home(data).resolve()):
        raise UserError(f"{out} is a folder of {data}: choose a new folder for the run")


def start(
    asked: OuterLoop,
    make: Callable[[Report], Job],
    *,
    out: str | Path | None,
    report: Report | None,
) -> Run:
    """A new run: `make` gives what it works with, in every process."""
    # Where nothing is shown, only a warning of Python's is seen.
    say = warnings.warn if report is None else report.warning
    with _world(report) as (world, report, until_done):
        until_done.enter_context(products(asked.precision, asked.device))
        if out is not None:
            if not str(out):
                raise UserError("out is empty: name a folder for the run")
            # Said before data is prepared, which may take long.
            place = at_home(str(out))
            world.from_main(lambda: refuse_used(place))
            if world.is_main and (said := beside(place)):
                say(said)
        job = _make_ready(asked, make, report, world)
        _measure(job, world)
        state = job.new_state()
        new = out is None or not at_home(str(out)).exists()
        folder = Path(world.from_main(lambda: str(_start_folder(out, job.config, until_done))))
        if job.own and world.is_main:
            assert state.fingerprint is not None
            warn_of_leaks(job.tasks, state.fingerprint)
            # The first weights are the user's: nothing else could bring them back.
            save_state(folder, job.tasks["train"], state)
        try:
            return _run(job, folder, state, report, world)
        except Exception:
            # As before, so that the same command serves once its mistake is mended.
            if not state.step_seconds and world.is_main:
                _take_back(folder, new)
            raise


def _take_back(folder: Path, new: bool) -> None:
    """Remove what a run has written that failed in its first outer step."""
    with contextlib.suppress(OSError):
        keep_checkpoints(folder, 0)
        (folder / CONFIG).unlink()
        if (folder / CHECKPOINTS).exists():
            (folder / CHECKPOINTS).rmdir()
        if new:
            folder.rmdir()


def go_on(
    folder: Path,
    asked: OuterLoop,
    make: Callable[[Report], Job],
    *,
    report: Report | None,
) -> Run:
    """The run in a folder, taken up again, to the length that `asked` says; else as `start`.

    Raises:
        UserError: what it has done so far would be otherwise in a run of that length.
    """
    began = read_config(folder)
    with _world(report) as (world, report, until_done):
        world.from_main(lambda: _hold(folder, until_done))
        until_done.enter_context(products(asked.precision, asked.device))
        job = _make_ready(asked, make, report, world)
        saved = world.from_main(lambda: read_state(folder, job.tasks["train"], report.warning))
        state = job.resumed_state(saved, folder)
        if (began.iterations, began.max_seconds) != (asked.iterations, asked.max_seconds):
            check_length(began, job.config, state, job.algorithm, folder)
            world.from_main(lambda: _write_config(folder, job.config))
        if world.is_main and progress(job.config, state) < 1:
            # Of a shorter run, which has ended.
            for name in (RESULTS, PICTURE):
                (folder / name).unlink(missing_ok=True)
        world.from_main(lambda: cut_metrics(folder, state))
        return _run(job, folder, state, report, world)


def _hold(folder: Path, until_done: contextlib.ExitStack) -> None:
    """Keep other processes out of a run folder."""
    until_done.enter_context(held(folder))
    for place in (folder, folder / CHECKPOINTS):
        remove_unfinished(place)


def _measure(job: Job, world: World) -> None:
    """Replace `execution: fastest` by the fastest way, so that resuming keeps it."""
    config = job.config
    if not isinstance(config, TrainConfig) or config.execution != "fastest":
        return
    tasks = len(world.share(config.meta_batch_size))
    way = world.from_main(
        lambda: fastest(
            job.algorithm, job.algorithm.init_params(), draw(job.tasks["train"], 0, tasks)
        )
    )
    job.algorithm.execution = way
    job.config = dataclasses.replace(config, execution=way)  # type: ignore[arg-type]


def _start_folder(
    out: str | Path | None, config: TrainConfig | FitConfig, until_done: contextlib.ExitStack
) -> Path:
    """A new run folder with the config in it, held by this process."""
    folder = new_folder(out, config)
    until_done.enter_context(held(folder))
    # Another process may have been faster.
    refuse_used(folder)
    remove_unfinished(folder)
    _write_config(folder, config)
    return folder


def _write_config(folder: Path, config: OuterLoop) -> None:
    with write_whole(folder / CONFIG) as file:
        file.write(config.to_yaml().encode())


@contextlib.contextmanager
def _world(report: Report | None) -> Iterator[tuple[World, Report, contextlib.ExitStack]]:
    """The processes of the run, of which only the first one reports, and what ends with it."""
    world = World.join()
    with contextlib.ExitStack() as until_done:
        yield world, report if report and world.is_main else SilentReport(), until_done
        # After an error there is nobody to part from.
        world.leave()


def _make_ready(
    config: OuterLoop, make: Callable[[Report], Job], report: Report, world: World
) -> Job:
    """What a run works with, made by rank 0 first."""
    world.share(config.meta_batch_size)
    world.use(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    return world.main_first(lambda: make(report))


def build_job(
    config: TrainConfig,
    data: ClassIndexed | None,
    report: Report,
    given: Collection[str] | None = None,
    say: Callable[[str], None] = warnings.warn,
) -> Job:
    """Build what the settings name; `data` None is built too; the rest as for `build_samplers`."""
    if data is not None and data.name in REGRESSION:
        raise UserError(f"a data set of images cannot be called {data.name}: give it another name")
    config, samplers = build_samplers(
        config, data, progress=report.shows_progress, given=given, say=say
    )
    train = samplers["train"]
    model = build_model(config, input_shape_of(train), normalization_of(config, train))
    algorithm = build_algorithm(config, model, num_classes(train))
    if is_reference(config.model):
        warn_of_outputs(algorithm, samplers, say, for_classifier=True)
    own = {
        name: find(value) if is_reference(value) else None
        for name, value in (("o", config.meta_optimizer), ("s", config.schedule))
    }
    return Job(
        config,
        algorithm,
        samplers,
        optimizer=own["o"],
        schedule=own["s"],
        own=bool(config.references),
        phases=phases(config, algorithm, model, train),
    )


def _run(job: Job, folder: Path, state: State, report: Report, world: World) -> Run:
    """Train from `state` to the end, then test; or stop early with a checkpoint."""
    config, algorithm, tasks = job.config, job.algorithm, job.tasks
    report.start(config, folder, state.iteration)
    with stop_requests(report.stopping) as stop, report.training(config):
        while True:
            phase = job.phases[state.phase]
            stopped = meta_train(
                config, folder, phase, algorithm, tasks, state, report, stop, world
            )
            if stopped or phase is job.phases[-1]:
                break
            state = job.next_state(state)
    if stopped:
        report.interrupted(folder, state.iteration)
        return Run(folder, algorithm, state.best, {}, interrupted=True)

    results: dict[str, Any] = {}
    if "test" in tasks:
        # Every process tests, as every process validates: none has to wait for the result.
        with report.testing(config.test_tasks) as on_progress:
            results = evaluate(
                algorithm,
                state.best,
                tasks["test"],
                tasks=config.test_tasks,
                inner_steps=config.eval_inner_steps,
                on_progress=on_progress,
            )
    results |= {
        "algorithm": config.algorithm,
        "iterations": state.iteration,
        "best_iteration": state.best_iteration,
        "seconds": round(state.seconds, 1),
        "cpu_seconds": round(state.cpu_seconds, 1),
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
    if "test" in tasks:
        # Plotting is slow to import, and of no use to a run that does not get here.
        from innerloop.plots.figures import plot_run

        steps = config.eval_inner_steps or algorithm.inner_steps
        plot_run(folder, algorithm, state.best, tasks["test"], steps)
    # Nothing can go wrong with this run any more.
    keep_checkpoints(folder, 1)
    report.finished(folder, results)
    return Run(folder, algorithm, state.best, results)
