"""The accuracy that less precise products on a GPU cost: `python -m research.precision`.

Trains the preset `finn2017-5way-1shot` for its first 2,000 iterations in each
precision, from the same seeds on the same tasks, and tests it on 600 tasks.  Writes
`benchmarks/results/precision.json`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import torch
from benchmarks.reports import graphics, write_report

import innerloop
from innerloop.config import TrainConfig
from innerloop.ops import kernels
from innerloop.ops.precision import PRECISIONS

ITERATIONS, SEEDS = 2000, (0, 1)


def main() -> None:
    device = "cpu" if sys.argv[1:] == ["cpu"] else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here: for a CPU run python -m research.precision cpu")
    if device == "cpu" and not kernels.halves():
        raise SystemExit("there are no kernels here that multiply bfloat16 numbers")
    names = PRECISIONS if device == "cuda" else ("float32", "bf16")
    config = TrainConfig.preset("finn2017-5way-1shot")
    runs: dict[str, list[dict[str, float]]] = {precision: [] for precision in names}
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            for precision, found in runs.items():
                run = innerloop.train(
                    config,
                    out=Path(folder) / f"{precision}-{seed}",
                    iterations=ITERATIONS,
                    val_every=ITERATIONS,
                    seed=seed,
                    device=device,
                    precision=precision,
                    omniglot_source=os.environ.get("INNERLOOP_OMNIGLOT"),
                )
                kept = ("accuracy", "ci95", "seconds", "ms_per_iteration", "seed")
                found.append({name: run.results[name] for name in kept})
                print(f"{precision}, seed {seed}: {100 * run.results['accuracy']:.2f} %")
    write_report(
        "precision" if device == "cuda" else "precision-cpu",
        runs,
        " ".join(["python -m research.precision", *sys.argv[1:]]),
        iterations=ITERATIONS,
        **graphics(device),
    )


if __name__ == "__main__":
    main()
