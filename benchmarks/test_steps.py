"""Trained with one inner step, tested with three: `python -m benchmarks.test_steps [NAME ...]`

The MAML paper does so at 5-way.  Starts from its settings for 5-way 5-shot (preset
finn2017-5way-5shot), cut down to ten minutes a training, and changes how weights start.  A training
that was interrupted goes on where it was.  Writes `benchmarks/results/test_steps.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import torch

import innerloop
from benchmarks.figures import RESULTS, no_traceback, shorten, write_report
from benchmarks.suspects import PAPERS_START, WITHOUT_NORMS, finished
from innerloop.allocator import keep_memory
from innerloop.config import TrainConfig
from innerloop.loading import Loaded, load_for
from innerloop.sampler import TaskSampler

BUDGET: dict[str, Any] = {
    "iterations": 4000,
    "meta_batch_size": 4,
    "val_every": 500,
    "val_tasks": 200,
    "test_tasks": 600,
}
ARMS: dict[str, dict[str, Any]] = {
    "as in the preset": {},
    "norms not adapted": {"adapted": WITHOUT_NORMS},
    "as the paper's code starts": {"adapted": WITHOUT_NORMS, **PAPERS_START},
}
TASKS, STEPS, MOVES = 1000, 3, 100
# A task with a lower accuracy has gone wrong.
SPOILT = 0.7


def first_step(run: Loaded, sampler: TaskSampler, part: str) -> float:
    """How far the first inner step moves the part, as a share of its length; mean over tasks."""
    names = [name for name in run.params if name.startswith(f"{part}.")]
    before = torch.cat([run.params[name].flatten() for name in names])
    moved = 0.0
    for i in range(MOVES):
        task = sampler.batch(i, 1).task(0)
        fast = run.algorithm.adapt(run.params, task.support_x, task.support_y, inner_steps=1)
        after = torch.cat([fast[name].flatten() for name in names])
        moved += float((after - before).norm() / before.norm())
    return moved / MOVES


def measure(name: str, folder: Path, source: str | None) -> dict[str, Any]:
    """One arm: its accuracy after each inner step of the test, and what the first one moves."""
    preset = TrainConfig.preset("finn2017-5way-5shot")
    finished(dataclasses.replace(preset, **{**BUDGET, **ARMS[name]}), folder, source)
    run, sampler = load_for(folder, omniglot_source=source)
    found = innerloop.evaluate(run.algorithm, run.params, sampler, tasks=TASKS, inner_steps=STEPS)
    moves = {part: first_step(run, sampler, part) for part in ("convs", "head")}
    return {**found, "spoilt": sum(a < SPOILT for a in found["accuracies"]), "moves": moves}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(ARMS)}; all by default")
    parser.add_argument("--runs", type=Path, default=Path("runs/test_steps"))
    parser.add_argument("--omniglot-source", default=os.environ.get("INNERLOOP_OMNIGLOT"))
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in ARMS:
            parser.error(f"there is no arm {name!r}: choose from {', '.join(ARMS)}")
    keep_memory()
    path = RESULTS / "test_steps.json"
    for name in arguments.names or ARMS:
        folder = arguments.runs / re.sub("[^a-z0-9]+", "-", name.lower())
        with no_traceback(parser):
            result = measure(name, folder, arguments.omniglot_source)
        shorten(result)
        # Read again each time: arms may run beside each other.
        runs = json.loads(path.read_text())["runs"] if path.exists() else {}
        runs[name] = {"changes": ARMS[name], **result}
        # After every arm, so that none is lost.
        done = {arm: runs[arm] for arm in ARMS if arm in runs}
        write_report("test_steps", done, "python -m benchmarks.test_steps", budget=BUDGET)


if __name__ == "__main__":
    main()
