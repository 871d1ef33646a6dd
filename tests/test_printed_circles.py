"""Circles that are printed round all drawings, before a network sees these."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from innerloop import FewShotClassifier


def test_a_circle_printed_round_all_drawings_goes(episode):
    def page(drawing: np.ndarray, ring: bool) -> np.ndarray:
        image = Image.new("L", (384, 384), 255)
        if ring:
            ImageDraw.Draw(image).ellipse((24, 24, 360, 360), outline=0, width=12)
        image.paste(Image.fromarray(drawing).resize((190, 190)), (97, 97))
        return np.asarray(image.resize((96, 96), Image.Resampling.BOX))

    support, labels, query, truth = episode
    seen, right = [], []
    for ring in (False, True):
        pages, asked = ([page(x, ring) for x in pictures] for pictures in (support, query))
        classifier = FewShotClassifier().fit(pages, labels)
        seen.append(classifier.prepared([*pages, *asked]).astype(float))
        right.append(classifier.score(asked, truth))
    # As if there were none, but for a pixel here and there.
    assert np.median(np.abs(seen[0] - seen[1]).mean(axis=(1, 2, 3))) < 5
    assert right[1] >= right[0] - 0.02


@pytest.mark.parametrize("what", ["size", "height"])
def test_a_printed_circle_stays_where_size_or_place_in_it_tells_classes(what):
    rng = np.random.default_rng(0)

    def page(number: int) -> np.ndarray:
        image = Image.new("L", (384, 384), 255)
        draw = ImageDraw.Draw(image)
        draw.ellipse((24, 24, 360, 360), outline=0, width=12)
        radius, y = (16 + 20 * number, 192) if what == "size" else (16, 100 + 40 * number)
        y += rng.normal(0, 2)
        draw.ellipse((192 - radius, y - radius, 192 + radius, y + radius), fill=0)
        return np.asarray(image.resize((96, 96), Image.Resampling.BOX))

    numbers = np.arange(5)
    classifier = FewShotClassifier().fit([page(n) for n in numbers], numbers)
    asked = numbers.repeat(3)
    assert classifier.score([page(n) for n in asked], asked) >= 0.9


def print_of(drawing: np.ndarray, rng: np.random.Generator, touching: bool = False) -> np.ndarray:
    """A drawing in a printed circle, smaller and at another place in each picture."""
    image = Image.new("L", (672, 672), 255)
    image.paste(Image.fromarray(drawing).resize((290, 290), Image.Resampling.BICUBIC), (191, 191))
    draw = ImageDraw.Draw(image)
    draw.ellipse((96, 96, 576, 576), outline=0, width=18)
    if touching:
        draw.line((336, 400, 336, 570), fill=0, width=18)
    side = int(rng.integers(110, 150))
    page = Image.new("L", (168, 168), 255)
    place = tuple(int(n) for n in rng.integers(0, 168 - side, 2))
    page.paste(image.resize((side, side), Image.Resampling.BOX), place)
    return np.asarray(page)


def test_a_circle_goes_wherever_it_is_printed(episode):
    """It stayed as ink where it filled less than 0.8 of the pictures, or was not in one place."""
    support, labels, query, truth = episode
    plain = FewShotClassifier().fit(support, labels).score(query, truth)
    rng = np.random.default_rng(0)
    pages, asked = ([print_of(x, rng) for x in pictures] for pictures in (support, query))
    classifier = FewShotClassifier().fit(pages, labels)
    assert classifier.score(asked, truth) >= plain - 0.04
    assert FewShotClassifier(prepare="none").fit(pages, labels).score(asked, truth) < 0.7
    # Pictures without it are told as they were.
    assert classifier.score(query, truth) >= plain - 0.04


def test_a_query_that_touches_the_circle_keeps_the_rest_of_its_ink(episode):
    support, labels, query, _ = episode
    rng = np.random.default_rng(0)
    classifier = FewShotClassifier().fit([print_of(x, rng) for x in support], labels)
    apart, touching = (
        classifier.prepared([print_of(x, np.random.default_rng(1), t) for x in query[:10]])
        for t in (False, True)
    )
    blank = np.full_like(apart[0], 255)
    for one, other in zip(apart, touching, strict=True):
        # The stroke alone is new, and the drawing smaller by its length; a circle would fill it.
        ink = [float((255.0 - x).sum() / (255.0 - blank + 255).sum()) for x in (one, other)]
        assert ink[1] < 2 * ink[0]
        assert (other[0, 5] < 128).sum() < 8


@pytest.mark.parametrize("jitter", [0, 20])
def test_the_face_of_a_clock_stays_wherever_it_is_drawn(jitter):
    """Drawn with compasses, so that it is as true as a printed circle."""
    rng = np.random.default_rng(0)

    def face(hand: float) -> np.ndarray:
        image = Image.new("L", (448, 448), 255)
        draw = ImageDraw.Draw(image)
        middle = 224 + rng.uniform(-jitter, jitter, 2)
        size = 150 + rng.uniform(-jitter, jitter)
        draw.ellipse((*(middle - size), *(middle + size)), outline=0, width=16)
        tip = middle + 0.65 * size * np.array([np.cos(hand), np.sin(hand)])
        draw.line((*middle, *tip), fill=0, width=16)
        return np.asarray(image.resize((112, 112), Image.Resampling.BOX))

    hands = np.pi / 2 * np.arange(4)
    classifier = FewShotClassifier().fit([face(hand) for hand in hands], list("abcd"))
    asked = hands.repeat(5) + rng.normal(0, 0.1, 20)
    assert classifier.score([face(hand) for hand in asked], np.repeat(list("abcd"), 5)) >= 0.9
