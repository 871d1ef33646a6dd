"""Whether data is what a network can be tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from innerloop.data.base import ClassIndexed
from innerloop.errors import UserError
from innerloop.files import quoted
from innerloop.tasks.marks import are_other, marks


def check_same(path: Path | str, names: list[str], then: Any, source: ClassIndexed) -> None:
    """Raise a `UserError` where the data of a run's own name is not what it was trained on.

    A name need not say which data it was: a data set that was made in Python may be called as
    one of the package, or as a folder.

    Args:
        path: the run.
        names: of its training classes.
        then: their marks; None where the file has none.
        source: what its name means now.
    """
    number = {name: n for n, name in enumerate(source.names)}
    there = [number[name] for name in names if name in number]
    if not then or (len(there) == len(names) and not are_other(then, marks(source, there))):
        return
    raise UserError(
        f"{source.name} is not what the run in {path} was trained on: "
        + ("it lacks" if len(there) < len(names) else "other examples of its")
        + " training classes. Was that a data set that was made in Python, or has the data "
        "changed? Say what to test on, with --data (in Python data=): "
        f"innerloop evaluate {quoted(path)} --data PATH"
    )


def check_shape(trained: tuple[int, ...], found: tuple[int, ...], data: str) -> None:
    """Raise a `UserError` for examples of another shape than the network was trained on."""
    if trained == found:
        return
    says = (
        f"the network was trained on examples of shape {trained}, but those of {data} have {found}"
    )
    if not len(trained) == len(found) == 3:
        raise UserError(f"{says}: train a network on such examples")
    has = {1: "is of grey pictures", 3: "is of coloured pictures"}.get(
        found[0], "has other channels"
    )
    way = f"{data} {has}, so train a network on such pictures"
    if trained[0] == found[0]:
        way = "scale the pictures to {} x {}".format(*trained[1:])
    elif trained[0] == 1 and found[0] == 3:
        way += ", or turn these grey first"
    raise UserError(f"{says} (channels, height, width): {way}")
