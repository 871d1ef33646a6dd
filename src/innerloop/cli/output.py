"""Standard output is for results: with `--json` and `--csv` for nothing else."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from innerloop.files import one_line

_stream: TextIO | None = None


def result_stream() -> TextIO:
    """Where results are written to."""
    return sys.stdout if _stream is None else _stream


def show(text: str) -> None:
    """Print a line of results, which stays one whatever names of files it holds."""
    print(one_line(text), file=result_stream())


def say(text: str) -> None:
    """Write a message to standard error, and ignore it if that is closed or full.

    Further lines are those of users' own code and errors, which are indented: any other break is of
    a name.
    """
    lines = map(one_line, re.split(r"\n(?=  )", text))
    with contextlib.suppress(OSError, ValueError):
        print("\n".join(lines), file=sys.stderr, flush=True)


def show_lines(text: str) -> None:
    """Print a result of several lines."""
    for line in text.splitlines():
        show(line)


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
