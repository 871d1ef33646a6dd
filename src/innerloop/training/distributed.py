"""One run by several processes under `torchrun`: tasks are divided, gradients averaged.

Every process holds the same parameters and draws its part of the same episodes.  What
travels is one all-reduce for each outer step, of the flat meta-gradient and a few numbers.  So the
number of processes changes how long a run takes, and what it learns only by rounding.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from innerloop.errors import UserError, first_line

if TYPE_CHECKING:
    from innerloop.functional import Params

T = TypeVar("T")

# A process that has died is noticed at once; these are for one that hangs.  Preparing data, for
# which the others wait, may take far longer than a step.
PATIENCE_WITH_DATA, PATIENCE_WITH_STEP = timedelta(minutes=30), timedelta(minutes=5)
# Seconds in which rank 0 reports a mistake, and torchrun ends the other processes.
TIME_TO_SPEAK = 20.0


class LostProcess(UserError):
    """Another process of the run has ended, or cannot be reached."""


def is_main() -> bool:
    """True if this process reports for the run: rank 0 under `torchrun`, or the only one."""
    # Other programs set RANK as well.
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def _number(name: str, default: int) -> int:
    """A number in the environment, from 0 on."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise UserError(
            f"{name} is {text!r} in the environment, not a number: start the processes by "
            f"torchrun, or unset {name} for a single one"
        )
    return int(text)


@contextlib.contextmanager
def only_main_prints() -> Iterator[None]:
    """Silence all processes but rank 0 within this context."""
    with contextlib.ExitStack() as stack:
        if not is_main():
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


@contextlib.contextmanager
def main_speaks() -> Iterator[None]:
    """Let rank 0 report a shared mistake before other processes exit.

    As soon as one process ends, `torchrun` ends the rest: rank 0 too, if it is slower.
    """
    try:
        yield
    except (UserError, SystemExit) as error:
        # Each process has its own to say of a lost one; --help is an exit, but no mistake.
        if not (is_main() or isinstance(error, LostProcess) or getattr(error, "code", 2) == 0):
            time.sleep(TIME_TO_SPEAK)
            if isinstance(error, UserError):
                # Nobody has ended this process: rank 0 has not met this mistake.
                print(f"error: process {os.environ['RANK']}: {error}", file=sys.stderr)
        raise


class World:
    """The processes of a run; a single one needs no communication at all.

    Attributes:
        rank: the number of this process, 0 to `size - 1`.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        # What gradients travel in; set by `use`.
        self._group: Any = None

    @classmethod
    def join(cls) -> World:
        """Join the other processes that `torchrun` started, if any.

        Raises:
            UserError: the environment speaks of several processes, but not how to meet them.
            LostProcess: the others do not answer.
        """
        size = _number("WORLD_SIZE", 1)
        if size <= 1:
            return cls()
        missing = [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
        if missing:
            raise UserError(
                f"WORLD_SIZE is {size}, but {', '.join(missing)} not set: start the processes "
                "by torchrun, or unset WORLD_SIZE for a single one"
            )
        rank = _number("RANK", 0)
        _number("MASTER_PORT", 0)
        if rank >= size:
            raise UserError(
                f"RANK is {rank} in the environment, and WORLD_SIZE {size}: ranks run from 0 to "
                f"{size - 1}; start the processes by torchrun"
            )
        import torch.distributed as dist

        # Once in the life of a process: who closes this and opens it again can meet the
        # addresses of the first time.
        if not dist.is_initialized():
            with _talking():
                dist.init_process_group("gloo", timeout=PATIENCE_WITH_DATA)
        return cls(dist.get_rank(), size)

    def use(self, device: str) -> None:
        """Choose how gradients travel, and a GPU for each process.

        Args:
            device: as in the config; on `"cuda"` each process takes one of several GPUs.

        Raises:
            UserError: fewer GPUs than processes, or a device whose numbers cannot be sent.
            LostProcess: the others do not answer.
        """
        if self.size == 1:
            return
        import torch.distributed as dist

        self.main_first(lambda: _take(device))
        nccl = device == "cuda" and dist.is_nccl_available()
        with _talking():
            self._group = dist.new_group(
                backend="nccl" if nccl else "gloo", timeout=PATIENCE_WITH_STEP
            )

    @property
    def is_main(self) -> bool:
        """True if this process writes files and reports."""
        return self.rank == 0

    def share(self, tasks: int) -> range:
        """The tasks of a meta-batch that this process computes; shares differ by one at most.

        Raises:
            UserError: fewer tasks than processes.
        """
        if tasks < self.size:
            raise UserError(
                f"a meta-batch of {tasks} tasks cannot be shared out among {self.size} processes: "
                "start fewer, or raise meta_batch_size"
            )
        return range(self.rank * tasks // self.size, (self.rank + 1) * tasks // self.size)

    def from_main(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, or the `UserError` that it meets, in all processes."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        made: list[Any] = [None, None]
        if self.is_main:
            try:
                made[0] = make()
            except UserError as error:
                made[1] = str(error)
        with _talking():
            dist.broadcast_object_list(made)
        if made[1] is not None:
            raise UserError(made[1])
        found: T = made[0]
        return found

    def main_first(self, make: Callable[[], T]) -> T:
        """`make()` in every process: rank 0 first, so that the others find its caches.

        A `UserError` that any process meets is raised in all.
        """
        if self.size == 1:
            return make()
        import torch.distributed as dist

        made: list[T] = []
        for turn in (self.is_main, not self.is_main):
            mistake = None
            if turn:
                try:
                    made.append(make())
                except UserError as error:
                    mistake = str(error)
            mistakes: list[str | None] = [None] * self.size
            with _talking():
                dist.all_gather_object(mistakes, mistake)
            for rank, found in enumerate(mistakes):
                if found is not None:
                    raise UserError(found if rank == 0 else f"process {rank}: {found}")
        return made[0]

    def mean(
        self, share: float, gradient: Params, metrics: Params, seconds: float, stop: bool
    ) -> tuple[Params, Params, float, bool]:
        """The mean over all tasks, by one all-reduce.

        Args:
            share: the part of the tasks that this process computed, 0..1.
            gradient, metrics: the means over those tasks.
            seconds: what the clock of this process shows.
            stop: whether this process was asked to stop.

        Returns:
            Gradient and metrics over all tasks, the clock of rank 0, and whether any process
            was asked to stop: the same in all of them.

        Raises:
            LostProcess: another process has ended.
        """
        if self.size == 1:
            return gradient, metrics, seconds, stop
        import torch
        import torch.distributed as dist

        parts = [share * t.reshape(-1) for part in (gradient, metrics) for t in part.values()]
        control = [seconds if self.is_main else 0.0, float(stop)]
        flat = torch.cat([*parts, parts[0].new_tensor(control)])
        with _talking():
            dist.all_reduce(flat, group=self._group)
        sums = flat.split([p.numel() for p in parts] + [2])
        means = [
            {name: total.view(t.shape) for (name, t), total in zip(part.items(), of, strict=True)}
            for part, of in (
                (gradient, sums[: len(gradient)]),
                (metrics, sums[len(gradient) : -1]),
            )
        ]
        clock, stops = sums[-1].tolist()
        return means[0], means[1], clock, stops > 0

    def leave(self) -> None:
        """Wait for all ranks, then destroy the group."""
        if self.size > 1:
            import torch.distributed as dist

            with _talking():
                # torchrun stops all processes as soon as one exits.
                dist.barrier()
            dist.destroy_process_group(self._group)


def _take(device: str) -> None:
    """Take the GPU of this process, where each is to have one of its own."""
    import torch

    if device == "cuda":
        place, there = _number("LOCAL_RANK", 0), torch.cuda.device_count()
        if place >= there:
            raise UserError(
                f"there are {there} GPUs for process {place + 1} of this machine: start no more "
                "processes than GPUs, or train with device cpu"
            )
        torch.cuda.set_device(place)
    elif not device.startswith(("cpu", "cuda:")):
        raise UserError(f"several processes cannot share a run on {device}: use cpu or cuda")


@contextlib.contextmanager
def _talking() -> Iterator[None]:
    """Turn a communication error into a message that another process does not answer."""
    try:
        yield
    except RuntimeError as error:
        raise LostProcess(
            "another process of this run has ended or cannot be reached. What the last "
            "checkpoint holds is safe: go on with innerloop resume and the run's folder, by any "
            f"number of processes ({first_line(error)})"
        ) from error
