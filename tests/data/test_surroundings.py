"""What is left out round drawings follows from those that were learnt."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from innerloop.data.surroundings import Surroundings, surroundings

CROSS = [(32, 32, 52, 52), (32, 52, 52, 32)]
STROKES = [[(28, 30, 56, 54)], [(30, 42, 54, 42)], CROSS, [(30, 30, 54, 30), (42, 30, 42, 54)]]
HANDS = [[(42, 42, 42 + 24 * x, 42 + 24 * y)] for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1))]


def by_hand(lines, seed: int) -> np.ndarray:
    """In a ring that is none of a compass."""
    page, rng = Image.fromarray(drawn(lines)), np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, 73)
    away = 36 + sum(rng.normal(0, 1.5) * np.cos(k * angle + rng.uniform(0, 6)) for k in (2, 3, 4))
    points = np.stack([42 + away * np.cos(angle), 42 + away * np.sin(angle)], axis=1)
    ImageDraw.Draw(page).line([tuple(each) for each in points.tolist()], fill=0, width=3)
    return np.asarray(page)


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
    assert how == (None, [], "apart", None)


def test_a_box_round_most_of_them_is_left_out():
    how = learnt([*(drawn(lines, 4) for lines in STROKES[:3]), drawn(STROKES[3])])
    assert how.frame is not None


def test_a_ring_goes_if_it_is_printed_in_all_pictures():
    assert learnt([drawn(lines, 4, "ring") for lines in STROKES]).frame is not None
    # Of several sizes, and so true that no hand has drawn it.
    sizes = learnt([drawn(lines, 2 + 4 * n, "ring") for n, lines in enumerate(STROKES)])
    assert sizes.frame is None
    assert sizes.ring is not None
    # It could be part of the characters: drawn by hand, seen twice, missing once.
    hands = [by_hand(lines, seed) for seed, lines in enumerate(STROKES)]
    twice = [drawn(lines, 4, "ring") for lines in STROKES[:2]]
    once = [*(drawn(lines, 4, "ring") for lines in STROKES), drawn(CROSS)]
    for pages in (hands, twice, once):
        assert (learnt(pages).frame, learnt(pages).ring) == (None, None)


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
