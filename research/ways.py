"""How many classes a training task should have: `python -m research.ways [NAME ...]`.

Our recipe (`configs/ours.yaml`, which says more), for 2,500 outer steps, with tasks of 20 to 120
classes, one or two queries a class, other inner rates, and training drawings changed as another
hand would draw them.  Each network is tested at 20-way and 5-way.  A training that was interrupted
goes on where it was.  Writes `benchmarks/results/ways.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.reports import test

from research.arms import Experiment
from research.five_shots import BUDGET

SIXTY: dict[str, Any] = {"train_n_way": 60, "meta_batch_size": 1, "k_query": 1}
ARMS: dict[str, dict[str, Any]] = {
    "20 classes": {},
    "60 classes, two queries": {"train_n_way": 60, "meta_batch_size": 1},
    "60 classes": SIXTY,
    "120 classes": {**SIXTY, "train_n_way": 120},
    "60 classes, half the rate": {**SIXTY, "inner_lr": 0.01},
    "20 classes, warp": {"augment": "warp"},
}
SETTINGS = {"20-way 1-shot": (20, 1), "5-way 1-shot": (5, 1)}
TASKS = 300


def measure(_: str, folder: Path, __: dict[str, Any], source: str | None) -> dict[str, Any]:
    """One arm: in each setting, with statistics of the support set alone and of all queries."""
    found: dict[str, Any] = {}
    for name, (n_way, k_shot) in SETTINGS.items():
        changes = {"n_way": n_way, "k_shot": k_shot, "eval_k_query": k_shot}
        found[name] = {}
        for bn in ("support", "transductive"):
            found[name][bn] = test(folder, TASKS, bn=bn, omniglot_source=source, **changes)
            print(name, bn, round(100 * found[name][bn]["accuracy"], 2), flush=True)
    return {"tests": found}


if __name__ == "__main__":
    Experiment("ways", "quick", BUDGET, ARMS, measure).main(__doc__.splitlines()[0])
