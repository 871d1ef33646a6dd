"""Tasks that are told apart in name alone: validation or test on what was trained on."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from innerloop.tasks.protocol import Tasks
from innerloop.tasks.sampler import EpisodeSampler


def warn_of_leaks(tasks: dict[str, Tasks], fingerprint: dict[str, Any]) -> None:
    """Warn once of validation and test tasks that are training tasks.

    Nothing is forbidden: to learn training tasks by heart is a fair first trial of a network.

    Args:
        tasks: by part.
        fingerprint: of `innerloop.training.fingerprint.fingerprint`, with an entry for each part.
    """
    found = [
        f"{part} {what}"
        for part in ("val", "test")
        if part in tasks and (what := _shared(part, tasks, fingerprint))
    ]
    if found:
        warnings.warn(
            f"{', and '.join(found)}: its accuracy says nothing of new classes. Give tasks of "
            "other classes, for instance of innerloop.split_tasks(data), or other seeds where "
            "tasks are no classes",
            stacklevel=2,
        )


def _shared(part: str, tasks: dict[str, Tasks], fingerprint: dict[str, Any]) -> str:
    """What a part shares with training, in words; nothing where that is not known."""
    train, other = tasks["train"], tasks[part]
    if isinstance(train, EpisodeSampler) and isinstance(other, EpisodeSampler):
        common = np.intersect1d(train.classes, other.classes)
        if train.data is other.data and len(common):
            return f"has {len(common)} of its {len(other.classes)} classes in common with training"
    if fingerprint["train"]["first episode"] == fingerprint[part]["first episode"]:
        return "begins with the first episode of training"
    return ""
