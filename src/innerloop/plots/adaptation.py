"""The picture of `innerloop adapt`: support set, queries and probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from innerloop.files import readable
from innerloop.plots.figures import GREEN, GREY, save
from innerloop.plots.words import Language, words


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
    """Draw a support set, and each query with the probability of every class.

    Args:
        path: the PNG or SVG file.
        classes: names of the N classes.
        support_x: bytes `[n, C, H, W]`.
        names: the class of each.
        query_x: bytes `[q, C, H, W]`.
        probabilities: `[q, N]`.
        titles: one for each query.
        refused: whether each query is none of the classes; None where that was not asked.
        most: how many queries and support images of a class are shown.
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
    columns = min(most, max(map(len, members.values())))
    shown = min(most, len(query_x))
    heights = [0.8 * len(classes) + 0.4, (0.28 * len(classes) + 0.5) * shown + 0.4]
    figure = Figure(figsize=(max(8.0, 0.9 * columns + 2), sum(heights)), layout="constrained")
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=heights)).tolist()
    top.suptitle(say("support set"), fontsize=10)
    grid = top.subplots(len(classes), columns, squeeze=False)
    for row, (name, images) in zip(grid, members.items(), strict=True):
        for axes in row[len(images) :]:
            axes.axis("off")
        for axes, image in zip(row, images, strict=False):
            _bytes(axes, image)
        row[0].set_ylabel(_short(name), fontsize=8, rotation=0, ha="right", va="center")
    entry = "queries (the first {shown} of {all})" if shown < len(query_x) else "queries"
    bottom.suptitle(say(entry, shown=shown, all=len(query_x)), fontsize=10)
    grid = bottom.subplots(shown, 2, squeeze=False, width_ratios=[1, 5])
    nones = [False] * len(query_x) if refused is None else refused
    for (picture, bars), image, row, title, none in zip(
        grid, query_x, probabilities, titles, nones, strict=False
    ):
        _bytes(picture, image)
        best = -1 if none else int(row.argmax())
        colors = [GREEN if i == best else GREY for i in range(len(classes))]
        bars.barh(range(len(classes)), row, color=colors)
        bars.set_yticks(range(len(classes)), [_short(c) for c in classes], fontsize=8)
        bars.invert_yaxis()
        bars.set_xlim(0, 1.12)
        bars.set_xticks([])
        for i, p in enumerate(row):
            weight = "bold" if i == best else "normal"
            bars.text(p + 0.01, i, f"{p:.0%}", va="center", fontsize=8, fontweight=weight)
        bars.spines[["top", "right", "bottom"]].set_visible(False)
        text = readable(title)[-70:]
        if none:
            text = say("{file}: none of these", file=text)
        bars.set_title(text.replace("$", r"\$"), fontsize=8, loc="left")
    return save(figure, path, language)


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
