"""Memory during an hour of training: `python -m trials.long_run`.

An ordinary `innerloop train` in a process of its own; every few seconds its resident
memory is read from the system.  Writes `benchmarks/results/long_run.json` and
`docs/img/long_run.png`.  Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.pictures import save_both
from benchmarks.reports import write_report
from matplotlib.figure import Figure

from innerloop.plots.figures import BLUE, GREY

# The first share is start-up: imports, the first validation, caches that fill.
WARM_UP = 1 / 30


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="of training")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two readings")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = watch(Path(folder) / "run", options.seconds, options.every, options.threads)
    write_report("long_run", report, "python -m trials.long_run", threads=options.threads)
    draw(report)
    shown = {key: value for key, value in report.items() if key != "readings"}
    print(json.dumps(shown, indent=1))


def watch(folder: Path, seconds: float, every: float, threads: int) -> dict:
    """Train for that long; the readings of memory and the results."""
    settings = ["--data", "omniglot", "--iterations", "100000000", "--val-every", "500"]
    settings += ["--max-seconds", str(seconds), "--threads", str(threads), "--out", str(folder)]
    readings = []
    started = time.monotonic()
    with subprocess.Popen([sys.executable, "-m", "innerloop", "train", *settings]) as process:
        while process.poll() is None:
            if (megabytes := resident(process.pid)) is not None:
                readings.append([round(time.monotonic() - started, 1), megabytes])
            time.sleep(every)
    if process.returncode:
        sys.exit(f"training ended with status {process.returncode}")
    results = json.loads((folder / "results.json").read_text("utf-8"))
    steady = np.array([r for r in readings if WARM_UP * seconds < r[0] < seconds])
    half = len(steady) // 2
    # Of the second half: a cache that fills in the first is no leak.
    slope, _ = np.polyfit(steady[half:, 0] / 3600, steady[half:, 1], 1)
    return {
        "seconds": results["seconds"],
        "iterations": results["iterations"],
        "accuracy": results["accuracy"],
        "ci95": results["ci95"],
        "megabytes": {
            "after warm-up": steady[0, 1],
            "median of the first half": float(np.median(steady[:half, 1])),
            "median of the second half": float(np.median(steady[half:, 1])),
            "largest": float(steady[:, 1].max()),
            "growth in an hour, second half": round(float(slope), 2),
        },
        "readings": readings,
    }


def resident(pid: int) -> float | None:
    """Resident memory of a process in megabytes; None once it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return pages * 4096 / 1e6


def draw(report: dict) -> None:
    """The picture for the docs."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    times, megabytes = np.array(report["readings"]).T
    axes.plot(times / 60, megabytes, color=BLUE)
    axes.axvspan(0, WARM_UP * times[-1] / 60, color=GREY, alpha=0.15, lw=0)
    axes.set_xlabel("minutes")
    axes.set_ylabel("resident memory (MB)")
    axes.set_ylim(bottom=0)
    axes.set_title(
        f"{report['iterations']:,} outer steps: "
        f"{report['megabytes']['growth in an hour, second half']:+.1f} MB an hour "
        "in the second half",
        fontsize=10,
    )
    axes.grid(alpha=0.3)
    save_both(figure, "long_run")


if __name__ == "__main__":
    main()
