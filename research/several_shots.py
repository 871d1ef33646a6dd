"""Inner steps where a class has several pictures: `python -m research.several_shots [WEIGHTS ...]`.

Weights that were trained with one inner step from a shared head learn validation tasks by this
step: as it is, and taken in several smaller ones of the head alone.  Each query is told by itself.
`in use` is what `FewShotClassifier` gives: the expected calibration error of its probabilities, and
the temperature that would have been best, as a share of that of one picture.  Adds to
`benchmarks/results/several_shots.json`.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.pretrained import answers
from benchmarks.reports import RESULTS, shorten, write_report

import innerloop
from innerloop.algorithms.maml import MAML
from innerloop.calibration import expected_calibration_error, fit_temperature
from innerloop.runs.loading import Loaded, load_for
from innerloop.tasks.protocol import Tasks

WEIGHTS = ("omniglot-conv4", "glyphs-conv4")
TASKS, QUERIES = 100, 5
SETTINGS = [(n, k) for n in (5, 20) for k in (1, 2, 5)]
PARTS = (1, 2, 4)


def measure(weights: str, source: str | None) -> dict[str, Any]:
    """Accuracies by setting, after the step of training in so many parts."""
    found: dict[str, Any] = {}
    for n_way, k_shot in SETTINGS:
        changes = {"n_way": n_way, "k_shot": k_shot, "eval_k_query": QUERIES, "bn": "support"}
        run, sampler = load_for(weights, part="val", omniglot_source=source, **changes)
        assert isinstance(run.algorithm, MAML)
        assert run.algorithm.inner_steps == 1
        assert run.algorithm.first_step_moves_only_the_head
        of_setting = found[f"{n_way}-way {k_shot}-shot"] = {
            str(parts): innerloop.evaluate(
                run.algorithm.of_head(1 / parts),
                run.params,
                sampler,
                tasks=TASKS,
                inner_steps=parts,
                every_step=False,
            )
            for parts in PARTS
        }
        shares = {parts: round(100 * test["accuracy"], 2) for parts, test in of_setting.items()}
        of_setting["in use"] = calibration(run, sampler)
        print(weights, f"{n_way}-way {k_shot}-shot", shares, of_setting["in use"], flush=True)
    shorten(found)
    return found


def calibration(run: Loaded, sampler: Tasks) -> dict[str, float]:
    """How far the probabilities of `FewShotClassifier` can be trusted."""
    logits, truth, temperature = answers(run, sampler, TASKS)
    return {
        "calibration error": expected_calibration_error((logits / temperature).softmax(1), truth),
        "best temperature": fit_temperature(logits, truth) / run.temperature,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="*", default=WEIGHTS, help="names, or run folders")
    parser.add_argument("--omniglot-source", default=os.environ.get("INNERLOOP_OMNIGLOT"))
    arguments = parser.parse_args()
    file = RESULTS / "several_shots.json"
    runs = json.loads(file.read_text())["runs"] if file.exists() else {}
    for weights in arguments.weights:
        runs[Path(weights).name] = measure(weights, arguments.omniglot_source)
        write_report("several_shots", runs, "python -m research.several_shots")


if __name__ == "__main__":
    main()
