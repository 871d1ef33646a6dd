"""The one meta-training loop."""

from __future__ import annotations

import contextlib
import json
import math
import platform
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.nn.utils import get_total_norm

from innerloop import __version__
from innerloop.algorithms.base import Algorithm
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
from innerloop.files import append_line, held, remove_unfinished, write_whole
from innerloop.functional import Params
from innerloop.ops.precision import products
from innerloop.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    METRICS,
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
    save_model,
    save_state,
)
from innerloop.tasks.sampler import TaskSampler
from innerloop.training.distributed import LostProcess, World
from innerloop.training.recorded import RecordedMetaGradient
from innerloop.training.report import Report, SilentReport

# Seconds between two checkpoints at most: validations may be far apart.
SAVE_AFTER = 300.0
# Iterations between two questions of how it goes.  Each answer of a GPU is a wait, in which
# the processor does not prepare what is next.
ASK_AFTER = {"cuda": 50}


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
        folder = Path(world.from_main(lambda: str(_start_folder(out, config, until_done))))
        state = new_state(config, algorithm)
        return _run(config, folder, algorithm, samplers, state, report, world)


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


def meta_train(
    config: TrainConfig,
    folder: Path,
    algorithm: Algorithm,
    samplers: dict[str, TaskSampler],
    state: State,
    report: Report,
    stop: threading.Event,
    world: World,
) -> bool:
    """The loop: episodes, meta-gradient, outer step; validate and checkpoint now and then.

    Changes `state`.  Ends after `config.iterations`, after `config.max_seconds`,
    or after the iteration in which `stop` is set, in this process or another.

    Returns:
        Whether it was stopped.

    Raises:
        UserError: the loss or the gradient is no longer a finite number.
    """
    tasks = config.meta_batch_size
    share = world.share(tasks)
    meta_gradient = RecordedMetaGradient(algorithm, report.warning)
    ask_after = ASK_AFTER.get(torch.device(config.device).type, 1)
    # What is known of the latest iterations once the device is asked: loss and length of gradient.
    waiting: list[Tensor] = []
    saved = time.monotonic()
    started = saved - state.seconds
    stopping = False
    while progress(config, state) < 1 and not stopping:
        before = time.monotonic()
        set_learning_rate(config, state)
        episodes = samplers["train"].batch(state.iteration * tasks + share.start, len(share))
        grads, metrics = meta_gradient(state.params, episodes, progress(config, state))
        # No machine's clock may take a run back.
        seconds = max(state.seconds, time.monotonic() - started)
        # Asked once an iteration, so that none ends the loop without being saved.
        grads, metrics, state.seconds, stopping = world.mean(
            len(share) / tasks, grads, metrics, seconds, stop.is_set()
        )
        state.iteration += 1
        waiting.append(torch.stack([metrics["loss"], get_total_norm(grads.values())]))
        due = state.iteration % config.val_every == 0 or progress(config, state) >= 1
        saving = due or stopping or time.monotonic() - saved > SAVE_AFTER
        if saving or len(waiting) >= ask_after:
            found = torch.stack(waiting).tolist()
            waiting.clear()
            first = state.iteration - len(found)
            check_finite(found, first, grads, folder)
            for iteration, (loss, _) in enumerate(found, first + 1):
                state.losses.append(loss)
                report.step(iteration, loss, progress(config, state))
        apply_gradient(config, algorithm, state, grads)
        state.step_seconds += max(0.0, time.monotonic() - before)
        if saving:
            check_weights(state, folder)
        if due:
            line = validate(config, algorithm, samplers.get("val"), state)
            report.validated(line)
            if world.is_main:
                append_line(folder / METRICS, json.dumps(line))
                save_model(folder, config, samplers["train"], state.best)
        if saving:
            if world.is_main:
                save_state(folder, samplers["train"], state)
            saved = time.monotonic()
    return stopping


def progress(config: TrainConfig, state: State) -> float:
    """The share of the run that is done, 0 to 1: of the iterations or of the time."""
    by_time = state.seconds / config.max_seconds if config.max_seconds else 0.0
    return max(state.iteration / config.iterations, by_time)


def set_learning_rate(config: TrainConfig, state: State) -> None:
    """`meta_lr`; linear: down to 0; cosine: 5% of warm-up, then down to 1% of it."""
    share = progress(config, state)
    factor = 1.0
    if config.schedule == "linear":
        factor = 1 - share
    elif config.schedule == "cosine":
        warm_up = min(1.0, share / 0.05 + 0.1)
        factor = warm_up * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)
    for group in state.optimizer.param_groups:
        group["lr"] = config.meta_lr * factor


def check_finite(
    found: list[tuple[float, float]], first: int, gradient: Params, folder: Path
) -> None:
    """Raise a `UserError` when training has diverged; the last checkpoint stays as it is.

    Args:
        found: loss and length of the meta-gradient of each iteration from `first` on.
        gradient: the meta-gradient of the last of them.
    """
    for iteration, (loss, length) in enumerate(found, first):
        if not math.isfinite(loss):
            raise _diverged(f"the loss of iteration {iteration} is {loss}", folder)
        if not math.isfinite(length):
            last = iteration == first + len(found) - 1
            name = _not_finite(gradient) if last else None
            what = f"the meta-gradient of {name}" if name else "the norm of the meta-gradient"
            raise _diverged(f"{what} in iteration {iteration} is not finite", folder)


def check_weights(state: State, folder: Path) -> None:
    """Raise a `UserError` before weights that are no numbers become a checkpoint."""
    if name := _not_finite(state.params):
        raise _diverged(f"{name} after iteration {state.iteration} is not finite", folder)


def _not_finite(tensors: Params) -> str | None:
    """The name of the first tensor with an entry that is no finite number."""
    return next((name for name, t in tensors.items() if not bool(t.isfinite().all())), None)


def _diverged(what: str, folder: Path) -> UserError:
    return UserError(
        f"training diverged: {what}. Lower meta_lr or inner_lr, or set inner_max_norm to clip "
        f"inner gradients. What was reached before is in {folder}"
    )


def apply_gradient(config: TrainConfig, algorithm: Algorithm, state: State, grads: Params) -> None:
    """One outer step: the optimiser's on what is learnt, with the clipping asked for.

    Running averages go a tenth of the way to the new value, as batch norm's usually do.
    """
    learnt = []
    for name, p in state.params.items():
        if name in algorithm.moving_averages:
            p.sub_(0.1 * grads[name])
        else:
            p.grad = grads[name]
            learnt.append(p)
    if config.clip_value is not None:
        torch.nn.utils.clip_grad_value_(learnt, config.clip_value)
    if config.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(learnt, config.clip_norm)
    state.optimizer.step()
    for p in learnt:
        p.grad = None


def validate(
    config: TrainConfig, algorithm: Algorithm, sampler: TaskSampler | None, state: State
) -> dict[str, Any]:
    """One line of metrics; keeps the weights if they are the best so far.

    Without validation classes (`sampler` None) the latest weights count as the best.
    """
    line = {
        "iteration": state.iteration,
        "seconds": round(state.seconds, 2),
        "loss": sum(state.losses) / len(state.losses),
    }
    state.losses.clear()
    score = math.inf
    if sampler is not None:
        try:
            result = evaluate(
                algorithm,
                state.params,
                sampler,
                tasks=config.val_tasks,
                inner_steps=config.eval_inner_steps,
                every_step=False,
            )
        except UserError as error:
            raise UserError(f"in validation after iteration {state.iteration}: {error}") from error
        metric = result["metric"]
        line[f"val_{metric}"], line["val_ci95"] = result[metric], result["ci95"]
        score = result[metric] if metric == "accuracy" else -result[metric]
    if score >= state.best_score:
        state.best = {name: p.clone() for name, p in state.params.items()}
        state.best_iteration, state.best_score = state.iteration, score
    return line


@contextlib.contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Within this context Ctrl-C, SIGTERM and SIGHUP set the event instead of breaking off.

    A second Ctrl-C breaks off at once.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: object) -> None:
        # When one process has stopped, torchrun sends the others SIGTERM: no second Ctrl-C.
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    # A terminal that goes away; nohup has it ignored, which is to stay so.
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) != signal.SIG_IGN:
        numbers.append(hang_up)
    before = {number: signal.signal(number, request) for number in numbers}
    try:
        yield stop
    except LostProcess:
        # torchrun is about to end this process too, which has yet to say why.
        before.pop(signal.SIGTERM)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
