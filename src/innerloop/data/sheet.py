"""A picture of a data set, to see what one trains on."""

from __future__ import annotations

import io
import itertools
import string
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from innerloop.data.base import ClassIndexed
from innerloop.errors import UserError
from innerloop.files import readable, write_whole
from innerloop.keywords import keywords_checked
from innerloop.plots.mark import SOFTWARE

_TILE = 56  # small images are enlarged to about this many pixels
_LARGEST_TILE = 112  # and large ones shrunk to at most this many
_GAP = 4
_MARGIN = 20
_LABEL_WIDTH = 230
_HEADER_HEIGHT = 66
_BOX = "\N{WHITE SQUARE}"  # in place of a character that no font has
_CUT = "\N{HORIZONTAL ELLIPSIS}"
_NAMED = 3  # a warning names so many classes
_PAPER, _INK, _QUIET = (250, 250, 248), (25, 25, 30), (110, 110, 118)


@keywords_checked
def contact_sheet(
    data: ClassIndexed, path: str | Path, *, classes: int = 20, per_class: int = 10, seed: int = 0
) -> Path:
    """Draw some classes of a data set as a PNG picture, one row a class.

    Args:
        data: the data set.
        path: where the picture goes; its name must end in `.png`.
        classes: at most this many classes, drawn at random, at least 1.
        per_class: at most this many images of each, its first ones, at least 1.
        seed: which classes.

    Returns:
        `path`.

    Raises:
        UserError: a number is too small, the data set has no pictures, or the file cannot be
            written.

    Warns:
        UserWarning: no font of this machine has characters of names, which are boxes then.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"the picture is a PNG file, so {path} must end in .png")
    if not 1 <= classes <= 500 or not 1 <= per_class <= 100:
        raise UserError("a sheet has 1 to 500 classes and 1 to 100 images of each")
    if not data.pixels:
        raise UserError(
            f"{data.name} has no pictures to draw, but {data.examples.dtype} of shape "
            f"{list(data.example_shape)}"
        )
    generator = np.random.default_rng(seed)
    count = min(classes, data.num_classes)
    chosen = sorted(generator.choice(data.num_classes, size=count, replace=False).tolist())
    columns = min(per_class, int(data.counts[chosen].max()))

    _, height, width = data.example_shape
    tile_height, tile_width = _tile_size(height, width)
    cell_height, cell_width = tile_height + _GAP, tile_width + _GAP
    sheet = Image.new(
        "RGB",
        (
            max(2 * _MARGIN + _LABEL_WIDTH + columns * cell_width, 640),
            2 * _MARGIN + _HEADER_HEIGHT + count * cell_height,
        ),
        _PAPER,
    )
    pen = _Pen(ImageDraw.Draw(sheet), [data.name, *(data.names[index] for index in chosen)])
    _draw_header(pen, data, count, sheet.width)
    for row, index in enumerate(chosen):
        top = _MARGIN + _HEADER_HEIGHT + row * cell_height
        _draw_label(pen, data, index, top + cell_height // 2)
        for column, image in enumerate(data.class_examples(index)[:columns]):
            left = _MARGIN + _LABEL_WIDTH + column * cell_width
            sheet.paste(_tile(image, (tile_width, tile_height)), (left, top))
    encoded = io.BytesIO()
    # By which it is known again as no picture of its user's.
    mark = PngInfo()
    mark.add_text("Software", SOFTWARE)
    sheet.save(encoded, format="PNG", optimize=True, pnginfo=mark)
    with write_whole(path) as file:
        file.write(encoded.getvalue())
    _warn_of_boxes(path, data, chosen, pen)
    return path


class _Pen:
    """Writes text in those fonts of this machine that have its characters."""

    def __init__(self, draw: ImageDraw.ImageDraw, texts: Iterable[str]) -> None:
        # Matplotlib, which knows the fonts, takes a while to import.
        from innerloop.plots.fonts import file_for_each

        self._draw = draw
        self._files = file_for_each({_BOX, _CUT, *string.printable, *"".join(map(readable, texts))})
        self._fonts: dict[tuple[str, int], ImageFont.FreeTypeFont] = {}

    def lacks(self, text: str) -> list[str]:
        """The characters of a text that no font has."""
        return [each for each in readable(text) if each not in self._files]

    def length(self, text: str, size: int) -> float:
        """Width in pixels."""
        return sum(font.getlength(part) for font, part in self._parts(text, size))

    def cut(self, text: str, size: int, width: float) -> str:
        """The text, or its beginning where it is wider."""
        if self.length(text, size) <= width:
            return text
        while text and self.length(text + _CUT, size) > width:
            text = text[:-1]
        return text + _CUT

    def write(
        self, left: float, baseline: float, text: str, size: int, colour: tuple[int, ...]
    ) -> None:
        """Write a line, with its baseline at this height."""
        for font, part in self._parts(text, size):
            self._draw.text((left, baseline), part, colour, font, anchor="ls")
            left += font.getlength(part)

    def _parts(self, text: str, size: int) -> list[tuple[ImageFont.FreeTypeFont, str]]:
        """A text in parts, each with the font that has it."""
        shown = "".join(each if each in self._files else _BOX for each in readable(text))
        return [
            (self._font(file, size), "".join(part))
            for file, part in itertools.groupby(shown, self._files.__getitem__)
        ]

    def _font(self, file: str, size: int) -> ImageFont.FreeTypeFont:
        if (file, size) not in self._fonts:
            self._fonts[file, size] = ImageFont.truetype(file, size)
        return self._fonts[file, size]


def _warn_of_boxes(path: Path, data: ClassIndexed, chosen: list[int], pen: _Pen) -> None:
    """Say which names have characters that no font has."""
    boxed = {f"#{index}": data.names[index] for index in chosen if pen.lacks(data.names[index])}
    if pen.lacks(data.name):
        boxed = {"the data set": data.name, **boxed}
    if not boxed:
        return
    missing = sorted({each for name in boxed.values() for each in pen.lacks(name)})
    named = [f"{place} is {readable(name)!r}" for place, name in boxed.items()]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    warnings.warn(
        f"no font on this machine has {''.join(missing[:20])!r}, so there are boxes in {path}: "
        f"{', '.join(named[:_NAMED])}{more}. Install one, such as Noto Sans CJK SC for Chinese",
        stacklevel=4,  # past `contact_sheet` and its check of keywords
    )


def _draw_header(pen: _Pen, data: ClassIndexed, shown: int, width: int) -> None:
    channels, rows, columns = data.example_shape
    fewest, most = int(data.counts.min()), int(data.counts.max())
    each = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    colour = "grey" if channels == 1 else "colour"
    pen.write(_MARGIN, _MARGIN + 18, pen.cut(data.name, 24, width - 2 * _MARGIN), 24, _INK)
    facts = (
        f"{data.num_classes:,} classes, {int(data.counts.sum()):,} images ({each} a class), "
        f"{rows} x {columns} {colour}; {shown} classes shown"
    )
    pen.write(_MARGIN, _MARGIN + 42, facts, 14, _QUIET)


def _draw_label(pen: _Pen, data: ClassIndexed, index: int, middle: int) -> None:
    group, _, rest = data.names[index].rpartition("/")
    right, room = _MARGIN + _LABEL_WIDTH - 12, _LABEL_WIDTH - 12
    number = f"  #{index}" if group else ""
    above = pen.cut(group, 13, room) if group else f"#{index}"
    below = pen.cut(rest, 13, room - pen.length(number, 13)) + number
    for line, offset, colour in ((above, -4, _QUIET), (below, 12, _INK)):
        pen.write(right - pen.length(line, 13), middle + offset, line, 13, colour)


def _tile_size(height: int, width: int) -> tuple[int, int]:
    longer = max(height, width)
    if longer > _LARGEST_TILE:
        return max(1, height * _LARGEST_TILE // longer), max(1, width * _LARGEST_TILE // longer)
    scale = max(1, _TILE // longer)
    return height * scale, width * scale


def _tile(image: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """One image as `size` = (width, height); of other than 1 or 3 channels, the first."""
    pixels = image.transpose(1, 2, 0) if image.shape[0] == 3 else image[0]
    tile = Image.fromarray(np.ascontiguousarray(pixels))
    enlarged = size[0] >= tile.width
    # Enlarged pixels stay squares.
    how = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    return tile.resize(size, how).convert("RGB")
