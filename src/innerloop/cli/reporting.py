"""What `train` and `resume` print, and their exit status."""

from __future__ import annotations

import json

from innerloop.cli.output import show
from innerloop.training.distributed import is_main
from innerloop.training.report import Report, TerminalReport
from innerloop.training.run import Run
from innerloop.training.tensorboard import TensorBoardReport


def report_for(tensorboard: bool) -> Report:
    """A live bar or plain lines, and TensorBoard if asked for."""
    report: Report = TerminalReport()
    return TensorBoardReport(report) if tensorboard and is_main() else report


def said(run: Run, as_json: bool) -> int:
    """The exit status of a run; prints its results if asked for."""
    if run.interrupted:
        return 130
    if as_json and is_main():
        show(json.dumps({"run": str(run.folder), **run.results}))
    return 0
