"""Pictures of runs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.scores import are_labels
from innerloop.evaluation import outputs_per_step
from innerloop.files import write_whole
from innerloop.functional import Params
from innerloop.runs.folder import METRICS, PICTURE, RESULTS
from innerloop.tasks.episodes import Episodes
from innerloop.tasks.protocol import Tasks, setting_of
from innerloop.tasks.sampler import EpisodeSampler
from innerloop.tasks.sinusoid import SinusoidSampler

# Colours that stay apart for colour-blind eyes (Okabe and Ito); meaning is never colour alone.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"


def plot_run(
    folder: Path,
    algorithm: Algorithm,
    params: Params,
    sampler: Tasks,
    inner_steps: int,
    *,
    episodes: int = 2,
) -> Path:
    """Draw `run.png`: learning curve, accuracy or loss against inner steps, test episodes.

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
    lines = [json.loads(line) for line in (folder / METRICS).read_text("utf-8").splitlines()]
    results = json.loads((folder / RESULTS).read_text("utf-8"))
    if isinstance(sampler, SinusoidSampler):
        heights = [4.2, 4.0]
    else:
        shown = episodes if shows_episodes(sampler, algorithm, params) else 0
        heights = [4.2] + [0.62 * (getattr(sampler, "n_way", None) or 1) + 0.7] * shown
    figure = Figure(figsize=(11, sum(heights)), layout="constrained")
    rows = np.atleast_1d(np.asarray(figure.subfigures(len(heights), 1, height_ratios=heights)))
    left, right = rows[0].subplots(1, 2)
    _learning_curve(left, lines)
    _steps_curve(right, results)
    if isinstance(sampler, SinusoidSampler):
        for i, axes in enumerate(rows[1].subplots(1, 3, sharey=True)):
            draw_wave(axes, algorithm, params, sampler, i, inner_steps, legend=i == 0)
    elif isinstance(sampler, EpisodeSampler):  # no rows where nothing can be pictured
        for i, row in enumerate(rows[1:]):
            draw_episode(row, algorithm, params, sampler, i, inner_steps)
    return save(figure, folder / PICTURE)


def draw_wave(
    axes: Any,
    algorithm: Algorithm,
    params: Params,
    sampler: SinusoidSampler,
    number: int,
    inner_steps: int,
    *,
    legend: bool = True,
) -> None:
    """A sine wave, its support points, and the prediction before, after 1 and after all steps."""
    task = sampler.batch(number, 1).task(0)
    amplitude, phase = (float(v[0, 0]) for v in sampler.waves(number, 1))
    x = torch.linspace(*sampler.span, 200, device=sampler.device).unsqueeze(1)
    wave = Episodes(task.support_x, task.support_y, x, torch.zeros_like(x))
    outputs = outputs_per_step(algorithm, params, wave, inner_steps=inner_steps, n_way=None)
    grid = x[:, 0].cpu().numpy()
    axes.plot(grid, amplitude * np.sin(grid - phase), color=RED, lw=1.5, label="truth")
    shown = {0: ("before", GREY, ":"), 1: ("after 1 step", BLUE, "--")}
    shown[inner_steps] = (f"after {inner_steps} step{'s'[: inner_steps > 1]}", GREEN, "-")
    for step, (label, color, style) in shown.items():
        axes.plot(grid, outputs[step, :, 0].cpu().numpy(), style, color=color, label=label)
    points = (t[:, 0].cpu().numpy() for t in (task.support_x, task.support_y))
    axes.plot(*points, "^", color="black", ms=6, label="support points")
    axes.set_title(f"Test task {number}", fontsize=10)
    axes.set_xlabel("x")
    if legend:
        axes.set_ylabel("y")
        axes.legend(fontsize=7, loc="lower left")


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
    loss = [line["loss"] for line in lines]
    axes.plot(iterations, loss, color=BLUE, marker="o", ms=3, label="training")
    named = [name for name in lines[0] if name.startswith("val_")] if lines else []
    for metric in (name.removeprefix("val_") for name in named if name != "val_ci95"):
        # Two losses share one axis, as two scales would hide which is lower.
        other = axes if metric == "loss" else axes.twinx()
        value = np.array([line[f"val_{metric}"] for line in lines])
        half = np.array([line["val_ci95"] for line in lines])
        label = f"validation {metric} (95% interval)"
        other.plot(iterations, value, color=ORANGE, marker="s", ms=3, label=label)
        other.fill_between(iterations, value - half, value + half, color=ORANGE, alpha=0.2)
        if metric != "loss":
            other.set_ylabel(label, color=ORANGE)
            if metric == "accuracy":
                other.set_ylim(top=1.005)
        else:
            axes.set_ylabel("query loss", color="black")
            axes.set_ylim(bottom=0)
            axes.legend(fontsize=8)


def _steps_curve(axes: Any, results: dict[str, Any]) -> None:
    p = results["protocol"]
    axes.set_xlabel("inner step")
    metric = results["metric"]
    if metric != "accuracy":
        values, half = (np.array(results[f"{name}_per_step"]) for name in (metric, "ci95"))
        shots = setting_of({"k_shot": p.get("k_shot")})
        kind = "regression, " if isinstance(p.get("amplitude"), list) else ""
        axes.set_title(f"Test: {shots}{' ' if shots else ''}{kind}{p['tasks']} tasks")
        axes.errorbar(range(len(values)), values, half, color=GREEN, marker="o", capsize=3)
        axes.set_ylabel(f"query {metric} (95% interval)")
        axes.set_xticks(range(len(values)))
        if metric == "loss":
            axes.set_ylim(bottom=0)
        return
    accuracy = results["accuracy_per_step"]
    setting = setting_of(p)
    axes.set_title(f"Test: {setting}{', ' if setting else ''}{p['tasks']} tasks")
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
    if isinstance(p.get("n_way"), int):
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
    axes.set_ylabel("query accuracy")
    axes.set_xticks(range(len(accuracy)))
    axes.set_ylim(0, 1.1)
    axes.margins(x=0.08)


def shows_episodes(
    sampler: Tasks, algorithm: Algorithm, params: Params
) -> TypeGuard[EpisodeSampler]:
    """Whether test episodes are grey or colour images, each with a class as the network's guess."""
    if not isinstance(sampler, EpisodeSampler):
        return False
    shape = sampler.input_shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        return False
    task, n_way = _test_task(sampler, 0)
    outputs = outputs_per_step(algorithm, params, task, inner_steps=0, n_way=n_way)
    return isinstance(outputs, Tensor) and are_labels(outputs[0], task.query_y)


def _test_task(sampler: EpisodeSampler, number: int) -> tuple[Episodes, int]:
    """A task, and how many ways it has, which may vary."""
    episodes = sampler.batch(number, 1)
    return episodes.task(0), episodes.ways() or sampler.n_way


def draw_episode(
    row: Any, algorithm: Algorithm, params: Params, sampler: EpisodeSampler, number: int, steps: int
) -> None:
    """Support images and a few queries of each class, predictions before and after."""
    task, ways = _test_task(sampler, number)
    most_support, most_query = (int(y.bincount().max()) for y in (task.support_y, task.query_y))
    shown_support, shown_query = min(most_support, 3), min(most_query, 9)
    outputs = outputs_per_step(algorithm, params, task, inner_steps=steps, n_way=ways)
    guesses = outputs.argmax(dim=-1)
    before, after, steps = guesses[0], guesses[-1], len(guesses) - 1
    wrong_before, wrong_after = (int((g != task.query_y).sum()) for g in (before, after))
    row.suptitle(
        f"Test episode {number}: blue frames: support; under each query the class guessed"
        + (f" before → after {steps} inner steps; {wrong_before} → " if steps else "; ")
        + f"{wrong_after} of {len(task.query_y)} queries wrong",
        fontsize=9,
    )
    grid = row.subplots(ways, shown_support + shown_query, squeeze=False)
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
                (f"{before[query].item()} → " if steps else "") + f"{after[query].item()} {mark}",
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
