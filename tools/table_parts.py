"""Parts of the tables on all pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def read(name: str) -> dict[str, Any]:
    """A result file."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(head: str, rows: list[str], note: str = "") -> str:
    """The lines of a table; `head` is its first line, `note` a sentence below it."""
    lines = [head, "|---" * (head.count("|") - 1) + "|", *rows]
    return "\n".join([*lines, "", *([note, ""] if note else [])])


def note(text: str, report: dict[str, Any], words: dict[str, str] | None = None) -> str:
    """The sentence below a table, with the machine that it was measured on and other `words`."""
    machine = report["machine"]
    return text.format(
        ours=(words or {}).get("ours"),
        seconds=report.get("seconds"),
        processor=machine["processor"],
        gflops=machine["matrix_product_gflops"],
        torch=machine["torch"],
    )


def percent(result: dict[str, Any] | None) -> str:
    """`97.31 ± 0.28`, an accuracy with its 95% interval; or nothing."""
    if result is None:
        return ""
    return f"{100 * result['accuracy']:.2f} ± {100 * result['ci95']:.2f}"


def named(
    words: dict[str, Any], *makers: Callable[[dict[str, Any]], str]
) -> dict[str, Callable[[Any], str]]:
    """Tables by the names that the pages use; their arguments are ignored."""
    return {make.__name__: lambda _, make=make: make(words) for make in makers}
