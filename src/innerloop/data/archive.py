"""Drawings read straight out of Omniglot's zip files, or out of the unpacked folders.

Nothing is unpacked to the disk, so no entry of an archive can land outside it;
entries that try are refused all the same, because such an archive is not Omniglot.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from innerloop.data.header import open_header
from innerloop.data.kinds import reason
from innerloop.errors import UserError

# Omniglot has 19,280 and 13,180 entries of at most 522 bytes and 105 x 105 pixels.
MAX_ENTRIES = 60_000
MAX_BYTES = 1_000_000
MAX_SIDE = 4096

# RuntimeError: an encrypted entry or an unknown compression.  ValueError and struct.error:
# a damaged list of entries, such as a name that is not UTF-8.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    struct.error,
)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Drawings:
    """The drawings of one half of Omniglot.

    Attributes:
        origin: the zip file or the folder.
        crcs: `"Greek/character03/0394_01.png"` to the CRC-32 of that PNG file.
        read: the bytes of one drawing, by its key in `crcs`.
    """

    origin: Path
    crcs: dict[str, int]
    read: Callable[[str], bytes]


@contextlib.contextmanager
def open_drawings(path: Path) -> Iterator[Drawings]:
    """Open a zip file or a folder of drawings.

    Args:
        path: `images_background.zip`, or the unpacked folder `images_background`.
            What lies above `alphabet/character/drawing.png` is ignored.

    Raises:
        UserError: the archive is not a zip file, is cut short or damaged, has an entry
            with an unsafe name or an absurd size, or has too many entries.
    """
    if path.is_dir():
        yield _from_folder(path)
        return
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGED as error:
        raise UserError(
            f"{path} is not a usable zip file ({error}); it may be cut short: "
            "remove it and download it again"
        ) from error
    with archive:
        yield _from_zip(path, archive)


def _from_zip(path: Path, archive: zipfile.ZipFile) -> Drawings:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise UserError(
            f"{path} has {len(entries):,} entries, more than {MAX_ENTRIES:,}: not Omniglot"
        )
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        # Archives made on Windows may use backslashes.
        name = entry.filename.replace("\\", "/")
        if name.startswith("/") or ".." in name.split("/") or ":" in name.split("/")[0]:
            raise UserError(
                f"{path}: refusing the archive, its entry {entry.filename!r} points outside it"
            )
        key = _key(name)
        if key is None:
            continue
        _check_bytes(path, name, entry.file_size)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # The other decoders do not stop at the size an entry claims to have.
            raise UserError(f"{path}: {name} is compressed in another way than Omniglot's are")
        if key in found:
            raise UserError(f"{path}: {key} is in the archive twice")
        found[key] = entry

    def read(key: str) -> bytes:
        try:
            return archive.read(found[key])
        except _DAMAGED as error:
            raise UserError(
                f"{path}: {found[key].filename} cannot be read ({error}); "
                "remove the archive and download it again"
            ) from error

    return Drawings(path, {key: entry.CRC for key, entry in found.items()}, read)


def _from_folder(path: Path) -> Drawings:
    found: dict[str, Path] = {}
    # Some programs unpack images_background.zip into images_background/images_background.
    inner = path / path.name
    top = inner if inner.is_dir() else path
    for file in top.glob("*/*/*"):
        key = _key(file.relative_to(top).as_posix())
        if key is None or not file.is_file():
            continue
        _check_bytes(path, key, file.stat().st_size)
        found[key] = file
        if len(found) > MAX_ENTRIES:
            raise UserError(f"{path} has more than {MAX_ENTRIES:,} files: not Omniglot")

    def read(key: str) -> bytes:
        try:
            return found[key].read_bytes()
        except OSError as error:
            raise UserError(f"{found[key]} cannot be read ({error.strerror})") from error

    return Drawings(path, {key: zlib.crc32(read(key)) for key in found}, read)


def _key(name: str) -> str | None:
    """The last three parts of the name of a drawing; None for anything else."""
    parts = PurePosixPath(name).parts
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return None
    if len(parts) < 3 or not name.lower().endswith(".png"):
        return None
    return "/".join(parts[-3:])


def _check_bytes(origin: Path, name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise UserError(
            f"{origin}: {name} is {size:,} bytes; a drawing of Omniglot has a few hundred, "
            f"anything above {MAX_BYTES:,} is refused"
        )


def check_png(data: bytes, what: str) -> None:
    """Refuse bytes that are not a PNG, or that would decode to a huge picture.

    The size is read from the file's header, before any decoder sees the bytes.

    Args:
        data: the file.
        what: its name, for the message.

    Raises:
        UserError: no PNG, or larger than 4096 x 4096 pixels.
    """
    if len(data) < 24 or not data.startswith(_PNG_SIGNATURE) or data[12:16] != b"IHDR":
        raise UserError(f"{what} is not a PNG picture")
    width, height = struct.unpack(">II", data[16:24])
    if max(width, height) > MAX_SIDE:
        raise UserError(
            f"{what} claims {width} x {height} pixels, more than {MAX_SIDE} x {MAX_SIDE}: refused"
        )


def grey_png(data: bytes, what: str) -> Image.Image:
    """Decode a PNG in grey; one that is none, or would be huge, is refused.

    Args:
        data: the file.
        what: its name, for the message.

    Raises:
        UserError: no PNG, a damaged one, or larger than 4096 x 4096 pixels.
    """
    check_png(data, what)
    try:
        with open_header(io.BytesIO(data), ["PNG"]) as picture:
            if max(picture.size) > MAX_SIDE:  # A second header, that check_png has not seen.
                raise OSError(f"it claims {picture.size} pixels")
            return picture.convert("L")
    except Exception as error:  # Whatever Pillow's decoder makes of damaged bytes.
        raise UserError(
            f"{what} cannot be decoded ({reason(error)}); remove the archive and download it again"
        ) from error
