"""Recognise data sets in forms that are not read, and say which command converts them.

Nothing is opened but the names of files and the first bytes of some: pickles could run code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from innerloop.data.packed import (
    CIFAR_100,
    CIFAR_BINARY,
    CIFAR_PYTHON,
    CUB,
    DIVIDED,
    PACKED,
    PICKLES,
)
from innerloop.data.pictures import is_picture
from innerloop.errors import UserError
from innerloop.files import quoted


@dataclass(frozen=True)
class Form:
    """How a data set lies on people's disks.

    Attributes:
        what: what it is, for people.
        command: what prepares it, with `{path}` for its place.
        files: patterns of file names, all of which are there.
        pictures: it holds pictures, so that it can be read as a folder of classes, too.
    """

    what: str
    command: str
    files: tuple[str, ...]
    pictures: bool = False

    def command_for(self, place: Path) -> str:
        """What to type where it lies at `place`."""
        # Of several files, the folder is given.
        one_of_several = place.is_file() and "archive" not in self.what
        source = place.parent if one_of_several else place
        return self.command.replace("{path}", quoted(source))


_PART = "(train|val|test)"


def _one_of(endings: Iterable[str]) -> str:
    """A pattern of file endings."""
    return f"({'|'.join(map(re.escape, endings))})"


def _packed(*names: str) -> str:
    """A pattern of the archives that unpack to these folders, however they are packed."""
    return _one_of(names) + _one_of(PACKED)


_PICKLE, _DIVIDED = _one_of(PICKLES), _one_of(DIVIDED)


def _prepared_as(name: str) -> str:
    return f"innerloop data prepare {name} --source {{path}}"


_CIFAR = f"{_prepared_as('cifar-fs')}, or {_prepared_as('fc100')}"

FORMS = (
    Form("CIFAR-100's own archive", _CIFAR, (_packed(*(each.folder for each in CIFAR_100)),)),
    Form("CIFAR-100's own files", _CIFAR, CIFAR_PYTHON),
    Form("CIFAR-100's own files", _CIFAR, tuple(map(re.escape, CIFAR_BINARY))),
    Form(
        "CIFAR-FS in pickles",
        _prepared_as("cifar-fs"),
        (rf"(?i:cifar[-_]?fs)_{_PART}{_PICKLE}",),
    ),
    Form("FC100 in pickles", _prepared_as("fc100"), (rf"(?i:fc100)_{_PART}{_PICKLE}",)),
    Form(
        "CUB-200-2011",
        _prepared_as("cub"),
        (r"image_class_labels\.txt", r"images\.txt", r"classes\.txt"),
        pictures=True,
    ),
    Form("CUB-200-2011's archive", _prepared_as("cub"), (_packed(CUB.folder),)),
    Form(
        "tieredImageNet in pickles",
        _prepared_as("tiered-imagenet"),
        (rf"{_PART}_images(_png)?\.(pkl|npz|npy)",),
    ),
    Form(
        "tieredImageNet in pickles", _prepared_as("tiered-imagenet"), (rf"{_PART}_labels{_PICKLE}",)
    ),
    Form(
        "mini-ImageNet in pickles or npz files",
        _prepared_as("mini-imagenet"),
        (rf"(?i:mini[-_]?imagenet).*{_PART}.*{_DIVIDED}",),
    ),
)

_ARCHIVES = (*PACKED, ".tar.bz2", ".tar.xz", ".7z", ".rar")
_PICKLES = (*DIVIDED, ".pt", ".pth", ".mat", ".h5", ".hdf5", ".lmdb", ".parquet")
_TABLES = (".csv", ".tsv", ".xls", ".xlsx", ".json", ".jsonl")
_BY_FUNCTION = "innerloop train --data FILE.py:FUNCTION takes what such a function of yours gives"
OF_TABLE = (
    "Where a table names the classes, read it in Python: innerloop.data.from_dataset(files, "
    "labels, transform=PIL.Image.open, image_size=84)"
)


def find_form(path: Path) -> tuple[Form, Path] | None:
    """The form of a file or folder, and where it is.

    Args:
        path: a file, or a folder that holds it or holds a folder that does.
    """
    for place in (path, *(inner for inner in _inside(path) if inner.is_dir())):
        files = [file.name for file in _inside(place) if not file.is_dir()]
        for form in FORMS:
            if all(_any_matches(pattern, files) for pattern in form.files):
                return form, place
    return None


def refuse_archive(path: Path) -> None:
    """Raise a `UserError` for an archive, by its name."""
    name = path.name.lower()
    if name.endswith(_ARCHIVES) and path.is_file():
        tool = "unzip" if name.endswith(".zip") else "tar -xf"
        tool = "unpack" if name.endswith((".7z", ".rar")) else tool
        raise UserError(
            f"{path} is an archive, which is not read: unpack it ({tool} "
            f"{quoted(path)}) and give the folder"
        )


def refuse_other_forms(path: Path) -> None:
    """Raise a `UserError` for a file, and for a folder without pictures that has a known form."""
    if not path.exists():
        raise UserError(f"{path} does not exist")
    found = find_form(path)
    if found is not None and not found[0].pictures:
        form, place = found
        raise UserError(
            f"{place} is {form.what}: bring it into a form that is read with "
            + form.command_for(place)
        )
    if path.is_dir():
        return
    name = path.name.lower()
    if is_picture(name):
        raise UserError(
            f"{path} is one picture, not a folder: give the folder that holds the folders of "
            "classes"
        )
    refuse_archive(path)
    if name.endswith(_PICKLES):
        raise UserError(
            f"{path} is not a folder, and {path.suffix} files are not read (pickles could run "
            "code): load it in Python and give its arrays to innerloop.data.from_arrays(X, y); "
            + _BY_FUNCTION
        )
    if name.endswith(_TABLES):
        raise UserError(
            f"{path} is a table, which is not read: give its numbers to innerloop.data.from_arrays"
            f"(X, y). {OF_TABLE}; {_BY_FUNCTION}"
        )
    raise UserError(
        f"{path} is not a folder of pictures and not a .npy file: give the folder that holds the "
        "folders of classes"
    )


def remark_on(path: Path) -> str | None:
    """What to say of a folder of pictures that has a split of its own that is not read."""
    found = find_form(path)
    if found is None or not found[0].pictures:
        return None
    form, place = found
    return (
        f"this is {form.what}, read as a folder of classes; for the split of the papers: "
        + form.command_for(place)
    )


def _inside(path: Path) -> list[Path]:
    """What a folder holds; a file is its own content."""
    try:
        return sorted(path.iterdir()) if path.is_dir() else [path]
    except OSError:
        return []


def _any_matches(pattern: str, names: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, name) for name in names)
