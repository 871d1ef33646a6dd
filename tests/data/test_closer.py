"""A second look at small drawings on large pages."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import innerloop
from innerloop import FewShotClassifier
from innerloop.data.closer import SMALL, TIMES, closer, for_closer
from innerloop.data.ink import LOOKED_AT, find_ink, looked_at

SIDE = 600


@pytest.fixture(scope="module")
def drawings():
    """Three dark drawings of each of ten glyphs, bytes `[10, 3, 28, 28]`."""
    data = innerloop.data.glyphs(10, per_class=3)
    return np.stack([data.class_images(c)[:, 0] for c in range(10)])


def on_page(drawing, side, seed=0):
    """A drawing of `side` pixels somewhere on a grey page of 600, with noise and a slope."""
    generator = np.random.default_rng(seed)
    small = Image.fromarray(drawing).resize((side, side), Image.Resampling.LANCZOS)
    ink = np.zeros((SIDE, SIDE))
    top, left = generator.integers(10, SIDE - 10 - side, 2)
    ink[top : top + side, left : left + side] = 255.0 - np.asarray(small)
    page = (220 - np.linspace(0, 30, SIDE)) * (1 - 0.8 * ink / 255)
    return (page + generator.normal(0, 3, page.shape)).clip(0, 255).astype(np.uint8)


def test_a_small_drawing_on_a_page_is_told_like_a_large_one(drawings):
    def right(side):
        pages = [
            [on_page(x, side, 3 * c + k) for k, x in enumerate(ten)]
            for c, ten in enumerate(drawings)
        ]
        support = [Image.fromarray(three[0]) for three in pages]
        queries = [Image.fromarray(page) for three in pages for page in three[1:]]
        classifier = FewShotClassifier(prepare="ink").fit(support, range(10))
        return classifier.score(queries, np.repeat(range(10), 2))

    assert right(60) >= right(400) - 0.05


@pytest.mark.parametrize("dark", [True, False])
def test_only_the_strokes_are_finer(drawings, dark):
    page = on_page(drawings[0, 0], 60)
    page = page if dark else 255 - page
    ink = find_ink(page, dark)
    again = closer(ink, for_closer(page), dark)
    assert all(a is b for a, b in zip(again[1:], ink[1:], strict=True))
    ratio = np.array(again.strokes.shape) / ink.strokes.shape
    assert (ratio > TIMES / 2).all()
    assert (ratio < 2 * TIMES).all()


def test_small_pictures_and_large_drawings_are_looked_at_once(drawings):
    large = on_page(drawings[0, 0], 500)
    ink = find_ink(large, True)
    assert ink.side >= SMALL
    assert closer(ink, for_closer(large), True) is ink
    small = looked_at(on_page(drawings[0, 0], 80))
    assert max(small.shape) == LOOKED_AT
    ink = find_ink(small, True)
    assert ink.side < SMALL
    assert closer(ink, for_closer(small), True) is ink


def test_what_else_lies_near_is_not_taken_for_the_drawing(drawings):
    page = on_page(drawings[0, 0], 60)
    ink = find_ink(page, True)
    other = page.copy()
    rows, columns = (np.flatnonzero(ink.mask.any(axis=a)) * SIDE // LOOKED_AT for a in (1, 0))
    other[rows[0] : rows[-1] + 5, columns[-1] + 12 : columns[-1] + 20] = 0
    assert closer(ink, for_closer(other), True) is ink
