"""Waiting times for the command line and for imports: `python -m benchmarks.startup`.

Each command runs in a process of its own, all in turn in every round; Python alone and
`import torch` stand beside for comparison.  Writes `benchmarks/results/startup.json`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reports import RESULTS, machine

ROUNDS = 10
SCRIPT = str(Path(sysconfig.get_path("scripts")) / "innerloop")
# What follows the name of the Python interpreter.
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import innerloop": ["-c", "import innerloop"],
    "import innerloop; innerloop.MAML": ["-c", "import innerloop; innerloop.MAML"],
    "innerloop --version": [SCRIPT, "--version"],
    "innerloop --help": [SCRIPT, "--help"],
    "innerloop train --help": [SCRIPT, "train", "--help"],
    "innerloop evaluate --help": [SCRIPT, "evaluate", "--help"],
    "innerloop data --help": [SCRIPT, "data", "--help"],
}


def run(command: list[str], *options: str) -> tuple[float, str]:
    """Seconds that a command takes, and what it writes to standard error."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *options, *command], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - started, done.stderr


def imported(command: list[str]) -> list[str]:
    """Which of the large libraries a command imports."""
    _, log = run(command, "-X", "importtime")
    modules = set(re.findall(r"\| +(\S+)$", log, re.MULTILINE))
    return [name for name in ("numpy", "torch", "matplotlib") if name in modules]


def measure(rounds: int) -> dict[str, Any]:
    """Seconds of every command, interleaved; a first round, which fills caches, is not counted."""
    found: dict[str, Any] = {
        name: {"imports": imported(command), "seconds": []} for name, command in COMMANDS.items()
    }
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            found[name]["seconds"].append(round(run(command)[0], 4))
    for row in found.values():
        row["median"] = round(float(np.median(row["seconds"])), 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rounds, nothing is written")
    arguments = parser.parse_args()
    runs = measure(2 if arguments.quick else ROUNDS)
    for name, row in runs.items():
        print(f"{name:36}{row['median']:7.3f} s  {', '.join(row['imports'])}")
    if not arguments.quick:
        report = {"command": "python -m benchmarks.startup", "machine": machine(), "runs": runs}
        (RESULTS / "startup.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
