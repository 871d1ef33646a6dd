"""Pictures, as the command line takes and draws them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.cli.left_out import pictures_in, warn_of_left_out, why_empty, without_drawn
from innerloop.cli.output import say
from innerloop.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from innerloop.data.scaled import Pictures
    from innerloop.runs.loading import Loaded


def support_files(folder: Path) -> dict[str, list[Path]]:
    """Pictures by class, from a folder with one folder for each.

    Raises:
        UserError: the folder is not like that, or has fewer than two classes.

    Warns:
        UserWarning: files are left out.
    """
    from innerloop.data.hidden import is_hidden
    from innerloop.data.other_forms import refuse_archive

    refuse_archive(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: it should hold one folder of pictures a class")
    loose = pictures_in(folder)
    if loose:
        raise UserError(
            f"{loose[0]} is directly in {folder}: move it into a folder named after its class"
        )
    inner = sorted(f for f in folder.iterdir() if f.is_dir() and not is_hidden(f.name))
    found = {f.name: pictures_in(f) for f in inner}
    empty = [name for name, files in found.items() if not files]
    if empty:
        all_empty = len(empty) == len(found)
        raise UserError(why_empty(folder / empty[0], "--support", all_empty=all_empty))
    if len(found) < 2:
        raise UserError(
            f"{folder} needs a folder of pictures for each class, two or more; it has {len(found)}"
        )
    warn_of_left_out(folder, inner, "put them into the folder of their class itself")
    _warn_of_frames([file for files in found.values() for file in files], "--support")
    return found


def query_files(places: Sequence[Path], option: str = "--query") -> list[Path]:
    """The pictures of places, in the order given, those of a folder by name.

    Args:
        places: pictures, and folders of pictures.
        option: that names them: `--query`, or `--background`, which takes one folder.

    Raises:
        UserError: there are none, one does not exist, or holds no pictures.

    Warns:
        UserWarning: files are left out.
    """
    from innerloop.data.other_forms import refuse_archive

    files: list[Path] = []
    for place in places:
        if not place.exists():
            raise UserError(f"{place} does not exist")
        refuse_archive(place)
        if not place.is_dir():
            files.append(place)
            continue
        inside = pictures_in(place)
        if not inside:
            raise UserError(why_empty(place, option))
        way = "give these folders, too" if option == "--query" else f"put them into {place} itself"
        warn_of_left_out(place, [place], way, places)
        files += inside
    found = without_drawn(files, option)
    if not found:
        raise UserError(f"{option} names no pictures: give pictures, or folders of pictures")
    _warn_of_frames(found, option)
    return found


def _warn_of_frames(files: list[Path], option: str) -> None:
    from innerloop.data.remarks import warn
    from innerloop.data.survey import remarks_of_frames

    warn(remarks_of_frames(files), option)


def labelled(support: dict[str, list[Path]]) -> tuple[list[Path], list[str]]:
    """All pictures of a support set, and the class of each."""
    files = [file for members in support.values() for file in members]
    return files, [name for name, members in support.items() for _ in members]


def load_for_pictures(model: str, *, trust: bool) -> Loaded:
    """`load`, with a `UserError` for a network that takes no pictures."""
    from innerloop.runs.loading import load

    loaded = load(model, trust=trust)
    if len(loaded.input_shape) != 3 and not loaded.computed_by:
        raise UserError(f"{model} was not trained on pictures: it takes none")
    return loaded


def white_of(files: list[Path], white: float | None, trained: float | None) -> float | None:
    """The value of white in a support set, which is that of queries, too; see `common_white`.

    Args:
        files: the support set.
        white: what was asked for.
        trained: that of the pictures which the network was trained on.
    """
    from innerloop.data.remarks import warn
    from innerloop.data.survey import common_white

    known = trained if white is None else white
    found, remarks = common_white(files, known, "--white")
    warn(remarks, "support")
    return known if found is None else found


def read(
    files: list[Path], shape: tuple[int, ...], model: str, grey: bool, white: float | None
) -> Pictures:
    """Pictures for a network.

    Args:
        shape: `(C, H, W)`.
        model: what messages call the network.
        grey: turn coloured pictures grey.
        white: the value of white in pictures of more than 8 bits.

    Raises:
        UserError: a file is not a picture, or has colour and the network takes none; or `grey`
            with a network that takes colour.
    """
    from innerloop.data.pictures import is_grey, read_picture
    from innerloop.data.scaled import Pictures

    if grey and shape[0] != 1:
        raise UserError(
            f"--grey is for networks that take grey, and {model} takes colour: leave it out"
        )

    def pixels(file: Path) -> np.ndarray:
        if shape[0] == 1 and not grey and not is_grey(file):
            raise UserError(
                f"{file} has colour, and {model} takes grey pictures: let --grey turn "
                "them grey, or train on colour"
            )
        return read_picture(file, shape[0], None, white)

    return Pictures(map(pixels, files), shape, list(map(str, files)))


def check_picture(file: Path) -> None:
    """Raises a `UserError` where a picture cannot be drawn in a file of this name."""
    if file.suffix.lower() not in (".png", ".svg"):
        raise UserError(f"pictures are drawn as PNG or SVG: {file} must end in .png or .svg")


def check_place(out: Path, option: str, files: Iterable[Path] = ()) -> None:
    """Look at the place of a file to be written before the work that leads there is begun.

    Folders that are missing are made when it is written; which, is said on standard error.

    Args:
        out: the file.
        option: that names it.
        files: pictures that are read.

    Raises:
        UserError: nothing can be written there; or there is one of `files`, or any picture that
            this package did not draw.
    """
    if out.is_dir():
        raise UserError(f"{option} {out} is a folder: name a file in it")
    refuse_to_overwrite(out, option, files)
    folder = out.absolute().parent
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir():
        raise UserError(f"{option} {out}: {nearest} is a file and no folder: choose another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(
            f"{option} {out}: {nearest} cannot be written to: choose another place, or change its "
            "permissions"
        )
    if nearest != folder:
        say(f"{option}: there is no folder {out.parent} yet; it is made")


def refuse_to_overwrite(out: Path, option: str, files: Iterable[Path]) -> None:
    """Raises a `UserError` where a file to be written, named by an option, is somebody's picture.

    That is one of `files`, which are read, or any that this package did not draw.
    """
    from innerloop.data.pictures import is_picture
    from innerloop.plots.mark import is_drawn

    if not out.exists():
        return
    what = "one of the pictures that are read" if any(map(out.samefile, files)) else None
    if what is None and is_picture(out.name) and not is_drawn(out):
        what = "a picture that innerloop did not draw"
    if what is not None:
        raise UserError(f"{option} {out} is {what}, and would be overwritten: give another file")
