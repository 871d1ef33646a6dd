"""What `trials.fuzz` feeds to readers of people's own arrays, data sets and pictures."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import innerloop
from innerloop.data.base import ClassIndexed
from innerloop.errors import UserError
from trials.seeds import picture_bytes

# A reader prepares a folder and returns a function that reads one input there.
Read = Callable[[random.Random], None]
Reader = Callable[[Path], Read]


def own_arrays(home: Path) -> Read:
    """Arrays and labels of people's own: any dtype, shape and value, labels of any kind."""

    def read(draw: random.Random) -> None:
        X, y = _array(draw), _labels(draw)
        options: dict[str, Any] = {}
        if draw.random() < 0.3:
            options["images"] = draw.choice((True, False))
        if draw.random() < 0.2:
            options["dark_ink"] = draw.choice((True, False))
        if draw.random() < 0.2:
            options["names"] = draw.choice((["a", "b"], {0: "a", 1: "b"}, {"a": "x"}, []))
        if draw.random() < 0.2:
            options["split"] = draw.choice(
                ({"train": [0], "test": [1]}, {"train": ["a"]}, {"other": [0]}, {"val": [[0]]}, {})
            )
        if draw.random() < 0.2:
            options["groups"] = _labels(draw)
        _use(innerloop.data.from_arrays(X, y, **options))

    return read


def own_data_sets(home: Path) -> Read:
    """Data sets of people's own: pairs, dicts and single inputs, some of them unsound."""

    def read(draw: random.Random) -> None:
        X, y = _array(draw), _labels(draw)
        kind = draw.randrange(4)
        rows = list(X) if getattr(X, "ndim", 0) else [X] * 8
        if kind == 0:
            items: list[Any] = list(zip(rows, y, strict=False))
        elif kind == 1:
            items = [{"x": row, "label": label} for row, label in zip(rows, y, strict=False)]
        elif kind == 2:
            items = rows
        else:
            picture = draw.choice(("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F"))
            sizes = ((8, 8), (8, 8), (8, 8), (9, 8))
            items = [(Image.new(picture, draw.choice(sizes)), label) for label in y]
        if items and draw.random() < 0.2:
            unsound = (None, "text", (), {}, float("nan"), (items[0],), [1, [2]])
            items[draw.randrange(len(items))] = draw.choice(unsound)
        options: dict[str, Any] = {}
        if draw.random() < 0.3:
            options["in_memory"] = draw.choice((True, False))
        if draw.random() < 0.2:
            options["image_size"] = draw.choice((4, 8, 0, -1))
        if draw.random() < 0.2:
            options["inputs"] = draw.choice(("x", "label", "nothing"))
        labels = draw.choice((None, None, y, "label", "nothing"))
        _use(innerloop.data.from_dataset(items, labels, **options))

    return read


def own_pictures(home: Path) -> Read:
    """Inputs for a fitted classifier: arrays, paths and PIL pictures of any kind."""
    support = np.stack([np.eye(28), np.eye(28)[::-1]])
    classifier = innerloop.FewShotClassifier().fit(support, ["down", "up"])
    path = home / "picture.png"
    path.write_bytes(picture_bytes(0, "L", "PNG", (30, 20)))

    def read(draw: random.Random) -> None:
        X = _array(draw)
        if draw.random() < 0.3:
            modes = ("1", "L", "P", "RGB", "RGBA", "I;16", "F", "CMYK")
            picture = Image.new(draw.choice(modes), (draw.choice((1, 28, 40)), 20))
            X = draw.choice((picture, [picture], [picture, str(path)], path, [path, "nowhere.png"]))
        try:
            predicted = classifier.predict(X)
        except (ValueError, TypeError) as error:
            # For some faults of an array the documented error is scikit-learn's own.
            frames = traceback.extract_tb(error.__traceback__)
            if any("sklearn" in Path(frame.filename).parts for frame in frames):
                raise UserError(str(error)) from error
            raise
        assert set(predicted) <= {"down", "up"}

    return read


OWN_READERS: tuple[Reader, ...] = (own_arrays, own_data_sets, own_pictures)

_DTYPES = ("u1", "u1", "u2", "i4", "i8", "f2", "f4", "f8", "?", "c8", "U3", "S2", "O", "M8[s]")


def _array(draw: random.Random) -> Any:
    """An array of examples, mostly eight of them; or something that is no array of examples."""
    if draw.random() < 0.1:
        return draw.choice(
            (None, [], {}, "text", 3, [[1, 2], [3]], [None] * 8, [[1.0], ["a"]], np.zeros(()))
        )
    sizes = (0, 1, 2, 3, 4, 8, 16, 28)
    shape = (draw.choice((8, 8, 8, 8, 0, 1, 7)), *(draw.choice(sizes) for _ in range(4)))
    shape = shape[: draw.choice((1, 2, 2, 3, 3, 4, 4, 5))]
    generator = np.random.default_rng(draw.randrange(2**32))
    values = generator.integers(0, draw.choice((2, 256, 4096, 2**31)), shape)
    array = values.astype(draw.choice(_DTYPES))
    if array.dtype.kind == "f" and draw.random() < 0.7:
        array = array / max(1, float(values.max(initial=1)))
    if array.dtype.kind == "f" and array.size and draw.random() < 0.2:
        array.flat[draw.randrange(array.size)] = draw.choice((np.nan, np.inf, -np.inf, -1.0))
    kind = draw.randrange(6)
    if kind == 0:
        return array.tolist()
    if kind == 1:
        return list(array)
    if kind == 2 and array.dtype.kind in "?fiu" and array.dtype != np.uint16:
        return torch.from_numpy(array)
    return array


def _labels(draw: random.Random) -> Any:
    """Labels of eight examples, mostly sound."""
    number = draw.choice((8, 8, 8, 8, 8, 8, 0, 7, 9))
    kinds: tuple[list[Any], ...] = (
        [i % 2 for i in range(number)],
        ["ab"[i % 2] for i in range(number)],
        [i * 1.0 for i in range(number)],
        [draw.choice((0, 1, "a", None, 1.5, float("nan"), b"x", (1,))) for _ in range(number)],
        [0] * number,
        [[i % 2] for i in range(number)],
    )
    labels = kinds[draw.choice((0, 0, 0, 0, 1, 1, 1, 2, 3, 4, 5))]
    return np.array(labels) if draw.random() < 0.3 and len(set(map(type, labels))) == 1 else labels


def _use(data: ClassIndexed) -> None:
    """A data set that was accepted has classes, and examples that can be read."""
    for index in range(data.num_classes):
        assert len(data.class_examples(index)) == data.counts[index] > 0
