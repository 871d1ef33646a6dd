"""MAML's sinusoid experiment: `python -m benchmarks.sinusoid`.

MAML and a network trained on all tasks at once, for 5, 10 and 20 support points; the step
size of the second is chosen on validation tasks.  Writes `benchmarks/results/sinusoid.json` and
the paper's picture, `docs/img/sinusoid.png`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import innerloop
from benchmarks.pictures import save_both
from benchmarks.reports import shorten, write_report
from innerloop.plots.figures import draw_wave
from innerloop.runs.loading import load_for
from innerloop.training.report import TerminalReport

SHOTS = (5, 10, 20)
NAMES = {"maml": "MAML", "fine-tune": "pre-trained"}
# Rates for the network trained on all tasks; MAML uses the rate of its training.
RATES = (0.0003, 0.001, 0.003, 0.01, 0.02, 0.05, 0.1)
TASKS = 600


def tuned(folder: Path) -> float:
    """The inner rate with the lowest validation loss after 10 steps."""
    losses = {}
    loaded, sampler = load_for(folder, part="val")
    for rate in RATES:
        loaded.algorithm.inner_lr = rate
        try:
            losses[rate] = innerloop.evaluate(
                loaded.algorithm, loaded.params, sampler, tasks=200, inner_steps=10
            )["loss"]
        except innerloop.UserError:  # it diverged
            continue
    return min(losses, key=lambda rate: losses[rate])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--iterations",
        type=int,
        default=innerloop.TrainConfig.recipe("maml", "sinusoid").iterations,
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs: dict[str, Any] = {}
    figure = Figure(figsize=(11, 6), layout="constrained")
    grid = figure.subplots(2, len(SHOTS), sharex=True, sharey=True)
    with tempfile.TemporaryDirectory() as place:
        for column, shots in enumerate(SHOTS):
            for row, (algorithm, label) in enumerate(NAMES.items()):
                folder = Path(place) / f"{algorithm}-{shots}"
                run = innerloop.train(
                    out=folder,
                    report=TerminalReport(),
                    data="sinusoid",
                    algorithm=algorithm,
                    k_shot=shots,
                    k_query=shots,
                    iterations=arguments.iterations,
                    threads=1,
                    test_tasks=2,
                )
                loaded, sampler = load_for(folder)
                if algorithm == "fine-tune":
                    loaded.algorithm.inner_lr = tuned(folder)
                result = innerloop.evaluate(
                    loaded.algorithm, loaded.params, sampler, tasks=TASKS, inner_steps=10
                )
                result |= {
                    "inner_lr": loaded.algorithm.inner_lr,
                    "iterations": run.results["iterations"],
                    "best_iteration": run.results["best_iteration"],
                    "seconds": run.results["seconds"],
                }
                runs[f"{label}, K = {shots}"] = result
                axes = grid[row, column]
                draw_wave(axes, loaded.algorithm, loaded.params, sampler, 1, 10, legend=column == 0)
                axes.set_title(f"{label}, K = {shots}", fontsize=10)
    shorten(runs)
    write_report("sinusoid", runs, "python -m benchmarks.sinusoid")
    save_both(figure, "sinusoid")


if __name__ == "__main__":
    main()
