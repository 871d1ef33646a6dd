"""Decode pictures of any common format, grey or colour, in the orientation of their EXIF data."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from innerloop.data.depth import scaled, white_of
from innerloop.data.header import open_header
from innerloop.data.kinds import FIRST, reason, unread_kind
from innerloop.errors import UserError, first_line

EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
    *(".pgm", ".ppm", ".pbm", ".pnm"),
)

# About 270 MB once decoded; a small file can claim to hold any number.
MAX_PIXELS = 89_000_000

_FAINT = 16  # of 255: what differs by less from white paper does not show

_ROUNDED = 1  # of 255
_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 swap width and height.
_GREY_MODES = ("1", "L", "LA")  # beside the deep ones


class BrokenPicture(UserError):
    """A file that cannot be read as a picture."""


def is_picture(name: str) -> bool:
    """True if a file name is a visible file with the extension of a picture."""
    return not name.startswith(".") and name.lower().endswith(EXTENSIONS)


def file_status(path: Path) -> os.stat_result:
    """Size, time and the like of a file.

    Raises:
        UserError: it is not there, a link that leads nowhere, or no file.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); replace or remove it"
        ) from error
    _check_kind(path, status.st_mode)
    return status


def _check_kind(path: Path, mode: int) -> None:
    """Raise a `UserError` for what is no file: to open a pipe may wait for ever."""
    if stat.S_ISDIR(mode):
        raise UserError(f"{path} is a folder: give the pictures that are in it")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is a pipe or a device, not a file: remove it")


def check_picture(path: Path) -> None:
    """Decode a picture to check it, and discard the result.

    Raises:
        BrokenPicture: the file cannot be read as a picture.
    """
    with _opened(path) as picture:
        ImageOps.exif_transpose(picture).load()


def picture_size(path: Path) -> tuple[int, int]:
    """Displayed width and height in pixels, from the file's header.

    Raises:
        UserError: the file cannot be read as a picture.
    """
    with _opened(path) as picture:
        width, height = picture.size
        turned = picture.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    return (height, width) if turned else (width, height)


def is_grey(path: Path) -> bool:
    """True if no pixel has colour, whatever the file's format could hold.

    Raises:
        UserError: the file cannot be read as a picture.
    """
    with _opened(path) as picture:
        if picture.mode in _GREY_MODES or _is_deep(picture):
            return True
        pixels = np.asarray(_flat(picture, path, "RGB"))
    return not has_colour(pixels, axis=2)


def has_colour(pixels: np.ndarray, axis: int) -> bool:
    """True if channels differ by more than some formats of files (WebP, Lab) round grey pixels.

    Args:
        pixels: bytes, with red, green and blue along `axis`.
    """
    return bool((pixels.max(axis=axis) - pixels.min(axis=axis) > _ROUNDED).any())


def is_transparent(path: Path) -> bool:
    """True if a picture may have transparent parts, as the file's header says.

    Raises:
        UserError: the file cannot be read as a picture.
    """
    with _opened(path) as picture:
        return picture.has_transparency_data


def has_more_frames(path: Path) -> bool:
    """True for an animation and a file of several pages, of which `read_picture` takes the first.

    Not for a JPEG file of a camera, which may have a preview behind its picture.  False for what
    cannot be read: an error when it is.
    """
    with contextlib.suppress(UserError), _opened(path) as picture:
        return picture.format != "MPO" and getattr(picture, "is_animated", False)
    return False


def deep_range(path: Path) -> tuple[float, float, bool] | None:
    """The smallest and the largest value, and whether they are integers, of a deep picture.

    Returns:
        None where a pixel has at most 8 bits a channel, which the file's header says.

    Raises:
        UserError: the file cannot be read as a picture.
    """
    with _opened(path) as picture:
        return _deep_range(picture)


def _deep_range(picture: Image.Image) -> tuple[float, float, bool] | None:
    if not _is_deep(picture):
        return None
    values = np.asarray(picture)
    return float(values.min()), float(values.max()), picture.mode != "F"


def _is_deep(picture: Image.Image) -> bool:
    return picture.mode == "F" or picture.mode.startswith("I")


def read_picture(
    path: Path, channels: int, size: tuple[int, int] | None, white: float | None = None
) -> np.ndarray:
    """Decode one picture.

    Transparent parts become white paper; black, where a picture is so light that it would not
    show on white.  Of animations the first frame is taken.

    Args:
        path: the file.
        channels: 1 for grey, 3 for red, green, blue.
        size: (width, height) to scale to in pixels, whatever the proportions were,
            with Pillow's Lanczos filter; None keeps the size.
        white: the value of white in pictures of more than 8 bits; None: see `white_of`.

    Returns:
        `uint8` array `[channels, height, width]`.

    Raises:
        UserError: the file cannot be read as a picture.
    """
    with _opened(path) as picture:
        mode = "L" if channels == 1 else "RGB"
        flat = _flat(ImageOps.exif_transpose(picture), path, mode, white)
    if size is not None and flat.size != size:
        flat = flat.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(flat)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def range_of(picture: Image.Image, what: str) -> tuple[float, float, bool] | None:
    """`deep_range` of a picture that is open already.

    Raises:
        UserError: it cannot be decoded.
    """
    with decoding(what):
        return _deep_range(picture)


def picture_pixels(
    picture: Image.Image, what: str, size: tuple[int, int] | None, white: float | None = None
) -> np.ndarray:
    """A picture that is open already, as `read_picture` decodes one.

    Args:
        picture: it is not changed.
        what: how messages name it.
        size: (width, height) to scale to; None keeps the size.
        white: see `read_picture`.

    Returns:
        `uint8` array `[1, height, width]` where its format is grey, else `[3, height, width]`.

    Raises:
        UserError: it cannot be decoded.
    """
    with decoding(what):
        mode = "L" if picture.mode in _GREY_MODES or _is_deep(picture) else "RGB"
        flat = _flat(ImageOps.exif_transpose(picture), what, mode, white)
        if size is not None and flat.size != size:
            flat = flat.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(flat)
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)


def rgb_picture(
    content: bytes | Image.Image, what: Path | str, white: float | None = None
) -> Image.Image:
    """A picture in red, green and blue, upright, of its own size; see `read_picture`.

    Args:
        content: what a file holds, or a picture that is open already, which is not changed.
        what: how messages name it.
        white: see `read_picture`.

    Raises:
        UserError: it cannot be decoded.
    """
    if isinstance(content, Image.Image):
        with decoding(what):
            return _flat(ImageOps.exif_transpose(content), what, "RGB", white)
    with _opened(what, content) as picture:
        return _flat(ImageOps.exif_transpose(picture), what, "RGB", white)


@contextlib.contextmanager
def decoding(what: Path | str) -> Iterator[None]:
    """A `UserError` that names the picture for any error in decoding one that is open already."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        # Of one that was closed Pillow raises ValueError or AssertionError.
        raise UserError(
            f"{what} cannot be read as a picture ({first_line(error)}): give its path, or call its "
            "load() before its file is closed"
        ) from error


@contextlib.contextmanager
def _opened(path: Path | str, content: bytes | None = None) -> Iterator[Image.Image]:
    """Open a picture; any error inside the context names the file."""
    shown = f"{path}" if str(path).isprintable() else ascii(str(path))
    try:
        if content is None:
            _check_kind(Path(path), os.stat(path).st_mode)
        with open_header(path if content is None else io.BytesIO(content)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise BrokenPicture(
                    f"{shown} claims {picture.width} x {picture.height} pixels, more than "
                    f"{MAX_PIXELS:,}: scale it down or remove it"
                )
            yield picture
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{shown} does not exist") from None
    except Exception as error:
        # Pillow's decoders raise whatever damaged bytes lead to: OSError, SyntaxError,
        # ValueError, struct.error, DecompressionBombError and more.
        raise BrokenPicture(f"{shown} {_why_broken(error, path, content)}") from error


def _why_broken(error: Exception, path: Path | str, content: bytes | None) -> str:
    """What to say of a file that Pillow cannot open or decode."""
    if isinstance(error, Image.DecompressionBombError):
        return f"has far more pixels than {MAX_PIXELS:,}: scale it down or remove it"
    if not isinstance(error, UnidentifiedImageError):
        return f"cannot be read as a picture ({error}); replace or remove it"
    if content is None:
        content = b""
        with contextlib.suppress(OSError), open(path, "rb") as file:
            content = file.read(FIRST)
    if kind := unread_kind(str(path), content):
        return f"is {kind}, which is not read: convert it to PNG or JPEG"
    why = reason(error) if content else "it is empty"
    return f"cannot be read as a picture ({why}); replace or remove it"


def _flat(
    picture: Image.Image, path: Path | str, mode: str, white: float | None = None
) -> Image.Image:
    """The picture in `"L"` or `"RGB"`, on paper where it is transparent."""
    deep = _deep_range(picture)
    if deep is not None:
        white = white_of(*deep, str(path)) if white is None else white
        picture = Image.fromarray(scaled(np.asarray(picture), white, str(path)))
    elif picture.has_transparency_data:
        picture = _on_paper(picture.convert("RGBA"))
    return picture.convert(mode)


def _on_paper(picture: Image.Image) -> Image.Image:
    """An RGBA picture on white; on black if there is next to nothing to see of it on white."""
    on_white, on_black = (
        Image.alpha_composite(Image.new("RGBA", picture.size, colour), picture).convert("RGB")
        for colour in ("white", "black")
    )
    return on_black if _contrast(on_white) < _FAINT <= _contrast(on_black) else on_white


def _contrast(picture: Image.Image) -> int:
    """The greatest difference within a channel, 0 to 255."""
    return int(np.ptp(np.asarray(picture), axis=(0, 1)).max())
