"""Evaluation: accuracy over tasks, with its interval, after each inner step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from innerloop.algorithms.base import Algorithm
from innerloop.episodes import Episodes
from innerloop.errors import UserError
from innerloop.functional import Params, accuracy
from innerloop.sampler import EpisodeSampler


def evaluate(
    algorithm: Algorithm,
    params: Params,
    sampler: EpisodeSampler,
    *,
    tasks: int = 600,
    inner_steps: int | None = None,
    every_step: bool = True,
    chunk_size: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Adapt to each of `tasks` tasks and judge the result on its queries.

    The tasks are episodes 0 to `tasks - 1` of `sampler`: the same every time.

    Args:
        algorithm: how to adapt; its `bn` says where batch statistics come from.
        params: the meta-parameters; they are not changed.
        sampler: where the tasks come from.
        tasks: number of tasks, at least 2.
        inner_steps: None for as many as in training.
        every_step: judge the queries after each inner step; False saves time and
            leaves one entry, after the last step, in what is per step.
        chunk_size: tasks computed at a time; None for the algorithm's own, or 8.
        on_progress: called with the number of tasks done.

    Returns:
        A dict of plain values: `accuracy` (mean over tasks, 0..1) and `ci95` (half
        width of its 95% interval, 1.96 standard errors over tasks), both after the
        last inner step; `accuracy_per_step` and `loss_per_step`, mean before the first
        and after each inner step (`inner_steps + 1` entries); `accuracies`, one per
        task; `bn`; `protocol`.

    Raises:
        UserError: fewer than 2 tasks, or an inner loop that diverges.
    """
    if tasks < 2:
        raise UserError(f"an interval needs at least 2 tasks, not {tasks}")

    chunk_size = chunk_size or algorithm.chunk_size or 8
    batched = torch.func.vmap(
        lambda task: _per_step(algorithm, params, task, inner_steps, every_step, sampler.n_way),
        randomness="different",
    )
    chunks = []
    with torch.no_grad():
        for start in range(0, tasks, chunk_size):
            chunks.append(batched(sampler.batch(start, min(chunk_size, tasks - start))))
            if on_progress is not None:
                on_progress(min(start + chunk_size, tasks))
    accuracies, losses = (torch.cat(parts).cpu().double() for parts in zip(*chunks, strict=True))
    if not losses.isfinite().all():
        raise UserError(
            "adaptation diverged: a query loss is no longer a finite number. Lower inner_lr or "
            "the number of inner steps, or set inner_max_norm to clip inner gradients"
        )
    last = accuracies[:, -1]
    return {
        "accuracy": last.mean().item(),
        "ci95": 1.96 * last.std().item() / math.sqrt(tasks),
        "accuracy_per_step": accuracies.mean(dim=0).tolist(),
        "loss_per_step": losses.mean(dim=0).tolist(),
        "bn": algorithm.bn,
        "protocol": {
            "data": sampler.data.name,
            "split": sampler.split_name,
            "part": sampler.split,
            "classes": len(sampler.classes),
            "n_way": sampler.n_way,
            "k_shot": sampler.k_shot,
            "k_query": sampler.k_query,
            "rotated_classes": sampler.rotate,
            "within_group": sampler.within_group,
            "inputs": sampler.inputs,
            "inner_steps": algorithm.inner_steps if inner_steps is None else inner_steps,
            "tasks": tasks,
            "seed": sampler.seed,
            "interval": "1.96 standard errors over tasks",
        },
        "accuracies": last.tolist(),
    }


def _per_step(
    algorithm: Algorithm,
    params: Params,
    task: Episodes,
    inner_steps: int | None,
    every_step: bool,
    n_way: int,
) -> tuple[Tensor, Tensor]:
    """Query accuracy and loss of one task, `[inner_steps + 1]` each, or `[1]`."""
    accuracies, losses = [], []
    steps = algorithm.adapt_steps(
        params, task.support_x, task.support_y, inner_steps=inner_steps, n_way=n_way
    )
    if not every_step:
        *_, last = steps
        steps = iter([last])
    for fast in steps:
        outputs = algorithm.query_outputs(fast, task.support_x, task.query_x)
        accuracies.append(accuracy(outputs, task.query_y))
        losses.append(algorithm.loss(outputs, task.query_y))
    return torch.stack(accuracies), torch.stack(losses)


def predictions(
    algorithm: Algorithm, params: Params, task: Episodes, *, inner_steps: int | None, n_way: int
) -> Tensor:
    """Predicted classes for the queries of one task: `[inner_steps + 1, N*Q]`."""
    with torch.no_grad():
        return torch.stack(
            [
                algorithm.query_outputs(fast, task.support_x, task.query_x).argmax(dim=-1)
                for fast in algorithm.adapt_steps(
                    params, task.support_x, task.support_y, inner_steps=inner_steps, n_way=n_way
                )
            ]
        )
