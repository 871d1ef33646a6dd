"""Seconds of training to an accuracy: `python -m benchmarks.time_to_accuracy [NAME ...]`.

Omniglot, 5-way 1-shot: the quick recipe, the `finn2017` preset and the tutorial's loop, one
after the other, each for the same time on the 1,100 training characters of split `tutorial`.
The clock is stopped for validation: 200 tasks of its validation characters, the same for all
(15 queries, no rotated classes), first often, then at intervals that grow with the time trained.
For a schedule that depends on the length of the run, the time limit is that length.  Writes
`benchmarks/results/time_to_accuracy.json` and `docs/img/time_to_accuracy.png`; with names of
contestants, only these are measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

import innerloop
from benchmarks import sampling
from benchmarks.peers import Plain
from benchmarks.peers import tutorial as tutorials_gradient
from benchmarks.reports import RESULTS, check_names, machine
from innerloop import Episodes
from innerloop.build import build_algorithm, build_model, build_samplers
from innerloop.config import TrainConfig
from innerloop.models import TutorialConv
from innerloop.ops.allocator import keep_memory
from innerloop.runs.folder import new_state
from innerloop.training.loop import apply_gradient, progress, set_learning_rate

LEVELS = (0.80, 0.90, 0.95, 0.98)
TASKS = 200
# Seconds of training before the first look, and by how much each next one is later.
FIRST_LOOK, GROWTH = 0.5, 1.1
# The same training and validation tasks for every contestant, whatever its preset says.
COMMON: dict[str, Any] = {
    "data": "omniglot",
    "split": "tutorial",
    "n_way": 5,
    "k_shot": 1,
    "eval_k_query": 15,
    "rotate_test": False,
    "iterations": 10**9,
}


class Contestant(Protocol):
    """Something that learns a step at a time."""

    config: TrainConfig

    def step(self, seconds: float) -> None:
        """One outer step, with its sampling, after so many seconds of training."""

    def judge(self) -> dict[str, Any]:
        """The result of `evaluate` on the validation tasks."""
        ...


class Ours:
    """A recipe of ours, as `innerloop train` trains it."""

    def __init__(self, preset: str, settings: dict[str, Any]) -> None:
        config = TrainConfig.from_dict(TrainConfig.preset(preset).to_dict() | settings)
        self.config, self.samplers = build_samplers(config)
        train = self.samplers["train"]
        self.algorithm = build_algorithm(config, build_model(config, train.input_shape))
        self.state = new_state(config, self.algorithm)

    def step(self, seconds: float) -> None:
        config, state, tasks = self.config, self.state, self.config.meta_batch_size
        state.seconds = seconds
        set_learning_rate(config, state, progress(config, state))
        episodes = self.samplers["train"].batch(state.iteration * tasks, tasks)
        share = progress(config, state)
        gradient, _ = self.algorithm.meta_gradient(state.params, episodes, share)
        apply_gradient(config, self.algorithm, state, gradient)
        state.iteration += 1

    def judge(self) -> dict[str, Any]:
        return innerloop.evaluate(
            self.algorithm,
            self.state.params,
            self.samplers["val"],
            tasks=TASKS,
            inner_steps=self.config.eval_inner_steps,
            every_step=False,
        )


class Tutorial:
    """The tutorial's loop: its cache of episodes, task by task, Adam; validated as ours are."""

    def __init__(self, settings: dict[str, Any]) -> None:
        preset = TrainConfig.preset("tutorial").to_dict()
        self.config = config = TrainConfig.from_dict(preset | settings)
        _, self.samplers = build_samplers(config)
        train = self.samplers["train"]
        self.judged = TutorialConv(config.n_way, seed=config.seed)
        self.model = Plain(self.judged)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.meta_lr)
        setting = sampling.Setting(
            "omniglot", config.meta_batch_size, config.n_way, config.k_shot, config.k_query
        )
        self.meta_batches = sampling.tutorial(setting, train.data, train.classes, config.seed)
        self.algorithm = build_algorithm(config, self.judged)

    def step(self, seconds: float) -> None:
        config = self.config
        (batch,) = self.meta_batches(1)
        meta_gradient = tutorials_gradient(
            self.model, Episodes(*batch), config.inner_lr, config.inner_steps, True
        )
        gradient = meta_gradient()
        for name, p in self.model.named_parameters():
            p.grad = gradient[name]
        self.optimizer.step()

    def judge(self) -> dict[str, Any]:
        return innerloop.evaluate(
            self.algorithm,
            {name: p.detach() for name, p in self.model.named_parameters()},
            self.samplers["val"],
            tasks=TASKS,
            inner_steps=self.config.eval_inner_steps,
            every_step=False,
        )


CONTESTANTS: dict[str, Callable[[dict[str, Any]], Contestant]] = {
    "quick": lambda settings: Ours("quick", settings),
    "finn2017": lambda settings: Ours("finn2017-5way-1shot", settings),
    "tutorial": Tutorial,
}


def train(contestant: Contestant, limit: float) -> dict[str, Any]:
    """Train for `limit` seconds; what was reached when."""
    seconds, iterations, next_look = 0.0, 0, 0.0
    points: list[dict[str, Any]] = []
    while True:
        if seconds >= min(next_look, limit):
            result = contestant.judge()
            points.append(
                {
                    "seconds": round(seconds, 3),
                    "iterations": iterations,
                    "accuracy": result["accuracy"],
                    "ci95": result["ci95"],
                }
            )
            next_look = max(FIRST_LOOK, GROWTH * seconds)
        if seconds >= limit:
            break
        started = time.perf_counter()
        contestant.step(seconds)
        seconds += time.perf_counter() - started
        iterations += 1
    return {
        "seconds_to": {f"{level:.2f}": first_above(points, level) for level in LEVELS},
        "ms_per_iteration": round(1000 * seconds / iterations, 2),
        "bn": result["bn"],
        "protocol": result["protocol"],
        "points": points,
    }


def first_above(points: list[dict[str, Any]], level: float) -> float | None:
    """Seconds of training at the first look at which the accuracy had reached `level`."""
    return next((p["seconds"] for p in points if p["accuracy"] >= level), None)


def draw(runs: dict[str, Any]) -> None:
    """Accuracy against seconds of training."""
    from matplotlib.figure import Figure

    from benchmarks.pictures import save_both
    from innerloop.plots.figures import BLUE, GREEN, GREY, ORANGE

    styles = {
        "quick": ("innerloop, quick recipe", BLUE, "o-"),
        "finn2017": ("innerloop, finn2017 preset", GREEN, "s-"),
        "tutorial": ("the tutorial's loop", ORANGE, "^-"),
    }
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for name, run in runs.items():
        label, color, style = styles[name]
        # Time zero, the untrained network, has no place on a logarithmic axis.
        points = [p for p in run["points"] if p["seconds"] > 0]
        seconds, accuracy = ([p[key] for p in points] for key in ("seconds", "accuracy"))
        axes.plot(seconds, accuracy, style, color=color, ms=3, label=label)
    for level in LEVELS:
        axes.axhline(level, color=GREY, ls=":", lw=1)
    axes.set_xscale("log")
    ticks = (1, 2, 5, 10, 20, 50, 100, 200, 500)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(FIRST_LOOK, 1.1 * max(run["limit_seconds"] for run in runs.values()))
    axes.set_ylim(0.15, 1.01)
    axes.set_yticks([0.2, 0.4, 0.6, *LEVELS])
    axes.set_xlabel("seconds of training")
    axes.set_ylabel(f"accuracy on {TASKS} validation tasks")
    axes.set_title("Omniglot, 5-way 1-shot")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3)
    save_both(figure, "time_to_accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CONTESTANTS)}; all by default")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds of training each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--omniglot-source", default=os.environ.get("INNERLOOP_OMNIGLOT"))
    parser.add_argument("--quick", action="store_true", help="nothing is written")
    arguments = parser.parse_args()
    check_names(parser, "contestant", arguments.names, CONTESTANTS)
    torch.set_num_threads(arguments.threads)
    # The same for all contestants.
    keep_memory()
    settings = COMMON | {
        "omniglot_source": arguments.omniglot_source,
        "max_seconds": arguments.limit,
        "seed": arguments.seed,
    }
    path = RESULTS / "time_to_accuracy.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    for name in arguments.names or CONTESTANTS:
        found = train(CONTESTANTS[name](settings), arguments.limit)
        runs[name] = {"limit_seconds": arguments.limit, "seed": arguments.seed, **found}
        reached = ", ".join(
            f"{level}: {'not reached' if seconds is None else f'{seconds:.1f} s'}"
            for level, seconds in found["seconds_to"].items()
        )
        last = found["points"][-1]
        print(
            f"{name}: {reached}; {last['accuracy']:.3f} after {last['iterations']} iterations "
            f"of {found['ms_per_iteration']:.0f} ms",
            flush=True,
        )
    if arguments.quick:
        return
    report = {
        "command": f"python -m benchmarks.time_to_accuracy --limit {arguments.limit:g}",
        "machine": machine(),
        "runs": runs,
    }
    path.write_text(json.dumps(report, indent=1) + "\n")
    draw(runs)


if __name__ == "__main__":
    main()
