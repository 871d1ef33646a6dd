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
