"""What the papers' codes make of the same test: `python -m research.protocols [--seeds 0 1 2]`.

Under `finn2017` a character and the same one turned are two classes, and one test task may have
both.  In the code of the MAML paper a task has each character once, in a turn drawn by chance; in
that of MAML++ the characters of the test are not turned.  The first is counted in the results of
`python -m benchmarks.reproduce ours`; for the second its networks, which have to be there, are
tested again.  Batch statistics of all queries together, as the papers have them.  Writes
`benchmarks/results/protocols.json`.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.elsewhere import interval
from benchmarks.reports import no_traceback, shorten, test, write_report
from benchmarks.reproduce import FOUND, ROWS

from innerloop.runs.loading import load_for
from innerloop.tasks.sampler import EpisodeSampler

ROW = "ours"


def measure(seed: int, runs: Path, source: str | None) -> dict[str, Any]:
    """One network, by setting: as `finn2017` has it, each character once, and not turned."""
    known = json.loads((FOUND / f"{ROW}-{seed}.json").read_text("utf-8"))["tests"]
    found: dict[str, Any] = {}
    folder, common = runs / f"{ROW}-{seed}", {"bn": "transductive", "omniglot_source": source}
    for setting, own in ROWS[ROW].tests.items():
        turned, changes = known[setting]["transductive"], {**own, **common}
        _, sampler = load_for(folder, **changes)
        assert isinstance(sampler, EpisodeSampler)
        found[setting] = {
            "as finn2017": {name: turned[name] for name in ("accuracy", "ci95")},
            "each character once": _once(sampler, turned["accuracies"]),
            "not turned": test(folder, len(turned["accuracies"]), rotate_test=False, **changes),
        }
        shares = {way: round(100 * test["accuracy"], 2) for way, test in found[setting].items()}
        print(seed, setting, shares, flush=True)
    shorten(found)
    return found


def _once(sampler: EpisodeSampler, accuracies: list[float]) -> dict[str, Any]:
    """Those of the tasks that have no character in two turns."""
    _, _, classes = sampler.indices(0, len(accuracies))
    once = [len(np.unique(of)) == of.size for of in np.asarray(classes) // 4]
    kept = np.array(accuracies)[once].tolist()
    return {**interval(kept), "tasks": len(kept)}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"))
    parser.add_argument("--omniglot-source", default=os.environ.get("INNERLOOP_OMNIGLOT"))
    arguments = parser.parse_args()
    with no_traceback(parser):
        runs = {
            str(seed): measure(seed, arguments.runs, arguments.omniglot_source)
            for seed in arguments.seeds
        }
    write_report("protocols", runs, "python -m research.protocols --seeds 0 1 2")


if __name__ == "__main__":
    main()
