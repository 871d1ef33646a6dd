"""One run by several processes under `torchrun`: tasks are shared out, gradients are averaged.

Every process holds the same parameters and draws its part of the same episodes.  What
travels is one all-reduce for each outer step, of the flat meta-gradient and a few numbers.  So the
number of processes changes how long a run takes, and what it learns only by rounding.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from innerloop.errors import UserError

if TYPE_CHECKING:
    from innerloop.functional import Params

T = TypeVar("T")

# A process that has died is noticed at once; this is for one that hangs.
PATIENCE = timedelta(minutes=30)


class LostProcess(UserError):
    """Another process of the run has ended, or cannot be reached."""


def is_main() -> bool:
    """Whether this process speaks for the run: rank 0 under `torchrun`, or the only one."""
    return os.environ.get("RANK", "0") == "0"


class World:
    """The processes of a run; a single one needs no communication at all.

    Attributes:
        rank: the number of this process, 0 to `size - 1`.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    def join(cls, device: str) -> World:
        """Meet the other processes that `torchrun` started, if it did.

        Args:
            device: as in the config; of several GPUs each process takes one.

        Raises:
            UserError: fewer GPUs than processes.
            LostProcess: the others do not answer.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        import torch
        import torch.distributed as dist

        if device == "cuda":
            place = int(os.environ.get("LOCAL_RANK", "0"))
            if place >= torch.cuda.device_count():
                raise UserError(
                    f"there are {torch.cuda.device_count()} GPUs here: start as many processes, "
                    "or train with --device cpu"
                )
            torch.cuda.set_device(place)
        if not dist.is_initialized():
            with _talking():
                backend = "nccl" if device == "cuda" else "gloo"
                dist.init_process_group(backend, timeout=PATIENCE)
        return cls(dist.get_rank(), size)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
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

        made: list = [None, None]
        if self.is_main:
            try:
                made[0] = make()
            except UserError as error:
                made[1] = str(error)
        with _talking():
            dist.broadcast_object_list(made)
        if made[1] is not None:
            raise UserError(made[1])
        return made[0]

    def main_first(self, make: Callable[[], T]) -> T:
        """`make()` in every process: rank 0 first, so that the others find its caches."""
        if self.size == 1:
            return make()
        made: list[T] = []

        def first() -> None:
            made.append(make())

        self.from_main(first)
        return made[0] if made else make()

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
            dist.all_reduce(flat)
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
        """Part from the others, at the end of a run."""
        if self.size > 1:
            import torch.distributed as dist

            dist.destroy_process_group()


@contextlib.contextmanager
def _talking() -> Iterator[None]:
    """Says in plain words that another process does not answer."""
    try:
        yield
    except RuntimeError as error:
        raise LostProcess(
            "another process of this run has ended or cannot be reached. What the last "
            "checkpoint holds is safe: go on with innerloop train --resume and the run's folder, "
            f"by any number of processes ({str(error).splitlines()[0][:120]})"
        ) from error
