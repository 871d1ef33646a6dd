"""`innerloop plot`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from innerloop.cli.output import show
from innerloop.cli.pictures import check_picture, check_place
from innerloop.errors import UserError

DESCRIPTION = """Compare runs in one picture: learning curves, accuracy after inner steps, episodes.

examples:
  innerloop plot runs/first
  innerloop plot runs/first runs/second --out both.png
  innerloop plot runs/* --episodes 0
  innerloop plot runs/first --language zh"""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Which runs, and where to draw them."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
    """Run folders, at most eight; those that are still at work have a learning curve alone."""
    out: Path = Path("comparison.png")
    """The PNG or SVG file to draw."""
    episodes: int = 1
    """How many test episodes to show of each run."""
    language: Literal["en", "zh"] = "en"
    """Language of the labels: English or Chinese."""


def main(argv: list[str]) -> int:
    """Parse `argv`, draw; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv, prog="innerloop plot", description=DESCRIPTION)
    if not arguments.runs:
        raise UserError("name the runs to draw; innerloop runs lists what there is")
    check_picture(arguments.out)
    check_place(arguments.out, "--out")

    from innerloop.plots.comparison import plot_runs

    plot_runs(
        list(arguments.runs),
        arguments.out,
        episodes=arguments.episodes,
        language=arguments.language,
    )
    show(f"the picture is {arguments.out}")
    return 0
