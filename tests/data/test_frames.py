"""What runs round drawings is told from parts of characters."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from innerloop.data.frames import (
    GRID,
    alike,
    cells,
    cells_of_box,
    enclosure_of,
    frame_of,
    frame_touched,
    lines_of,
    may_be_drawn,
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
    assert enclosure_of(ink).straight == (kind == "square")
    assert enclosure_of(picture("none")) is None
    beside = np.pad(ink, ((0, 0), (0, 20)))
    assert enclosure_of(beside) is not None
    beside[20:30, -4:] = True
    assert enclosure_of(beside) is None


@pytest.mark.parametrize("size", [14, 28, 56, 112])
def test_a_box_has_straight_sides(size):
    """Also where it is turned a little, its corners are round or a stroke touches it."""
    big = Image.new("L", (400, 400))
    draw = ImageDraw.Draw(big)
    shapes = {}
    for name in ("square", "rounded", "turned", "ring", "diamond", "corner"):
        draw.rectangle((0, 0, 400, 400), fill=0)
        if name in ("square", "turned"):
            draw.rectangle((40, 40, 360, 360), outline=255, width=32)
        if name == "rounded":
            draw.rounded_rectangle((40, 40, 360, 360), 40, outline=255, width=32)
        if name == "ring":
            draw.ellipse((40, 40, 360, 360), outline=255, width=32)
        if name == "diamond":
            draw.polygon([(200, 20), (380, 200), (200, 380), (20, 200)], outline=255, width=32)
        if name == "corner":
            draw.line([(50, 30), (50, 350), (370, 350)], fill=255, width=32)
        drawn = big.rotate(4 if name == "turned" else 0)
        mask = np.asarray(drawn.resize((size, size), Image.Resampling.BOX)) > 100
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        shapes[name] = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    boxes = [name for name, part in shapes.items() if lines_of(part) is not None]
    assert boxes == ["square", "rounded", "turned"]
    touched = shapes["square"].copy()
    middle = len(touched) // 2
    touched[:middle, middle] = True
    np.testing.assert_array_equal(lines_of(touched), shapes["square"])


def test_lines_of_a_frame_are_told_from_strokes_that_touch_them():
    ink = picture("square")
    frame = frame_of(ink)
    of_box = cells_of_box(frame)
    np.testing.assert_array_equal(of_box, cells(frame))
    assert cells_of_box(frame_of(picture("ring"))) is None
    assert cells_of_box(frame_of(picture("none"))) is None
    ink[:28, 28] |= np.arange(28) >= 3
    assert not frame_of(ink).any()
    np.testing.assert_array_equal(frame_touched(ink, of_box), frame)
    # Also in pieces, as where a sheet covers part of the table.
    pieces = picture("square")
    pieces[:, 14:17] &= picture("none")[:, 14:17]
    np.testing.assert_array_equal(frame_touched(pieces, of_box), pieces & frame)
    # Only of a frame in that place, and whole.
    assert not frame_touched(ink, cells(frame_of(picture("ring")))).any()
    assert not frame_touched(picture("ring"), of_box).any()
    assert not frame_touched(picture("square", margin=8), of_box).any()


def test_a_box_is_drawn_if_its_proportions_are_those_of_one_that_was_learnt():
    """A ring, which nobody prints, if one was learnt."""
    learnt, ring = (enclosure_of(picture(kind, margin=16)) for kind in KINDS)
    assert may_be_drawn(enclosure_of(picture("square", margin=14)), learnt)
    printed = enclosure_of(picture("square"))
    for other in (ring, learnt):
        assert not may_be_drawn(printed, other)
    assert may_be_drawn(enclosure_of(picture("ring")), ring)
    thin = enclosure_of(picture("square", margin=16, width=1))
    assert not may_be_drawn(thin, learnt)


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


def test_without_ink_there_are_no_cells():
    assert not cells(np.zeros((20, 90), bool)).any()
