"""What the public methods of algorithms are given, and what is said where it cannot be taken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.algorithms.hooks import Hooks
from innerloop.errors import UserError
from innerloop.tasks.episodes import Episodes


def first_task(episodes: Episodes) -> list[Tensor]:
    """The examples of the first task: of the support set, and of the query set."""
    return [x[0] for x in (episodes[0], episodes[2]) if isinstance(x, Tensor) and len(x)]


def checked_episodes(algorithm: Hooks, episodes: Any, *, training: bool) -> Episodes:
    """The episodes, with their number of ways if it is needed.

    Raises:
        UserError: no tasks, or labels that are not 0..N-1 where they have to be.
    """
    n_way = getattr(episodes, "n_way", None)
    names = Episodes._fields
    for name, value in zip(names, episodes, strict=True):
        if not isinstance(value, torch.Tensor):
            raise UserError(
                f"{name} of the episodes must be a tensor, not a {type(value).__name__}: use "
                "torch.as_tensor"
            )
    checked = episodes if isinstance(episodes, Episodes) else Episodes(*episodes, n_way=n_way)
    if algorithm.loss is F.cross_entropy:
        labels = _long(checked.support_y), _long(checked.query_y)
        if labels[0] is not checked.support_y or labels[1] is not checked.query_y:
            checked = checked._replace(support_y=labels[0], query_y=labels[1])
    if not len(checked.support_x):
        raise UserError("there are no episodes: a meta-batch needs at least one task")
    lengths = {len(t) for t in checked}
    if len(lengths) > 1:
        raise UserError(
            "the tensors of the episodes differ in the number of tasks, their first axis: "
            + ", ".join(str(tuple(t.shape)) for t in checked)
        )
    for name, x, y in (
        ("support", checked.support_x, checked.support_y),
        ("query", checked.query_x, checked.query_y),
    ):
        if x.ndim < 2 or not x.shape[1]:
            raise UserError(f"the {name} sets have no examples: they have shape {tuple(x.shape)}")
        if x.shape[:2] != y.shape[:2]:
            raise UserError(
                f"{name}_x has {x.shape[1]} examples a task and {name}_y has shape "
                f"{tuple(y.shape)}: give a target for each example, {tuple(x.shape[:2])}"
            )
    if not (training and algorithm.labels == "class"):
        counted = algorithm.ways(checked.support_y, n_way)
        # The user's own episodes stay as they are.
        checked = checked if counted == n_way else checked._replace(n_way=counted)
    return checked


def _long(y: torch.Tensor) -> torch.Tensor:
    """Labels of a narrower type as PyTorch's cross-entropy takes them."""
    return y.long() if y.dtype in (torch.int8, torch.int16, torch.int32) else y


@contextlib.contextmanager
def naming_examples(algorithm: Hooks, *sets: Any) -> Iterator[None]:
    """One clear error for examples of a shape that the network cannot take.

    PyTorch's own is about some layer.  Whether it is about the examples is found out by giving
    them to the network by itself.

    Args:
        algorithm: has the network.
        sets: the examples of one task, `[B, ...]`, as many tensors as differ.
    """
    try:
        yield
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        for x in sets:
            reason = algorithm.network.why_not_taken(x)
            if reason is not None:
                raise UserError(reason) from error
        raise
