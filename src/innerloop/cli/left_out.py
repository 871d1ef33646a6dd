"""What lies in folders of pictures and is not taken: said in warnings and errors."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.files import quoted

if TYPE_CHECKING:
    from innerloop.data.remarks import Remark

# Folders that are looked into below one of pictures, at most: it may be a whole disk.
MOST = 1000


def pictures_in(folder: Path) -> list[Path]:
    """The visible pictures in a folder, by name, without those that this package drew.

    Raises:
        UserError: a file with a picture's name is a pipe, or a link that leads nowhere.
    """
    return [file for file in _pictures(folder) if not _is_drawn(file)]


def without_drawn(files: Sequence[Path], option: str) -> list[Path]:
    """Files that an option names, without those that this package drew, which a warning names."""
    from innerloop.data.remarks import warn

    drawn = [file for file in files if _is_drawn(file)]
    if drawn:
        warn([_of_drawn(list(map(str, drawn)))], option)
    return [file for file in files if file not in drawn]


def warn_of_left_out(
    folder: Path, looked_at: Sequence[Path], way: str, given: Sequence[Path] = ()
) -> None:
    """Warn of what is not taken from a folder.

    Args:
        folder: what messages call it, too.
        looked_at: the folders whose pictures are taken: itself, or those of classes in it.
        way: what to do with pictures in folders inside these.
        given: folders whose pictures are taken anyway.
    """
    from innerloop.data.hidden import hidden_with_pictures, remarks_of_hidden
    from innerloop.data.kinds import remark_of_unread
    from innerloop.data.remarks import warn

    each = dict.fromkeys((folder, *looked_at))
    hidden = [p for inner in each for p in hidden_with_pictures(inner, os.listdir(inner))]
    remarks = remarks_of_hidden(hidden, folder)
    if unread := _unread(list(each)):
        remarks.append(remark_of_unread(unread, folder))
    drawn = [file for inner in each for file in _pictures(inner) if _is_drawn(file)]
    if drawn:
        remarks.append(_of_drawn([str(file.relative_to(folder)) for file in drawn]))
    warn(remarks, str(folder))
    taken = {place.resolve() for place in given}
    for inner in looked_at:
        found = {p: n for p, n in nested(inner).items() if p.resolve() not in taken}
        if found:
            warn([_of_nested(inner, found, way)], str(inner))


def why_empty(folder: Path, option: str, *, all_empty: bool = False) -> str:
    """What to say of a folder without pictures, with a way out that suits the option.

    Args:
        folder: the folder; with `--support`, that of a class.
        option: `--query`, `--background` or `--support`.
        all_empty: with `--support`, no class has pictures.
    """
    from innerloop.data.kinds import remark_of_unread

    if found := nested(folder):
        return f"{folder} holds no pictures itself, its folders do: " + _way(
            folder, list(found), option, all_empty
        )
    unread = _unread([folder])
    why = f": {remark_of_unread(unread, folder).text}" if unread else ""
    if not unread and _pictures(folder):
        why = " but what innerloop drew"
    return f"{folder} holds no pictures{why}"


def nested(folder: Path) -> dict[Path, int]:
    """The visible folders inside a folder, at any depth, and how many pictures each holds itself.

    Only those with pictures.
    """
    from innerloop.data.pictures import is_picture

    found = {}
    for place, files in itertools.islice(_walk(folder), 1, MOST):
        # What phones save is not read, but is worth a word.
        number = sum(is_picture(name) or _is_of_phone(name) for name in files)
        if number:
            found[place] = number
    return found


def _way(folder: Path, inner: Sequence[Path], option: str, all_empty: bool) -> str:
    if option == "--query":
        entries = {entry for entry in folder.iterdir() if not entry.name.startswith(".")}
        if entries == set(inner):
            return f"give them, as {quoted(folder)}/*"
        return f"give those, such as --query {quoted(inner[0])}"
    if option == "--support" and all_empty:
        return f"if these are the classes, give --support {quoted(folder)}"
    if option == "--background" and len(inner) == 1:
        return f"give --background {quoted(inner[0])}"
    return f"put the pictures into {folder} itself"


def _of_nested(folder: Path, found: dict[Path, int], way: str) -> Remark:
    from innerloop.data.remarks import Remark, counted, some

    number = sum(found.values())
    names = some([place.relative_to(folder) for place in found])
    text = f"{counted(number, 'picture')} in folders inside it ({names}), which are left out: {way}"
    return Remark("in folders inside", number, text)


def _of_drawn(names: list[str]) -> Remark:
    from innerloop.data.remarks import Remark, counted, some

    text = f"{counted(len(names), 'picture')} that innerloop drew, left out: {some(names)}"
    return Remark("drawn", len(names), text)


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each visible folder from `folder` down, by name, with the names of its files."""
    from innerloop.data.hidden import is_hidden

    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        # A link to a folder above it would be walked for ever.
        folders[:] = [] if real in seen else sorted(n for n in folders if not is_hidden(n))
        if real not in seen:
            seen.add(real)
            yield Path(place), files


def _pictures(folder: Path) -> list[Path]:
    from innerloop.data.pictures import file_status, is_picture

    files = sorted(f for f in folder.iterdir() if is_picture(f.name) and not f.is_dir())
    for file in files:
        file_status(file)
    return files


def _unread(folders: Sequence[Path]) -> list[Path]:
    from innerloop.data.kinds import unread_of

    return unread_of(file for folder in folders for file in folder.iterdir() if file.is_file())


def _is_drawn(file: Path) -> bool:
    from innerloop.plots.mark import is_drawn

    return is_drawn(file)


def _is_of_phone(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith((".heic", ".heif"))
