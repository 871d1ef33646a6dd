"""What runs round drawings is told from parts of characters."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from innerloop.data.frames import (
    GRID,
    alike,
    cells,
    frame_of,
    is_enclosed,
    pixels_of,
    shared_frame,
)


def picture(kind: str, margin: int = 3, size: int = 56, width: int = 2) -> np.ndarray:
    """An outline round a small cross, booleans."""
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    low, high = margin, size - 1 - margin
    middle = size // 2
    if kind == "square":
        draw.rectangle((low, low, high, high), outline=255, width=width)
    if kind == "ring":
        draw.ellipse((low, low, high, high), outline=255, width=width)
    draw.line((middle - 5, middle, middle + 5, middle), fill=255, width=2)
    draw.line((middle, middle - 5, middle, middle + 5), fill=255, width=2)
    return np.asarray(image) > 0


KINDS = ["square", "ring"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_outline_alone_is_the_frame(kind):
    ink = picture(kind)
    frame = frame_of(ink)
    assert (frame == (ink & ~picture("none"))).all()
    assert not frame_of(picture("none")).any()
    # Not where it is small, nor where there is nothing else.
    assert not frame_of(picture(kind, margin=8)).any()
    assert not frame_of(frame).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("margin", [3, 12])
def test_what_encloses_all_else_is_noticed_anywhere(kind, margin):
    ink = picture(kind, margin)
    assert is_enclosed(ink)
    assert not is_enclosed(picture("none"))
    beside = np.pad(ink, ((0, 0), (0, 20)))
    assert is_enclosed(beside)
    beside[20:30, -4:] = True
    assert not is_enclosed(beside)


def test_frames_are_compared_by_place_and_shape():
    of = {kind: cells(frame_of(picture(kind))) for kind in KINDS}
    for kind, frame in of.items():
        assert frame.shape == (GRID, GRID)
        near = cells(frame_of(np.roll(picture(kind, width=3), 2, axis=0)))
        assert alike(frame, near)
        assert not any(alike(frame, of[other]) for other in KINDS if other != kind)
    square = of["square"]
    assert shared_frame([square, square, None]) is square
    assert shared_frame([square, of["ring"], square, of["ring"]]) is None
    assert shared_frame([square, None]) is None
    assert shared_frame([None]) is None
    assert shared_frame([]) is None


@pytest.mark.parametrize("shape", [(56, 56), (20, 90), (3, 5), (112, 40)])
def test_cells_and_pixels_belong_together(shape):
    ink = np.random.default_rng(0).random(shape) < 0.02
    assert pixels_of(cells(ink), *shape)[ink].all()
    assert not cells(np.zeros(shape, bool)).any()
