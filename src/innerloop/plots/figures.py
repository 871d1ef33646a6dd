"""Pictures of runs."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from pathlib import Path
from typing import Any, TypeGuard

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor

from innerloop.algorithms.base import Algorithm
from innerloop.errors import UserError
from innerloop.evaluation import outputs_per_step
from innerloop.files import write_whole
from innerloop.functional import Params, are_labels
from innerloop.plots.fonts import CHINESE_FONTS, LATIN_FONT, having, lacking, on_this_machine, quiet
from innerloop.plots.mark import SOFTWARE
from innerloop.plots.words import ADAPTED, ENGLISH, PREDICTED, Language, Say, of_metric, words
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
    out: Path | None = None,
    language: Language = "en",
) -> Path:
    """Draw `run.png`: learning curve, accuracy or loss against inner steps, test episodes.

    Args:
        folder: a run folder with `metrics.jsonl` and `results.json`.
        algorithm: how to adapt.
        params: the meta-parameters.
        sampler: of test tasks.
        inner_steps: of the pictured episodes.
        episodes: how many to show.
        out: the PNG or SVG file; by default `run.png` in the folder.
        language: of the labels, en or zh.

    Returns:
        The path of the picture.

    Raises:
        UserError: as `save`.
    """
    say = words(language)
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
    _learning_curve(left, lines, say)
    _steps_curve(right, results, say)
    if isinstance(sampler, SinusoidSampler):
        for i, axes in enumerate(rows[1].subplots(1, 3, sharey=True)):
            draw_wave(axes, algorithm, params, sampler, i, inner_steps, say=say, legend=i == 0)
    elif isinstance(sampler, EpisodeSampler):  # no rows where nothing can be pictured
        for i, row in enumerate(rows[1:]):
            draw_episode(row, algorithm, params, sampler, i, inner_steps, say=say)
    return save(figure, out or folder / PICTURE, language)


def draw_wave(
    axes: Any,
    algorithm: Algorithm,
    params: Params,
    sampler: SinusoidSampler,
    number: int,
    inner_steps: int,
    *,
    say: Say = ENGLISH,
    legend: bool = True,
) -> None:
    """A sine wave, its support points, and the prediction before, after 1 and after all steps."""
    task = sampler.batch(number, 1).task(0)
    amplitude, phase = (float(v[0, 0]) for v in sampler.waves(number, 1))
    x = torch.linspace(*sampler.span, 200, device=sampler.device).unsqueeze(1)
    wave = Episodes(task.support_x, task.support_y, x, torch.zeros_like(x))
    outputs = outputs_per_step(algorithm, params, wave, inner_steps=inner_steps, n_way=None)
    grid = x[:, 0].cpu().numpy()
    axes.plot(grid, amplitude * np.sin(grid - phase), color=RED, lw=1.5, label=say("truth"))
    shown = {0: (say("before"), GREY, ":"), 1: (say("after 1 step"), BLUE, "--")}
    last = "after 1 step" if inner_steps == 1 else "after {steps} steps"
    shown[inner_steps] = (say(last, steps=inner_steps), GREEN, "-")
    for step, (label, color, style) in shown.items():
        axes.plot(grid, outputs[step, :, 0].cpu().numpy(), style, color=color, label=label)
    points = (t[:, 0].cpu().numpy() for t in (task.support_x, task.support_y))
    axes.plot(*points, "^", color="black", ms=6, label=say("support points"))
    axes.set_title(say("Test task {number}", number=number), fontsize=10)
    axes.set_xlabel("x")
    if legend:
        axes.set_ylabel("y")
        axes.legend(fontsize=7, loc="lower left")


def save(figure: Figure, path: Path, language: Language = "en") -> Path:
    """Write a figure, whole or not at all.

    Args:
        figure: what was drawn.
        path: a PNG file; or an SVG file, whose text the reader's own fonts show.
        language: of its labels.

    Returns:
        `path`.

    Raises:
        UserError: a PNG file with Chinese labels, and no font on this machine has them.

    Warns:
        UserWarning: in a PNG file, no font has characters of names.
    """
    buffer = io.BytesIO()
    here = on_this_machine()
    if path.suffix.lower() == ".svg":
        FigureCanvasSVG(figure)
        _set_fonts(figure, [*CHINESE_FONTS, LATIN_FONT, "sans-serif"])
        settings: Any = {"svg.fonttype": "none", "svg.hashsalt": path.name}
        with matplotlib.rc_context(settings), quiet(glyphs=True):
            figure.savefig(buffer, format="svg", metadata={"Date": None})
    elif language == "zh" and not here:
        raise UserError(
            "no font on this machine has the characters of Chinese labels: install one, such as "
            "Noto Sans CJK SC, or write an .svg file, which needs none"
        )
    else:
        FigureCanvasAgg(figure)
        # Names of classes may be Chinese in a picture with English labels, too.
        usual = [*matplotlib.rcParams["font.family"], *here]
        drawn, missing = _draw(figure, usual)
        if missing and (others := having(missing)):
            with contextlib.suppress(RuntimeError):  # a font of a kind that Matplotlib cannot draw
                drawn, missing = _draw(figure, [*usual, *others])
        buffer.write(drawn)
        if missing:
            warnings.warn(
                f"no font on this machine has {''.join(sorted(missing)[:20])}, so there are boxes "
                f"in {path}: install one, such as Noto Sans CJK SC for Chinese, or write an .svg "
                "file, which needs none",
                stacklevel=2,
            )
    with write_whole(path) as file:
        file.write(buffer.getvalue())
    return path


def _draw(figure: Figure, fonts: list[str]) -> tuple[bytes, set[str]]:
    """A PNG picture, and the characters in it that none of the fonts has."""
    _set_fonts(figure, fonts)
    buffer = io.BytesIO()
    with quiet(), lacking() as missing:
        figure.savefig(buffer, dpi=110, format="png", metadata={"Software": SOFTWARE})
    return buffer.getvalue(), missing


def _set_fonts(figure: Figure, fonts: list[str]) -> None:
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_fontfamily(fonts)


def _learning_curve(axes: Any, lines: list[dict[str, Any]], say: Say) -> None:
    iterations = [line["iteration"] for line in lines]
    axes.set_title(say("Learning"))
    axes.set_xlabel(say("outer iteration"))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel(say("training query loss"), color=BLUE)
    loss = [line["loss"] for line in lines]
    axes.plot(iterations, loss, color=BLUE, marker="o", ms=3, label=say("training"))
    named = [name for name in lines[0] if name.startswith("val_")] if lines else []
    for metric in (name.removeprefix("val_") for name in named if name != "val_ci95"):
        # Two losses share one axis, as two scales would hide which is lower.
        other = axes if metric == "loss" else axes.twinx()
        validated = [line for line in lines if f"val_{metric}" in line]
        at = [line["iteration"] for line in validated]
        value = np.array([line[f"val_{metric}"] for line in validated])
        half = np.array([line["val_ci95"] for line in validated])
        label = say("validation {metric} (95% interval)", metric=of_metric(say, metric))
        other.plot(at, value, color=ORANGE, marker="s", ms=3, label=label)
        other.fill_between(at, value - half, value + half, color=ORANGE, alpha=0.2)
        if metric != "loss":
            other.set_ylabel(label, color=ORANGE)
            if metric == "accuracy":
                other.set_ylim(top=1.005)
        else:
            axes.set_ylabel(say("query loss"), color="black")
            axes.set_ylim(bottom=0)
            axes.legend(fontsize=8)


def _steps_curve(axes: Any, results: dict[str, Any], say: Say) -> None:
    p = results["protocol"]
    axes.set_xlabel(say("inner step"))
    metric = results["metric"]
    if metric != "accuracy":
        values, half = (np.array(results[f"{name}_per_step"]) for name in (metric, "ci95"))
        shots = setting_of({"k_shot": p.get("k_shot")})
        regression = isinstance(p.get("amplitude"), list)
        axes.set_title(_test_title(say, shots, p["tasks"], regression=regression))
        axes.errorbar(range(len(values)), values, half, color=GREEN, marker="o", capsize=3)
        axes.set_ylabel(say("query {metric} (95% interval)", metric=of_metric(say, metric)))
        axes.set_xticks(range(len(values)))
        if metric == "loss":
            axes.set_ylim(bottom=0)
        return
    accuracy = results["accuracy_per_step"]
    axes.set_title(_test_title(say, setting_of(p), p["tasks"]))
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
            say("chance"),
            (len(accuracy) - 1, 1 / p["n_way"]),
            (0, 4),
            textcoords="offset points",
            color=GREY,
            ha="right",
            fontsize=8,
        )
    axes.set_ylabel(say("query accuracy"))
    axes.set_xticks(range(len(accuracy)))
    axes.set_ylim(0, 1.1)
    axes.margins(x=0.08)


def _test_title(say: Say, setting: str, tasks: int, *, regression: bool = False) -> str:
    what = " ".join(part for part in (setting, say("regression") if regression else "") if part)
    entry = "Test: {what}, {tasks} tasks" if what else "Test: {tasks} tasks"
    return say(entry, what=what, tasks=tasks)


def shows_episodes(
    sampler: Tasks, algorithm: Algorithm, params: Params
) -> TypeGuard[EpisodeSampler]:
    """True if test episodes are grey or colour images, each with a class as the network's guess."""
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
    row: Any,
    algorithm: Algorithm,
    params: Params,
    sampler: EpisodeSampler,
    number: int,
    steps: int,
    *,
    say: Say = ENGLISH,
) -> None:
    """Support images and a few queries of each class, predictions before and after."""
    task, ways = _test_task(sampler, number)
    most_support, most_query = (int(y.bincount().max()) for y in (task.support_y, task.query_y))
    shown_support, shown_query = min(most_support, 3), min(most_query, 9)
    outputs = outputs_per_step(algorithm, params, task, inner_steps=steps, n_way=ways)
    guesses = outputs.argmax(dim=-1)
    before, after, steps = guesses[0], guesses[-1], len(guesses) - 1
    wrong_before, wrong_after = (int((g != task.query_y).sum()) for g in (before, after))
    counts = {"wrong": wrong_after, "queries": len(task.query_y)}
    if steps:
        title = say(ADAPTED, number=number, steps=steps, before=wrong_before, **counts)
    else:
        title = say(PREDICTED, number=number, **counts)
    row.suptitle(title, fontsize=9)
    grid = row.subplots(ways, shown_support + shown_query, squeeze=False)
    dark = sampler.inputs == "ink" and sampler.data.dark_ink
    for way in range(ways):
        support = task.support_x[task.support_y == way][:shown_support]
        chosen = (task.query_y == way).nonzero()[:shown_query, 0]
        for column, image in enumerate(support):
            _image(grid[way, column], image, dark)
            grid[way, column].set_ylabel(
                say("class {way}", way=way) if column == 0 else "", fontsize=8
            )
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
