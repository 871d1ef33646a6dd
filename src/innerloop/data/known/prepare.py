"""From the archives that people have to folders that every command takes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from innerloop.data.known.facts import COUNTS, check_counts
from innerloop.data.known.folders import new_folder
from innerloop.data.known.readers import READERS
from innerloop.data.known.sources import Picture
from innerloop.data.progress import progress_bar
from innerloop.data.splits import PARTS
from innerloop.errors import UserError
from innerloop.files import at_home

NAMES = tuple(COUNTS)


@dataclass
class Prepared:
    """What was written.

    Attributes:
        folder: `train`, `val` and `test`, each with a folder of pictures a class.
        classes: names of the classes of each part.
        images: how many pictures there are.
    """

    folder: Path
    classes: dict[str, set[str]] = field(default_factory=lambda: {part: set() for part in PARTS})
    images: int = 0

    def facts(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "written": str(self.folder),
            "images": self.images,
            "classes": {part: len(classes) for part, classes in self.classes.items()},
        }


def prepare(
    name: str,
    source: str | Path,
    out: str | Path,
    *,
    progress: bool = False,
    warn: Callable[[str], None] = warnings.warn,
) -> Prepared:
    """Write a data set of the papers as a folder of pictures, with the papers' split.

    Args:
        name: one of `NAMES`.
        source: the archive or folder that the user has, see `docs/en/your-data.md`.
        out: a new folder; it is there in the end as a whole, or not at all.
        progress: show progress on standard error.
        warn: told of what is unusual, but no mistake.

    Raises:
        UserError: the source is none of the forms, damaged or not complete, or `out` exists.
    """
    if name not in READERS:
        raise UserError(f"there is no data set {name!r}: choose from {', '.join(NAMES)}")
    source, out = at_home(source), at_home(out)
    pictures = READERS[name](source, warn)
    with new_folder(out) as place, progress_bar(f"prepare {name}", None, shown=progress) as step:
        found = write_pictures(place, pictures, step)
        check_counts(name, {part: len(classes) for part, classes in found.classes.items()})
    found.folder = out
    return found


def write_pictures(
    place: Path, pictures: Iterator[Picture], step: Callable[[int], None]
) -> Prepared:
    """Write pictures to `place/PART/CLASS/NAME`; `step` is called after each."""
    found = Prepared(place)
    for part, label, name, content in pictures:
        found.classes[part].add(label)
        folder = place / part / label
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / name, "xb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                Image.fromarray(content).save(file, format="PNG")
        found.images += 1
        step(1)
    return found
