"""A first look at the pictures of a folder: colour, size, depth, and which are broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from innerloop.data.depth import DARK, shared_white
from innerloop.data.pictures import (
    BrokenPicture,
    check_picture,
    deep_range,
    has_more_frames,
    is_grey,
    picture_size,
)
from innerloop.data.remarks import Remark, counted, some

# Pictures up to this size are kept as they are, if all have the same.
LARGEST_KEPT = 84
GREY_SIZE, COLOUR_SIZE = 28, 84


@dataclass(frozen=True)
class Survey:
    """Properties of pictures before they are prepared.

    Attributes:
        channels: 1 for grey, 3 for colour.
        size: (width, height) of all of them, in pixels.
        white: the value of white in pictures of more than 8 bits; None where there are none.
        remarks: what was concluded from their values.
    """

    channels: int
    size: tuple[int, int]
    white: float | None
    remarks: tuple[Remark, ...]


def survey(
    files: list[Path], image_size: int | None, channels: int | None, white: float | None
) -> Survey:
    """Look at all pictures.

    Args:
        files: at least one.
        image_size, channels, white: what was asked for; None to find out.

    Raises:
        UserError: one cannot be read, or its values fit no range.
    """
    if channels is None:
        channels = 1 if all(map(is_grey, files)) else 3
    size = (image_size, image_size) if image_size else _common_size(files, channels)
    found, remarks = common_white(files, white)
    return Survey(channels, size, found, (*remarks, *remarks_of_frames(files)))


def common_white(
    files: list[Path],
    white: float | None = None,
    option: str = "white= of innerloop.data.folder",
) -> tuple[float | None, tuple[Remark, ...]]:
    """The value of white that pictures of more than 8 bits share, by the range of all of them.

    Args:
        files: pictures of any depth.
        white: what was asked for.
        option: where to say otherwise.

    Returns:
        None where no picture has more than 8 bits; and a remark, unless the range is clear.

    Raises:
        UserError: one cannot be read, or its values fit no range.
    """
    deep = [(str(file), *reach) for file in files if (reach := deep_range(file)) is not None]
    found, said = shared_white(deep, white)
    if not said:
        return found, ()
    text = f"{said}; {option} says otherwise"
    return found, (Remark("white", len(deep), text),)


def remarks_of_frames(files: Sequence[Path]) -> tuple[Remark, ...]:
    """What to say of files with several frames or pages, if there are any."""
    several = [file for file in files if has_more_frames(file)]
    if not several:
        return ()
    text = (
        f"of {counted(len(several), 'file')} with several frames or pages the first alone is "
        f"taken: {some(several)}; to use the others, save each as a picture of its own"
    )
    return (Remark("frames", len(several), text),)


def sound_ones(
    files: list[Path], advance: Callable[[int], None] = lambda number: None
) -> tuple[set[Path], list[Path]]:
    """Decode all pictures: those that can be read, and those that cannot."""
    sound, broken = set(), []
    for file in files:
        try:
            check_picture(file)
            sound.add(file)
        except BrokenPicture:
            broken.append(file)
        advance(1)
    return sound, broken


class Watcher:
    """Check prepared pictures: blank, dark or duplicate ones."""

    def __init__(self) -> None:
        self._first: dict[bytes, tuple[str, str]] = {}
        self._blank: list[str] = []
        self._twice: list[str] = []
        self._leaks: list[str] = []
        self._number, self._highest = 0, 0

    def look(self, image: np.ndarray, digest: bytes, file: str, class_name: str) -> None:
        """Note one picture.

        Args:
            image: `uint8` `[C, H, W]`.
            digest: of its bytes.
            file: its name in messages.
            class_name: its class.
        """
        self._number += 1
        self._highest = max(self._highest, int(image.max()))
        if (image == image[:, :1, :1]).all():
            self._blank.append(file)
            return
        first, other = self._first.setdefault(digest, (file, class_name))
        if first != file:
            pair = f"{first} and {file}"
            (self._twice if other == class_name else self._leaks).append(pair)

    def remarks(self) -> tuple[Remark, ...]:
        """A remark for each kind of doubt."""
        found = []
        if self._leaks:
            text = (
                f"{counted(len(self._leaks), 'picture')} that another class has, so that a task "
                f"may give one picture two labels: {some(self._leaks)}"
            )
            found.append(Remark("in two classes", len(self._leaks), text))
        if self._twice:
            text = (
                f"{counted(len(self._twice), 'picture')} twice in a class, so that a task may ask "
                f"for what it has shown: {some(self._twice)}"
            )
            found.append(Remark("twice in a class", len(self._twice), text))
        if self._blank:
            text = f"{counted(len(self._blank), 'picture')} of one colour only: {some(self._blank)}"
            found.append(Remark("blank", len(self._blank), text))
        if self._highest < DARK and len(self._blank) < self._number:
            text = (
                f"the largest value in all pictures is {self._highest}, where 255 is white: they "
                "are nearly black; if they hold labels or values of another range, scale them"
            )
            found.append(Remark("dark", self._number, text))
        return tuple(found)


def _common_size(files: list[Path], channels: int) -> tuple[int, int]:
    """(width, height) of all pictures, or the usual size where they differ or are large."""
    usual = GREY_SIZE if channels == 1 else COLOUR_SIZE
    first = picture_size(files[0])
    if max(first) <= LARGEST_KEPT and all(picture_size(file) == first for file in files):
        return first
    return usual, usual
