"""Classes that cropping makes the same are noticed, and others are not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from innerloop.data.likeness import likeness, most_are_alike, warn_of_same_drawings


def bar(top: float, tilt: float = 0.0, left: float = 5.0) -> np.ndarray:
    """A bar of 18 pixels from `left` on, `[28, 28]`."""
    page = Image.new("L", (280, 280), 255)
    ends = (10 * left, 10 * (top - tilt), 10 * (left + 18), 10 * (top + tilt))
    ImageDraw.Draw(page).line(ends, fill=0, width=15)
    return np.asarray(page.resize((28, 28), Image.Resampling.LANCZOS))


def of(*pictures: np.ndarray) -> np.ndarray:
    return np.stack(pictures)[:, None]


HIGH, MIDDLE, LOW = 5.0, 14.0, 23.0
CROPPED = of(bar(14, 0.6), bar(14, -0.6), bar(14, 0.2))
CLASSES = np.arange(3)


def test_bars_that_differ_in_height_alone_are_alike():
    given = of(*(bar(top) for top in (HIGH, MIDDLE, LOW)))
    found = likeness(given, CROPPED, CLASSES)
    assert found.shape == (3, 3)
    assert most_are_alike(found)
    # At one height they are alike as they are.
    assert not most_are_alike(likeness(given[[0, 0, 0]], CROPPED, CLASSES))


def test_drawings_that_differ_are_not():
    slanted = bar(14, 6)
    given = of(bar(HIGH), bar(14).T, slanted)
    assert not most_are_alike(likeness(given, of(bar(14), bar(14).T, slanted), CLASSES))
    blank = np.full((3, 1, 28, 28), 255, np.uint8)
    assert (likeness(blank, blank, CLASSES) == -1).all()


def test_pictures_of_a_class_are_taken_together():
    """Where the place means nothing, the means of classes are alike as they are."""
    labels = np.arange(2).repeat(2)
    given = of(bar(HIGH), bar(LOW), bar(LOW), bar(HIGH))
    prepared = of(*[bar(14)] * 4)
    assert likeness(given, prepared, labels)[0, 1] == -1
    assert likeness(given, prepared, np.array([0, 1, 1, 0]))[0, 1] == pytest.approx(1)


def test_only_classes_that_are_the_same_are_warned_of():
    alike = np.full((4, 4), 0.93)
    warn_of_same_drawings(alike, "abcd")
    alike[1, 3] = alike[3, 1] = 0.99
    said = r"2 of the 4 classes \(b, d\) look like one another .* prepare='none'"
    with pytest.warns(UserWarning, match=said):
        warn_of_same_drawings(alike, "abcd")
