"""Classes of pictures become classes of features, for meta-training on a body that stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.backbones.body import Backbone
from innerloop.data import load
from innerloop.data.base import ClassIndexed, ExampleClasses
from innerloop.data.examples import ArrayExamples
from innerloop.data.layouts import find_layout
from innerloop.data.progress import LONG, progress_bar
from innerloop.data.remarks import warn
from innerloop.data.survey import common_white, remarks_of_frames
from innerloop.errors import UserError
from innerloop.files import at_home


def feature_classes(
    data: ClassIndexed | str | Path,
    body: Backbone,
    *,
    views: str = "middle",
    white: float | None = None,
    progress: bool = False,
) -> ExampleClasses:
    """The features of classes of pictures, computed once and kept on disk.

    Args:
        data: classes of pictures; or the folder where they lie, in one of the layouts of
            `innerloop.data.folder`, whose files the body sees in their own size; or what else
            `innerloop.data.load` takes.
        body: what computes them, such as `innerloop.backbones.backbone("timm:NAME")`.
        views: what of each picture it sees, see `Backbone.features`.
        white: for a folder, the value of white in pictures of more than 8 bits; None for the one
            that they share, as in `innerloop.data.folder`.
        progress: show progress on standard error.

    Returns:
        Classes of features `[F]`, float32, with the names, groups and splits of `data`.

    Raises:
        UserError: `data` holds no pictures, or one that cannot be read; or no such views.

    Warns:
        UserWarning: for files of the folder that were left out, or a white that is not clear, as
            `innerloop.data.folder`.

    Example:
        >>> import innerloop, torch
        >>> from innerloop.backbones import backbone, feature_classes
        >>> network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten())
        >>> body = backbone(network, image_size=16)
        >>> feature_classes(innerloop.data.random_images(classes=4), body).example_shape
        (48,)
    """
    if isinstance(data, str | Path):
        path = at_home(data)
        if path.is_dir():
            return _of_folder(path, body, views, white, progress)
        data = load(data, progress=progress)
    if white is not None:
        raise UserError(f"white is for the files of a folder: {data.name} has its pixels already")
    if not data.pixels:
        raise UserError(
            f"{data.name} holds no pictures, which a body needs: leave out the body, and train a "
            "network on the examples themselves"
        )
    # By class, because classes need not lie side by side.
    rows = np.concatenate([s + np.arange(n) for s, n in zip(data.starts, data.counts, strict=True)])
    features = _in_parts(
        lambda part: data.examples.read(rows[part]), len(rows), body, views, progress
    )
    names = data.names, data.groups, data.name
    return _classes(features, data.counts, body, *names, data.splits, data.white)


def _of_folder(
    path: Path, body: Backbone, views: str, white: float | None, progress: bool
) -> ExampleClasses:
    layout = find_layout(path)
    name = path.resolve().name or "images"
    files = [file for members in layout.classes.values() for file in members]
    found, remarks = common_white(files, white, "white= of innerloop.backbones.feature_classes")
    warn([*layout.remarks, *remarks, *remarks_of_frames(files)], name)
    features = _in_parts(lambda part: files[part], len(files), body, views, progress, found)
    number = {name: i for i, name in enumerate(layout.classes)}
    split = {p: np.array([number[n] for n in names]) for p, names in layout.split.items()}
    return _classes(
        features,
        np.array([len(members) for members in layout.classes.values()]),
        body,
        list(layout.classes),
        [layout.groups[name] for name in layout.classes],
        name,
        {layout.split_name: split} if split else {},
        found,
    )


def _in_parts(
    pictures: Callable[[slice], Any],
    number: int,
    body: Backbone,
    views: str,
    progress: bool,
    white: float | None = None,
) -> np.ndarray:
    """Features `[number, F]` of pictures that are read a few at a time."""
    features = np.empty((number, body.width), dtype=np.float32)
    with progress_bar(f"features of {body.name}", number, shown=progress) as advance:
        for start in range(0, number, LONG):
            part = slice(start, min(start + LONG, number))
            features[part] = body.features(pictures(part), views, white=white).numpy()
            advance(part.stop - part.start)
    return features


def _classes(
    features: np.ndarray,
    counts: np.ndarray,
    body: Backbone,
    names: Any,
    groups: Any,
    name: str,
    splits: dict[str, dict[str, np.ndarray]],
    white: float | None,
) -> ExampleClasses:
    return ExampleClasses(
        examples=ArrayExamples(features),
        starts=np.cumsum(counts) - counts,
        counts=counts,
        names=names,
        groups=groups,
        name=name,
        splits=splits,
        computed_by=body.identity,
        white=white,
    )
