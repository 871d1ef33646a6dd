"""Open a picture's file by its header, without Pillow's own warning of large ones."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

from PIL import Image

# An entry of Python's list of filters.
_QUIET = (
    "ignore",
    re.compile("Image size .* pixels.* could be decompression bomb"),
    Image.DecompressionBombWarning,
    None,
    0,
)


def open_header(
    source: Path | str | IO[bytes], formats: Sequence[str] | None = None
) -> Image.Image:
    """`PIL.Image.open` for callers that refuse large pictures themselves, by their names.

    Pillow warns of a large picture while it opens it, before anyone can ask how large it is.

    Args:
        source: a path, or an open file.
        formats: as Pillow names those that are taken; None for all.
    """
    # Not `warnings.catch_warnings`, which in one thread takes back what another one sets, and has
    # every warning in the process shown again.  Each thread adds an entry, and removes one.
    filters = cast("list[Any]", warnings.filters)
    filters.insert(0, _QUIET)
    try:
        return Image.open(source, formats=None if formats is None else list(formats))
    finally:
        with contextlib.suppress(ValueError):
            cast("list[Any]", warnings.filters).remove(_QUIET)
