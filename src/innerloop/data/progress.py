"""The progress bar of all slow operations on data."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

# More pictures than this are many: with a bar, where there is a terminal.
LONG = 128


@contextlib.contextmanager
def progress_bar(
    description: str, total: int | None, *, shown: bool, in_bytes: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error, so that standard output stays clean for results.

    Args:
        description: what is going on, a few words.
        total: number of steps or bytes; None where it is not known.
        shown: False shows nothing and costs nothing.
        in_bytes: count in bytes and show the speed.

    Yields:
        A function to call with the number of steps or bytes done since the last call.
    """
    if not shown:
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.errors import LiveError
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counting = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *counting, TimeRemainingColumn())
    bars = Progress(*columns, console=Console(stderr=True))
    task = bars.add_task(description, total=total)
    try:
        bars.start()
    except LiveError:
        # A terminal has one bar at a time in older versions: another is up, of another thread.
        yield lambda steps: None
        return
    try:
        yield lambda steps: bars.advance(task, steps)
    finally:
        bars.stop()


def bar_for_many(description: str, number: int) -> AbstractContextManager[Callable[[int], None]]:
    """A bar for work on pictures that was not asked to show one: of many, on a terminal.

    Args:
        description: what is going on, a few words.
        number: of pictures.
    """
    shown = number > LONG and sys.stderr is not None and sys.stderr.isatty()
    return progress_bar(description, number, shown=shown)
