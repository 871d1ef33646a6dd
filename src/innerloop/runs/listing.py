"""List runs and their progress."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from innerloop.config import TrainConfig
from innerloop.errors import UserError
from innerloop.files import held
from innerloop.runs.folder import CONFIG, METRICS, RESULTS, checkpoints, iteration_of, read_config

# Folders deeper than this below the one that is asked for are not looked into.
DEPTH = 4


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics of a run, none if it has not come to its first validation.

    Raises:
        UserError: a line is none.
    """
    try:
        text = (folder / METRICS).read_text("utf-8")
    except FileNotFoundError:
        return []
    # A run that is at work may be writing its last line.
    whole = text[: text.rfind("\n") + 1]
    lines = [_json(line, folder / METRICS) for line in whole.splitlines()]
    if not all(isinstance(line.get("iteration"), int) for line in lines):
        raise UserError(f"{folder / METRICS} is damaged: a line has no iteration")
    return lines


def read_results(folder: Path) -> dict[str, Any] | None:
    """The test results of a run; None before its end.

    Raises:
        UserError: the file is damaged.
    """
    try:
        text = (folder / RESULTS).read_text("utf-8")
    except FileNotFoundError:
        return None
    results = _json(text, folder / RESULTS)
    needed = {"algorithm", "iterations"}
    # A run without test tasks has no more.
    needed |= {"metric", "protocol", "loss_per_step"} if "bn" in results else set()
    if not needed <= results.keys() or ("metric" in results) != ("bn" in results):
        raise UserError(f"{folder / RESULTS} is damaged: it lacks results")
    return results


def find_runs(folder: Path) -> list[Path]:
    """All run folders at or below `folder`, by name.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name the one that your runs are in")
    return sorted(_below(folder, DEPTH))


def summary(folder: Path) -> dict[str, Any]:
    """One run in short.

    Returns:
        `run`, `algorithm`, `data`, `setting` (such as "5-way 1-shot"; empty for data of one's own),
        `state` (`"finished"`, `"running"` or `"stopped"`), `iterations`, `seconds`, `metric`,
        `value` with `ci95`, `of` (`"test"` or, before the end, `"validation"`), and the `protocol`
        of the test.  What is not known yet is None.

    Raises:
        UserError: a file of the run is damaged.
    """
    config, results, lines = read_config(folder), read_results(folder), read_metrics(folder)
    last = lines[-1] if lines else {}
    # A run that is stopped between two validations goes on from a later checkpoint.
    reached = map(iteration_of, checkpoints(folder)[:1])
    validated = [k for k in last if k.startswith("val_") and k != "val_ci95"]
    metric = "loss" if config.regression else "accuracy"
    if results is not None and "metric" in results:
        metric = results["metric"]
    elif validated:
        metric = validated[0].removeprefix("val_")
    best = (min if metric == "loss" else max)(
        (line for line in lines if f"val_{metric}" in line),
        key=lambda line: line[f"val_{metric}"],
        default={},
    )
    seen = {
        "run": str(folder),
        "algorithm": config.algorithm,
        "data": config.data,
        "setting": config.setting if isinstance(config, TrainConfig) else "",
        "state": "finished" if results else "running" if _at_work(folder) else "stopped",
        "iterations": max(last.get("iteration", 0), *reached, 0),
        "seconds": last.get("seconds"),
        "metric": metric,
        "value": best.get(f"val_{metric}"),
        "ci95": best.get("val_ci95"),
        "of": "validation",
        "protocol": None,
    }
    if results is not None:
        names: tuple[str, ...] = ("iterations", "seconds")
        if "metric" in results:
            names = (*names, "ci95", "protocol")
            seen |= {"value": results.get(metric), "of": "test"}
        seen |= {name: results.get(name) for name in names}
    return seen


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / CONFIG).is_file():
        yield folder
    elif depth:
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from _below(Path(entry.path), depth - 1)


def _at_work(folder: Path) -> bool:
    """True if a process holds the folder."""
    try:
        with held(folder):
            return False
    except UserError:
        return True


def _json(text: str, file: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged: it is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{file} is damaged: it holds no settings and values")
    return value
