"""A run's numbers for TensorBoard, in the folder `tensorboard` of the run."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from innerloop.errors import UserError
from innerloop.outer_loop import OuterLoop
from innerloop.training.report import Report, SilentReport

FOLDER = "tensorboard"


class TensorBoardReport(SilentReport):
    """Writes what another report shows for TensorBoard as well.

    Args:
        shown: the other report.

    Raises:
        UserError: TensorBoard is not installed.
    """

    def __init__(self, shown: Report) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise UserError("install TensorBoard first: pip install 'innerloop[tensorboard]'")
        self.shown = shown
        self.shows_progress = shown.shows_progress

    def start(self, config: OuterLoop, folder: Path, iteration: int) -> None:
        # Slow to import, and not installed everywhere.
        from torch.utils.tensorboard import SummaryWriter

        _await_a_later_name(folder / FOLDER)
        # A resumed run repeats the steps after its last checkpoint: what was written of them goes.
        purge = iteration + 1 if iteration else None
        self.writer = SummaryWriter(str(folder / FOLDER), purge_step=purge)
        rows = "\n".join(f"| {name} | {value} |" for name, value in config.to_dict().items())
        self.writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", iteration)
        self.shown.start(config, folder, iteration)

    @contextlib.contextmanager
    def training(self, config: OuterLoop) -> Iterator[None]:
        try:
            with self.shown.training(config):
                yield
        finally:
            self.writer.flush()

    def step(self, iteration: int, loss: float, share: float) -> None:
        self.writer.add_scalar("training/query loss", loss, iteration)
        self.shown.step(iteration, loss, share)

    def validated(self, line: dict[str, Any]) -> None:
        for name, value in line.items():
            if name.startswith("val_") and name != "val_ci95":
                metric = name.removeprefix("val_")
                self.writer.add_scalar(f"validation/{metric}", value, line["iteration"])
        self.writer.flush()
        self.shown.validated(line)

    @contextlib.contextmanager
    def testing(self, tasks: int) -> Iterator[Callable[[int], None] | None]:
        with self.shown.testing(tasks) as on_progress:
            yield on_progress

    def warning(self, message: str) -> None:
        self.shown.warning(message)

    def stopping(self) -> None:
        self.shown.stopping()

    def interrupted(self, folder: Path, iteration: int) -> None:
        self.writer.close()
        self.shown.interrupted(folder, iteration)

    def finished(self, folder: Path, results: dict[str, Any]) -> None:
        for metric in dict.fromkeys((results.get("metric", "loss"), "loss")):
            for step, value in enumerate(results.get(f"{metric}_per_step", [])):
                self.writer.add_scalar(f"test/{metric} against inner steps", value, step)
        self.writer.close()
        self.shown.finished(folder, results)


def _await_a_later_name(folder: Path) -> None:
    """Wait, less than a second, until a new event file sorts after the existing ones.

    TensorBoard reads the files in the order of their names, which begin with the second of their
    start: of two begun in the same second, the resumed one could be read first.
    """
    now = time.time()
    if any(file.name.split(".")[3] == f"{int(now):010d}" for file in folder.glob("events.out.*")):
        time.sleep(int(now) + 1 - now)
