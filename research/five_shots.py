"""Why five shots gain less than others report: `python -m research.five_shots [NAME ...]`.

Our recipe is trained with one shot and tested with five.  The second arm is trained with five.
Each network is tested with its own inner loop, with a quarter of its rate, and on the same features
by the means of classes, as ProtoNet takes them.  Each query is told by itself.  A training that was
interrupted goes on where it was.  Writes `benchmarks/results/five_shots.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import innerloop
from innerloop.runs.loading import load_for
from research.arms import Experiment

# Our recipe under `finn2017`: `configs/ours.yaml` with tasks of 20 classes, cut down.
BUDGET: dict[str, Any] = {
    "data": "omniglot",
    "split": "finn2017",
    "rotate": True,
    "rotate_test": True,
    "n_way": 20,
    "k_shot": 1,
    "k_query": 2,
    "train_n_way": None,
    "eval_k_query": 1,
    "width": 64,
    "meta_batch_size": 2,
    "iterations": 2500,
    "val_every": 500,
    "val_tasks": 200,
    "test_tasks": 600,
}
ARMS: dict[str, dict[str, Any]] = {
    "trained with one shot": {},
    "trained with five shots": {"train_k_shot": 5},
}
RATE = 0.02  # that of the recipe
RATES = {"inner loop": RATE, "a quarter of the rate": RATE / 4}
SETTINGS = {"20-way 1-shot": (20, 1), "20-way 5-shot": (20, 5), "5-way 5-shot": (5, 5)}
TASKS = 300


def measure(_: str, folder: Path, __: dict[str, Any], source: str | None) -> dict[str, Any]:
    """One arm: in each setting, the inner loop at both rates and the means of classes."""
    found: dict[str, Any] = {}
    for name, (n_way, k_shot) in SETTINGS.items():
        changes = {"n_way": n_way, "k_shot": k_shot, "eval_k_query": k_shot, "bn": "support"}
        tests = {}
        for by, rate in RATES.items():
            run, sampler = load_for(folder, inner_lr=rate, omniglot_source=source, **changes)
            steps = run.config.eval_inner_steps
            tests[by] = innerloop.evaluate(
                run.algorithm, run.params, sampler, tasks=TASKS, inner_steps=steps
            )
        means = innerloop.ProtoNet(run.model, bn="support")
        body = {part: run.params[part] for part in means.init_params()}
        tests["means"] = innerloop.evaluate(means, body, sampler, tasks=TASKS)
        found[name] = tests
        print(name, {by: test["accuracy_per_step"] for by, test in tests.items()}, flush=True)
    return {"tests": found}


if __name__ == "__main__":
    five_shots = Experiment("five_shots", "quick", BUDGET, ARMS, measure)
    five_shots.main(__doc__.splitlines()[0])
