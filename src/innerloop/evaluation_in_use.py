"""How good a trained network is in use, as `FewShotClassifier` and `innerloop adapt` apply it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.algorithms.arguments import checked_episodes, checking
from innerloop.calibration import expected_calibration_error
from innerloop.errors import UserError, at_least, number_of_steps, one_of
from innerloop.evaluation import Diverged
from innerloop.keywords import keywords_checked
from innerloop.learners import network_learner
from innerloop.runs.loading import Loaded
from innerloop.tasks.protocol import Tasks, check_tasks, draw, protocol_of


@keywords_checked
def evaluate_in_use(
    loaded: Loaded,
    sampler: Tasks,
    *,
    tasks: int = 600,
    inner_steps: int | None = None,
    bn: str = "support",
    views: str | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Learn each task as `FewShotClassifier` learns a support set, and tell its queries.

    `evaluate` takes the inner steps of the run's tests.  Here they are those of use, which differ
    by how many examples a class has; probabilities are calibrated by the temperature that comes
    with the weights.  Pictures are as the sampler gives them, so nothing is found or cropped:
    `prepare="none"`.

    Args:
        loaded: a network that was meta-trained, see `innerloop.load`.
        sampler: where the tasks come from, see `evaluate`.
        tasks: number of tasks, at least 2.
        inner_steps: None for those of `FewShotClassifier`.
        bn: where batch norm takes the statistics for queries from.  With `"support"`, no answer
            depends on other queries.
        views: `"flips"` or `"turns"` for what `FewShotClassifier` does with them; None or `"whole"`
            for pictures as they are.
        on_progress: called with the number of tasks done.

    Returns:
        A dict of plain values: `accuracy`, the mean over tasks, 0..1; `ci95`, the half width of its
        95% interval, 1.96 standard errors over tasks; `accuracies`, that of every task; `loss`, the
        mean cross-entropy of the calibrated probabilities, in nats; `calibration_error`, the
        expected calibration error over all queries in 15 bins, 0..1; `bn`; `protocol`, whose
        `inner_steps` are the most that were taken.

    Raises:
        UserError: fewer than 2 tasks, what gives no tasks, labels that are not 0..N-1, examples
            that the network cannot take, or a network that knows no classes or cannot tell so many
            apart.
    """
    if not isinstance(loaded, Loaded):
        raise UserError(f"loaded must be what innerloop.load gives, not a {type(loaded).__name__}")
    at_least(2, tasks=tasks)
    number_of_steps(inner_steps=inner_steps)
    one_of(loaded.algorithm.bn_modes, bn=bn)
    check_tasks(sampler=sampler)
    learn = network_learner(loaded, "the network", bn, inner_steps, views)
    if any(p.device.type != "cpu" for p in loaded.params.values()):
        raise UserError("in use, networks are computed on the CPU: leave the device out")
    found: list[tuple[Tensor, Tensor]] = []
    taken = 0
    for number in range(tasks):
        task = checked_episodes(loaded.algorithm, draw(sampler, number, 1), training=False)
        x, y, query_x, query_y = (part[0] for part in task)
        labels = _classes(y, query_y, number)
        with checking(loaded.algorithm, loaded.params, x, query_x):
            fitted = learn(x, labels, None)
            stages = fitted.stages(query_x)
        taken = max(taken, len(stages) - 1)
        logits = torch.from_numpy(stages[-1]) / fitted.temperature
        if not logits.isfinite().all():
            raise Diverged(
                f"the logits of task {number} are not finite: look for values that are not among "
                "its examples; else lower the number of inner steps"
            )
        found.append((logits, query_y.long()))
        if on_progress is not None:
            on_progress(number + 1)
    right = [logits.argmax(dim=1) == labels for logits, labels in found]
    accuracies = torch.stack([each.double().mean() for each in right])
    losses = [F.cross_entropy(*each).item() for each in found]
    # Tasks may differ in the number of classes.
    most = max(logits.shape[1] for logits, _ in found)
    told = [F.pad(logits.softmax(dim=1), (0, most - logits.shape[1])) for logits, _ in found]
    answers = torch.cat([labels for _, labels in found])
    return {
        "metric": "accuracy",
        "accuracy": accuracies.mean().item(),
        "ci95": 1.96 * accuracies.std().item() / math.sqrt(tasks),
        "loss": sum(losses) / tasks,
        "calibration_error": expected_calibration_error(torch.cat(told), answers),
        "bn": bn,
        "protocol": {
            **protocol_of(sampler),
            "in_use": True,
            "inner_steps": taken,
            "views": views or "whole",
            "tasks": tasks,
            "interval": "1.96 standard errors over tasks",
        },
        "accuracies": accuracies.tolist(),
    }


def _classes(support_y: Tensor, query_y: Tensor, number: int) -> np.ndarray:
    """The labels of the support set, which has each class 0..N-1.

    Raises:
        UserError: it has not, or a query is of none of them.
    """
    if support_y.is_floating_point() or query_y.is_floating_point():
        raise UserError(
            "the targets of the tasks are real numbers, not classes: use innerloop.evaluate"
        )
    labels: np.ndarray = support_y.numpy().astype(np.int64)
    known = np.unique(labels)
    if len(known) < 2 or known.tolist() != list(range(len(known))):
        raise UserError(
            f"task {number} has the labels {', '.join(map(str, known[:9]))} in its support set: "
            "number its classes 0 to N-1, two or more, each with an example"
        )
    if not np.isin(query_y.numpy(), known).all():
        raise UserError(f"task {number} has queries of classes that its support set does not have")
    return labels
