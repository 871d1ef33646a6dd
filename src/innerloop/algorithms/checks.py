"""Checks of incoming tasks, before anything is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from innerloop.algorithms import noise
from innerloop.algorithms.hooks import Hooks
from innerloop.errors import UserError
from innerloop.tasks.episodes import Episodes


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
    checked = Episodes(*episodes, n_way=n_way)
    if algorithm.loss is F.cross_entropy:
        checked = checked._replace(
            support_y=_long(checked.support_y), query_y=_long(checked.query_y)
        )
    if not checked.num_tasks:
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
        checked.n_way = algorithm.ways(checked.support_y, n_way)
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


@contextlib.contextmanager
def task_keys(algorithm: Hooks, tasks: int, keys: Sequence[int] | None) -> Iterator[Sequence[int]]:
    """One integer a task; from PyTorch's global generator where none are given.

    Afterwards that is as it was if no network asked for random numbers.
    """
    if keys is not None:
        keys = tuple(int(key) for key in keys)
        if len(keys) != tasks:
            raise UserError(f"keys are {len(keys)} for {tasks} tasks: give one integer a task")
        yield keys
    elif algorithm.network.is_own:
        yield (0,)
    else:
        before = torch.get_rng_state()
        with noise.noticing() as used:
            yield tuple(torch.randint(2**62, (tasks,)).tolist())
        if not used[0]:
            torch.set_rng_state(before)
