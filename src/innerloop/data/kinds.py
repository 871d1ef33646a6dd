"""Kinds of files that are not read as pictures, by their endings and first bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from PIL import UnidentifiedImageError

from innerloop.data.remarks import Remark, counted

# Common formats of pictures.
UNREAD_PICTURES = (
    *(".heic", ".heif", ".avif", ".jxl", ".svg", ".svgz", ".eps", ".pdf", ".ai", ".psd", ".xcf"),
    *(".tga", ".ico", ".jp2", ".j2k", ".exr", ".hdr", ".dcm", ".dicom", ".dng", ".cr2", ".cr3"),
    *(".nef", ".arw", ".raw", ".orf", ".rw2"),
)
# In folders, a remark says so.
UNREAD = (
    *(*UNREAD_PICTURES, ".nii", ".npy", ".npz", ".mat", ".mp4", ".mov"),
    *(".zip", ".tar", ".gz", ".rar", ".7z"),
)

# How many bytes tell, and the brands of files of boxes, which phones write.
FIRST = 1024
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "HEIC"),
    **dict.fromkeys((b"mif1", b"msf1"), "HEIF"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}
# How pictures of common formats begin; a RIFF file may be of sound as well.
_BEGINNINGS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def unread_kind(name: str, content: bytes) -> str | None:
    """What a file of pictures is that is not read, such as `HEIC`; None where nothing tells.

    Args:
        name: of the file; it may be any text.
        content: its first bytes, which count more.
    """
    if content[4:8] == b"ftyp" and content[8:12] in _BRANDS:
        return _BRANDS[content[8:12]]
    if content.startswith(b"%PDF"):
        return "PDF"
    if b"<svg" in content[:FIRST]:
        return "SVG"
    ending = Path(name).suffix.lower()
    return ending[1:].upper() if ending in UNREAD_PICTURES else None


def reason(error: Exception) -> str:
    """Why Pillow cannot read a picture, in words of its own but for one.

    What it says of content without a name is the address of an object.
    """
    return "its format is not known" if isinstance(error, UnidentifiedImageError) else str(error)


def unread_of(files: Iterable[Path]) -> list[Path]:
    """Those of kinds that are not read, by name, and pictures whose names have no ending."""
    return sorted(f for f in files if f.name.lower().endswith(UNREAD) or _is_nameless_picture(f))


def _is_nameless_picture(file: Path) -> bool:
    if file.suffix:
        return False
    try:
        with file.open("rb") as stream:
            content = stream.read(16)
    except OSError:
        return False
    return content.startswith(_BEGINNINGS) or (content[:4], content[8:12]) == (b"RIFF", b"WEBP")


def remark_of_unread(unread: list[Path], path: Path) -> Remark:
    """What to say of files that are not read, one or more, in the folder `path`."""
    endings = Counter(file.suffix.lower() or "without an ending" for file in unread)
    kinds = ", ".join(f"{number:,} {ending}" for ending, number in endings.most_common())
    ways = ["convert pictures to PNG or JPEG"] * any(file.suffix for file in unread)
    ways += ["give names of pictures their ending, such as .png"] * (
        not all(f.suffix for f in unread)
    )
    return Remark(
        "not read",
        len(unread),
        f"{counted(len(unread), 'file')} of kinds that are not read ({kinds}), such as "
        f"{unread[0].relative_to(path)}: {', and '.join(ways)}",
    )
