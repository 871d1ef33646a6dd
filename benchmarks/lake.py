"""Lake's one-shot challenge: `python -m benchmarks.lake --source all_runs.zip --weights NAME`.

Each network runs the official 20 runs and, for a narrower interval, 100 runs of the same kind that
are drawn from the same alphabets and drawers.  Each query is told by itself.  Results of other
networks that stand in the file already are kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.reports import RESULTS, machine
from innerloop.challenge import format_challenge, lake_challenge
from innerloop.data import draw_lake_runs, lake_runs, omniglot
from innerloop.files import write_whole
from innerloop.runs.loading import load

OUT = RESULTS / "lake.json"
DRAWN = 100


def measure(weights: list[str], source: Path, drawn: int = DRAWN) -> dict[str, dict[str, Any]]:
    """By the names of the weights: what they were trained on, and both results."""
    runs = {"official": lake_runs(source), "drawn": draw_lake_runs(omniglot(), runs=drawn)}
    found: dict[str, dict[str, Any]] = {}
    for name in weights:
        loaded = load(name)
        found[Path(name).stem] = {
            kind: lake_challenge(
                loaded,
                of_kind,
                **({} if kind == "official" else {"name": "drawn, not the official ones"}),
            )
            for kind, of_kind in runs.items()
        }
        for result in found[Path(name).stem].values():
            print(name, format_challenge(result).splitlines()[0], flush=True)
    return found


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="all_runs.zip, or its folder")
    parser.add_argument("--weights", nargs="+", required=True, help="weights or runs")
    parser.add_argument("--drawn", type=int, default=DRAWN, help="drawn runs")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    held = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    found = measure(options.weights, options.source, options.drawn)
    report = {
        "command": "python -m benchmarks.lake --source all_runs.zip --weights NAME",
        "machine": machine(),
        "weights": {**held.get("weights", {}), **found},
    }
    with write_whole(options.out) as out:
        out.write(json.dumps(report, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
