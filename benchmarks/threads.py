"""Do threads and kernels help?  `python -m benchmarks.threads [RECIPE ...]`.

A meta-gradient of 1, 2, 3 and 8 tasks with every algorithm's recipe, an outer step of MAML++ and
`FewShotClassifier.fit` of five drawings, with 1, 2, 4 and 8 threads, by the kernels and by
PyTorch's operators.  Each number of threads has a process of its own, with kernels and without,
because a pool of threads keeps the size it was created with; the processes take turns case by case.
Run nothing else meanwhile, apart from what `--load` starts.

Prints a table and writes `benchmarks/results/threads.json`; with names of recipes, only these are
measured again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import innerloop
from benchmarks.answering import Answering
from benchmarks.reports import RESULTS, check_names, write_report
from innerloop.build import build_algorithm, build_model, build_samplers, num_classes
from innerloop.config import TrainConfig
from innerloop.ops import kernels
from innerloop.ops.allocator import keep_memory
from innerloop.registry import OURS
from innerloop.runs.folder import new_state
from innerloop.training.loop import apply_gradient

THREADS, TASKS, ROUNDS = (1, 2, 4, 8), (1, 2, 3, 8), 2
# Calls in one turn at most, and the seconds after which a turn ends; where one call takes longer
# than that there is only one turn.
CALLS, TURN = 3, 0.25
# What else is measured: as a whole, whatever the number of tasks.
FIT, STEP = "fit of five drawings", "step of MAML++"
# A larger ratio counts as slower; two measurements of the same thing differ by up to this much.
SLOWER = 1.05

Case = tuple[str, int]
Ways = dict[str, dict[str, list[float]]]  # seconds by "kernels" or "operators", then threads


# --- in the processes that compute ---------------------------------------------------------


class Setup:
    """A recipe on noise of Omniglot's shape, ready for outer steps."""

    def __init__(self, recipe: str) -> None:
        config = replace(TrainConfig.recipe(recipe), data="random", split="random")
        self.config, samplers = build_samplers(config)
        self.train = samplers["train"]
        model = build_model(self.config, self.train.input_shape)
        self.algorithm = build_algorithm(self.config, model, num_classes(self.train))
        self.state = new_state(self.config, self.algorithm)

    def meta_gradient(self, tasks: int) -> Callable[[], Any]:
        """As at the end of training, where all derivatives are taken."""
        episodes = self.train.batch(0, tasks)
        return lambda: self.algorithm.meta_gradient(self.state.params, episodes, 1.0)

    def step(self) -> None:
        """Sampling, meta-gradient and the optimiser's step."""
        tasks = self.config.meta_batch_size
        episodes = self.train.batch(self.state.iteration * tasks, tasks)
        gradient, _ = self.algorithm.meta_gradient(self.state.params, episodes, 1.0)
        apply_gradient(self.config, self.algorithm, self.state, gradient)
        self.state.iteration += 1


def prepared(name: str, tasks: int) -> Callable[[], Any]:
    """What is timed."""
    if name == FIT:
        drawings = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
        classifier = innerloop.FewShotClassifier("omniglot-conv4")
        return lambda: classifier.fit(drawings, list("abcde"))
    if name == STEP:
        return Setup("maml++").step
    return Setup(name).meta_gradient(tasks)


def timed(call: Callable[[], Any]) -> list[float]:
    """Seconds of the calls of one turn."""
    found: list[float] = []
    while len(found) < CALLS and sum(found) < TURN:
        started = time.perf_counter()
        call()
        found.append(round(time.perf_counter() - started, 6))
    return found


def work(threads: int) -> None:
    """Answer each line of standard input, `[name, tasks]`, by the seconds of some calls."""
    torch.set_num_threads(threads)
    keep_memory()
    # Keep other output out of the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    ready: dict[Case, Callable[[], Any]] = {}
    print(json.dumps({"kernels": kernels.ready()}), file=answers, flush=True)
    for line in sys.stdin:
        name, tasks = json.loads(line)
        if (name, tasks) not in ready:
            ready[name, tasks] = prepared(name, tasks)
            # The first call also does what is done only once.
            ready[name, tasks]()
        print(json.dumps(timed(ready[name, tasks])), file=answers, flush=True)


# --- in the one that asks ------------------------------------------------------------------


class Worker(Answering):
    """A process with so many threads, with kernels or without; it answers a case with seconds."""

    def __init__(self, threads: int, with_kernels: bool) -> None:
        self.threads = str(threads)
        self.way = "kernels" if with_kernels else "operators"
        # PyTorch's own choice of a pool, whatever this shell's environment says.
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        environment["INNERLOOP_KERNELS"] = "1" if with_kernels else "0"
        super().__init__(
            [sys.executable, "-m", "benchmarks.threads", "--worker", self.threads],
            f"a process has failed (threads: {self.threads}, {self.way})",
            env=environment,
        )
        if self._answer()["kernels"] != with_kernels:
            self.close()
            raise SystemExit(
                "there are no compiled kernels here, so that there is nothing to compare: install "
                "innerloop with a C compiler"
            )


@contextlib.contextmanager
def workers(threads: Sequence[int]) -> Iterator[list[Worker]]:
    with contextlib.ExitStack() as stack:
        made = []
        for count in threads:
            for with_kernels in (True, False):
                made.append(Worker(count, with_kernels))
                stack.callback(made[-1].close)
        yield made


@contextlib.contextmanager
def loaded(processes: int) -> Iterator[list[subprocess.Popen]]:
    """A context in which so many other processes keep computing."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield busy
    finally:
        for process in busy:
            process.kill()
            process.wait()


def measure(cases: Sequence[Case], asked: Sequence[Worker], rounds: int) -> dict[Case, Ways]:
    """Seconds of every case by every worker; each round starts with another worker."""
    found: dict[Case, Ways] = {case: {"kernels": {}, "operators": {}} for case in cases}
    for turn in range(rounds):
        start = turn % len(asked)
        for case in cases:
            for worker in [*asked[start:], *asked[:start]]:
                seconds = found[case][worker.way].setdefault(worker.threads, [])
                if turn == 0 or seconds[0] < TURN:
                    seconds += worker.ask(case)
    return found


def summary(ways: Ways) -> dict[str, Any]:
    """Medians in milliseconds, and the ratios that should not be above 1."""
    ms = {
        way: {threads: round(1000 * median(seconds), 3) for threads, seconds in found.items()}
        for way, found in ways.items()
    }
    fast, plain = ms["kernels"], ms["operators"]
    out: dict[str, Any] = {"ms": ms, "seconds": ways}
    if {"1", "2"} <= fast.keys():
        out["two_threads_by_one"] = round(fast["2"] / fast["1"], 3)
    out["kernels_by_operators"] = {t: round(fast[t] / plain[t], 3) for t in fast}
    return out


def printed(runs: dict[str, dict[str, Any]]) -> str:
    """A table: milliseconds by the kernels, and ratios."""
    threads = list(next(iter(runs.values()))["ms"]["kernels"])
    head = "".join(f"{t + (' thread' if t == '1' else ' threads'):>12}" for t in threads)
    beside = "".join(f"{'k/o ' + t:>8}" for t in threads)
    lines = [f"{'ms by the kernels':34}{head}{'two/one':>9}{beside}"]
    for name, run in runs.items():
        cells = "".join(f"{run['ms']['kernels'][t]:12.2f}" for t in threads)
        ratio = run.get("two_threads_by_one")
        of_operators = "".join(f"{run['kernels_by_operators'][t]:8.2f}" for t in threads)
        lines.append(f"{name:34}{cells}{'' if ratio is None else f'{ratio:.2f}':>9}{of_operators}")
    return "\n".join(
        [*lines, "k/o: time of the kernels by that of PyTorch's operators", *slow(runs)]
    )


def slow(runs: dict[str, dict[str, Any]]) -> list[str]:
    """Where two threads are slower than one, or kernels than operators."""
    two = [n for n, run in runs.items() if run.get("two_threads_by_one", 0) > SLOWER]
    behind = [
        f"{name} ({threads})"
        for name, run in runs.items()
        for threads, ratio in run["kernels_by_operators"].items()
        if ratio > SLOWER
    ]
    return [
        f"two threads slower than one: {'; '.join(two) or 'nowhere'}",
        f"kernels slower than PyTorch's operators (threads): {'; '.join(behind) or 'nowhere'}",
    ]


def label(case: Case) -> str:
    name, tasks = case
    if name in (FIT, STEP):
        return name
    return f"{name}, {tasks} task{'s' if tasks > 1 else ''}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "recipes",
        nargs="*",
        help=f"of {', '.join(OURS)}; all by default, and the step and the fit with them",
    )
    parser.add_argument("--threads", type=int, nargs="+", default=THREADS)
    parser.add_argument("--tasks", type=int, nargs="+", default=TASKS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each process")
    parser.add_argument("--load", type=int, default=0, help="processes that compute beside it")
    parser.add_argument("--out", type=Path, help="the result file, where it is not the usual one")
    parser.add_argument("--quick", action="store_true", help="one round, nothing is written")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        work(options.worker)
        return
    check_names(parser, "recipe", options.recipes, OURS)
    if min(*options.threads, *options.tasks, options.rounds) < 1 or options.load < 0:
        parser.error("threads, tasks and rounds must be at least 1, the load at least 0")
    cases: list[Case] = [
        (recipe, tasks)
        for recipe in options.recipes or OURS
        for tasks in dict.fromkeys(options.tasks)
    ]
    if not options.recipes:
        cases += [(STEP, 0), (FIT, 0)]
    rounds = 1 if options.quick else options.rounds
    with workers(list(dict.fromkeys(options.threads))) as asked, loaded(options.load):
        found = measure(cases, asked, rounds)
    runs = {label(case): summary(ways) for case, ways in found.items()}
    print(printed(runs))
    if not options.quick:
        path = options.out or RESULTS / "threads.json"
        before = json.loads(path.read_text())["runs"] if options.recipes and path.exists() else {}
        cores, load = os.cpu_count(), options.load
        command = "python -m benchmarks.threads"
        write_report(path, {**before, **runs}, command, cores=cores, busy_processes=load)


if __name__ == "__main__":
    main()
