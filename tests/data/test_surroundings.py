"""What is left out round drawings follows from those that were learnt."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from innerloop.data.surroundings import Surroundings, surroundings

CROSS = [(32, 32, 52, 52), (32, 52, 52, 32)]
STROKES = [[(28, 30, 56, 54)], [(30, 42, 54, 42)], CROSS, [(30, 30, 54, 30), (42, 30, 42, 54)]]
HANDS = [[(42, 42, 42 + 24 * x, 42 + 24 * y)] for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1))]


def drawn(lines, margin: int | None = None, kind: str = "square") -> np.ndarray:
    """Lines, and round them a square or a ring so far from the edges; `uint8` `[84, 84]`."""
    page = Image.new("L", (84, 84), 255)
    draw = ImageDraw.Draw(page)
    if margin is not None:
        shape = draw.ellipse if kind == "ring" else draw.rectangle
        shape((margin, margin, 83 - margin, 83 - margin), outline=0, width=3)
    for line in lines:
        draw.line(line, fill=0, width=3)
    return np.asarray(page)


def learnt(pages: list[np.ndarray]) -> Surroundings:
    return surroundings(pages, True, np.arange(len(pages)), (28, 28))[0]


def test_nothing_round_the_drawings_leaves_out_whatever_is_round_others():
    how = learnt([drawn(lines) for lines in STROKES])
    assert how == (None, [], "apart")


def test_a_box_round_most_of_them_is_left_out():
    how = learnt([*(drawn(lines, 4) for lines in STROKES[:3]), drawn(STROKES[3])])
    assert how.frame is not None


def test_a_ring_goes_if_it_is_the_same_in_all_pictures():
    assert learnt([drawn(lines, 4, "ring") for lines in STROKES]).frame is not None
    # It could be part of the characters: drawn by hand, seen twice, missing once.
    hands = [drawn(lines, 2 + 2 * (n % 3), "ring") for n, lines in enumerate(STROKES)]
    twice = [drawn(lines, 4, "ring") for lines in STROKES[:2]]
    once = [*(drawn(lines, 4, "ring") for lines in STROKES), drawn(CROSS)]
    for pages in (hands, twice, once):
        assert learnt(pages).frame is None


@pytest.mark.parametrize("margin", [4, 14])
def test_a_box_round_one_of_them_is_known_again(margin):
    how = learnt([drawn(STROKES[0], margin), *map(drawn, STROKES[1:])])
    assert how.frame is None
    assert len(how.but) == 1


def test_a_box_of_several_sizes_is_no_printed_one():
    margins = (4, 5, 4, 11)
    how = learnt([drawn(lines, margin) for lines, margin in zip(STROKES, margins, strict=True)])
    assert (how.frame, how.but) == (None, None)


def test_a_box_in_which_place_tells_stays():
    how = learnt([drawn(lines, 4) for lines in HANDS])
    assert (how.frame, how.but) == (None, None)
