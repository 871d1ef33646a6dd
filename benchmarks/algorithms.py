"""All algorithms under one protocol and one budget of time: `python -m benchmarks.algorithms`.

Each run is an ordinary training with the recipe of its algorithm, in a process of its own so that
its peak memory can be told.  Writes `benchmarks/results/algorithms.json`; nothing else should
run meanwhile.  With names of rows, only these are measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
from pathlib import Path
from typing import Any

import torch

import innerloop
from benchmarks.memory import resident
from benchmarks.reports import (
    RESULTS,
    TASKS,
    check_names,
    in_own_process,
    shorten,
    test,
    write_report,
)
from innerloop.ops.allocator import keep_memory
from innerloop.training.report import TerminalReport

SECONDS = 60
# The settings of every run, and those that a row adds.
COMMON: dict[str, Any] = {
    "data": "omniglot",
    "split": "tutorial",
    "max_seconds": float(SECONDS),
    "iterations": 10**6,
    # Validate at the end only: all the time is for training.
    "val_every": 10**6,
    "val_tasks": 20,
    "test_tasks": 600,
    "threads": 2,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "5-way 1-shot": {"n_way": 5, "eval_k_query": 15},
    "20-way 1-shot": {"n_way": 20, "eval_k_query": 5},
}
ROWS: dict[str, dict[str, Any]] = {
    "MAML": {},
    "MAML, first order": {"first_order": True},
    "ANIL": {"algorithm": "anil"},
    "BOIL": {"algorithm": "boil"},
    "Reptile": {"algorithm": "reptile"},
    "Meta-SGD": {"algorithm": "meta-sgd"},
    "MAML++": {"algorithm": "maml++"},
    "iMAML": {"algorithm": "imaml"},
    "ProtoNet": {"algorithm": "protonet"},
    "fine-tuning": {"algorithm": "fine-tune"},
    "MAML, untrained": {"max_seconds": None, "iterations": 1, "meta_lr": 1e-12},
}


class PeakReport(TerminalReport):
    """Notes the highest resident memory of training, in bytes."""

    highest = 0

    def step(self, iteration: int, loss: float, share: float) -> None:
        super().step(iteration, loss, share)
        self.highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def adapted(run: innerloop.training.run.Run, n_way: int) -> int:
    """How many numbers the inner loop changes."""
    names = getattr(run.algorithm, "adapted_names", [])
    weights = run.algorithm.fast_weights(run.params, n_way)
    return sum(weights[name].numel() for name in names)


def measure(row: str, setting: str, source: str | None) -> dict[str, Any]:
    """One run, in this process."""
    keep_memory()
    settings = {**COMMON, **SETTINGS[setting], **ROWS[row]}
    # The data is in memory, and PyTorch warm, before memory is looked at.
    innerloop.data.omniglot(source)
    report, before = PeakReport(), resident()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run = innerloop.train(out=out, report=report, omniglot_source=source, **settings)
        result = {
            **run.results,
            "adapted": adapted(run, settings["n_way"]),
            "training_bytes": report.highest - before,
        }
        if setting == "5-way 1-shot":
            result["support"] = test(out, TASKS, bn="support")
            if row == "MAML++":
                result["per_step"] = test(out, TASKS, bn="per_step")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--omniglot-source", default=os.environ.get("INNERLOOP_OMNIGLOT"))
    parser.add_argument("--one", nargs=2, metavar=("ROW", "SETTING"), help="one run, as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one, arguments.omniglot_source)))
        return
    check_names(parser, "row", arguments.rows, ROWS)
    torch.set_num_threads(2)
    path = RESULTS / "algorithms.json"
    source = arguments.omniglot_source
    options = ["--omniglot-source", source] if source else []
    runs = json.loads(path.read_text())["runs"] if arguments.rows and path.exists() else {}
    for row in arguments.rows or ROWS:
        for setting in SETTINGS:
            result = in_own_process("benchmarks.algorithms", row, setting, *options)
            shorten(result)
            runs.setdefault(row, {})[setting] = result
            print(row, setting, f"{100 * result['accuracy']:.2f} ± {100 * result['ci95']:.2f}")
            # After every run, so that none is lost.
            done = {name: runs[name] for name in ROWS if name in runs}
            write_report("algorithms", done, "python -m benchmarks.algorithms", seconds=SECONDS)


if __name__ == "__main__":
    main()
