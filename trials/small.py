"""A training run of a second, to be killed, damaged and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from innerloop.files import write_whole
from innerloop.runs.folder import PICTURE

# With `data` from `blobs`.
SETTINGS: dict[str, Any] = {
    "split": "random",
    "n_way": 3,
    "train_n_way": None,
    "k_query": 3,
    "eval_k_query": 3,
    "width": 8,
    "meta_batch_size": 4,
    "iterations": 12,
    "threads": 1,
}


def blobs(path: Path) -> Path:
    """A learnable data set as a `.npy` file: blobs in class-dependent places."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60, (40, 8, 1, 16, 16), dtype=np.uint8)
    for c in range(40):
        y, x = generator.integers(0, 11, 2)
        images[c, :, 0, y : y + 5, x : x + 5] += 180
    np.save(path, images)
    return path


def not_drawn(folder: Path, *given: object, out: Path | None = None, **named: object) -> Path:
    """In place of `innerloop.plots.figures.plot_run`, which takes longer than a small run.

    It writes a file in the same way.
    """
    out = out or folder / PICTURE
    with write_whole(out) as file:
        file.write(b"not drawn")
    return out
