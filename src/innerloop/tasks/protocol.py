"""The interface of a source of tasks."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from innerloop.errors import UserError
from innerloop.tasks.episodes import Episodes, as_episodes


@runtime_checkable
class Tasks(Protocol):
    """A source of tasks: anything with a method `batch`.

    Episode `i` must be a function of `i` alone: the same whenever it is asked for, and however many
    are asked for with it.  Exact resume, several processes and repeatable results rest on that.

    What follows is optional, and goes into results and run folders where it is there:
    `protocol()`, a dict of plain values that says what the tasks are; `data_name`, a short name;
    `n_way`, the classes of a task; `class_names`, the classes that tasks are made of;
    `num_classes`, how many those are, for an algorithm that asks for it.

    Example:
        >>> import innerloop, torch
        >>> class Lines:
        ...     def batch(self, start, count):
        ...         tasks = []
        ...         for number in range(start, start + count):
        ...             generator = torch.Generator().manual_seed(number)
        ...             slope = torch.randn(1, generator=generator)
        ...             x = torch.randn(10, 1, generator=generator)
        ...             tasks.append((x[:5], slope * x[:5], x[5:], slope * x[5:]))
        ...         return innerloop.Episodes(*(torch.stack(t) for t in zip(*tasks)))
        >>> isinstance(Lines(), innerloop.Tasks)
        True
    """

    def batch(self, start: int, count: int) -> Episodes:
        """Episodes `start` to `start + count - 1`."""
        ...


class TaskSampler(Tasks, Protocol):
    """Tasks that describe themselves fully, as those of this package do.

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

    def protocol(self) -> dict[str, Any]:
        """The description of the tasks for a result, as plain values."""
        ...


def check_tasks(**sources: Any) -> None:
    """Raise a `UserError` that names the first source that gives no tasks."""
    for name, source in sources.items():
        if not isinstance(source, Tasks):
            raise UserError(
                f"{name} must have a method batch(start, count), which "
                f"{type(source).__name__} does not have; see innerloop.Tasks"
            )


def is_maker(value: Any) -> bool:
    """True if this is a function or class that makes something, and not `Tasks` itself."""
    return callable(value) and (isinstance(value, type) or not isinstance(value, Tasks))


def draw(tasks: Tasks, start: int, count: int, device: torch.device | None = None) -> Episodes:
    """Episodes of any `Tasks`, on a device, with their number of ways where it is known.

    Raises:
        UserError: what `batch` gave are not episodes, or not as many as were asked for.
    """
    found = as_episodes(tasks.batch(start, count), f"what batch of {type(tasks).__name__} returns")
    if found.n_way is None:
        found = Episodes(*found, n_way=getattr(tasks, "n_way", None))
    if {len(t) for t in found} != {count}:
        raise UserError(
            f"{type(tasks).__name__} was asked for {count} tasks from {start} on and gave tensors "
            f"of {', '.join(str(len(t)) for t in found)}: give as many as are asked for, or ask "
            "for fewer"
        )
    if device is not None and found.support_x.device != device:
        found = found.to(device)
    return found


def protocol_of(tasks: Tasks) -> dict[str, Any]:
    """The description of the tasks for a result, as plain values."""
    if hasattr(tasks, "protocol"):
        return dict(tasks.protocol())
    known = {"data": name_of(tasks), "n_way": getattr(tasks, "n_way", None)}
    return {name: value for name, value in known.items() if value is not None}


def setting_of(protocol: dict[str, Any]) -> str:
    """Ways and shots as people write them, as far as they are known: "5-way 1-shot"."""
    known = [(name, protocol.get(f"{kind}_{name}")) for kind, name in (("n", "way"), ("k", "shot"))]
    # A range has two ends.
    texts = [(name, "-".join(map(str, v)) if isinstance(v, list) else v) for name, v in known]
    return " ".join(f"{text}-{name}" for name, text in texts if text)


def name_of(tasks: Tasks) -> str:
    """Short name of the data."""
    return str(getattr(tasks, "data_name", type(tasks).__name__))


def class_names_of(tasks: Tasks) -> list[str]:
    """Names of the classes that tasks are made of, as far as they are known."""
    return [str(name) for name in getattr(tasks, "class_names", [])]


def input_shape_of(tasks: Tasks) -> tuple[int, ...]:
    """The shape of one example."""
    if hasattr(tasks, "input_shape"):
        return tuple(tasks.input_shape)
    return tuple(draw(tasks, 0, 1).support_x.shape[2:])


def pixels_of(tasks: Tasks) -> dict[str, bool]:
    """How the tasks scaled pixels, if known, so that it is repeated at test time.

    `inverted`: dark became light.  `on_paper`: pictures of ink that show if it is dark or light.
    """
    known = {name: getattr(tasks, name, None) for name in ("inverted", "on_paper")}
    return {name: value for name, value in known.items() if isinstance(value, bool)}


def computed_by(tasks: Tasks) -> str:
    """The `identity` of the body that computed the examples; empty where there is none."""
    return str(getattr(getattr(tasks, "data", None), "computed_by", ""))


def origin_of(tasks: Tasks) -> dict[str, Any]:
    """What made the examples of pictures: `computed_by`, and `white` where they have one."""
    white = getattr(getattr(tasks, "data", None), "white", None)
    found = {"computed_by": computed_by(tasks), "white": white and float(white)}
    return {name: value for name, value in found.items() if value}


def fingerprint_of(tasks: Tasks) -> dict[str, Any]:
    """A fingerprint of the tasks: their description and their first episode.

    Raises:
        UserError: the first episode is another one when it is asked for again, or the second is
            another one beside it than by itself.
    """
    first, again = (digest_of(*draw(tasks, 0, 1)) for _ in range(2))
    if first != again:
        raise UserError(
            f"{type(tasks).__name__} gives a different episode 0 each time: episode i must be a "
            "function of i alone, for instance by torch.Generator().manual_seed(i)"
        )
    _check_second(tasks)
    return {"described as": protocol_of(tasks), "first episode": first}


def _check_second(tasks: Tasks) -> None:
    """Raise a `UserError` for a source that does not count from `start`."""
    stackable = getattr(tasks, "stackable", None)
    if stackable is not None and stackable(0, 2) < 2:
        return
    beside, alone = draw(tasks, 0, 2), draw(tasks, 1, 1)
    for a, b in zip(beside, alone, strict=True):
        # Last digits may depend on how many are computed together.
        if a[1:].shape != b.shape or not torch.allclose(a[1:].double(), b.double(), equal_nan=True):
            raise UserError(
                f"{type(tasks).__name__} gives a different episode 1 alone than after episode 0: "
                "batch(start, count) must give episodes start to start + count - 1, each a "
                "function of its number alone"
            )


def digest_of(*tensors: Tensor) -> str:
    """SHA-256 of types, shapes and values."""
    digest = hashlib.sha256()
    for t in tensors:
        digest.update(f"{t.dtype} {tuple(t.shape)}\n".encode())
        digest.update(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
