"""Finding out which picture belongs to which class: folders, or mini-ImageNet's csv files."""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from innerloop.data.hidden import hidden_with_pictures, is_hidden, is_run, remarks_of_hidden
from innerloop.data.kinds import remark_of_unread, unread_of
from innerloop.data.other_forms import OF_TABLE, refuse_other_forms
from innerloop.data.pictures import EXTENSIONS, is_picture
from innerloop.data.remarks import Remark, counted, some
from innerloop.data.splits import PARTS
from innerloop.errors import UserError

_HINT = (
    "put the pictures of each class into a folder of its own (PATH/cat/1.jpg, PATH/dog/1.jpg), "
    f"or use mini-ImageNet's layout (PATH/images, train.csv, val.csv, test.csv). {OF_TABLE}"
)

_WITH_PICTURES = ("not read", "hidden folders")  # remarks of pictures that are not taken

# What people call the parts of a split, without capitals, dashes, underscores and spaces.
_PART_OF = re.compile(
    "(?:meta)?(?:(?P<train>train(?:ing)?)|(?P<val>val(?:id(?:ation)?)?)|(?P<test>test(?:ing)?))"
    "(?:s?|split|sets?|data(?:set)?|images?|pictures|classes)"
)


@dataclass(frozen=True)
class Layout:
    """The pictures of each class, before any of them is opened.

    Attributes:
        classes: class name to its files; both sorted, whatever order the file
            system lists them in.
        groups: class name to its group, `""` where there is none.
        split: part of the split to class names; empty where there is none.
        split_name: `"csv"` or `"folders"`, where the split comes from.
        remarks: what was left out.
    """

    classes: dict[str, list[Path]]
    groups: dict[str, str]
    split: dict[str, list[str]] = field(default_factory=dict)
    split_name: str = "csv"
    remarks: tuple[Remark, ...] = ()


def find_layout(path: Path) -> Layout:
    """Read the layout of a folder of pictures.

    Args:
        path: a folder of class folders, at any depth; or one with `images`,
            `train.csv`, `val.csv` and `test.csv`; or one with `train`, `val` and `test`, each a
            folder of class folders.

    Raises:
        UserError: there is no such folder, or it cannot be told which picture
            belongs to which class; the message says what to change.
    """
    if not path.is_dir():
        refuse_other_forms(path)
    tables = [part for part in PARTS if (path / f"{part}.csv").is_file()]
    return _from_tables(path, tables) if tables else _from_folders(path)


def _from_folders(path: Path) -> Layout:
    found, left_out = _walk(path)
    remarks = left_out.remarks(path, found)
    if not found:
        refuse_other_forms(path)
        raise UserError(
            f"{path} holds no pictures ({', '.join(ending[1:] for ending in EXTENSIONS)})"
            + "".join(f"; {remark.text}" for remark in remarks if remark.kind in _WITH_PICTURES)
            + f"; {_HINT}"
        )
    _check_depth(path, found)
    if parts := _parts(found):
        layout = _from_parts(path, found, parts)
        return replace(layout, remarks=(*layout.remarks, *remarks))
    names = sorted(found)
    remarks = (*_doubts(names), *remarks)
    return Layout({name: found[name] for name in names}, _groups(names), remarks=remarks)


@dataclass
class _LeftOut:
    """Files and folders that were skipped."""

    files: list[Path] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)

    def remarks(self, path: Path, found: Iterable[str]) -> tuple[Remark, ...]:
        """A remark for each kind."""
        above = {parent.as_posix() for name in found for parent in PurePosixPath(name).parents}
        taken = {*found, *above}
        # Of nested folders without pictures the topmost is named.
        empty = [
            name
            for name in sorted(self.folders)
            if name not in taken and PurePosixPath(name).parent.as_posix() in {*taken, "."}
        ]
        unread = unread_of(self.files)
        others = sorted(set(self.files) - set(unread))
        remarks = remarks_of_hidden(self.hidden, path)
        if unread:
            remarks.append(remark_of_unread(unread, path))
        if empty:
            remarks.append(
                Remark(
                    "empty folders",
                    len(empty),
                    f"{counted(len(empty), 'folder')} without pictures, which became no class: "
                    + some(empty),
                )
            )
        if others:
            text = f"{counted(len(others), 'other file')}, such as {others[0].relative_to(path)}"
            remarks.append(Remark("other files", len(others), text, warns=False))
        return tuple(remarks)


def _walk(path: Path) -> tuple[dict[str, list[Path]], _LeftOut]:
    """The pictures of each folder that has some, by the folder's name, and what else there is."""
    found: dict[str, list[Path]] = {}
    left_out = _LeftOut()
    seen: set[str] = set()
    for place, folders, files in os.walk(path, followlinks=True, onerror=_raise):
        real = os.path.realpath(place)
        if real in seen:
            # A link to a folder above it would be walked for ever.
            folders.clear()
            continue
        seen.add(real)
        left_out.hidden += hidden_with_pictures(place, folders)
        runs = [name for name in folders if is_run(Path(place, name))]
        left_out.files += [Path(place, name) for name in runs]
        folders[:] = sorted(n for n in folders if not is_hidden(n) and n not in runs)
        name = _normal(Path(place).relative_to(path).as_posix())
        pictures = [Path(place, file) for file in sorted(files) if is_picture(file)]
        others = (name for name in files if not is_picture(name) and not is_hidden(name))
        left_out.files += [Path(place, name) for name in others]
        if not pictures:
            left_out.folders.append(name)
            continue
        if name in found:
            raise UserError(f"{place}: two folders have the name {name!r}; rename one of them")
        found[name] = pictures
    return found, left_out


def _groups(names: list[str]) -> dict[str, str]:
    """The folder that holds the folder of each class."""
    parents = {name: PurePosixPath(name).parent.as_posix() for name in names}
    return {name: "" if parent == "." else parent for name, parent in parents.items()}


def _parts(found: dict[str, list[Path]]) -> dict[str, str]:
    """The part of a split that each folder lies in; empty if the folders are not a split.

    They are one if each class lies in a folder named for a part, and there are several parts.
    """
    parts = {}
    common = _common_folder(found)
    for name in found:
        top, _, rest = name.removeprefix(common).partition("/")
        part = _part(top)
        if part is None or not rest:
            return {}
        parts[name] = part
    return parts if len(set(parts.values())) > 1 else {}


def _part(folder: str) -> str | None:
    """The part of a split that a folder is named for."""
    found = _PART_OF.fullmatch(re.sub(r"[-_ ]", "", folder.lower()))
    return None if found is None else found.lastgroup


def _doubts(names: list[str]) -> tuple[Remark, ...]:
    """What may be meant by folders of classes otherwise than as groups."""
    common = _common_folder(names)
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        top, _, rest = name.removeprefix(common).partition("/")
        groups[top].add(rest)
    parts = [top for top, inside in groups.items() if _part(top) and "" not in inside]
    if len({_part(top) for top in parts}) > 1:
        others = [top for top in groups if top not in parts]
        text = (
            f"the folders {' and '.join(parts)} are named for parts of a split, but "
            f"{some(others)} beside them are not. So all folders are read as groups of classes,"
            " which are split in another way; to use the parts, move the other folders away"
        )
        return (Remark("no split", len(parts), text),)
    alike = len(groups) > 1 and len(set(map(frozenset, groups.values()))) == 1
    if alike and groups[min(groups)] != {""}:
        text = (
            f"the {len(groups)} folders {some(list(groups))} have classes of the same names, which "
            "are classes of their own; if they are not, put the pictures of each into one folder"
        )
        return (Remark("names of classes", len(groups), text, warns=False),)
    return ()


def _common_folder(found: Iterable[str]) -> str:
    """The folders that all classes lie in, `""` or `"a/b/"`: what an archive was unpacked into."""
    common = ""
    first, last = min(found), max(found)  # all between share what these share
    for folder in first.split("/")[:-1]:
        if not last.startswith(f"{common}{folder}/"):
            break
        common += f"{folder}/"
    return common


def _from_parts(path: Path, found: dict[str, list[Path]], parts: dict[str, str]) -> Layout:
    """PATH/train/CLASS, PATH/val/CLASS, PATH/test/CLASS: a split of the classes.

    Where all parts have the same classes, as for ordinary classification, their pictures are
    put together, because the parts of a split of tasks share no class.
    """
    classes: dict[str, list[Path]] = defaultdict(list)
    lie_in: dict[str, set[str]] = defaultdict(set)
    common = _common_folder(found)
    for folder in sorted(found):
        name = folder.removeprefix(common).partition("/")[2]
        classes[name] += found[folder]
        lie_in[name].add(parts[folder])
    names = sorted(classes)
    groups = _groups(names)
    shared = [name for name in names if len(lie_in[name]) > 1]
    if not shared:
        split = {part: [name for name in names if lie_in[name] == {part}] for part in PARTS}
        return Layout({name: classes[name] for name in names}, groups, split, "folders")
    alone = [name for name in names if len(lie_in[name]) == 1]
    if alone:
        both = " and ".join(sorted(lie_in[shared[0]], key=PARTS.index))
        raise UserError(
            f"{path}: class {shared[0]!r} is in {both}, but class {alone[0]!r} only in "
            f"{next(iter(lie_in[alone[0]]))}. For a split of the classes, give each class one "
            "part; to divide them by another split, put all class folders into one folder"
        )
    folders = sorted({name.removeprefix(common).partition("/")[0] for name in found})
    merged = Remark(
        "merged folders",
        len(folders),
        f"the folders {', '.join(folders)} have the same {len(names)} classes. "
        "The pictures of each class are put together, and the classes split again, because "
        "training and test tasks must not share classes",
    )
    return Layout({name: classes[name] for name in names}, groups, remarks=(merged,))


def _check_depth(path: Path, found: dict[str, list[Path]]) -> None:
    """A folder is a class or holds classes, not both."""
    above = {parent.as_posix() for name in found for parent in PurePosixPath(name).parents}
    if set(found) == {"."}:
        raise UserError(f"the pictures in {path} are not in folders of classes; {_HINT}")
    for name in sorted(found):
        if name in above or name == ".":
            inner = min(other for other in found if other != name and _lies_in(other, name))
            raise UserError(
                f"{path if name == '.' else path / name} holds pictures ({found[name][0].name}) "
                f"and a folder of pictures ({inner}), so the class of the former is unclear: a "
                "folder is a class or holds classes; move the one or the other"
            )


def _lies_in(name: str, folder: str) -> bool:
    return folder == "." or name.startswith(folder + "/")


def _from_tables(path: Path, tables: list[str]) -> Layout:
    missing = [f"{part}.csv" for part in PARTS if part not in tables]
    if missing:
        raise UserError(
            f"{path} has {tables[0]}.csv but not {' and '.join(missing)}; for a part without "
            "classes write a file with the one line: filename,label"
        )
    if not (path / "images").is_dir():
        raise UserError(f"{path} has csv files but no folder named images beside them")
    classes: dict[str, list[Path]] = defaultdict(list)
    part_of: dict[str, str] = {}
    row_of: dict[Path, str] = {}
    for part in PARTS:
        table = path / f"{part}.csv"
        for row, (filename, label) in _rows(table):
            if part_of.setdefault(label, part) != part:
                raise UserError(
                    f"{table} row {row}: class {label!r} is in {part_of[label]}.csv too; "
                    "the parts of a split must not share classes"
                )
            file = path / "images" / filename
            if file in row_of:
                raise UserError(
                    f"{table} row {row}: {filename} was named before, in {row_of[file]}; "
                    "a picture listed twice could be in a support and a query set at once"
                )
            row_of[file] = f"{table.name} row {row}"
            classes[label].append(file)
    if not classes:
        raise UserError(f"train.csv, val.csv and test.csv in {path} name no pictures")
    _check_present(path, row_of)
    names = sorted(classes)
    there = [file for files in _walk(path / "images")[0].values() for file in files]
    unnamed = [file for file in there if file not in row_of]
    remark = Remark(
        "not in the csv files",
        len(unnamed),
        f"{counted(len(unnamed), 'picture')} in images that no csv file names, such as "
        + "".join(file.name for file in unnamed[:1]),
    )
    return Layout(
        {name: sorted(classes[name], key=Path.as_posix) for name in names},
        dict.fromkeys(names, ""),
        {part: [name for name in names if part_of[name] == part] for part in PARTS},
        remarks=(remark,) if unnamed else (),
    )


def _check_present(path: Path, row_of: dict[Path, str]) -> None:
    missing = [file for file in row_of if not _is_file(file)]
    if missing:
        first = missing[0]
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise UserError(
            f"{first.relative_to(path)} ({row_of[first]}){more} is not there; "
            f"all {len(row_of):,} pictures of the csv files must be in {path / 'images'}"
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False  # a name that no file can have: too long, or with a zero in it


def _rows(table: Path) -> list[tuple[int, tuple[str, str]]]:
    """Row number and (filename, label), for every row after the header."""
    rows = []
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            for column in ("filename", "label"):
                if column not in columns:
                    raise UserError(
                        f"{table} has no column {column!r}; its first line must be "
                        f"filename,label, not {','.join(columns) or 'empty'}"
                    )
            for row in reader:
                number = reader.line_num
                filename = (row["filename"] or "").strip()
                label = _normal((row["label"] or "").strip())
                if not filename or not label:
                    raise UserError(f"{table} row {number} lacks a filename or a label")
                parts = PurePosixPath(filename.replace("\\", "/")).parts
                if not parts or ".." in parts or parts[0] == "/" or ":" in parts[0]:
                    raise UserError(f"{table} row {number}: {filename} points out of images/")
                rows.append((number, ("/".join(parts), label)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} cannot be read as a csv file in UTF-8 ({error})") from error
    return rows


def _normal(name: str) -> str:
    """One spelling of accents, so that names sort alike on every system."""
    return unicodedata.normalize("NFC", name)


def _raise(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be read ({error.strerror})") from error
