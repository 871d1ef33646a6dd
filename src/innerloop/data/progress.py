"""The progress bar of all slow operations on data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


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
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(description, total=total)
        yield lambda steps: bars.advance(task, steps)
