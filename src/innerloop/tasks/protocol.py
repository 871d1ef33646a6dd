"""What training and evaluation ask of a source of tasks."""

from __future__ import annotations

from typing import Any, Protocol

from innerloop.tasks.episodes import Episodes


class TaskSampler(Protocol):
    """Where tasks come from, as far as training and evaluation are concerned.

    Attributes:
        split: name of the part of the data, `"train"`, `"val"` or `"test"`.
        seed: episodes are a function of it, the part and their number.
        n_way: N, classes a task; None for regression.
        data_name: short name of the data.
        class_names: names of the classes that tasks are made of; none in regression.
        input_shape: of one example, `(C, H, W)` for images.
    """

    split: str
    seed: int

    @property
    def n_way(self) -> int | None: ...

    @property
    def data_name(self) -> str: ...

    @property
    def class_names(self) -> list[str]: ...

    @property
    def input_shape(self) -> tuple[int, ...]: ...

    def batch(self, start: int, count: int) -> Episodes:
        """Episodes `start` to `start + count - 1`."""
        ...

    def protocol(self) -> dict[str, Any]:
        """What a result needs to say of its tasks, as plain values."""
        ...
