"""Files out of a folder or an archive, read one by one: nothing is unpacked to the disk."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from innerloop.data.packed import CHECKSUMS, PACKED
from innerloop.errors import UserError, first_line

_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(OSError, EOFError, RuntimeError, ValueError, NotImplementedError),
)
# Bytes of one file; the largest known, tieredImageNet's, have 12 GB.
_LARGEST = 16 * 2**30


# A picture: part, class (with a superclass before it, if there is one), file name, and
# either the bytes of a file or pixels `uint8` `[H, W, 3]`.
Picture = tuple[str, str, str, bytes | np.ndarray]


@dataclass(frozen=True)
class Entry:
    """A file of a source.

    Attributes:
        source: the folder or archive that it is of.
        path: within the source.
        open: opens it for reading; only while the source stands at this entry.
    """

    source: Path
    path: PurePosixPath
    open: Callable[[], IO[bytes]]

    def data(self) -> bytes:
        """Its bytes; raises `UserError` if they are damaged."""
        with _whole(self.source), self.open() as file:
            return file.read()


def entries(source: Path, warn: Callable[[str], None]) -> Iterator[Entry]:
    """All files of a folder, of an archive, or the one file, in the order in which they lie there.

    Args:
        source: a folder, a `.tar.gz`, `.tgz`, `.tar` or `.zip`, or a file.
        warn: told if an archive with an official name does not have the official checksum.

    Raises:
        UserError: there is nothing, or it is damaged.
    """
    if not source.exists():
        raise UserError(f"{source} does not exist")
    if source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            yield Entry(source, PurePosixPath(path.relative_to(source).as_posix()), _opener(path))
        return
    if not source.name.endswith(PACKED):
        yield Entry(source, PurePosixPath(source.name), _opener(source))
        return
    _check_sum(source, warn)
    with _whole(source):
        yield from _zipped(source) if source.name.endswith(".zip") else _tarred(source)


def find_source(source: Path, names: tuple[str, ...]) -> Path:
    """`source`, or the file of one of these names in it, if it is a folder that has one."""
    for name in names:
        if (source / name).exists():
            return source / name
    return source


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: open(path, "rb")


def _tarred(source: Path) -> Iterator[Entry]:
    with tarfile.open(source) as archive:
        for member in archive:
            if not member.isfile():
                continue
            _check_entry(source, member.name, member.size)
            found = archive.extractfile(member)
            assert found is not None
            yield Entry(source, PurePosixPath(member.name), lambda found=found: found)  # type: ignore[misc]


def _zipped(source: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            _check_entry(source, info.filename, info.file_size)
            yield Entry(
                source,
                PurePosixPath(info.filename),
                lambda info=info: archive.open(info),  # type: ignore[misc]
            )


def _check_entry(source: Path, name: str, size: int) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise UserError(f"{source} has an entry {name!r}, which leads out of it: it is not read")
    if size > _LARGEST:
        raise UserError(f"{source}: {name} claims {size:,} bytes, more than any that there are")


@contextlib.contextmanager
def _whole(source: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except _DAMAGED as error:
        # That of tarfile has a line for each way of packing.
        raise UserError(
            f"{source} is damaged or cut short ({first_line(error)}): fetch it again"
        ) from error


def _check_sum(source: Path, warn: Callable[[str], None]) -> None:
    wanted = CHECKSUMS.get(source.name)
    if wanted is None:
        return
    digest = hashlib.md5(usedforsecurity=False)
    with open(source, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    if digest.hexdigest() != wanted:
        warn(
            f"{source} does not have the official checksum (MD5 {wanted}): it may be a repack; "
            "classes and counts are checked all the same"
        )
