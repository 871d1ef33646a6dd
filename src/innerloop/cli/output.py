"""Standard output is for results: with `--json` and `--csv` for nothing else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

_stream: TextIO | None = None


def result_stream() -> TextIO:
    """Where results are written to."""
    return sys.stdout if _stream is None else _stream


def show(text: Any, end: str = "\n") -> None:
    """Print a result."""
    print(text, end=end, file=result_stream())


@contextlib.contextmanager
def results_alone(arguments: Sequence[str]) -> Iterator[None]:
    """Within this context, what users' code prints does not come between results for programs.

    Once for the whole command, and for all its threads: a network prints while it is made, called
    or imported, in places that nobody knows.

    Args:
        arguments: of the command; without `--json` or `--csv` everything stays as it is.
    """
    global _stream
    if not {"--json", "--csv"} & {*arguments} or {"-h", "--help"} & {*arguments}:
        yield
        return
    _stream = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _stream = None
