"""Data sets, and how to load them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.data.arrays import from_arrays
from innerloop.data.base import ClassIndexed, ExampleClasses, ImageClasses
from innerloop.data.datasets import from_dataset
from innerloop.data.examples import Examples
from innerloop.data.folder import folder
from innerloop.data.glyphs import glyphs
from innerloop.data.lake import LakeRun, draw_lake_runs, lake_runs, prepare_lake
from innerloop.data.omniglot import SIZE, omniglot
from innerloop.data.omniglot_facts import HALVES
from innerloop.data.random_images import random_images
from innerloop.data.remarks import Remark
from innerloop.data.sheet import contact_sheet
from innerloop.data.splits import available_splits, split_classes
from innerloop.errors import UserError
from innerloop.files import at_home
from innerloop.keywords import keywords_checked
from innerloop.renamed import forward

if TYPE_CHECKING:
    from innerloop.data import augment

__all__ = [
    "ClassIndexed",
    "ExampleClasses",
    "Examples",
    "ImageClasses",
    "LakeRun",
    "Remark",
    "augment",
    "available_splits",
    "contact_sheet",
    "draw_lake_runs",
    "folder",
    "from_arrays",
    "from_dataset",
    "glyphs",
    "lake_runs",
    "load",
    "omniglot",
    "prepare_lake",
    "random_images",
    "split_classes",
]

_old_name = forward(__name__)


def __getattr__(name: str) -> Any:
    if name == "augment":  # It needs PyTorch, for which `import innerloop.data` does not wait.
        return importlib.import_module("innerloop.data.augment")
    return _old_name(name)


NAMES = ("omniglot", "glyphs", "random")


@keywords_checked
def load(
    name_or_path: str | Path,
    *,
    omniglot_source: str | Path | None = None,
    image_size: int | None = None,
    glyph_classes: int = 1500,
    skip_broken: bool = False,
    progress: bool = False,
) -> ImageClasses:
    """Load a data set by its name or its place.

    Args:
        name_or_path: `"omniglot"`, `"glyphs"` (characters made up by a program),
            `"random"` (noise), or the path of a folder of pictures or of a `.npy`
            file.  A folder with Omniglot's two archives is taken as Omniglot.
        omniglot_source: see `omniglot`.
        image_size: see `folder`; the data sets with names are 28 x 28.
        glyph_classes: how many glyphs, each with 20 drawings.
        skip_broken: see `folder`.
        progress: show progress on standard error.

    Raises:
        UserError: neither a name nor a path, or what is there is not usable.
    """
    name = str(name_or_path)
    if name in NAMES:
        if image_size not in (None, SIZE):
            raise UserError(f"{name} is {SIZE} x {SIZE}; image_size is for folders of pictures")
        if name == "omniglot":
            return omniglot(omniglot_source, progress=progress)
        if name == "random":
            return random_images()
        return glyphs(glyph_classes, progress=progress)
    path = at_home(name_or_path)
    if not path.exists():
        raise UserError(
            f"{name!r} is neither a data set ({', '.join(NAMES)}) nor the path of a folder of "
            "pictures or a .npy file"
        )
    if image_size in (None, SIZE) and all(
        (path / f"images_{half}").is_dir() or (path / f"images_{half}.zip").is_file()
        for half in HALVES
    ):
        return omniglot(path, progress=progress)
    return folder(path, image_size=image_size, skip_broken=skip_broken, progress=progress)
