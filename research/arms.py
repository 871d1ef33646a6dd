"""Experiments in arms: each changes one thing in a paper's settings, on a small budget."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.reports import (
    RESULTS,
    check_names,
    no_traceback,
    shorten,
    trained_in,
    was_stopped,
    write_report,
)

from innerloop.config import TrainConfig
from innerloop.ops.allocator import keep_memory
from innerloop.training.report import TerminalReport


class Experiment(NamedTuple):
    """What is compared, and how.

    Attributes:
        name: of the module, and of the result file.
        preset: the settings that all arms start from.
        budget: settings that differ from it in all arms.
        arms: by name, what the arm changes.
        measure: the arm's name, its run folder, the run's results and where Omniglot is, to what
            is written of the arm.
    """

    name: str
    preset: str
    budget: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    measure: Callable[[str, Path, dict[str, Any], str | None], dict[str, Any]]

    def result(self, arm: str, folder: Path, source: str | None) -> dict[str, Any]:
        """The measurements of one arm, which is trained or resumed if needed."""
        changes = {**self.budget, **self.arms[arm]}
        config = dataclasses.replace(TrainConfig.preset(self.preset), **changes)
        results = trained_in(folder, config, TerminalReport(), omniglot_source=source)
        if results is None:
            raise was_stopped(folder)
        return self.measure(arm, folder, results, source)

    def main(self, description: str) -> None:
        """Run the command line."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("names", nargs="*", help=f"of {', '.join(self.arms)}; all by default")
        parser.add_argument("--runs", type=Path, default=Path("runs") / self.name)
        parser.add_argument("--omniglot-source", default=os.environ.get("INNERLOOP_OMNIGLOT"))
        arguments = parser.parse_args()
        check_names(parser, "arm", arguments.names, self.arms)
        keep_memory()
        path = RESULTS / f"{self.name}.json"
        for name in arguments.names or self.arms:
            folder = arguments.runs / re.sub("[^a-z0-9]+", "-", name.lower())
            with no_traceback(parser):
                result = self.result(name, folder, arguments.omniglot_source)
            shorten(result)
            # Read again each time: arms may run beside each other.
            runs = json.loads(path.read_text())["runs"] if path.exists() else {}
            runs[name] = {"changes": self.arms[name], **result}
            # After every arm, so that none is lost.
            done = {arm: runs[arm] for arm in self.arms if arm in runs}
            command = f"python -m research.{self.name}"
            write_report(self.name, done, command, budget=self.budget)
