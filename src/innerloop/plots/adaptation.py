"""The picture of `innerloop adapt`: support set, queries and probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from innerloop.files import readable
from innerloop.plots.figures import GREEN, GREY, save
from innerloop.plots.words import Language, Say, words

# Support pictures in a line, and bars for a query: what is wider or longer is not looked at.
LINE, BARS = 10, 8
# Up to so many queries stand one below the other.
FEW = 5


def plot_adaptation(
    path: Path,
    classes: list[str],
    support_x: np.ndarray,
    names: list[str],
    query_x: np.ndarray,
    probabilities: np.ndarray,
    titles: list[str],
    *,
    refused: Sequence[bool] | None = None,
    most: int = 20,
    language: Language = "en",
) -> Path:
    """Draw a support set, and each query with the probabilities of its classes.

    Of more than 8 classes each query has the 8 that are most probable for it.

    Args:
        path: the PNG or SVG file.
        classes: names of the N classes.
        support_x: bytes `[n, C, H, W]`.
        names: the class of each.
        query_x: bytes `[q, C, H, W]`.
        probabilities: `[q, N]`.
        titles: one for each query.
        refused: whether each query is none of the classes; None where that was not asked.
        most: how many queries and support images of a class are shown; the picture says how many
            there are.
        language: of the labels, en or zh.

    Returns:
        `path`.

    Raises:
        UserError: no font for Chinese labels in a PNG file.
    """
    say = words(language)
    members = {
        c: [x for x, name in zip(support_x, names, strict=True) if name == c] for c in classes
    }
    lines = [line for name in classes for line in _lines(say, name, members[name], most)]
    columns = max(len(images) for _, images in lines)
    shown, bars = min(most, len(query_x)), min(BARS, len(classes))
    side_by_side = 1 if shown <= FEW else 2
    rows = -(-shown // side_by_side)
    heights = [0.8 * len(lines) + 0.4, (0.28 * bars + 0.5) * rows + 0.4]
    width = max(8.0, 5.5 * side_by_side, 0.9 * columns + 2)
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=heights)).tolist()
    top.suptitle(say("support set"), fontsize=10)
    grid = top.subplots(len(lines), columns, squeeze=False)
    for row, (label, images) in zip(grid, lines, strict=True):
        for axes in row[len(images) :]:
            axes.axis("off")
        for axes, image in zip(row, images, strict=False):
            _bytes(axes, image)
        row[0].set_ylabel(label, fontsize=8, rotation=0, ha="right", va="center")
    entry = "queries (the first {shown} of {all})" if shown < len(query_x) else "queries"
    heading = say(entry, shown=shown, all=len(query_x))
    if bars < len(classes):
        heading += say(
            ", with the {bars} most probable of {all} classes", bars=bars, all=len(classes)
        )
    bottom.suptitle(heading, fontsize=10)
    grid = bottom.subplots(
        rows, 2 * side_by_side, squeeze=False, width_ratios=[1, 7 - 2 * side_by_side] * side_by_side
    ).reshape(-1, 2)
    for axes in grid[shown:].flat:
        axes.axis("off")
    nones = [False] * len(query_x) if refused is None else refused
    for (picture, axes), image, row, title, none in zip(
        grid[:shown], query_x, probabilities, titles, nones, strict=False
    ):
        text = readable(title)[-70 // side_by_side :]
        if none:
            text = say("{file}: none of these", file=text)
        _answer(picture, axes, image, classes, row, bars, text.replace("$", r"\$"), none)
    return save(figure, path, language)


def _lines(
    say: Say, name: str, images: Sequence[np.ndarray], most: int
) -> Iterator[tuple[str, Sequence[np.ndarray]]]:
    """The lines that the pictures of a class take, each with its label."""
    label = _short(name)
    if len(images) > most:
        label += "\n" + say("the first {shown} of {all}", shown=most, all=len(images))
    for start in range(0, min(most, len(images)), LINE):
        yield label, images[start : min(most, start + LINE)]
        label = ""


def _answer(
    picture: Any,
    axes: Any,
    image: np.ndarray,
    classes: Sequence[str],
    row: np.ndarray,
    bars: int,
    title: str,
    none: bool,
) -> None:
    """A query, and the probabilities of the classes that are most probable for it."""
    _bytes(picture, image)
    best = -1 if none else int(row.argmax())
    chosen = sorted(np.argsort(-row, kind="stable")[:bars].tolist())
    axes.barh(range(bars), row[chosen], color=[GREEN if i == best else GREY for i in chosen])
    axes.set_yticks(range(bars), [_short(classes[i]) for i in chosen], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_xticks([])
    for place, i in enumerate(chosen):
        weight = "bold" if i == best else "normal"
        axes.text(row[i] + 0.01, place, f"{row[i]:.0%}", va="center", fontsize=8, fontweight=weight)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_title(title, fontsize=8, loc="left")


def _short(name: str) -> str:
    # A name of a folder may hold anything, and $ would begin a formula.
    name = readable(name)
    return (name if len(name) <= 24 else name[:23] + "…").replace("$", r"\$")


def _bytes(axes: Any, image: np.ndarray) -> None:
    """Show bytes `[C, H, W]`."""
    grey = image.shape[0] == 1
    axes.imshow(image[0] if grey else image.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
