"""Several runs in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from innerloop.errors import UserError, at_least, at_most
from innerloop.plots.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    draw_episode,
    draw_wave,
    save,
    shows_episodes,
)
from innerloop.plots.words import Language, Say, of_metric, words
from innerloop.runs.folder import read_config
from innerloop.runs.listing import read_metrics, read_results, summary
from innerloop.runs.loading import Loaded, load_for
from innerloop.tasks.protocol import Tasks, setting_of
from innerloop.tasks.sinusoid import SinusoidSampler

# Told apart by the mark as well as by the colour.
COLOURS = (BLUE, ORANGE, GREEN, RED, GREY, "#CC79A7", "#56B4E9", "black")
MARKS = "osD^vPX*"
MOST = len(MARKS)


def plot_runs(
    runs: list[Path], path: Path, *, episodes: int = 1, language: Language = "en"
) -> Path:
    """Draw learning curves, the metric against inner steps, and test episodes of `runs`.

    Args:
        runs: run folders, at most eight, of one metric (accuracy or loss).  Those that have not
            ended have a learning curve alone.
        path: the PNG or SVG file.
        episodes: how many test episodes of each finished run are shown, 0 to 5.
        language: of the labels, en or zh.

    Returns:
        `path`.

    Raises:
        UserError: no run folder, nothing to draw yet, runs that cannot be compared, or no font for
            Chinese labels in a PNG file.
    """
    say = words(language)
    at_least(0, episodes=episodes)
    at_most(5, episodes=episodes)
    if len(runs) > MOST:
        raise UserError(f"{len(runs)} runs are too many for one picture: give at most {MOST}")
    metrics = [summary(folder)["metric"] for folder in runs]
    if len(set(metrics)) > 1:
        one, other, *_ = sorted(set(metrics))
        raise UserError(
            f"{runs[metrics.index(one)]} is scored by {one} and {runs[metrics.index(other)]} by "
            f"{other}: compare runs of one kind"
        )
    metric = metrics[0]
    lines = [read_metrics(folder) for folder in runs]
    results = [read_results(folder) for folder in runs]
    if not any(lines) and not any(results):
        raise UserError("none of these runs has come to its first validation: nothing to draw yet")

    finished = [folder for folder, r in zip(runs, results, strict=True) if r and episodes]
    loaded = {folder: _loaded(folder) for folder in finished}
    shown = [
        (folder, i) for folder in finished if _is_drawn(*loaded[folder]) for i in range(episodes)
    ]
    ways = [getattr(loaded[folder][1], "n_way", None) for folder, _ in shown]
    heights = [4.4 + 0.22 * len(runs)] + [0.62 * w + 0.7 if w else 3.2 for w in ways]
    figure = Figure(figsize=(11, sum(heights)), layout="constrained")
    top, *rows = np.atleast_1d(
        np.asarray(figure.subfigures(len(heights), 1, height_ratios=heights))
    ).tolist()
    left, right = top.subplots(1, 2)
    _learning(left, lines, metric, say)
    _against_steps(right, results, metric, say)
    handles = [
        left.plot([], [], color=c, marker=m, label=_name(folder, r, say))[0]
        for folder, r, c, m in zip(runs, results, COLOURS, MARKS, strict=False)
    ]
    top.legend(handles=handles, loc="outside lower center", fontsize=8, frameon=False)
    for row, (folder, number) in zip(rows, shown, strict=True):
        network, sampler = loaded[folder]
        steps = network.config.eval_inner_steps or network.algorithm.inner_steps
        if isinstance(sampler, SinusoidSampler):
            draw_wave(
                row.subplots(), network.algorithm, network.params, sampler, number, steps, say=say
            )
        elif shows_episodes(sampler, network.algorithm, network.params):
            draw_episode(row, network.algorithm, network.params, sampler, number, steps, say=say)
            row.suptitle(f"{_short(folder)}\n{row.get_suptitle()}", fontsize=9)
    return save(figure, path, language)


def _loaded(folder: Path) -> tuple[Loaded, Tasks]:
    try:
        return load_for(folder)
    except UserError as error:
        raise UserError(
            f"{error}. Its curves can be drawn without test episodes: --episodes 0, in Python "
            "episodes=0"
        ) from error


def _is_drawn(network: Loaded, sampler: Tasks) -> bool:
    return isinstance(sampler, SinusoidSampler) or shows_episodes(
        sampler, network.algorithm, network.params
    )


def _learning(axes: Any, lines: list[list[dict[str, Any]]], metric: str, say: Say) -> None:
    title = say(
        "Learning: {metric} on validation tasks (95% interval)", metric=of_metric(say, metric)
    )
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(say("outer iteration"))
    axes.xaxis.get_major_locator().set_params(integer=True)
    for run, colour, mark in zip(lines, COLOURS, MARKS, strict=False):
        run = [line for line in run if f"val_{metric}" in line]
        x = [line["iteration"] for line in run]
        y = np.array([line[f"val_{metric}"] for line in run])
        half = np.array([line.get("val_ci95", 0.0) for line in run])
        axes.plot(x, y, color=colour, marker=mark, ms=4, markevery=max(1, len(x) // 12))
        axes.fill_between(x, y - half, y + half, color=colour, alpha=0.15, lw=0)


def _against_steps(axes: Any, results: list[dict[str, Any] | None], metric: str, say: Say) -> None:
    title = say("Test: {metric} against inner steps (95% interval)", metric=of_metric(say, metric))
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(say("inner step"))
    steps = 0
    for result, colour, mark in zip(results, COLOURS, MARKS, strict=False):
        if result is None:
            continue
        y = result[f"{metric}_per_step"]
        steps = max(steps, len(y) - 1)
        half = result.get("ci95_per_step", [0.0] * len(y))
        axes.errorbar(range(len(y)), y, half, color=colour, marker=mark, ms=5, capsize=3)
    axes.set_xticks(range(steps + 1))


def _name(folder: Path, result: dict[str, Any] | None, say: Say) -> str:
    run = _short(folder)
    if result is None:
        return say(
            "{run}: {algorithm}, not finished", run=run, algorithm=read_config(folder).algorithm
        )
    p, metric = result["protocol"], result["metric"]
    value = (
        f"{100 * result['accuracy']:.2f} ± {100 * result['ci95']:.2f} %"
        if metric == "accuracy"
        else f"{of_metric(say, metric)} {result[metric]:.3f} ± {result['ci95']:.3f}"
    )
    parts = result["algorithm"], p.get("data"), setting_of(p)
    what = ", ".join(part for part in parts if part)
    return say(
        "{run}: {what}, {tasks} tasks: {value}", run=run, what=what, tasks=p["tasks"], value=value
    )


def _short(folder: Path) -> str:
    name = str(folder)
    # $ would begin a formula.
    return (name if len(name) <= 60 else "…" + name[-59:]).replace("$", r"\$")
