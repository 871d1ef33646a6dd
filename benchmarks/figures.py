"""Measure the figures that README and docs quote: `python -m benchmarks.figures [NAME ...]`.

Each figure is one or more ordinary runs; what comes out is written to
`benchmarks/results/NAME.json`.  Without names all are measured, one after
another; nothing else should run meanwhile.  Omniglot is taken from
`--omniglot-source`, `INNERLOOP_OMNIGLOT` or the cache, else downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import innerloop
from benchmarks.reports import RESULTS, TASKS, check_names, shorten, test, write_report
from innerloop.config import TrainConfig
from innerloop.ops.allocator import keep_memory
from innerloop.training.report import TerminalReport


def run(out: Path, config: TrainConfig, **settings: Any) -> dict[str, Any]:
    """One training run; its results and settings."""
    result = dict(innerloop.train(config, out=out, report=TerminalReport(), **settings).results)
    result["settings"] = {
        name: value
        for name, value in settings.items()
        if name not in ("omniglot_source", "threads")
    }
    return result


def tutorial(folder: Path, common: dict[str, Any]) -> dict[str, Any]:
    """The tutorial's recipe after 100 iterations with three seeds, and after 300."""
    config = TrainConfig.preset("tutorial")
    return {
        f"{n} iterations, seed {seed}": run(
            folder / f"{n}-{seed}", config, iterations=n, val_every=n, seed=seed, **common
        )
        for n, seed in ((100, 0), (100, 1), (100, 2), (300, 0))
    }


def quick(folder: Path, common: dict[str, Any]) -> dict[str, Any]:
    """The quick recipe on Omniglot, by seconds of training."""
    out = {}
    for seconds in (30, 60, 120, 300):
        settings = {
            "data": "omniglot",
            "max_seconds": float(seconds),
            "iterations": 10**6,
            # Validation is part of the time, so validate only a few times.
            "val_every": 500,
        }
        name = str(seconds)
        out[name] = run(folder / name, TrainConfig(), **settings, **common)
        out[name]["support"] = test(folder / name, TASKS, bn="support")
    return out


def glyphs(folder: Path, common: dict[str, Any]) -> dict[str, Any]:
    """The default run on glyphs, and a longer one on more of them, tested on Omniglot."""
    out = {}
    runs: dict[str, dict[str, Any]] = {
        "default": {},
        "300": {
            "glyph_classes": 4000,
            "max_seconds": 300.0,
            "iterations": 10**6,
            "val_every": 1000,
        },
    }
    for name, settings in runs.items():
        out[name] = run(folder / name, TrainConfig(), **settings, **common)
        for bn in ("transductive", "support"):
            out[name][f"omniglot_{bn}"] = test(
                folder / name,
                TASKS,
                data="omniglot",
                split="tutorial",
                bn=bn,
                omniglot_source=common["omniglot_source"],
            )
    return out


def untrained(folder: Path, common: dict[str, Any]) -> dict[str, Any]:
    """The recipes' networks before any meta-training: the effect of the inner loop alone."""
    still: dict[str, Any] = {"iterations": 1, "meta_lr": 1e-12, "val_tasks": 2}
    return {
        "glyphs": run(folder / "glyphs", TrainConfig(), **common | still),
        "quick": {
            **run(folder / "quick", TrainConfig(), data="omniglot", **common | still),
            "support": test(folder / "quick", TASKS, bn="support"),
        },
        "tutorial": run(folder / "tutorial", TrainConfig.preset("tutorial"), **common | still),
    }


# What the quick recipe is compared with: each row changes the settings named.
VARIANTS: dict[str, dict[str, Any]] = {
    "quick": {},
    "8 tasks a step": {"meta_batch_size": 8},
    "5-way training tasks": {"train_n_way": None, "meta_batch_size": 8},
    "2 inner steps": {"inner_steps": 2},
    "raw features": {"unit_features": False, "inner_lr": 0.4},
    "raw features, linear head, 5-way": {
        "unit_features": False,
        "head": "linear",
        "train_n_way": None,
        "meta_batch_size": 8,
        "inner_lr": 0.4,
    },
    "strided convolutions": {"pool": "stride"},
    "one task of 40 classes": {"train_n_way": 40, "meta_batch_size": 1},
    "width 32": {"width": 32},
    "width 64": {"width": 64},
    "no turned classes": {"rotate": False},
}


def recipe(folder: Path, common: dict[str, Any]) -> dict[str, Any]:
    """The quick recipe and the candidates it was chosen from, 30 seconds of training each.

    Compared on 400 validation tasks: test tasks have no part in a choice.
    """
    budget: dict[str, Any] = {
        "data": "omniglot",
        "max_seconds": 30.0,
        "iterations": 10**6,
        "val_every": 10**6,
        "eval_inner_steps": 1,
        "val_tasks": 400,
        "test_tasks": 2,
    }
    out = {}
    for i, (name, changes) in enumerate(VARIANTS.items()):
        place = folder / str(i)
        result = run(place, TrainConfig(), **common | budget | changes)
        line = json.loads((place / "metrics.jsonl").read_text().splitlines()[-1])
        out[name] = {
            "accuracy": line["val_accuracy"],
            "ci95": line["val_ci95"],
            "iterations": result["iterations"],
            "settings": changes,
        }
    return out


def data(folder: Path, common: dict[str, Any]) -> dict[str, Any]:
    """Seconds to prepare Omniglot and to draw glyphs, episodes drawn per second."""
    with mock.patch.dict(os.environ, INNERLOOP_HOME=str(folder)):  # an empty cache
        start = time.perf_counter()
        omniglot = innerloop.data.omniglot(common["omniglot_source"])
        prepared = time.perf_counter() - start
        start = time.perf_counter()
        drawings = len(innerloop.data.glyphs().images)
        drawn = time.perf_counter() - start
    sampler = innerloop.EpisodeSampler(omniglot, n_way=5, k_shot=1, k_query=15, rotate=True)
    sampler.batch(0, 8)
    start = time.perf_counter()
    for i in range(100):
        sampler.batch(8 * i, 8)
    sampled = time.perf_counter() - start
    return {
        "prepare_omniglot_seconds": round(prepared, 2),
        "glyph_drawings_per_second": round(drawings / drawn),
        "episodes_per_second": round(800 / sampled),
        "episode": "5-way, 1 + 15 images a class, turned, as float32, 8 at a time",
    }


FIGURES: dict[str, Callable[[Path, dict[str, Any]], dict[str, Any]]] = {
    "untrained": untrained,
    "tutorial": tutorial,
    "quick": quick,
    "glyphs": glyphs,
    "recipe": recipe,
    "data": data,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(FIGURES)}; all by default")
    parser.add_argument("--omniglot-source", default=os.environ.get("INNERLOOP_OMNIGLOT"))
    arguments = parser.parse_args()
    check_names(parser, "figure", arguments.names, FIGURES)
    keep_memory()
    torch.set_num_threads(2)
    common = {"omniglot_source": arguments.omniglot_source, "test_tasks": TASKS, "threads": 2}
    RESULTS.mkdir(exist_ok=True)
    for name in arguments.names or FIGURES:
        with tempfile.TemporaryDirectory() as folder:
            figures = FIGURES[name](Path(folder), common)
        shorten(figures)
        write_report(name, figures, f"python -m benchmarks.figures {name}")


if __name__ == "__main__":
    main()
