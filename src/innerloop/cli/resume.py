"""`innerloop resume`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from innerloop.training.distributed import main_speaks, only_main_prints

DESCRIPTION = """Go on with an interrupted run, or give a finished one more iterations.

Everything is taken from the run folder.  A run can be given another length where its schedule is
constant: a cosine, for instance, depends on the length.

examples:
  innerloop resume runs/first
  innerloop resume runs/first --iterations 4000
  innerloop resume runs/first --max-seconds 600"""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Which run, and how long it is to be."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder."""
    iterations: int | None = None
    """Outer steps in all; by default as many as the run was to have."""
    max_seconds: float | None = None
    """Seconds of training in all; by default as many as the run was to have."""
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run the code that the run names, although you never used it on this machine."""
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also write numbers for TensorBoard into the run folder."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the results as JSON on standard output."""


def main(argv: list[str]) -> int:
    """Parse `argv`, train, report; returns the exit status."""
    with main_speaks():
        with only_main_prints():
            arguments = tyro.cli(
                Arguments, args=argv, prog="innerloop resume", description=DESCRIPTION
            )

        # PyTorch takes seconds to import, which --help should not wait for.
        from innerloop.cli.reporting import report_for, said
        from innerloop.ops.allocator import keep_memory
        from innerloop.training.fit import resume

        keep_memory()
        run = resume(
            arguments.run,
            iterations=arguments.iterations,
            max_seconds=arguments.max_seconds,
            trust=arguments.trust,
            report=report_for(arguments.tensorboard),
        )
        return said(run, arguments.json)
