"""Trained with one inner step, tested with three: `python -m research.test_steps [NAME ...]`.

The MAML paper does so at 5-way.  Starts from its settings for 5-way 5-shot (preset
finn2017-5way-5shot), cut down to ten minutes a training, and changes how weights start.  A training
that was interrupted goes on where it was.  Writes `benchmarks/results/test_steps.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import innerloop
from innerloop.functional import Params
from innerloop.runs.loading import Loaded, load_for
from innerloop.tasks.protocol import TaskSampler
from research.arms import Experiment
from research.suspects import PAPERS_START, WITHOUT_NORMS

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
PARTS = ("convs", "head")
# Adaptation has failed on a task with a lower accuracy.
SPOILT = 0.7


def first_step(run: Loaded, sampler: TaskSampler) -> dict[str, float]:
    """How far the first inner step moves each part, as a share of its length; mean over tasks."""

    def joined(params: Params, part: str) -> torch.Tensor:
        names = [name for name in run.params if name.startswith(f"{part}.")]
        return torch.cat([params[name].flatten() for name in names])

    before = {part: joined(run.params, part) for part in PARTS}
    moved = dict.fromkeys(PARTS, 0.0)
    for i in range(MOVES):
        task = sampler.batch(i, 1).task(0)
        fast = run.algorithm.adapt(run.params, task.support_x, task.support_y, inner_steps=1)
        for part, start in before.items():
            moved[part] += float((joined(fast, part) - start).norm() / start.norm())
    return {part: total / MOVES for part, total in moved.items()}


def measure(_: str, folder: Path, __: dict[str, Any], source: str | None) -> dict[str, Any]:
    """One arm: its accuracy after each inner step of the test, and what the first one moves."""
    run, sampler = load_for(folder, omniglot_source=source)
    found = innerloop.evaluate(run.algorithm, run.params, sampler, tasks=TASKS, inner_steps=STEPS)
    spoilt = sum(a < SPOILT for a in found["accuracies"])
    return {**found, "spoilt": spoilt, "moves": first_step(run, sampler)}


if __name__ == "__main__":
    test_steps = Experiment("test_steps", "finn2017-5way-5shot", BUDGET, ARMS, measure)
    test_steps.main(__doc__.splitlines()[0])
