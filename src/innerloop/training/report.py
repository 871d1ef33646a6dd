"""The progress output of a training run: nothing, plain lines, or a live bar."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from innerloop.files import one_line, quoted
from innerloop.outer_loop import OuterLoop
from innerloop.runs.folder import PICTURE
from innerloop.tasks.protocol import setting_of

# Seconds after which there is a word of a run that shows no bar: the first one, and each further.
FIRST_WORD, NEXT_WORD = 10.0, 60.0


class Report:
    """Progress callbacks of a run.  The base class shows nothing."""

    shows_progress = False

    def start(self, config: OuterLoop, folder: Path, iteration: int) -> None:
        """A run begins, or goes on from `iteration`."""

    @contextlib.contextmanager
    def training(self, config: OuterLoop) -> Iterator[None]:
        """The time in which `step` and `validated` are called."""
        yield

    def step(self, iteration: int, loss: float, share: float) -> None:
        """For each outer step, on a GPU some time after it; `share` of the run is done, 0 to 1."""

    def validated(self, line: dict[str, Any]) -> None:
        """After each validation, with its line of metrics."""

    @contextlib.contextmanager
    def testing(self, tasks: int) -> Iterator[Callable[[int], None] | None]:
        """The time of testing; yields what to call with the number of tasks done."""
        yield None

    def warning(self, message: str) -> None:
        """A warning; the run continues.

        A report that shows nothing still warns, as Python does.
        """
        warnings.warn(message, stacklevel=2)

    def stopping(self) -> None:
        """The run was asked to stop, and its outer step takes a while; in a thread of its own."""

    def interrupted(self, folder: Path, iteration: int) -> None:
        """The run stopped early on request."""

    def finished(self, folder: Path, results: dict[str, Any]) -> None:
        """The run came to its end."""


# The name of version 0.1.
class SilentReport(Report):
    """Shows nothing."""


class TerminalReport(Report):
    """A live progress bar on a terminal; elsewhere a line for each validation, and each minute.

    Everything goes to standard error, so that standard output is free for `--json`.

    Args:
        file: where to write instead of standard error.
        live: whether that is a terminal; None to find out.
    """

    shows_progress = True

    def __init__(self, file: IO[str] | None = None, live: bool | None = None) -> None:
        # Paths may hold brackets, and must not be broken into lines.
        self.console = Console(
            file=file,
            stderr=file is None,
            force_terminal=live,
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        self.live = self.console.is_terminal
        self._progress: Progress | None = None
        self._task: Any = None
        self._first: tuple[int, float] | None = None
        # Without a bar: when and at which share it began, and when there was the last word.
        self._began: tuple[float, float] | None = None
        self._word_due = 0.0

    def start(self, config: OuterLoop, folder: Path, iteration: int) -> None:
        where = f"from iteration {iteration} " if iteration else ""
        self.console.print(f"meta-training {where}{config.title()}, into {one_line(str(folder))}")

    @contextlib.contextmanager
    def training(self, config: OuterLoop) -> Iterator[None]:
        if not self.live:
            self._begin()
            yield
            return
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[info]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        ) as self._progress:
            self._task = self._progress.add_task("training", total=1.0, info="")
            self._info = ""
            yield
        self._progress = None

    def step(self, iteration: int, loss: float, share: float) -> None:
        if self._progress is None:
            self._word(share, f"iteration {iteration:6d}  loss {loss:.3f}")
            return
        task = self._progress.tasks[0]
        if self._first is None:
            self._first = (iteration, task.elapsed or 0.0)
        passed = (task.elapsed or 0.0) - self._first[1]
        rate = (iteration - self._first[0]) / passed if passed > 0 else 0.0
        info = f"{rate:5.1f} it/s  loss {loss:.3f}  {self._info}"
        self._progress.update(self._task, completed=share, info=info)

    def validated(self, line: dict[str, Any]) -> None:
        value = next((v for k, v in line.items() if k.startswith("val_") and k != "val_ci95"), None)
        shown = f"validation {value:.3f}" if value is not None else ""
        self._info = shown
        self._word_due = time.monotonic() + NEXT_WORD
        self.console.print(
            f"iteration {line['iteration']:6d}  {line['seconds']:7.1f} s  "
            f"loss {line['loss']:.3f}  {shown}"
        )

    @contextlib.contextmanager
    def testing(self, tasks: int) -> Iterator[Callable[[int], None] | None]:
        if not self.live:
            self.console.print(f"testing on {tasks} tasks")
            self._begin()
            yield lambda done: self._word(done / tasks, f"{done} of {tasks} tasks")
            return
        with Progress(
            TextColumn("testing "),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} tasks"),
            console=self.console,
            transient=True,
        ) as bar:
            task = bar.add_task("testing", total=tasks)
            yield lambda done: bar.update(task, completed=done)

    def _begin(self) -> None:
        """What shows no bar begins."""
        self._began, self._word_due = None, time.monotonic() + FIRST_WORD

    def _word(self, share: float, done: str) -> None:
        """Say how far it is, where there is no bar, and nothing was said for a while."""
        now = time.monotonic()
        if self._began is None:
            # Not before: the first step has to get ready much that the others find there.
            self._began = (now, share)
        if self.live or now < self._word_due:
            return
        self._word_due = now + NEXT_WORD
        passed, made = now - self._began[0], share - self._began[1]
        left = f", about {_duration(passed * (1 - share) / made)} left" if made > 0 else ""
        self.console.print(f"{done}  {share:.0%} done{left}")

    def warning(self, message: str) -> None:
        self.console.print(one_line(f"warning: {message}"))

    def stopping(self) -> None:
        self.console.print(
            "stopping after this iteration; Ctrl-C again ends at once, with the last checkpoint"
        )

    def interrupted(self, folder: Path, iteration: int) -> None:
        self.console.print(
            f"stopped after iteration {iteration}; nothing is lost. Go on with\n"
            f"  innerloop resume {quoted(folder)}"
        )

    def finished(self, folder: Path, results: dict[str, Any]) -> None:
        if "metric" not in results:
            self.console.print(
                f"{results['iterations']} iterations; the run is in {one_line(str(folder))}"
            )
            return
        self.console.print(format_result(results))
        protocol = results["protocol"]
        again = "--data omniglot " if protocol.get("data") == "glyphs" else ""
        support = " --bn support" if protocol.get("n_way") else ""
        steps = "" if results["algorithm"] == "protonet" else "--inner-steps 10"
        self.console.print(
            f"\nthe run is in {one_line(str(folder))}: look at {one_line(str(folder / PICTURE))}\n"
            "next, try\n"
            f"  innerloop evaluate {quoted(folder)} --tasks 1000{support}\n"
            + (
                f"  innerloop evaluate {quoted(folder)} {again}{steps}".rstrip() + "\n"
                if again + steps
                else ""
            )
            + ("" if not again else "  innerloop train --data omniglot")
        )


def _duration(seconds: float) -> str:
    """Such as `40 s`, `12 min`, `5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"


def format_result(results: dict[str, Any]) -> str:
    """A result of `evaluate` for people: the metric, its interval, protocol, one line a step.

    Or one of `evaluate_in_use`, with what its probabilities are worth.
    """
    p, metric = results["protocol"], results["metric"]
    turned = " in all four turns" if p.get("rotated_classes") else ""
    classes = f" of {p['classes']} {p['part']} classes" if "classes" in p else ""
    of = f"{classes} of {p['data']}{turned}" if "data" in p else ""
    kind = setting_of(p)
    setting = f"{kind}{', ' if kind else ''}{p['tasks']} tasks{of}, 95% interval over tasks"
    if "calibration_error" in results:
        also = {"flips": " and mirrored", "turns": " and turned"}.get(p.get("views"), "")
        return (
            f"{_accuracy(results, setting)}\n"
            f"  learnt as FewShotClassifier does, pictures as in training{also}; "
            f"loss {results['loss']:.3f}, "
            f"calibration error of the probabilities {100 * results['calibration_error']:.1f}%"
        )
    losses = results["loss_per_step"]
    if metric == "accuracy":
        shown = [f"{100 * a:7.2f}%" for a in results["accuracy_per_step"]]
        lines = [_accuracy(results, setting), "  inner step  accuracy    loss"]
    else:
        shown = [" " * 8] * len(losses)
        if metric != "loss":
            shown = [f"{value:8.4f}" for value in results[f"{metric}_per_step"]]
        title = "" if metric == "loss" else metric[:8]
        lines = [
            f"{metric} {results[metric]:.4f} ± {results['ci95']:.4f}  ({setting})",
            f"  inner step  {title:>8}    loss",
        ]
    rows = zip(shown, losses, strict=True)
    return "\n".join(lines + [f"  {i:10d}  {a}  {loss:6.3f}" for i, (a, loss) in enumerate(rows)])


def _accuracy(results: dict[str, Any], setting: str) -> str:
    return (
        f"accuracy {100 * results['accuracy']:.2f} ± {100 * results['ci95']:.2f} %  "
        f"({setting}, batch statistics: {results['bn']})"
    )


def format_table(results: list[dict[str, Any]]) -> str:
    """Results of one network on several data sets, a line each."""
    rows = [("data", "tasks of", "classes", "result")]
    for result in results:
        protocol, metric = result["protocol"], result["metric"]
        scale, unit, digits = (100, " %", 2) if metric == "accuracy" else (1, "", 4)
        value, half = scale * result[metric], scale * result["ci95"]
        off = result.get("calibration_error")
        turned = ", in four turns" if protocol.get("rotated_classes") else ""
        calibrated = "" if off is None else f", calibration error {100 * off:.1f}%"
        rows.append(
            (
                str(protocol.get("data", "")),
                setting_of(protocol),
                f"{protocol['classes']} ({protocol['part']}{turned})"
                if "classes" in protocol
                else "",
                f"{metric} {value:.{digits}f} ± {half:.{digits}f}{unit}{calibrated}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
