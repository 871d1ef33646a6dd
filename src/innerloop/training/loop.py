"""The one meta-training loop."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from innerloop.algorithms import noise
from innerloop.algorithms.base import Algorithm
from innerloop.errors import UserError
from innerloop.evaluation import Diverged, evaluate
from innerloop.files import append_line
from innerloop.functional import Params
from innerloop.outer_loop import OuterLoop
from innerloop.runs.folder import METRICS, State, save_model, save_state
from innerloop.tasks.episodes import Episodes
from innerloop.tasks.protocol import Tasks, draw
from innerloop.training.distributed import World
from innerloop.training.phases import Phase, taken_over
from innerloop.training.recorded import RecordedMetaGradient
from innerloop.training.report import Report

# Seconds between two checkpoints at most: validations may be far apart.
SAVE_AFTER = 300.0
# Iterations between loss reads; each read synchronises with the GPU.
ASK_AFTER = {"cuda": 50}


def meta_train(
    config: OuterLoop,
    folder: Path,
    phase: Phase,
    algorithm: Algorithm,
    samplers: dict[str, Tasks],
    state: State,
    report: Report,
    stop: threading.Event,
    world: World,
) -> bool:
    """The outer loop: episodes, meta-gradient, outer step, with validation and checkpoints.

    Changes `state`.  Ends with the phase, which is a share of `config.iterations` or of
    `config.max_seconds`, or after the iteration in which `stop` is set, in this process or
    another.

    Args:
        phase: what is trained, on what.
        algorithm: that of the run, by which weights are chosen in validation.

    Returns:
        Whether it was stopped.

    Raises:
        UserError: the loss or the gradient is no longer a finite number.
    """
    tasks = config.meta_batch_size
    share = world.share(tasks)
    meta_gradient = RecordedMetaGradient(phase.algorithm, report.warning)
    device = next(iter(state.params.values())).device
    ask_after = ASK_AFTER.get(device.type, 1)
    # What is known of the latest iterations once the device is asked: loss and length of gradient.
    waiting: list[Tensor] = []
    saved = time.monotonic()
    started = saved - state.seconds
    processor = time.process_time() - state.cpu_seconds
    stopping = False
    while progress(config, state) < phase.end and not stopping:
        before = time.monotonic()
        done = phase.share(progress(config, state))
        set_learning_rate(config, state, done)
        number = state.iteration * tasks + share.start
        episodes = draw(phase.train, number, len(share), device)
        keys = noise.episode_keys(config.seed, number, len(share))
        grads, metrics = meta_gradient(state.params, episodes, done, keys)
        # Keep elapsed time monotonic.
        seconds = max(state.seconds, time.monotonic() - started)
        # Asked once an iteration, so that none ends the loop without being saved.
        grads, metrics, state.seconds, stopping = world.mean(
            len(share) / tasks, grads, metrics, seconds, stop.is_set()
        )
        state.iteration += 1
        waiting.append(torch.stack([metrics["loss"], get_total_norm(grads.values())]))
        due = state.iteration % config.val_every == 0 or progress(config, state) >= phase.end
        saving = due or stopping or time.monotonic() - saved > SAVE_AFTER
        if saving or len(waiting) >= ask_after:
            found = torch.stack(waiting).tolist()
            waiting.clear()
            first = state.iteration - len(found)
            check_finite(found, first, grads, folder, episodes)
            if first == 0 and found[0][1] == 0:
                report.warning(
                    "the meta-gradient of the first iteration is 0 in every entry, so that nothing "
                    "is learnt from it: does the loss or the network cut the gradient off, by "
                    "detach() or no_grad()?"
                )
            for iteration, (loss, _) in enumerate(found, first + 1):
                state.losses.append(loss)
                report.step(iteration, loss, progress(config, state))
        apply_gradient(config, phase.algorithm, state, grads)
        state.step_seconds += max(0.0, time.monotonic() - before)
        if saving:
            check_weights(state, folder)
            state.cpu_seconds = time.process_time() - processor
        if due:
            line = validate(config, algorithm, samplers.get("val"), state, report.warning)
            report.validated(line)
            if world.is_main:
                append_line(folder / METRICS, json.dumps(line))
                network = (state.fingerprint or {}).get("network", {})
                save_model(folder, config, samplers["train"], state.best, network.get("modules"))
        if saving:
            if world.is_main:
                save_state(folder, samplers["train"], state)
            saved = time.monotonic()
    return stopping


def progress(config: OuterLoop, state: State) -> float:
    """The share of the run that is done, 0 to 1: of the iterations or of the time."""
    by_time = state.seconds / config.max_seconds if config.max_seconds else 0.0
    return max(state.iteration / config.iterations, by_time)


def set_learning_rate(config: OuterLoop, state: State, share: float) -> None:
    """Each group's own rate times what the schedule says of the share that is done, 0 to 1."""
    factor = rate_factor(config.schedule, state.schedule, share)
    for rate, group in zip(state.rates, state.optimizer.param_groups, strict=True):
        group["lr"] = rate * factor


def rate_factor(schedule: str, own: Callable[[float], float] | None, share: float) -> float:
    """What a schedule, or the user's `own`, makes of the rate after this share of the run.

    Linear: down to 0; cosine: 5% of warm-up, then down to 1%.
    """
    if own is not None:
        factor = own(share)
        if not isinstance(factor, Real | Tensor) or not 0 <= float(factor) < math.inf:
            raise UserError(
                f"the schedule gave {factor!r} for the share {share:g} of the run: it must give "
                "the factor of meta_lr, a number of at least 0"
            )
        return float(factor)
    if schedule == "linear":
        return 1 - share
    if schedule == "cosine":
        warm_up = min(1.0, share / 0.05 + 0.1)
        return warm_up * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)
    return 1.0


def check_finite(
    found: list[tuple[float, float]],
    first: int,
    gradient: Params,
    folder: Path,
    episodes: Episodes,
) -> None:
    """Raise a `UserError` when training has diverged; the last checkpoint stays as it is.

    Args:
        found: loss and length of the meta-gradient of each iteration from `first` on.
        gradient: the meta-gradient of the last of them.
        episodes: its tasks.
    """
    finite = all(math.isfinite(number) for pair in found for number in pair)
    if not finite and (part := _not_finite(episodes._asdict())):
        raise UserError(
            f"{part} of the tasks of iteration {first + len(found) - 1} has values that are not "
            "finite (nan or inf): take them out of the data. What was reached before is in "
            f"{folder}"
        )
    for iteration, (loss, length) in enumerate(found, first):
        if not math.isfinite(loss):
            raise _diverged(f"the loss of iteration {iteration} is {loss}", folder)
        if not math.isfinite(length):
            last = iteration == first + len(found) - 1
            name = _not_finite(gradient) if last else None
            what = f"the meta-gradient of {name}" if name else "the norm of the meta-gradient"
            raise _diverged(f"{what} in iteration {iteration} is not finite", folder)


def check_weights(state: State, folder: Path) -> None:
    """Raise a `UserError` before weights that are not numbers become a checkpoint."""
    if name := _not_finite(state.params):
        raise _diverged(f"{name} after iteration {state.iteration} is not finite", folder)


def _not_finite(tensors: Params) -> str | None:
    """The name of the first tensor with an entry that is not a finite number."""
    return next((name for name, t in tensors.items() if not bool(t.isfinite().all())), None)


def _diverged(what: str, folder: Path) -> UserError:
    return UserError(
        f"training diverged: {what}. Lower meta_lr or inner_lr, or set inner_max_norm to clip "
        f"inner gradients. What was reached before is in {folder}"
    )


def apply_gradient(config: OuterLoop, algorithm: Algorithm, state: State, grads: Params) -> None:
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
    with contextlib.ExitStack() as stack:
        if state.own_optimizer:
            # It may draw random numbers, which are to be the same after a resume.
            devices = [learnt[0].device] if learnt[0].is_cuda else []
            stack.enter_context(noise.seeded(config.seed, state.iteration, devices=devices))
        state.optimizer.step()
    for p in learnt:
        p.grad = None


def validate(
    config: OuterLoop,
    algorithm: Algorithm,
    sampler: Tasks | None,
    state: State,
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """One line of metrics; keeps the weights if they are the best so far.

    Without validation classes (`sampler` None) the latest weights count as the best.  If
    adaptation diverges on a task, `warn` is told, and the line has no validation value.

    Raises:
        UserError: validation fails, or diverges before any earlier one went well.
    """
    line = {
        "iteration": state.iteration,
        "seconds": round(state.seconds, 2),
        "loss": sum(state.losses) / len(state.losses),
    }
    state.losses.clear()
    score = math.inf
    params = taken_over(algorithm, state.params)
    if sampler is not None:
        try:
            result = evaluate(
                algorithm,
                params,
                sampler,
                tasks=config.val_tasks,
                inner_steps=config.eval_inner_steps,
                every_step=False,
            )
        except UserError as error:
            message = f"in validation after iteration {state.iteration}: {error}"
            if isinstance(error, Diverged) and math.isfinite(state.best_score):
                warn(f"{message}. Training goes on; these weights are not kept")
                return line
            raise UserError(message) from error
        metric = result["metric"]
        line[f"val_{metric}"], line["val_ci95"] = result[metric], result["ci95"]
        score = -result[metric] if metric == "loss" else result[metric]
    if score >= state.best_score:
        state.best = {name: p.clone() for name, p in params.items()}
        state.best_iteration, state.best_score = state.iteration, score
    return line
