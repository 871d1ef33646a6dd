"""Evaluation: accuracy or loss over tasks, with its interval, after each inner step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from innerloop.algorithms import noise
from innerloop.algorithms.apart import stack
from innerloop.algorithms.arguments import check_params
from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.inner_loops import check_lengths, steps_of
from innerloop.errors import UserError, number_of_steps
from innerloop.functional import Params
from innerloop.keywords import keywords_checked
from innerloop.tasks.episodes import Episodes
from innerloop.tasks.protocol import Tasks, check_tasks, draw, protocol_of


class Diverged(UserError):
    """Adaptation to a task led to a loss that is not finite."""


@keywords_checked
def evaluate(
    algorithm: Algorithm,
    params: Params,
    sampler: Tasks,
    *,
    tasks: int = 600,
    inner_steps: int | None = None,
    every_step: bool = True,
    chunk_size: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Adapt to each of `tasks` tasks and score the result on its queries.

    The tasks are episodes 0 to `tasks - 1` of `sampler`: the same every time.

    Args:
        algorithm: how to adapt; its `bn` says where batch statistics come from.
        params: the meta-parameters; they are not changed.
        sampler: where the tasks come from: any `Tasks`.
        tasks: number of tasks, at least 2.
        inner_steps: None for as many as in training.
        every_step: score the queries after each inner step; False saves time and
            leaves one entry, after the last step, in what is per step.
        chunk_size: tasks computed at a time; None for the algorithm's own, or 8, on a GPU up
            to 128 of small images.
        on_progress: called with the number of tasks done.

    Returns:
        A dict of plain values.  `metric` names what counts: `"accuracy"` (0..1), the metric that
        the algorithm was given, or `"loss"` where there is none.  That name holds its mean over
        tasks after the last inner step, and `ci95` the half width of its 95% interval, 1.96
        standard errors over tasks.  `loss_per_step`, and for another metric `METRIC_per_step`:
        means before the first and after each inner step, as many as the algorithm has;
        `ci95_per_step` belongs to `metric`.  `accuracies`, `losses`, or for another metric
        `METRIC_of_tasks`: that of every task; `bn`; `protocol`.

    Raises:
        UserError: fewer than 2 tasks, no weights, what gives no tasks, or an inner loop that
            diverges.
    """
    if tasks < 2:
        raise UserError(f"an interval needs at least 2 tasks, not {tasks}")
    number_of_steps(inner_steps=inner_steps)

    check_tasks(sampler=sampler)
    check_params(algorithm, params)
    chunk_size = chunk_size or algorithm.chunk_size or _tasks_at_a_time(params, sampler)
    device = next(iter(params.values())).device
    chunks = []
    # What a source makes in inference mode could not be adapted to.
    with torch.inference_mode(False), torch.no_grad():
        start = 0
        while start < tasks:
            count = _of_one_shape(sampler, start, min(chunk_size, tasks - start))
            episodes = draw(sampler, start, count, device)
            with noise.numbered(start):
                found = algorithm.score_steps(
                    params, episodes, inner_steps=inner_steps, every_step=every_step
                )
            chunks.append(found)
            check_lengths(algorithm, found["loss"].shape[1] == chunks[0]["loss"].shape[1])
            start += count
            if on_progress is not None:
                on_progress(start)
    # Every metric by name, [tasks, steps].
    scores = {name: torch.cat([c[name] for c in chunks]).cpu().double() for name in chunks[0]}
    if not scores["loss"].isfinite().all():
        raise Diverged(
            "adaptation diverged: a query loss is not finite. Lower inner_lr or the number of "
            "inner steps, or set inner_max_norm to clip inner gradients"
        )
    for name, values in scores.items():
        if not values.isfinite().all():
            raise UserError(f"the metric {name} is not a finite number for every task")
    # An algorithm without an inner loop takes no steps, however many are asked for.
    asked = inner_steps is not None and algorithm.inner_steps > 0
    steps = inner_steps if asked else algorithm.inner_steps
    metric = next((name for name in scores if name != "loss"), "loss")
    halves = (1.96 * scores[metric].std(dim=0) / math.sqrt(tasks)).tolist()
    result = {
        "metric": metric,
        metric: scores[metric][:, -1].mean().item(),
        "ci95": halves[-1],
        "ci95_per_step": halves,
        **{f"{name}_per_step": values.mean(dim=0).tolist() for name, values in scores.items()},
        "bn": algorithm.bn,
        "protocol": {
            **protocol_of(sampler),
            "inner_steps": steps,
            "tasks": tasks,
            "interval": "1.96 standard errors over tasks",
        },
    }
    every_task = {"accuracy": "accuracies", "loss": "losses"}.get(metric, f"{metric}_of_tasks")
    return {**result, every_task: scores[metric][:, -1].tolist()}


def _of_one_shape(sampler: Tasks, start: int, count: int) -> int:
    """How many tasks from `start` on fit into one tensor, for samplers whose tasks vary."""
    stackable = getattr(sampler, "stackable", None)
    return count if stackable is None else min(count, stackable(start, count))


def _tasks_at_a_time(params: Params, sampler: Tasks) -> int:
    """8 on CPU, to stay in cache; on GPU up to about 4M input values."""
    if not next(iter(params.values())).is_cuda:
        return 8
    task = draw(sampler, 0, 1)
    return min(128, max(8, 2**22 // (task.support_x.numel() + task.query_x.numel())))


def outputs_per_step(
    algorithm: Algorithm,
    params: Params,
    task: Episodes,
    *,
    inner_steps: int | None,
    n_way: int | None,
) -> Any:
    """Outputs for the queries of one task: `[steps + 1, N*Q, ...]`, or a dict or tuple of these."""
    with torch.no_grad():
        algorithm.look(task.support_x)
        predict = algorithm.predictor(params, task.support_x, task.query_x)
        sets = task.support_x, task.support_y
        steps = steps_of(algorithm, params, *sets, inner_steps=inner_steps, n_way=n_way)
        return stack([predict(fast) for fast in steps])
