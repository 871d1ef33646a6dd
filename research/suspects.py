"""Why do re-implementations miss MAML's 20-way figure?  `python -m research.suspects [NAME ...]`.

Starts from the paper's settings (preset finn2017-20way-1shot) cut down to a few minutes, changes
one thing at a time, and tests all arms on the same tasks.  The budget is far from the paper's
60,000 outer steps of 16 tasks: what is compared is the arms with each other.  A training that
was interrupted goes on where it was.  Writes `benchmarks/results/suspects.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.reports import TASKS, test

from research.arms import Experiment

BUDGET: dict[str, Any] = {
    "iterations": 1000,
    "meta_batch_size": 4,
    "val_every": 500,
    "val_tasks": 100,
    "test_tasks": 600,
}
# The paper's code keeps scale and shift of batch norm out of the inner loop.
WITHOUT_NORMS = "convs.*,head.*"
PAPERS_START = {"init": "xavier", "head": "normal"}
LONGER_FIRST_ORDER = {"first_order": True, "adapted": WITHOUT_NORMS, "iterations": 4000}
# What each arm changes in the paper's settings.
ARMS: dict[str, dict[str, Any]] = {
    "as in the paper": {},
    # The size of chance.  This arm also has other test tasks.
    "another seed": {"seed": 1},
    "inner loss a mean": {"inner_reduction": "mean"},
    "norms not adapted": {"adapted": WITHOUT_NORMS},
    "first order": {"first_order": True},
    # Why first order is so much worse.
    "first order, norms not adapted": {"first_order": True, "adapted": WITHOUT_NORMS},
    "first order, random head": {"first_order": True, "head": "random"},
    "first order, longer": {"first_order": True, "iterations": 4000},
    "first order, longer, another seed": {"first_order": True, "iterations": 4000, "seed": 1},
    "first order, norms not adapted, longer": LONGER_FIRST_ORDER,
    "first order, norms not adapted, longer, another seed": {**LONGER_FIRST_ORDER, "seed": 1},
    "first order, as the paper's code starts, longer": {**LONGER_FIRST_ORDER, **PAPERS_START},
    # Which part of it helps first order.
    "first order, Xavier convolutions, longer": {**LONGER_FIRST_ORDER, "init": "xavier"},
    "first order, head of N(0, 1), longer": {**LONGER_FIRST_ORDER, "head": "normal"},
    "as the paper's code starts": {"adapted": WITHOUT_NORMS, **PAPERS_START},
    "one inner step": {"inner_steps": 1, "eval_inner_steps": 1},
    "one inner step, five in validation and test": {"inner_steps": 1},
    "random head": {"head": "random"},
    "max-pooling, no strides": {"pool": "max"},
    "no turned classes in training": {"rotate": False},
    "no clipping": {"clip_value": None},
    "inner loss a mean, alpha 0.4": {"inner_reduction": "mean", "inner_lr": 0.4},
    "ours": {
        "pool": "max",
        "head": "shared",
        "unit_features": True,
        "inner_lr": 0.02,
        "inner_steps": 1,
        "eval_inner_steps": 3,
        "meta_lr": 1e-2,
        "schedule": "cosine",
        "clip_value": None,
        "clip_norm": 10.0,
    },
}
# How the arm "as in the paper" is tested otherwise.
TESTS: dict[str, dict[str, Any]] = {
    "support": {"bn": "support"},
    "not turned": {"rotate_test": False},
    "10 inner steps": {"eval_inner_steps": 10},
    "5 queries a class": {"eval_k_query": 5},
}


def measure(name: str, folder: Path, results: dict[str, Any], source: str | None) -> dict[str, Any]:
    """The results of one arm, and its other tests."""
    tests = TESTS if name == "as in the paper" else {"support": TESTS["support"]}
    others = {other: test(folder, TASKS, omniglot_source=source, **tests[other]) for other in tests}
    return {**results, **others}


if __name__ == "__main__":
    suspects = Experiment("suspects", "finn2017-20way-1shot", BUDGET, ARMS, measure)
    suspects.main(__doc__.splitlines()[0])
