"""A picture of a data set, to see what one trains on."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from innerloop.data.base import ImageClasses
from innerloop.errors import UserError
from innerloop.files import write_whole
from innerloop.keywords import keywords_checked

_TILE = 56  # small images are enlarged to about this many pixels
_LARGEST_TILE = 112  # and large ones shrunk to at most this many
_GAP = 4
_MARGIN = 20
_LABEL_WIDTH = 230
_HEADER_HEIGHT = 66
_PAPER, _INK, _QUIET = (250, 250, 248), (25, 25, 30), (110, 110, 118)


@keywords_checked
def contact_sheet(
    data: ImageClasses, path: str | Path, *, classes: int = 20, per_class: int = 10, seed: int = 0
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
        UserError: a number is too small, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"the picture is a PNG file, so {path} must end in .png")
    if not 1 <= classes <= 500 or not 1 <= per_class <= 100:
        raise UserError("a sheet has 1 to 500 classes and 1 to 100 images of each")
    generator = np.random.default_rng(seed)
    count = min(classes, data.num_classes)
    chosen = sorted(generator.choice(data.num_classes, size=count, replace=False).tolist())
    columns = min(per_class, int(data.counts[chosen].max()))

    _, height, width = data.image_shape
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
    draw = ImageDraw.Draw(sheet)
    _draw_header(draw, data, count)
    for row, index in enumerate(chosen):
        top = _MARGIN + _HEADER_HEIGHT + row * cell_height
        _draw_label(draw, data, index, top + cell_height // 2)
        for column, image in enumerate(data.class_images(index)[:columns]):
            left = _MARGIN + _LABEL_WIDTH + column * cell_width
            sheet.paste(_tile(image, (tile_width, tile_height)), (left, top))
    encoded = io.BytesIO()
    sheet.save(encoded, format="PNG", optimize=True)
    with write_whole(path) as file:
        file.write(encoded.getvalue())
    return path


def _draw_header(draw: ImageDraw.ImageDraw, data: ImageClasses, shown: int) -> None:
    channels, height, width = data.image_shape
    fewest, most = int(data.counts.min()), int(data.counts.max())
    each = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    colour = "grey" if channels == 1 else "colour"
    draw.text((_MARGIN, _MARGIN - 4), _ascii(data.name), _INK, ImageFont.load_default(24))
    draw.text(
        (_MARGIN, _MARGIN + 28),
        f"{data.num_classes:,} classes, {int(data.counts.sum()):,} images ({each} a class), "
        f"{height} x {width} {colour}; {shown} classes shown",
        _QUIET,
        ImageFont.load_default(14),
    )


def _draw_label(draw: ImageDraw.ImageDraw, data: ImageClasses, index: int, middle: int) -> None:
    name = data.names[index]
    font = ImageFont.load_default(13)
    group, _, rest = name.rpartition("/")
    right = _MARGIN + _LABEL_WIDTH - 12
    lines = (
        [f"#{index}", _ascii(rest)] if not group else [_ascii(group), f"{_ascii(rest)}  #{index}"]
    )
    for line, offset, colour in zip(lines, (-8, 8), (_QUIET, _INK), strict=True):
        while line and draw.textlength(line, font=font) > _LABEL_WIDTH - 12:
            line = line[:-2].rstrip(".") + "." if len(line) > 2 else ""
        draw.text((right, middle + offset), line, colour, font, anchor="rm")


def _ascii(text: str) -> str:
    """Pillow's own font has no other letters; a class keeps its number beside the name."""
    return "".join(letter if letter.isascii() else "?" for letter in text)


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
