"""Episodes: a meta-batch of tasks, each with a support and a query set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from innerloop.errors import UserError
from innerloop.functional import NO_LABEL


class _Sets(NamedTuple):
    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor


class Episodes(_Sets):
    """T tasks; the first axis of every tensor is the task.

    For N-way K-shot classification of images with Q queries a class the shapes are as given here;
    for other problems the axes after the second are free.

    Args:
        support_x: `[T, N*K, C, H, W]`, what a task adapts on.
        support_y: `[T, N*K]` class labels 0..N-1 (`int64`), or any other targets.
        query_x: `[T, N*Q, C, H, W]`, what the adapted network is scored on.
        query_y: `[T, N*Q]`.
        n_way: N, where tasks are of classes; None to count the labels when N is needed.

    Example:
        >>> import torch
        >>> x, y = torch.zeros(8, 5, 1, 28, 28), torch.arange(5).expand(8, 5)
        >>> Episodes(x, y, x, y).num_tasks
        8
    """

    n_way: int | None

    def __new__(
        cls,
        support_x: Tensor,
        support_y: Tensor,
        query_x: Tensor,
        query_y: Tensor,
        *,
        n_way: int | None = None,
    ) -> Episodes:
        self = super().__new__(cls, support_x, support_y, query_x, query_y)
        self.n_way = n_way
        return self

    def _replace(self, **changes: Any) -> Episodes:
        return Episodes(**{"n_way": self.n_way, **self._asdict(), **changes})

    def __reduce__(self) -> Any:
        return _again, (tuple(self), self.n_way)

    @property
    def num_tasks(self) -> int:
        """T, the number of tasks."""
        return self.support_x.shape[0]

    def ways(self) -> int:
        """N: `n_way` as given, or else counted once from the labels, which must be 0..N-1.

        Raises:
            UserError: targets that are not class labels, or labels that are not 0..N-1.
        """
        if self.n_way is None:
            self.n_way = count_ways(self.support_y)
        return self.n_way

    @overload
    def to(
        self,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        non_blocking: bool = False,
        copy: bool = False,
    ) -> Episodes: ...

    @overload
    def to(
        self, dtype: torch.dtype, non_blocking: bool = False, copy: bool = False
    ) -> Episodes: ...

    def to(self, *args: Any, **kwargs: Any) -> Episodes:
        """Move to a device; a dtype, if given, applies to inputs, not to class labels.

        The arguments are those of `torch.Tensor.to`.
        """
        support_x = self.support_x.to(*args, **kwargs)
        moved = (
            t.to(*args, **kwargs) if t.is_floating_point() else t.to(support_x.device)
            for t in self[1:]
        )
        return Episodes(support_x, *moved, n_way=self.n_way)

    def task(self, index: int) -> Episodes:
        """The one task `index`, without the task axis."""
        return Episodes(*(t[index] for t in self), n_way=self.n_way)

    def tasks(self) -> list[Episodes]:
        """Each task, without the task axis."""
        return [self.task(i) for i in range(self.num_tasks)]

    def with_task(self, n_way: int | None = None) -> Episodes:
        """One task without a task axis, `[...]`, as a meta-batch of one, `[1, ...]`."""
        return Episodes(*(t.unsqueeze(0) for t in self), n_way=n_way or self.n_way)

    def chunks(self, size: int | None) -> Iterator[Episodes]:
        """Cut the task axis into pieces of at most `size` tasks (None: one piece)."""
        if size is None:
            yield self
            return
        for pieces in zip(*(t.split(size) for t in self), strict=True):
            yield Episodes(*pieces, n_way=self.n_way)


def _again(tensors: tuple[Tensor, Tensor, Tensor, Tensor], n_way: int | None) -> Episodes:
    return Episodes(*tensors, n_way=n_way)


def as_episodes(found: Any, what: str) -> Episodes:
    """Episodes, or four tensors in a tuple or a list, as episodes.

    Args:
        found: what a user gave.
        what: what it is called in errors.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(found, tuple | list) or len(found) != len(_Sets._fields):
        raise UserError(
            f"{what} must be innerloop.Episodes({', '.join(_Sets._fields)}), not {_kind(found)}"
        )
    for name, value in zip(_Sets._fields, found, strict=True):
        check_tensors(f" of {what}", **{name: value})
        if not value.ndim:
            raise UserError(f"{name} of {what} is one number: its first axis must be the tasks'")
    if isinstance(found, Episodes):
        return found
    return Episodes(*found, n_way=getattr(found, "n_way", None))


def check_tensors(of: str = "", **values: Any) -> None:
    """Raise a `UserError` that names the first value that is no tensor."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise UserError(
                f"{name}{of} must be a tensor, not {_kind(value)}: "
                + ("give one" if value is None else "use torch.as_tensor")
            )


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, dict):
        return "a dict of " + (", ".join(map(repr, value)) or "nothing")
    count = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a {type(value).__name__}{count}"


def count_ways(labels: Tensor) -> int:
    """N, from labels 0..N-1 all of which occur.

    Raises:
        UserError: targets that are not class labels, or labels that are not 0..N-1.
    """
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(f"class labels must be integers, not {str(labels.dtype).split('.')[-1]}")
    labels = labels.long()
    labels = labels[labels != NO_LABEL] if bool((labels == NO_LABEL).any()) else labels
    found = labels.unique()
    if not len(found):
        raise UserError("there are no class labels to count")
    lowest, highest = int(found[0]), int(found[-1])
    if lowest != 0 or len(found) != highest + 1:
        shown = ", ".join(map(str, found[:8].tolist())) + (", ..." if len(found) > 8 else "")
        raise UserError(
            f"class labels in a task must run from 0 to N-1 without gaps; these are {shown}. "
            "torch.unique(labels, return_inverse=True)[1] makes such labels"
        )
    if labels.ndim == 2:
        classes = torch.arange(highest + 1, device=labels.device)
        there = (labels.unsqueeze(-1) == classes).any(dim=1)
        if not bool(there.all()):
            task, missing = (int(i) for i in (~there).nonzero()[0])
            raise UserError(
                f"task {task} has no example of class {missing} in its support set, but other "
                f"tasks have {highest + 1} classes: tasks of a meta-batch have equally many"
            )
    return highest + 1
