"""The accuracy that less precise products on a GPU cost: `python -m research.precision`.

Trains the preset `finn2017-5way-1shot` for its first 2,000 iterations in each
precision, from the same seeds on the same tasks, and tests it on 600 tasks.  Writes
`benchmarks/results/precision.json`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from benchmarks.reports import graphics, write_report

import innerloop
from innerloop.config import TrainConfig
from innerloop.ops.precision import PRECISIONS

ITERATIONS, SEEDS = 2000, (0, 1)


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("this is about a GPU, and there is none here")
    config = TrainConfig.preset("finn2017-5way-1shot")
    runs: dict[str, list[dict[str, float]]] = {precision: [] for precision in PRECISIONS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            for precision, found in runs.items():
                run = innerloop.train(
                    config,
                    out=Path(folder) / f"{precision}-{seed}",
                    iterations=ITERATIONS,
                    val_every=ITERATIONS,
                    seed=seed,
                    device="cuda",
                    precision=precision,
                    omniglot_source=os.environ.get("INNERLOOP_OMNIGLOT"),
                )
                names = ("accuracy", "ci95", "seconds", "ms_per_iteration", "seed")
                found.append({name: run.results[name] for name in names})
                print(f"{precision}, seed {seed}: {100 * run.results['accuracy']:.2f} %")
    write_report(
        "precision",
        runs,
        "python -m research.precision",
        iterations=ITERATIONS,
        **graphics("cuda"),
    )


if __name__ == "__main__":
    main()
