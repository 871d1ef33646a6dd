"""Folders that are left out: hidden ones, what macOS adds, and runs of this package."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from innerloop.data.pictures import is_picture
from innerloop.data.remarks import Remark, counted, some

# Folders that are looked into below a hidden one, at most: it may hold a whole history.
MOST = 1000


def is_hidden(name: str) -> bool:
    """True if a file or folder of this name is left out."""
    return name.startswith(".") or name == "__MACOSX"


def is_run(folder: Path) -> bool:
    """True for the folder of a run: its charts are pictures, too, but no class."""
    written = ("metrics.jsonl", "checkpoints")
    return (folder / "config.yaml").is_file() and any((folder / n).exists() for n in written)


def hidden_with_pictures(place: str | Path, names: Iterable[str]) -> list[Path]:
    """The hidden ones among folders in `place` that hold pictures, at any depth."""
    return [Path(place, name) for name in sorted(names) if is_hidden(name) and _holds(place, name)]


def remarks_of_hidden(hidden: Sequence[Path], path: Path) -> list[Remark]:
    """What to say of hidden folders with pictures in the folder `path`, if there are any."""
    if not hidden:
        return []
    names = some([place.relative_to(path) for place in hidden])
    text = (
        f"{counted(len(hidden), 'hidden folder')} with pictures, left out: {names}; to take them, "
        "give them names that do not begin with a dot, and are not __MACOSX"
    )
    return [Remark("hidden folders", len(hidden), text)]


def _holds(place: str | Path, name: str) -> bool:
    walked = itertools.islice(os.walk(Path(place, name)), MOST)
    return any(is_picture(file) for _, _, files in walked for file in files)
