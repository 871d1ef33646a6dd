"""When equal seeds give equal bits: `python -m trials.determinism`.

The same small meta-training, repeated under other conditions: a second time, with another number
of threads, with tasks computed fewer at a time, without the compiled kernels, by two processes.
For each, how far the meta-parameters are from those of the first run: 0 is every bit the same.
Writes `benchmarks/results/determinism.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from benchmarks.reports import write_report

from innerloop.registry import OURS
from innerloop.runs.checkpoint import read_tensors

# Other options, other environment, and how many processes.
CIRCUMSTANCES: dict[str, tuple[list[str], dict[str, str], int]] = {
    "a second time": ([], {}, 1),
    "one thread instead of two": (["--threads", "1"], {}, 1),
    "one task at a time": (["--chunk-size", "1"], {}, 1),
    "without the compiled kernels": ([], {"INNERLOOP_KERNELS": "0"}, 1),
    "two processes": ([], {}, 2),
}
# The first is the one that the others are compared with.
USUAL = ["--threads", "2", "--meta-batch-size", "4", "--val-tasks", "20", "--test-tasks", "20"]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=20)
    usual = ["maml", "protonet"]
    parser.add_argument("--algorithms", nargs="+", choices=OURS, default=usual)
    options = parser.parse_args()
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.algorithms:
            report[name] = compare(Path(folder) / name, name, options.iterations)
            print(name, json.dumps(report[name], indent=1), flush=True)
    command = f"python -m trials.determinism --iterations {options.iterations}"
    command += f" --algorithms {' '.join(options.algorithms)}"
    write_report("determinism", report, command, iterations=options.iterations)


def compare(folder: Path, algorithm: str, iterations: int) -> dict[str, Any]:
    """Distance from the first run under each condition, and the test accuracy."""
    usual = ["--algorithm", algorithm, "--iterations", str(iterations)]
    usual += ["--val-every", str(iterations), *USUAL]
    first, accuracy = run(folder / "first", usual, {}, 1)
    found: dict[str, Any] = {"accuracy": accuracy}
    for name, (more, environment, processes) in CIRCUMSTANCES.items():
        out = folder / name.replace(" ", "-")
        weights, accuracy = run(out, usual + more, environment, processes)
        found[name] = {
            "the same bits": all(torch.equal(weights[key], first[key]) for key in first),
            "relative distance": distance(weights, first),
            "accuracy": accuracy,
        }
    return found


def distance(weights: dict[str, torch.Tensor], first: dict[str, torch.Tensor]) -> float:
    """Norm of the difference over the norm."""
    difference = sum(float((weights[key] - first[key]).square().sum()) for key in first)
    return math.sqrt(difference / sum(float(t.square().sum()) for t in first.values()))


def run(
    folder: Path, words: list[str], environment: dict[str, str], processes: int
) -> tuple[dict, float]:
    """Train in processes of their own; the last meta-parameters and the test accuracy."""
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", f"--nproc-per-node={processes}", "-m"]
    command += ["innerloop", "train", *words, "--out", str(folder)]
    subprocess.run(
        command, env={**os.environ, **environment}, check=True, stderr=subprocess.DEVNULL
    )
    tensors, _ = read_tensors(next((folder / "checkpoints").iterdir()))
    accuracy = json.loads((folder / "results.json").read_text())["accuracy"]
    return {name: t for name, t in tensors.items() if name.startswith("params/")}, accuracy


if __name__ == "__main__":
    main()
