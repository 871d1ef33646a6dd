"""Colour pictures without pretraining: a run of the preset `emoji`, tested one query at a time.

    innerloop train --preset emoji --data FOLDER --out runs/emoji
    python -m benchmarks.emoji runs/emoji

FOLDER is what `innerloop data prepare emoji` writes; both on one machine, on which nothing else
runs.  5-way: a drawing a class as support and four others as queries; then five and one, of the
classes that six artists have drawn, learnt as `FewShotClassifier` learns several pictures; and
both with their mirror images, too (`views="flips"`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.reports import RESULTS, machine
from innerloop.evaluation_in_use import evaluate_in_use
from innerloop.files import write_whole
from innerloop.learners import VIEWS
from innerloop.runs.loading import load_for
from innerloop.tasks.sampler import EpisodeSampler

OUT = RESULTS / "emoji.json"
SETTINGS = {"1-shot": (1, 4), "5-shot": (5, 1)}
TASKS = 600


def measure(run: Path, tasks: int = TASKS) -> dict[str, Any]:
    """Test accuracies of a finished run, with what it took."""
    trained = json.loads((run / "results.json").read_text("utf-8"))
    loaded, sampler = load_for(run)
    assert isinstance(sampler, EpisodeSampler)
    tests: dict[str, dict[str, dict[str, Any]]] = {views: {} for views in VIEWS}
    for name, (k_shot, k_query) in SETTINGS.items():
        enough = sampler.data.counts[sampler.classes] >= k_shot + k_query
        some = EpisodeSampler(
            sampler.data,
            sampler.classes[enough],
            n_way=5,
            k_shot=k_shot,
            k_query=k_query,
            seed=sampler.seed,
            split=sampler.split,
            split_name=sampler.split_name,
            inputs=sampler.inputs,
        )
        kept = ("accuracy", "ci95", "calibration_error", "bn", "protocol")
        for views, found in tests.items():
            result = evaluate_in_use(loaded, some, tasks=tasks, views=views)
            found[name] = {key: result[key] for key in kept}
    took = ("iterations", "best_iteration", "seconds", "cpu_seconds", "parameters", "versions")
    config = {**loaded.config.to_dict(), "data": "emoji"}
    return {
        "tests": tests,
        **{key: trained[key] for key in took},
        "machine": machine(),
        "config": config,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the run folder")
    report = measure(parser.parse_args().run)
    with write_whole(OUT) as file:
        file.write(json.dumps(report, indent=1).encode() + b"\n")
    for views, found in report["tests"].items():
        for name, test in found.items():
            accuracy, error = 100 * test["accuracy"], 100 * test["ci95"]
            print(f"{views}, 5-way {name}: {accuracy:.1f} ± {error:.1f} %")


if __name__ == "__main__":
    main()
