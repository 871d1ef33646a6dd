"""Circles that are printed round drawings are told from those drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.data.rings import WHOLE, circle_like, circle_of, printed_circles, usual_pen

SIDE = 112
Y, X = np.mgrid[0:SIDE, 0:SIDE]


def ring(row=56.0, column=56.0, radius=40.0, pen=3.0, wobble=0.0, seed=0) -> np.ndarray:
    """A circle, or one as a hand draws it, round a cross; booleans."""
    rng = np.random.default_rng(seed)
    angle, away = np.arctan2(Y - row, X - column), np.hypot(Y - row, X - column)
    bent = sum(
        rng.normal(0, wobble) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4)
    )
    edge = radius * (1 + bent)
    line = (away <= edge) & (away > edge - pen)
    return line | cross(row, column)


def cross(row=56.0, column=56.0) -> np.ndarray:
    across = (abs(X - column) < 12) & (abs(Y - row) < 2)
    return across | ((abs(Y - row) < 12) & (abs(X - column) < 2))


@pytest.mark.parametrize("radius", [26.0, 33.5, 50.0])
@pytest.mark.parametrize("pen", [1.6, 4.0, 7.0])
def test_a_circle_is_measured(radius, pen):
    found = circle_of(ring(55.3, 57.2, radius, pen), WHOLE)
    assert found is not None
    np.testing.assert_allclose(found[:3], (55.3, 57.2, radius), atol=0.6)
    assert found.pen == pytest.approx(pen, abs=1)
    left = ring(55.3, 57.2, radius, pen) & ~found.line((SIDE, SIDE))
    np.testing.assert_array_equal(left, cross(55.3, 57.2) & ~found.line((SIDE, SIDE)))


def test_what_is_no_circle_round_the_rest():
    disk = np.hypot(Y - 56, X - 56) < 40
    square = np.maximum(abs(Y - 56), abs(X - 56)) < 40
    outline = square & ~(np.maximum(abs(Y - 56), abs(X - 56)) < 37)
    empty = ring() & ~cross()
    small = ring(radius=12)
    beside = ring(56, 40, 25) & ~cross(56, 40) | cross(56, 95)
    half = ring() & ((X < 56) | cross())
    for ink in (disk, outline | cross(), empty, small, beside, half, np.zeros_like(disk)):
        assert circle_of(ink, WHOLE) is None


def test_circles_of_one_print_may_differ_in_place_and_size():
    prints = [ring(56 + n, 56 - 2 * n, 40 - 3 * n, 3 - 0.2 * n) for n in range(4)]
    assert usual_pen(printed_circles(prints) or []) == pytest.approx(3 / 40, rel=0.3)
    assert printed_circles(prints[:2]) is None
    assert printed_circles([*prints, cross()]) is None
    assert printed_circles([*prints, ring(pen=10)]) is None
    by_hand = [ring(wobble=0.05, seed=seed) for seed in range(4)]
    assert printed_circles(by_hand) is None


def test_a_stroke_that_touches_the_circle_is_none_of_it():
    stroke = (abs(Y - 56) < 2) & (X > 56) & (X < 100)
    touched = ring() | stroke
    found = circle_like(touched, 3 / 40)
    assert found is not None
    line = found.line((SIDE, SIDE))
    np.testing.assert_array_equal(touched & ~line, (cross() | stroke) & ~line)
    assert circle_like(touched, 12 / 40) is None
    # Nor is a part of it that something covers missed.
    assert circle_like(ring() & ~((X > 90) & (Y < 56)), 3 / 40) is not None
