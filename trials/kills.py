"""Kill runs at random moments and check that they resume exactly: `python -m trials.kills`.

A small run of every algorithm is made once without interruption.  Then the same run is made again
and again: its process is killed (SIGKILL) after a random time and resumed by
`innerloop train --resume`, until the run is finished.  It is also made once for every single file
operation, killed right before that one.  Each time, all files must equal those of the uninterrupted
run byte by byte, apart from the times in them.

Processes come from a server that has imported PyTorch already, so that the kills hit training.
Writes `benchmarks/results/kills.json`.  POSIX only.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.reports import write_report

from innerloop import resume, train
from innerloop.config import TrainConfig
from innerloop.plots import figures
from innerloop.registry import OURS
from innerloop.runs.checkpoint import read_tensors
from trials.small import SETTINGS, blobs, not_drawn

# What a process server imports once for all processes.
PRELOADED = [
    "innerloop.cli.train",
    "innerloop.training.run",
    "innerloop.plots.figures",
    "torch._dynamo",  # which PyTorch's optimisers import when first made
    "typeguard",  # which tyro imports when it first reads a command line
]
TIMES = ("seconds", "step_seconds", "cpu_seconds", "ms_per_iteration")


@dataclass
class Count:
    """The results of the kills.

    Attributes:
        kills: processes killed before their end.
        runs: runs that were killed at least once and got to their end.
        unequal: what differed from the uninterrupted run, or went wrong; empty if all is well.
    """

    kills: int = 0
    runs: int = 0
    unequal: list[str] = field(default_factory=list)


class Trial:
    """A small run of one algorithm, to be killed.

    Args:
        folder: an empty folder to work in.
        algorithm: its name.
        drawn: runs end with their picture; otherwise with a file in its place.
        typed: processes read a command line; otherwise they call `innerloop.train` and `resume`
            in half the time.
        settings: of the run, where they are not those of `_small`.
    """

    def __init__(
        self,
        folder: Path,
        algorithm: str,
        *,
        drawn: bool = True,
        typed: bool = True,
        **settings: Any,
    ) -> None:
        self.folder, self.algorithm, self.drawn, self.typed = folder, algorithm, drawn, typed
        folder.mkdir(parents=True)
        self.config = folder / "small.yaml"
        chosen = _small(folder, algorithm) | settings
        self.config.write_text(TrainConfig.from_dict(chosen).to_yaml())
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload(PRELOADED)
        self.number = 0
        # The first process of all waits for the server to import everything.
        self.processes.Process().start()
        self.whole = self.new_run()
        started = time.monotonic()
        self._finish(self.whole)
        self.duration = time.monotonic() - started

    def new_run(self) -> Path:
        """The folder of a run that has not begun yet."""
        self.number += 1
        return self.folder / f"run-{self.number}"

    def kill_at_random(self, count: Count, draw: random.Random, kills: int) -> None:
        """One run, killed up to so many times after random times; then to its end."""
        run = self.new_run()
        before = count.kills
        for _ in range(kills):
            process = self._start(run)
            process.join(draw.uniform(0, self.duration))
            killed = process.is_alive()
            if killed:
                os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            if not killed or process.exitcode != -signal.SIGKILL:
                break
            count.kills += 1
        self._judge(run, count, f"after {count.kills - before} kills")

    def kill_at_every_write(self, count: Count) -> None:
        """A run for each of its file operations, killed right before that; then to its end."""
        for number in range(1, 1000):
            run = self.new_run()
            process = self._start(run, number)
            process.join()
            if process.exitcode != -signal.SIGKILL:
                if process.exitcode:
                    count.unequal.append(f"{self.algorithm}: status {process.exitcode}")
                return
            count.kills += 1
            self._judge(run, count, f"killed before file operation {number}")

    def _judge(self, run: Path, count: Count, what: str) -> None:
        try:
            self._finish(run)
            found = list(differences(self.whole, run))
        except (OSError, RuntimeError, ValueError) as error:
            found = [str(error)]
        count.runs += 1
        count.unequal += [f"{self.algorithm}, {what}: {each}" for each in found]

    def _finish(self, run: Path) -> None:
        process = self._start(run)
        process.join()
        if process.exitcode:
            log = run.with_suffix(".log").read_text()
            raise RuntimeError(f"ended with status {process.exitcode}: {log[-2000:]}")

    def _start(self, run: Path, last_write: int = 0) -> Any:
        """A process that begins the run, or goes on with it."""
        resumed = (run / "config.yaml").exists()
        begin = _typed if self.typed else _called
        process = self.processes.Process(
            target=_train,
            args=(begin, None if resumed else self.config, run, last_write, self.drawn),
        )
        process.start()
        return process


def _typed(config: Path | None, run: Path) -> int:
    """Begin a run by its config, or go on with it where there is None, as a command line does."""
    from innerloop.cli import main

    arguments = ["--config", config, "--out", run] if config else ["--resume", run]
    return main(["train", *map(str, arguments)])


def _called(config: Path | None, run: Path) -> int:
    """The same from Python."""
    if config:
        train(TrainConfig.from_file(config), out=run)
    else:
        resume(run)
    return 0


def _train(
    begin: Callable[[Path | None, Path], int],
    config: Path | None,
    run: Path,
    last_write: int,
    drawn: bool,
) -> None:
    """In the process: train, and be killed before a file operation."""
    log = os.open(run.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if not drawn:
        figures.plot_run = not_drawn
    if last_write:
        left = last_write

        def watch(event: str, details: tuple) -> None:
            nonlocal left
            if event in ("os.rename", "os.remove", "os.mkdir") or (
                # Flags: what is opened for reading alone changes nothing.
                event == "open" and isinstance(details[2], int) and details[2] & 3
            ):
                if str(run) in str(details[0]):
                    left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
    # Flushes and ends at once: what multiprocessing does afterwards is none of the run's.
    status = begin(config, run)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def differences(whole: Path, other: Path) -> Iterator[str]:
    """What differs between two run folders, times aside."""
    names = [
        sorted(path.relative_to(run).as_posix() for path in run.rglob("*"))
        for run in (whole, other)
    ]
    if names[0] != names[1]:
        yield f"files {', '.join(sorted(set(names[0]) ^ set(names[1])))}"
        return
    for name in names[0]:
        a, b = whole / name, other / name
        if a.is_dir():
            continue
        if name.startswith("checkpoints/"):
            (tensors, counters), (others, other_counters) = read_tensors(a), read_tensors(b)
            if _without_times(counters) != _without_times(other_counters):
                yield f"{name}: counters"
            same = tensors.keys() == others.keys() and all(
                tensors[key].numpy().tobytes() == others[key].numpy().tobytes() for key in tensors
            )
        elif name.endswith((".json", ".jsonl")):
            whole_lines, lines = (
                [json.loads(line) for line in text.splitlines()] if name.endswith("l") else text
                for text in (a.read_text(), b.read_text())
            )
            if name.endswith("l"):
                same = list(map(_without_times, whole_lines)) == list(map(_without_times, lines))
            else:
                same = _without_times(json.loads(whole_lines)) == _without_times(json.loads(lines))
        else:
            same = a.read_bytes() == b.read_bytes()
        if not same:
            yield name


def _without_times(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMES}


def _small(folder: Path, algorithm: str) -> dict[str, Any]:
    """Settings of a run of a second."""
    data = {"algorithm": algorithm, "data": str(blobs(folder / "blobs.npy"))}
    settings = {**data, **SETTINGS, "val_every": 6, "val_tasks": 8, "test_tasks": 8}
    return settings | ({"head": "random"} if algorithm == "boil" else {})


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="at random moments, in all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    by_time, by_write = Count(), Count()
    with tempfile.TemporaryDirectory() as folder:
        trials = [Trial(Path(folder) / name, name) for name in OURS]
        for trial in trials:
            trial.kill_at_every_write(by_write)
            print(f"{trial.algorithm}: {by_write.kills} kills before file operations", flush=True)
        while by_time.kills < options.kills:
            draw.choice(trials).kill_at_random(by_time, draw, kills=5)
            print(f"\r{by_time.kills} kills at random moments", end="", flush=True)
    report = {
        name: {"kills": count.kills, "runs": count.runs, "unequal": count.unequal}
        for name, count in (("at random moments", by_time), ("before a file operation", by_write))
    }
    write_report("kills", report, f"python -m trials.kills --kills {options.kills}")
    print("\n" + json.dumps(report, indent=1))
    sys.exit(bool(by_time.unequal or by_write.unequal))


if __name__ == "__main__":
    main()
