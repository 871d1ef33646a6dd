"""The ink of a picture is found on dark, shaded and noisy paper, and put where Omniglot's is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont, ImageOps
from scipy import ndimage

from innerloop.data.frames import is_all_round
from innerloop.data.ink import (
    LOOKED_AT,
    Ink,
    find_ink,
    looked_at,
    on_blank_paper,
    worth_finding,
)


def drawn(size=56, box=(14, 10, 30, 34), width=3) -> np.ndarray:
    """A cross in a box (left, top, right, bottom), 1 for ink."""
    left, top, right, bottom = box
    y, x = np.mgrid[0:size, 0:size]
    inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    middle = (left + right) / 2, (top + bottom) / 2
    cross = (abs(x - middle[0]) < width / 2 + 0.1) | (abs(y - middle[1]) < width / 2 + 0.1)
    return (inside & cross).astype(float)


def on_paper(strokes, level=250.0, ink=0.9, shade=0.0, noise=0.0, seed=0) -> np.ndarray:
    size = len(strokes)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    paper = level - shade * (x + 0.5 * y + 0.5 * x * y) / 2
    picture = paper * (1 - ink * strokes)
    picture = picture + np.random.default_rng(seed).normal(0, noise, strokes.shape)
    return picture.clip(0, 255).round().astype(np.uint8)


PAPERS = {
    "clean": {},
    "grey": {"level": 150},
    "shaded": {"level": 180, "shade": 60},
    "noisy": {"level": 190, "noise": 8},
    "photographed": {"level": 170, "shade": 50, "noise": 6, "ink": 0.6},
    "faint": {"level": 240, "ink": 0.3, "noise": 2},
}


@pytest.mark.parametrize("paper", PAPERS.values(), ids=PAPERS)
@pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
def test_the_drawing_is_found_and_lies_on_blank_paper(paper, dark):
    strokes = drawn()
    picture = on_paper(strokes, **paper)
    ink = find_ink(picture if dark else 255 - picture, dark)
    assert ink is not None
    assert ink.strokes.shape == pytest.approx((24, 16), abs=2)
    assert ink.side == pytest.approx(24 / 56, abs=0.04)
    page = on_blank_paper(ink, dark, (28, 28)).astype(float)
    page = 255 - page if dark else page
    rows, columns = (np.flatnonzero((page > 90).any(axis=axis)) for axis in (1, 0))
    assert len(rows) == pytest.approx(18, abs=1)
    assert rows.mean() == pytest.approx(13.5, abs=1)
    assert columns.mean() == pytest.approx(13.5, abs=1)
    assert np.median(page) == 0
    assert page.max() > 200


def in_shadow(picture, angle, offset, depth, blur):
    """The picture with a shadow cast on one side of a line, `angle` in degrees."""
    y, x = np.mgrid[
        0.5 - len(picture) / 2 : len(picture) / 2, 0.5 - len(picture) / 2 : len(picture) / 2
    ]
    way = np.deg2rad(angle)
    dark = np.where(np.cos(way) * x + np.sin(way) * y > offset, depth, 1.0)
    return (picture * ndimage.gaussian_filter(dark, blur)).round().astype(np.uint8)


@given(
    angle=st.floats(0, 360),
    offset=st.floats(-14, 14),
    depth=st.floats(0.45, 0.9),
    blur=st.floats(0, 5),
    dark=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_edge_of_a_shadow_is_no_ink(angle, offset, depth, blur, dark):
    strokes = drawn(84, (26, 20, 56, 62), 4)
    picture = in_shadow(on_paper(strokes, level=240, noise=2), angle, offset, depth, blur)
    ink = find_ink(picture if dark else 255 - picture, dark)
    assert ink.side == pytest.approx(42 / 84, abs=0.05)
    assert ink.strokes.shape == pytest.approx((42, 30), abs=5)
    assert not ink.edged


def on_table(picture, turned, left, bottom, table):
    """A sheet that is turned a little, with the table on its left and below."""
    sheet = Image.fromarray(picture).rotate(turned, Image.Resampling.BICUBIC, fillcolor=table)
    found = np.asarray(sheet).copy()
    found[:, :left] = found[len(found) - bottom :] = table
    return found


@given(
    turned=st.floats(-6, 6),
    left=st.integers(0, 10),
    bottom=st.integers(0, 10),
    table=st.integers(0, 150),
    dark=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_table_beside_a_sheet_can_be_left_out(turned, left, bottom, table, dark):
    strokes = drawn(84, (26, 20, 56, 62), 4)
    picture = on_table(on_paper(strokes, level=240, noise=2), turned, left, bottom, table)
    picture = picture if dark else 255 - picture
    ink = find_ink(picture, dark)
    assert ink.edged == ink.reaches or is_all_round(ink.frame)
    within = find_ink(picture, dark, edges=True)
    assert within.side == pytest.approx(42 / 84, abs=0.08)
    assert not within.reaches


@pytest.mark.parametrize("letter", "EHLTFDB")
def test_strokes_along_the_edges_are_no_table(letter):
    """Prints that are cut out as closely as can be."""
    page = Image.new("L", (120, 120), 255)
    ImageDraw.Draw(page).text((20, 10), letter, fill=0, font=ImageFont.load_default(80))
    picture = np.asarray(page.crop(ImageOps.invert(page).getbbox()))
    assert not find_ink(picture, True).edged


@pytest.mark.parametrize("width", [8, 14, 20])
def test_thick_strokes_are_no_shadows(width):
    strokes = drawn(100, (15, 12, 85, 88), width)
    ink = find_ink(on_paper(strokes), True)
    assert ink.strokes.shape == pytest.approx((76, 70), abs=3)
    assert ink.strokes.mean() == pytest.approx(strokes[12:88, 15:85].mean(), abs=0.05)


@pytest.mark.parametrize("side", [1, 2])
def test_a_dot_is_a_drawing(side):
    picture = np.full((28, 28), 255, np.uint8)
    picture[9 : 9 + side, 18 : 18 + side] = 0
    ink = find_ink(picture, True)
    assert ink is not None
    assert np.isfinite(ink.strokes).all()
    assert ink.strokes.max() == 1


@pytest.mark.parametrize(("size", "width"), [(200, 2), (300, 6), (1000, 6)])
@pytest.mark.parametrize("noise", [0, 3])
def test_little_ink_on_clean_paper_is_found(size, width, noise):
    """A line of less than 0.2% of the page."""
    strokes = np.zeros((size, size))
    strokes[size // 3 : size // 3 + width, size // 3 : size // 3 + size // 10] = 1
    ink = find_ink(on_paper(strokes, noise=noise), dark=True)
    assert ink.side == pytest.approx(0.1, abs=0.03)
    assert find_ink(on_paper(0 * strokes, noise=noise), dark=True) is None


def test_specks_are_dropped_and_dots_are_not():
    strokes = drawn()
    strokes[50:52, 2:4] = 1  # a dot, as of an i
    assert find_ink(on_paper(strokes), dark=True).side > 0.7
    strokes[50:52, 2:4] = 0
    strokes[52, 3] = 1
    assert find_ink(on_paper(strokes), dark=True).side < 0.5


@pytest.mark.parametrize("width", [3, 5, 8])
@pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
def test_a_few_dots_of_the_pen_are_no_specks(width, dark):
    """However little of the ink they are."""

    def side(dots, of):
        page = Image.new("L", (112, 112))
        draw = ImageDraw.Draw(page)
        for line in ((10, 10, 80, 80), (10, 80, 80, 10), (10, 10, 10, 80), (10, 80, 80, 80)):
            draw.line(line, fill=1, width=width)
        for x in dots:
            draw.ellipse((x - of / 2, 100 - of / 2, x + of / 2, 100 + of / 2), fill=1)
        picture = on_paper(np.asarray(page).astype(float))
        return find_ink(picture if dark else 255 - picture, dark).side

    without = side([], width)
    assert side([30], width) > without + 0.15
    assert side([30, 50, 70], width) > without + 0.15
    assert side([30], width / 3) == without
    assert side([20, 40, 60, 80], width) == without or width > 5


@pytest.mark.parametrize(
    "picture",
    [
        np.full((28, 28), 200, np.uint8),
        np.zeros((1, 1), np.uint8),
        np.tile(np.arange(40, dtype=np.uint8) + 100, (40, 1)),
        np.random.default_rng(0).normal(200, 3, (28, 28)).astype(np.uint8),
    ],
    ids=["blank", "one pixel", "a shade", "noise alone"],
)
def test_without_ink_nothing_is_found(picture):
    assert find_ink(picture, dark=True) is None


@pytest.mark.parametrize("shape", [(2, 3), (8, 8), (5, 90), (28, 28)])
def test_any_picture_will_do(shape):
    for seed in range(5):
        picture = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        ink = find_ink(picture, dark=bool(seed % 2))
        if ink is not None:
            assert on_blank_paper(ink, True, (28, 20)).shape == (28, 20)


def test_a_large_picture_is_looked_at_in_small():
    strokes = drawn(560, (140, 100, 300, 340), 24)
    large = on_paper(strokes, level=180, shade=40)
    assert max(looked_at(large).shape) == LOOKED_AT
    assert looked_at(large[:, :20]).shape == (LOOKED_AT, 4)
    small = np.asarray(Image.fromarray(large).resize((56, 56), Image.Resampling.LANCZOS))
    a, b = (on_blank_paper(find_ink(x, True), True, (28, 28)).astype(float) for x in (large, small))
    assert np.abs(a - b).mean() < 12


def test_it_is_left_out_for_drawings_that_fill_their_pictures():
    def found(pixels, side, reaches=False):
        return Ink(np.ones((3, 3)), pixels, side, np.ones((3, 3), bool), reaches=reaches)

    assert worth_finding([found(28, 0.6)] * 3)
    assert worth_finding([found(56, 1.0)] * 3)
    assert worth_finding([found(14, 0.5)] * 3)
    assert not worth_finding([found(14, 1.0)] * 2 + [found(14, 0.5)])
    # Of fewest pixels it is left out for all.
    assert not any(worth_finding([found(12, side)] * 3) for side in (0.3, 0.5, 1.0))
    assert worth_finding([found(28, 0.6), found(28, 0.6), None])
    assert not worth_finding([found(28, 0.6), None])
    assert not worth_finding([])
    # Nor for drawings that are cut out closely, or run into shadows.
    assert worth_finding([found(56, 1.0, True)] + [found(56, 0.9)] * 2)
    assert not worth_finding([found(56, 1.0, True)] * 2 + [found(56, 0.9)])


FRAMES = {"table": (0, 5), "box": (4, 2), "line": (0, 1)}


@pytest.mark.parametrize("paper", ["clean", "photographed"])
@pytest.mark.parametrize(("margin", "width"), FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
def test_what_runs_round_a_drawing_can_be_left_out(paper, margin, width, dark):
    strokes = drawn()
    framed = strokes.copy()
    framed[margin : -margin or None, margin : -margin or None] = 1
    inner = slice(margin + width, -margin - width)
    framed[inner, inner] = strokes[inner, inner]
    given, plain = (on_paper(x, **PAPERS[paper]) for x in (framed, strokes))
    given = given if dark else 255 - given
    ink = find_ink(given, dark)
    assert ink.frame is not None
    assert ink.side > 0.8
    found = find_ink(given, dark, but=[])
    assert found.side == pytest.approx(find_ink(plain, True).side, abs=0.04)
    page, alone = (
        on_blank_paper(each, True, (28, 28)).astype(float)
        for each in (found, find_ink(plain, True))
    )
    assert np.abs(page - alone).mean() < 8


def test_a_box_that_is_the_character_stays():
    strokes = np.zeros((56, 56))
    strokes[2:54, 2:54] = 1
    strokes[5:51, 5:51] = 0
    ink = find_ink(on_paper(strokes), True)
    assert ink.frame is None
    assert find_ink(on_paper(strokes), True, but=[]).side > 0.9
    # So do strokes that touch what runs round them, and what is small.
    strokes[28:31] = 1
    assert find_ink(on_paper(strokes), True).frame is None
    assert find_ink(on_paper(drawn()), True).frame is None


def test_strokes_that_touch_the_frame_of_the_others_are_cut_off():
    strokes = drawn()
    framed = strokes.copy()
    framed[:2] = framed[-2:] = framed[:, :2] = framed[:, -2:] = 1
    frame = find_ink(on_paper(framed), True).frame
    framed[:12, 19:22] = 1
    touching = on_paper(framed)
    assert find_ink(touching, True).frame is None
    ink = find_ink(touching, True, frame)
    assert ink.side == pytest.approx(32 / 56, abs=0.05)
    # Without a frame there, nothing is cut.
    assert find_ink(on_paper(strokes), True, frame).side == find_ink(on_paper(strokes), True).side


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("paper", ["clean", "grey", "shaded"])
@pytest.mark.parametrize("shape", ["disk", "square", "triangle"])
@pytest.mark.parametrize("share", [0.7, 0.92])
def test_solid_ink_over_most_of_a_picture_is_the_drawing(shape, share, paper, dark):
    """Its paper was taken for the ink's, and what was found was a corner, or nothing."""
    side, half = 96, 48 * share
    y, x = np.indices((side, side)) - (side - 1) / 2
    solid = {
        "disk": np.hypot(x, y) <= half,
        "square": np.maximum(abs(x), abs(y)) <= half,
        "triangle": (y <= half) & (abs(x) <= (y + half) / 2),
    }[shape]
    picture = on_paper(solid.astype(float), **PAPERS[paper])
    ink = find_ink(picture if dark else 255 - picture, dark)
    assert ink is not None
    assert ink.side == pytest.approx(share, abs=0.05)
    assert (ink.mask == solid).mean() > 0.97
