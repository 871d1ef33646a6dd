"""How much of the source the tests reach: `make coverage` writes it.

`python -m tools.covered FILE` reads coverage's report in JSON and writes
`benchmarks/results/coverage.json`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

from benchmarks.reports import write_report

# In coverage's words, by file.
COUNTED = "num_statements covered_lines num_branches covered_branches".split()
PACKAGE = "innerloop"


def part_of(file: str) -> str:
    """The folder of the package that a file is in; empty for what lies beside these folders."""
    parts = PurePath(file).parts
    inside = parts[len(parts) - parts[::-1].index(PACKAGE) :]
    return inside[0] if len(inside) > 1 else ""


def counts(summaries: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """By folder, from pairs of a file and coverage's summary of it; and of all under `"all"`."""
    found: dict[str, Counter[str]] = {}
    for file, summary in summaries:
        for part in (part_of(file), "all"):
            found.setdefault(part, Counter()).update({name: summary[name] for name in COUNTED})
    return {
        part: {
            "statements": c["num_statements"],
            "branches": c["num_branches"],
            "percent": round(
                100
                * (c["covered_lines"] + c["covered_branches"])
                / max(1, c["num_statements"] + c["num_branches"]),
                2,
            ),
        }
        for part, c in sorted(found.items())
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    report = json.loads(parser.parse_args().file.read_text("utf-8"))
    found = counts((file, each["summary"]) for file, each in report["files"].items())
    write_report("coverage", found, "make coverage")


if __name__ == "__main__":
    main()
