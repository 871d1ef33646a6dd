"""Pictures in any form: paths, PIL pictures, arrays in any layout."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from innerloop.data.depth import as_bytes, shared_white
from innerloop.data.examples import without_mask
from innerloop.data.labels import is_missing
from innerloop.data.pictures import (
    decoding,
    deep_range,
    file_status,
    has_colour,
    is_transparent,
    picture_pixels,
    range_of,
    read_picture,
    rgb_picture,
)
from innerloop.errors import UserError
from innerloop.files import at_home

LANCZOS = Image.Resampling.LANCZOS
# More than any photo; a device or a pipe has no end.
MAX_BYTES = 2**29
# Grey; red, green, blue; these with opacity.
CHANNELS = (1, 3, 4)


def entries(X: Any) -> Any:
    """The entries of a column of a table, an array `[n]`; all else as it is."""
    return X.to_numpy() if hasattr(X, "to_numpy") and len(np.shape(X)) == 1 else X


def are_pictures(X: Any) -> bool:
    """True if `X` is a list of paths, of PIL pictures, or of arrays of different sizes.

    Or a column of these in a table.
    """
    X = entries(X)
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OU":
        return False
    if not isinstance(X, list | tuple | np.ndarray) or len(X) == 0:
        return False
    arrays = [x.shape for x in X if _is_array(x)]
    column = isinstance(X, np.ndarray) and X.ndim == 1  # of a table, with an array in each row
    if len(arrays) == len(X) and len(set(arrays)) == 1 and not column:
        return False  # one array in parts
    return all(isinstance(x, str | Path | Image.Image) or _is_array(x) for x in X)


def require_pictures(X: Any, what: str) -> None:
    """Raise a `UserError` that names the first item of a list that is no picture."""
    column = isinstance(X, np.ndarray) and X.dtype.kind == "O" and X.ndim == 1
    for number, x in enumerate(X if column or isinstance(X, list | tuple) else ()):
        if isinstance(x, bytes | bytearray) or hasattr(x, "read"):
            way = "x" if hasattr(x, "read") else "io.BytesIO(x)"
            raise UserError(
                f"{what}[{number}] is {type(x).__name__}, not a picture: give its path, or "
                f"PIL.Image.open({way})"
            )
        missing = np.ndim(x) == 0 and is_missing(x)
        if missing or isinstance(x, dict | set):
            raise UserError(
                f"{what}[{number}] is {x if missing else type(x).__name__}, not a picture: "
                "leave it out, with its label"
            )


def are_files(X: Any) -> bool:
    """Whether some of `are_pictures` are no arrays: files and PIL pictures may be deep."""
    return are_pictures(X) and not all(_is_array(x) for x in X)


def names_of(X: Sequence[Any]) -> list[str]:
    """How messages call each picture: its path, where it is one, or `X[0]`."""
    return [str(x) if isinstance(x, str | Path) else f"X[{n}]" for n, x in enumerate(X)]


def white_in(
    X: Any, white: float | None = None, trained: float | None = None
) -> tuple[float | None, str]:
    """The value of white that pictures of more than 8 bits share; see `shared_white`.

    Args:
        X: pictures in any form; an array has no white but what was asked for.
        white: what was asked for.
        trained: that of the pictures which a network was trained on.

    Raises:
        UserError: one cannot be read, or its values fit no range.
    """
    if white is not None or not are_files(X):
        return white, ""
    deep = []
    for number, x in enumerate(X):
        if isinstance(x, str | Path):
            what, found = str(x), deep_range(at_home(x))
        else:
            what = f"picture {number}"
            found = range_of(x, what) if isinstance(x, Image.Image) else None
        deep += [] if found is None else [(what, *found)]
    return shared_white(deep, trained)


def each_as_bytes(
    given: Iterable[Any], channels: int, white: float | None = None
) -> Iterator[np.ndarray]:
    """Bytes `[C, h, w]` of what `are_pictures`, each in its own size.

    Args:
        given: the pictures.
        channels: C.
        white: the value of white in arrays, and in pictures of more than 8 bits.

    Raises:
        UserError: one cannot be read, or has colour where C is 1.
    """
    for number, x in enumerate(given):
        if isinstance(x, str | Path):
            what = str(x)
            pixels = read_picture(at_home(x), 3, None, white)
        else:
            what = f"picture {number}"
            picture = x if isinstance(x, Image.Image) else _from_array(x, white)
            pixels = picture_pixels(picture, what, None, white)
        if channels == 1:
            if has_colour(pixels, axis=0):
                raise UserError(
                    f"{what} has colour, and the network takes grey pictures: make it grey, "
                    f"{_in_grey(x)}, or train on colour"
                )
            pixels = pixels[:1]
        yield pixels if len(pixels) == channels else pixels.repeat(channels, axis=0)


def _in_grey(x: Any) -> str:
    """What makes a picture grey and leaves its transparent parts transparent, in words."""
    if isinstance(x, str | Path):
        return f"PIL.Image.open(path).convert({_grey_mode(is_transparent(at_home(x)))!r})"
    if isinstance(x, Image.Image):
        return f"picture.convert({_grey_mode(x.has_transparency_data)!r})"
    return _array_in_grey("x", x.shape, x.dtype == np.uint8)


def _grey_mode(transparent: bool) -> str:
    return "LA" if transparent else "L"


def _array_in_grey(x: str, shape: tuple[int, ...], are_bytes: bool) -> str:
    """The same of an array `x` `[H, W, C]` or `[C, H, W]`."""
    last = shape[0] not in (3, 4) or shape[-1] == 3
    moved = x if last else f"{x}.transpose(1, 2, 0)"
    if shape[-1 if last else 0] == 3:
        return f"{x}.mean(axis={-1 if last else -3}).astype({x}.dtype)"
    of = "" if are_bytes else f", where {x} is bytes"
    return f"PIL.Image.fromarray({moved}).convert('LA'){of}"


def scaled_image(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Bytes `[C, h, w]` in another height and width."""
    if pixels.shape[1:] == tuple(size):
        return np.ascontiguousarray(pixels)
    height, width = size
    return np.stack(
        [np.asarray(Image.fromarray(c).resize((width, height), LANCZOS)) for c in pixels]
    )


def image_bytes(X: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Bytes `[n, C, h, w]` in their own size, from an array of images in any layout.

    Args:
        shape: `(C, H, W)` of the network.

    Raises:
        UserError: it is not an array of such images.
    """
    channels, height, width = shape
    are_bytes = X.dtype == np.uint8
    X = as_bytes(X)
    if X.ndim == 2 and X.shape[1] == channels * height * width:
        X = X.reshape(len(X), *shape)
    elif X.ndim == 2:
        X = _square(X, (channels,))
    elif X.ndim == 3:
        X = X[:, None]
    elif X.ndim == 4 and X.shape[1] != channels == X.shape[3]:
        X = X.transpose(0, 3, 1, 2)
    if X.ndim != 4 or X.shape[1] != channels:
        kinds = {1: "grey images [n, height, width]", 3: "colour images [n, 3, height, width]"}
        raise UserError(
            f"this network takes {kinds[channels]}, not an array of shape {X.shape}"
            + _other_channels(X.shape, channels, are_bytes)
        )
    return X


def _other_channels(shape: tuple[int, ...], channels: int, are_bytes: bool) -> str:
    """How images of this shape get so many channels, in words; empty where nobody can say."""
    if len(shape) != 4:
        return ""
    if channels == 1 and 3 in (shape[1], shape[3]):
        return f": make them grey, {_array_in_grey('X', shape[1:], are_bytes)}"
    if channels == 3 and shape[1] == 1:
        return ": give each its grey three times, X.reshape(n, 1, height, width).repeat(3, axis=1)"
    # With opacity, which pictures have and arrays of pixels do not.
    opacity = {1: (2, 4), 3: (4,)}[channels]
    if shape[3] in opacity or shape[1] in opacity:
        x = "x" if shape[3] in opacity else "x.transpose(1, 2, 0)"
        grey = ".convert('LA')" if channels == 1 else ""
        each = f"for x in X.reshape{(-1, *shape[1:])}]" + (
            "" if are_bytes else ", where X is bytes"
        )
        return f": give a list of pictures, [PIL.Image.fromarray({x}){grey} {each}"
    return ""


@dataclass(frozen=True)
class Picture:
    """One picture that is decoded when it is needed.

    Attributes:
        digest: of its content, so that the same picture is known again.
        content: the bytes of a file, or a picture in memory.
        name: how messages call it.
        white: the value of white where it has more than 8 bits; None for one by its own range.
    """

    digest: bytes
    content: bytes | Image.Image
    name: str
    white: float | None = None

    def rgb(self) -> Image.Image:
        """Upright, in red, green and blue; raises `UserError` where it cannot be decoded."""
        return rgb_picture(self.content, self.name, self.white)


def each_picture(X: Any, white: float | None = None) -> Iterator[Picture]:
    """The pictures one by one: of what `are_pictures`, or of an array of images in any layout.

    Args:
        X: the pictures.
        white: the value of white in arrays, and in pictures of more than 8 bits.

    Raises:
        UserError: one cannot be read, or the array holds no images.
    """
    if not are_pictures(X):
        X = _pictures_of(np.asarray(without_mask(X, "X")), white)
    scale = b"" if white is None else repr(float(white)).encode()
    for number, x in enumerate(X):
        if isinstance(x, str | Path):
            content = _read(at_home(x))
            yield Picture(hashlib.sha256(content + scale).digest(), content, str(x), white)
            continue
        picture = x if isinstance(x, Image.Image) else _from_array(x, white)
        with decoding(f"picture {number}"):
            digest = _digest(picture)
        digest = hashlib.sha256(digest + scale).digest() if scale else digest
        yield Picture(digest, picture, f"picture {number}", white)


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray | Tensor) and x.ndim in (2, 3)


def _read(path: Path) -> bytes:
    status = file_status(path)
    if status.st_size > MAX_BYTES:
        raise UserError(f"{path} has more than {MAX_BYTES:,} bytes: scale it down or remove it")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); replace or remove it"
        ) from error


def _digest(picture: Image.Image) -> bytes:
    """A digest of everything that decoding depends on."""
    described = (picture.mode, picture.size, picture.getexif().get(0x0112, 1))
    found = hashlib.sha256(repr(described).encode())
    palette, clear = picture.getpalette("RGBA"), picture.info.get("transparency")
    found.update(repr((palette, clear)).encode())
    found.update(picture.tobytes())
    return found.digest()


def _from_array(x: Any, white: float | None) -> Image.Image:
    """One picture `[H, W]`, `[H, W, C]` or `[C, H, W]`."""
    return next(_pictures_of(np.asarray(without_mask(x, "a picture"))[None], white))


def _pictures_of(X: np.ndarray, white: float | None) -> Iterator[Image.Image]:
    """Images in any layout: `[n, H, W]`, `[n, C, H, W]`, `[n, H, W, C]` or flattened squares."""
    shape, X = X.shape, as_bytes(X, white=white)
    if X.ndim == 2:
        X = _square(X, (3, 1))
    elif X.ndim == 3:
        X = X[:, None]
    if X.ndim == 4 and not (X.shape[1] == 3 or (X.shape[3] != 3 and X.shape[1] in CHANNELS)):
        X = X.transpose(0, 3, 1, 2)
    if X.ndim != 4 or X.shape[1] not in CHANNELS or not X.size:
        raise UserError(
            f"an array of shape {shape} holds no pictures: give [n, height, width, 3], "
            "[n, 3, height, width] or grey ones [n, height, width]"
        )
    for x in X:
        pixels = x[0] if len(x) == 1 else x.transpose(1, 2, 0)
        yield Image.fromarray(np.ascontiguousarray(pixels))


def _square(X: np.ndarray, kinds: tuple[int, ...]) -> np.ndarray:
    """Flattened square images as `[n, 1, S, S]`; C is the first of `kinds` that fits."""
    if found := square_of(X.shape[1], kinds):
        channels, side = found
        if channels > 1:
            raise UserError(
                f"whether the {channels} colours of a flattened picture lie side by side or apart "
                "cannot be told: give pictures as [n, height, width, channels] or [n, channels, "
                "height, width]"
            )
        return X.reshape(len(X), channels, side, side)
    raise UserError(
        f"flattened images of {X.shape[1]} numbers are not square: give them as "
        "[n, height, width] or [n, channels, height, width]"
    )


def square_of(numbers: int, kinds: Sequence[int]) -> tuple[int, int] | None:
    """Channels and side of square images of so many numbers, by the first of `kinds` that fits."""
    for channels in kinds:
        side = math.isqrt(numbers // channels)
        if channels * side * side == numbers:
            return channels, side
    return None
