"""`innerloop runs`."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from innerloop.cli.output import show
from innerloop.errors import UserError
from innerloop.files import one_line

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

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="[FOLDER]")] = Path("runs")
    """Where to look for run folders."""
    sort: Literal["name", "value", "iterations"] = "name"
    """Order: by name, the best first, or the longest first."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON, with the whole protocol of each test."""


def main(argv: list[str]) -> int:
    """Parse `argv`, list; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv, prog="innerloop runs", description=DESCRIPTION)

    from innerloop.runs.listing import find_runs, summary

    rows, damaged = [], list[UserError]()
    for folder in find_runs(arguments.folder):
        try:
            rows.append(summary(folder))
        except UserError as error:
            damaged.append(error)
    if damaged and not rows:
        raise damaged[0]
    for why in damaged:
        # The others are listed all the same.
        warnings.warn(f"{why}; it is left out", stacklevel=1)
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
    """A table; on a terminal that is too narrow for it, each run below its name."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = ("run", "algorithm", "data", "setting", "state")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in ("iterations", "minutes", "result", "of"):
        table.add_column(name, justify="left" if name == "of" else "right", no_wrap=True)
    for row in rows:
        # Paths may hold brackets, which would be markup.
        table.add_row(*(Text(one_line(str(row[name]))) for name in names), *_numbers(row))
    console = Console(highlight=False)
    needed = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    if not console.is_terminal:
        Console(highlight=False, width=needed).print(table)
    elif needed <= console.width:
        console.print(table)
    else:
        for row in rows:
            iterations, minutes, result, of = _numbers(row)
            setting = row["setting"] and f", {row['setting']}"
            took = minutes and f" in {minutes} minutes"
            show(row["run"])
            show(f"  {row['algorithm']} on {row['data']}{setting}")
            show(f"  {row['state']}, {iterations} iterations{took}{result and f', {of} {result}'}")


def _numbers(row: dict[str, Any]) -> tuple[str, str, str, str]:
    """Iterations, minutes, the result and what it is of; empty where they are not known."""
    scale, unit = (100, " %") if row["metric"] == "accuracy" else (1, "")
    value = "" if row["value"] is None else f"{scale * row['value']:.2f}"
    if value and row["ci95"] is not None:
        value += f" ± {scale * row['ci95']:.2f}"
    minutes = "" if row["seconds"] is None else f"{row['seconds'] / 60:.1f}"
    of = row["of"] if value else ""
    return f"{row['iterations']:,}", minutes, value + unit * bool(value), of
