"""Pictures of runs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from innerloop.algorithms.base import Algorithm
from innerloop.evaluation import predictions
from innerloop.files import write_whole
from innerloop.functional import Params
from innerloop.run_folder import METRICS, PICTURE, RESULTS
from innerloop.sampler import EpisodeSampler

# Colours that stay apart for colour-blind eyes (Okabe and Ito); meaning is never colour alone.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"


def plot_run(
    folder: Path,
    algorithm: Algorithm,
    params: Params,
    sampler: EpisodeSampler,
    inner_steps: int,
    *,
    episodes: int = 2,
) -> Path:
    """Draw `run.png`: learning curve, accuracy against inner steps, test episodes.

    Args:
        folder: a run folder with `metrics.jsonl` and `results.json`.
        algorithm: how to adapt.
        params: the meta-parameters.
        sampler: of test tasks.
        inner_steps: of the pictured episodes.
        episodes: how many to show.

    Returns:
        The path of the picture.
    """
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    results = json.loads((folder / RESULTS).read_text())
    ways = sampler.n_way
    figure = Figure(figsize=(11, 4.2 + episodes * (0.62 * ways + 0.7)), layout="constrained")
    heights = [4.2] + [0.62 * ways + 0.7] * episodes
    rows = np.atleast_1d(np.asarray(figure.subfigures(1 + episodes, 1, height_ratios=heights)))
    left, right = rows[0].subplots(1, 2)
    _learning_curve(left, lines)
    _steps_curve(right, results)
    for i, row in enumerate(rows[1:]):
        _episode(row, algorithm, params, sampler, i, inner_steps)
    return save(figure, folder / PICTURE)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, whole or not at all."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png")
    with write_whole(path) as file:
        file.write(buffer.getvalue())
    return path


def _learning_curve(axes: Any, lines: list[dict[str, Any]]) -> None:
    iterations = [line["iteration"] for line in lines]
    axes.set_title("Learning")
    axes.set_xlabel("outer iteration")
    axes.set_ylabel("training query loss", color=BLUE)
    axes.plot(iterations, [line["loss"] for line in lines], color=BLUE, marker="o", ms=3)
    if lines and "val_accuracy" in lines[0]:
        other = axes.twinx()
        accuracy = np.array([line["val_accuracy"] for line in lines])
        half = np.array([line["val_ci95"] for line in lines])
        other.plot(iterations, accuracy, color=ORANGE, marker="s", ms=3)
        other.fill_between(iterations, accuracy - half, accuracy + half, color=ORANGE, alpha=0.2)
        other.set_ylabel("validation accuracy (95% interval)", color=ORANGE)
        other.set_ylim(top=1.005)


def _steps_curve(axes: Any, results: dict[str, Any]) -> None:
    accuracy = results["accuracy_per_step"]
    p = results["protocol"]
    axes.set_title(f"Test: {p['n_way']}-way {p['k_shot']}-shot, {p['tasks']} tasks")
    axes.plot(range(len(accuracy)), accuracy, color=GREEN, marker="o")
    for step, value in enumerate(accuracy):
        axes.annotate(
            f"{100 * value:.1f}%",
            (step, value),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.axhline(1 / p["n_way"], color=GREY, ls="--", lw=1)
    axes.annotate(
        "chance",
        (len(accuracy) - 1, 1 / p["n_way"]),
        (0, 4),
        textcoords="offset points",
        color=GREY,
        ha="right",
        fontsize=8,
    )
    axes.set_xlabel("inner step")
    axes.set_ylabel("query accuracy")
    axes.set_xticks(range(len(accuracy)))
    axes.set_ylim(0, 1.1)
    axes.margins(x=0.08)


def _episode(
    row: Any, algorithm: Algorithm, params: Params, sampler: EpisodeSampler, number: int, steps: int
) -> None:
    """Support images and a few queries of each class, predictions before and after."""
    ways = sampler.n_way
    shown_support, shown_query = min(sampler.k_shot, 3), min(sampler.k_query, 9)
    task = sampler.batch(number, 1).task(0)
    guesses = predictions(algorithm, params, task, inner_steps=steps, n_way=ways)
    before, after = guesses[0], guesses[-1]
    wrong_before, wrong_after = (int((g != task.query_y).sum()) for g in (before, after))
    row.suptitle(
        f"Test episode {number}: blue frames: support; under each query the class guessed "
        f"before → after {steps} inner steps; {wrong_before} → {wrong_after} of "
        f"{len(task.query_y)} queries wrong",
        fontsize=9,
    )
    grid = row.subplots(ways, shown_support + shown_query)
    dark = sampler.inputs == "ink" and sampler.data.dark_ink
    for way in range(ways):
        support = task.support_x[task.support_y == way][:shown_support]
        chosen = (task.query_y == way).nonzero()[:shown_query, 0]
        for column, image in enumerate(support):
            _image(grid[way, column], image, dark)
            grid[way, column].set_ylabel(f"class {way}" if column == 0 else "", fontsize=8)
            for spine in grid[way, column].spines.values():
                spine.set_color(BLUE)
        for column, query in enumerate(chosen, start=shown_support):
            axes = grid[way, column]
            _image(axes, task.query_x[query], dark)
            right = after[query] == way
            mark = "✓" if right else "✗"
            axes.set_xlabel(
                f"{before[query].item()} → {after[query].item()} {mark}",
                fontsize=7,
                labelpad=1,
                color=GREEN if right else RED,
            )


def _image(axes: Any, image: Tensor, dark: bool) -> None:
    """Show `[C, H, W]`: grey or colour; ink as dark on light."""
    array = image.cpu().numpy()
    array = array / max(1.0, float(array.max()))
    if array.shape[0] == 1:
        axes.imshow(array[0], cmap="gray_r" if dark else "gray", vmin=0, vmax=1)
    else:
        axes.imshow(array[:3].transpose(1, 2, 0))
    axes.set_xticks([])
    axes.set_yticks([])
