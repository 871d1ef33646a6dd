"""`innerloop runs`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from innerloop.cli.output import show

DESCRIPTION = """List runs: what was trained, on what, how far, how well.

Before a run has ended, the best value on validation tasks is shown, and its state is "running" or,
where innerloop resume RUN goes on with it, "stopped".

examples:
  innerloop runs
  innerloop runs experiments/ --sort value
  innerloop runs --json"""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Which runs, in which order."""

    folder: tyro.conf.Positional[Path] = Path("runs")
    """Where to look for run folders."""
    sort: Literal["name", "value", "iterations"] = "name"
    """Order: by name, the best first, or the longest first."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON, with the whole protocol of each test."""


def main(argv: list[str]) -> int:
    """Parse `argv`, list; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv, prog="innerloop runs", description=DESCRIPTION)

    from innerloop.runs.listing import find_runs, summary

    rows = [summary(folder) for folder in find_runs(arguments.folder)]
    if arguments.sort == "value":
        rows.sort(key=_badness)
    elif arguments.sort == "iterations":
        rows.sort(key=lambda row: -row["iterations"])
    if arguments.json:
        show(json.dumps(rows))
    elif not rows:
        show(f"no runs in {arguments.folder}")
    else:
        _print(rows)
    return 0


def _badness(row: dict[str, Any]) -> tuple[bool, float]:
    if row["value"] is None:
        return True, 0.0
    return False, row["value"] if row["metric"] == "loss" else -row["value"]


def _print(rows: list[dict[str, Any]]) -> None:
    """A table: as wide as it needs to be in a file, cut to the terminal's width on one."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("run", "algorithm", "data", "setting", "state"):
        table.add_column(name, overflow="fold" if name == "run" else "ellipsis")
    for name in ("iterations", "minutes", "result", "of"):
        table.add_column(name, justify="left" if name == "of" else "right", no_wrap=True)
    for row in rows:
        scale, unit = (100, " %") if row["metric"] == "accuracy" else (1, "")
        value = "" if row["value"] is None else f"{scale * row['value']:.2f}"
        if value and row["ci95"] is not None:
            value += f" ± {scale * row['ci95']:.2f}"
        minutes = "" if row["seconds"] is None else f"{row['seconds'] / 60:.1f}"
        names = ("run", "algorithm", "data", "setting", "state")
        # Paths may hold brackets, which would be markup.
        cells = [Text(str(row[name])) for name in names]
        of = row["of"] if value else ""
        table.add_row(*cells, f"{row['iterations']:,}", minutes, value + unit * bool(value), of)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    console.print(table)
