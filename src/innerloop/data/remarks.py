"""Remarks about a data set that its user should see."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_SHOWN = 3


@dataclass(frozen=True)
class Remark:
    """A remark about a data set: something left out, doubtful or inferred.

    Attributes:
        kind: one or two words, for programs.
        count: how many files, folders or pictures it is about.
        text: a sentence with the first of their names, for people.
        warns: said as a warning whenever the data set is loaded, beside `innerloop data info`.
    """

    kind: str
    count: int
    text: str
    warns: bool = True


def warn(remarks: Iterable[Remark], name: str, stacklevel: int = 2) -> None:
    """Issue the warnings among them, each as a `UserWarning`."""
    for remark in remarks:
        if remark.warns:
            warnings.warn(f"{name}: {remark.text}", stacklevel=stacklevel + 1)


def some(names: Sequence[str | Path]) -> str:
    """The first few of some names: `a.png, b.png, c.png and 9 more`."""
    shown = ", ".join(map(str, names[:_SHOWN]))
    more = len(names) - _SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown


def counted(number: int, thing: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
