"""Shared by all measurements: runs that resume, tests of runs, and result files."""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

import innerloop
from innerloop.config import TrainConfig
from innerloop.errors import UserError
from innerloop.runs.folder import CONFIG
from innerloop.runs.folder import RESULTS as FINISHED
from innerloop.runs.loading import load_for
from innerloop.training.report import Report

RESULTS = Path(__file__).parent / "results"
# In a test.
TASKS = 600


def trained_in(
    folder: Path, config: TrainConfig, report: Report, **settings: Any
) -> dict[str, Any] | None:
    """The results of the run in `folder`, which is trained, or goes on, where that is needed.

    None of a run that was stopped.
    """
    if not (folder / CONFIG).exists():
        innerloop.train(config, out=folder, report=report, **settings)
    elif not (folder / FINISHED).exists():
        innerloop.resume(folder, report=report)
    if not (folder / FINISHED).exists():
        return None
    results: dict[str, Any] = json.loads((folder / FINISHED).read_text("utf-8"))
    return results


def was_stopped(folder: Path) -> SystemExit:
    """The exception that ends a command whose training was stopped."""
    return SystemExit(f"the training in {folder} was stopped: the same command goes on with it")


def test(folder: Path, tasks: int, **changes: Any) -> dict[str, Any]:
    """Evaluate a finished run in another way than at its end."""
    loaded, sampler = load_for(folder, **changes)
    return innerloop.evaluate(
        loaded.algorithm,
        loaded.params,
        sampler,
        tasks=tasks,
        inner_steps=loaded.config.eval_inner_steps,
    )


def shorten(value: Any) -> None:
    """Round the accuracies of single tasks, which are multiples of 1/75 or so, in place."""
    if isinstance(value, dict):
        if "accuracies" in value:
            value["accuracies"] = [round(a, 4) for a in value["accuracies"]]
        for part in value.values():
            shorten(part)


def write_report(name: str | Path, runs: Any, command: str, **more: Any) -> None:
    """Write `benchmarks/results/NAME.json`.

    Args:
        name: of the file; or its path, where it is another.
        runs: what was measured.
        command: what measures it again.
        more: what else belongs to all runs.
    """
    report = {"command": command, **more, "machine": machine(), "runs": runs}
    path = name if isinstance(name, Path) else RESULTS / f"{name}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")


def in_own_process(module: str, *arguments: str) -> Any:
    """What `python -m MODULE --one ARGUMENTS` prints as JSON: its peak memory is its own."""
    command = [sys.executable, "-m", module, "--one", *arguments]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def machine() -> dict[str, Any]:
    """The machine and versions of a measurement."""
    return {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "matrix_product_gflops": round(matrix_product_rate()),
        "torch": torch.__version__,
    }


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in lines if "model name" in x), platform.machine())


def graphics(device: str) -> dict[str, str]:
    """The GPU's name, as an entry of a report; nothing for a CPU."""
    return {} if device == "cpu" else {"gpu": torch.cuda.get_device_name(device)}


def matrix_product_rate(device: str = "cpu") -> float:
    """GFLOP/s of a float32 matrix product, the yardstick for times on other machines."""
    size = 2048 if device == "cpu" else 8192
    a = torch.rand(size, size, device=device)

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    a @ a
    wait()
    times = []
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        wait()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / sorted(times)[5] / 1e9


def check_names(
    parser: argparse.ArgumentParser, kind: str, given: Iterable[str], known: Collection[str]
) -> None:
    """End the command where a name is not known; argparse's own choices refuse an empty list."""
    for name in given:
        if name not in known:
            parser.error(f"there is no {kind} {name!r}: choose from {', '.join(known)}")


@contextlib.contextmanager
def no_traceback(parser: argparse.ArgumentParser) -> Iterator[None]:
    """A user's mistake ends the command with its message alone."""
    try:
        yield
    except UserError as error:
        parser.error(str(error))
