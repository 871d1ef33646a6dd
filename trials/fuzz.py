"""Damaged and hostile input for every reader: `python -m trials.fuzz`.

Every reader of files, and the command line, gets thousands of valid inputs that were changed
at random: bits flipped, parts cut out, doubled or moved, numbers replaced by the largest and
the smallest there are, and, so that the damage gets past the first check, with lengths and
checksums made right again.  Each must be read or refused by a `UserError`.
Other exceptions, more than a few seconds, unbounded memory and files outside the folder in use
count as failures.  Writes `benchmarks/results/fuzz.json`.  POSIX only.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarks.reports import write_report

from innerloop.errors import UserError
from trials.kills import PRELOADED
from trials.readers import READERS, Hang

# For one input; slower counts as hanging.
SECONDS = 10
# For one reader, beyond the process's memory at its start; more counts as unbounded.
MEMORY = 2 << 30


def try_reader(name: str, inputs: int, seed: int) -> dict[str, Any]:
    """Feed one reader in a process of its own.

    Args:
        name: of `READERS`.
        inputs: how many.
        seed: which.

    Returns:
        `inputs` tried, `refused` of them, the slowest in `seconds`, and what went wrong.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        here, there = processes.Pipe(duplex=False)
        process = processes.Process(target=_feed, args=(name, inputs, seed, Path(folder), there))
        process.start()
        there.close()
        try:
            result = here.recv()
        except EOFError:
            process.join()
            result = {"inputs": 0, "refused": 0, "seconds": 0.0}
            result["defects"] = [f"the process ended with status {process.exitcode}"]
        process.join()
        strays = sorted({p.name for p in Path(folder).iterdir()} - {"work", "home"})
        if strays:
            result["defects"].append(f"files outside the folder: {strays}")
    return result


def _feed(name: str, inputs: int, seed: int, folder: Path, results: Any) -> None:
    """In the process: all inputs, one after another."""
    os.environ["INNERLOOP_HOME"] = str(folder / "home")
    os.environ.pop("INNERLOOP_OMNIGLOT", None)
    home = folder / "work"
    home.mkdir()
    os.chdir(home)
    torch.set_num_threads(1)

    def hang(number: int, frame: object) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, hang)
    read = READERS[name](home)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    refused, slowest, defects = 0, 0.0, []
    for i in range(inputs):
        # A generator of its own for each, so that a single one can be tried again.
        draw = random.Random(int(hashlib.sha256(f"{name} {seed} {i}".encode()).hexdigest(), 16))
        started = time.monotonic()
        signal.alarm(SECONDS)
        try:
            read(draw)
        except UserError:
            refused += 1
        except Hang:
            defects.append(f"input {i} hangs: {traceback.format_exc()[-1500:]}")
        except BaseException:
            defects.append(f"input {i}: {traceback.format_exc()[-2500:]}")
        finally:
            signal.alarm(0)
        slowest = max(slowest, time.monotonic() - started)
        if len(defects) >= 5:
            break
    seconds = round(slowest, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    results.send(
        {
            "inputs": i + 1,
            "refused": refused,
            "seconds": seconds,
            "megabytes": peak,
            "defects": defects,
        }
    )


def run_all(inputs: int, seed: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every reader with so many inputs; the command line, which is slower, with a tenth."""
    for name in READERS:
        yield name, try_reader(name, inputs // 10 if name == "commands" else inputs, seed)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="for each reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=list(READERS), help="one reader, without a report")
    options = parser.parse_args()
    if options.only:
        print_result(options.only, try_reader(options.only, options.inputs, options.seed))
        return
    report = {}
    for name, result in run_all(options.inputs, options.seed):
        print_result(name, result)
        report[name] = result
    total = sum(result["inputs"] for result in report.values())
    write_report("fuzz", report, f"python -m trials.fuzz --inputs {options.inputs}", total=total)
    print(f"{total:,} inputs")
    sys.exit(any(result["defects"] for result in report.values()))


def print_result(name: str, result: dict[str, Any]) -> None:
    """One line a reader, and what went wrong."""
    shown = {key: value for key, value in result.items() if key != "defects"}
    print(f"{name}: {shown}", flush=True)
    for defect in result["defects"]:
        print("\n".join(line[:200] for line in defect.splitlines()), flush=True)


if __name__ == "__main__":
    main()
