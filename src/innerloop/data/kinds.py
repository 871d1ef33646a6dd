"""Kinds of files that are not read as pictures, by their endings and first bytes."""

from __future__ import annotations

from pathlib import Path

from PIL import UnidentifiedImageError

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
