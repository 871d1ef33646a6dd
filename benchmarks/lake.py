"""Lake's one-shot challenge: `python -m benchmarks.lake --source all_runs.zip --weights NAME`.

Each network runs the official 20 runs and, for a narrower interval, 100 runs of the same kind that
are drawn from the same alphabets and drawers.  Each query is told by itself.  With `--together
NAME` all of them also run as one, which averages their probabilities; with `--views turns` they see
each drawing in all quarter turns, and have `-turns` after their names.  Results of other networks
that stand in the file already are kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.reports import RESULTS, machine
from innerloop.challenge import OFFICIAL, format_challenge, lake_challenge
from innerloop.data import draw_lake_runs, lake_runs, omniglot
from innerloop.files import write_whole
from innerloop.runs.loading import load

OUT = RESULTS / "lake.json"
DRAWN = 100
# What the protocol calls the runs.
NAMES = {"official": OFFICIAL, "drawn": "drawn, not the official ones"}


def measure(
    weights: list[str],
    source: Path,
    drawn: int = DRAWN,
    together: str | None = None,
    views: str | None = None,
) -> dict[str, dict[str, Any]]:
    """By the names of the weights, both results; by `together`, those of all of them as one."""
    runs = {"official": lake_runs(source), "drawn": draw_lake_runs(omniglot(), runs=drawn)}
    found: dict[str, dict[str, Any]] = {}
    loaded = {Path(name).stem: load(name) for name in weights}
    entries = {name: [network] for name, network in loaded.items()}
    if together is not None:
        entries[together] = list(loaded.values())
    for name, networks in entries.items():
        name = name if views is None else f"{name}-{views}"
        found[name] = {
            kind: lake_challenge(networks, of_kind, views=views, name=NAMES[kind])
            for kind, of_kind in runs.items()
        }
        for result in found[name].values():
            print(name, format_challenge(result).splitlines()[0], flush=True)
    return found


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="all_runs.zip, or its folder")
    parser.add_argument("--weights", nargs="+", required=True, help="weights or runs")
    parser.add_argument("--together", metavar="NAME", help="also all of them as one, named NAME")
    parser.add_argument("--views", choices=["turns"], help="see each drawing in all turns")
    parser.add_argument("--drawn", type=int, default=DRAWN, help="drawn runs")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    held = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    found = measure(options.weights, options.source, options.drawn, options.together, options.views)
    report = {
        "command": "python -m benchmarks.lake --source all_runs.zip --weights NAME",
        "machine": machine(),
        "weights": {**held.get("weights", {}), **found},
    }
    with write_whole(options.out) as out:
        out.write(json.dumps(report, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
