"""The mark by which pictures that this package drew are known again."""

from __future__ import annotations

from pathlib import Path

SOFTWARE = "innerloop"
# Text stands before the pixels of a PNG file.
_MARK, _WITHIN = b"tEXtSoftware\0" + SOFTWARE.encode(), 512


def is_drawn(file: Path) -> bool:
    """Whether a file is a PNG picture that this package drew, and no picture of its user's."""
    # To open a pipe may wait for ever.
    if file.suffix.lower() != ".png" or not file.is_file():
        return False
    try:
        with open(file, "rb") as opened:
            return _MARK in opened.read(_WITHIN)
    except OSError:
        return False
