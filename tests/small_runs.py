"""Settings of small runs, a way to stop them, and what must be equal in two of them."""

from __future__ import annotations

import json
import os
import signal

import torch
from trials.small import SETTINGS

from innerloop.runs.checkpoint import read_tensors
from innerloop.runs.folder import checkpoints
from innerloop.training.report import SilentReport

# Of the fixture `runs`.
SMALL = {
    "split": "random",
    "n_way": 3,
    "train_n_way": None,
    "eval_k_query": 3,
    "width": 4,
    "iterations": 4,
    "val_every": 2,
    "val_tasks": 4,
    "test_tasks": 6,
    "threads": 1,
}


def settings(array, **changes):
    base = {"data": str(array), **SETTINGS, "val_every": 4, "val_tasks": 10, "test_tasks": 20}
    return {**base, **changes}


def folder_state(folder):
    """Everything that must not depend on interruptions; seconds are left out."""
    tensors, counters = read_tensors(checkpoints(folder)[0])
    model, _ = read_tensors(folder / "model.safetensors")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    results = json.loads((folder / "results.json").read_text())
    for timed in (*lines, results, counters):
        for name in ("seconds", "step_seconds", "cpu_seconds", "ms_per_iteration"):
            timed.pop(name, None)
    return tensors, model, {"lines": lines, "results": results, "counters": counters}


def assert_same_runs(a, b):
    for x, y in zip(folder_state(a)[:2], folder_state(b)[:2], strict=True):
        assert x.keys() == y.keys()
        assert all(torch.equal(x[name], y[name]) for name in x)
    assert folder_state(a)[2] == folder_state(b)[2]


class StopAt(SilentReport):
    """Presses Ctrl-C after an iteration."""

    def __init__(self, iteration, number=signal.SIGINT):
        self.iteration, self.number = iteration, number

    def step(self, iteration, loss, share):
        if iteration == self.iteration:
            os.kill(os.getpid(), self.number)
