"""Circles that are printed round drawings, wherever in a picture, told from those drawn by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from innerloop.data.frames import RINGS, TOUCHING

# Directions in which the outline of a part is looked at, and so often it is fitted, each time
# without the share of them that is farthest off: a stroke may cross the circle.
DIRECTIONS, FITS, LEFT_OUT = 72, 6, 0.25
# A circle is printed if its outline is no further from a true one than this share of its radius, or
# so many pixels, in all but a few directions.  By hand it is several times as far.
TRUE, EDGE = 0.02, 0.75
# Seen in so large a share of the directions it is one: of those learnt, and of a query, which may
# cover a part of it.
WHOLE, MOST = 0.95, 0.8
# No smaller, in pixels, as any dozen of these is round, and as a share of the shorter side.
RADIUS, SIZE = 16, 0.2
# Its line is no wider than this share of the radius; lines of one print differ by this factor.
PEN, FACTOR = 0.3, 1.7


class Circle(NamedTuple):
    """The outer edge of a circle in a picture, and the width of its line, in pixels."""

    row: float
    column: float
    radius: float
    pen: float

    def away(self, shape: tuple[int, ...]) -> np.ndarray:
        """How far every pixel is from the centre, `[H, W]`."""
        rows, columns = np.indices(shape)
        found: np.ndarray = np.hypot(rows - self.row, columns - self.column)
        return found

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The square that it fills, of a picture `[H, W]` that goes on in black."""
        half = round(self.radius)
        padded = np.pad(picture, 2 * half)
        top, left = (round(float(middle)) + half for middle in (self.row, self.column))
        found: np.ndarray = padded[top : top + 2 * half + 1, left : left + 2 * half + 1]
        return found

    def line(self, shape: tuple[int, ...]) -> np.ndarray:
        """Where its line may be, booleans `[H, W]`."""
        away = self.away(shape)
        return (away > self.radius - self.pen - 1.5) & (away < self.radius + 1.5)


def printed_circles(inks: Sequence[np.ndarray]) -> list[Circle] | None:
    """The circle in each picture, if they are printed round all drawings; else None.

    Args:
        inks: of each picture, booleans `[H, W]`.
    """
    if len(inks) < RINGS:
        return None
    found = []
    for ink in inks:
        circle = circle_of(ink, WHOLE)
        if circle is None:
            return None
        found.append(circle)
    usual = usual_pen(found)
    same = all(usual / FACTOR <= c.pen / c.radius <= FACTOR * usual for c in found)
    return found if same else None


def usual_pen(circles: Sequence[Circle]) -> float:
    """The width of the line by the radius."""
    return float(np.median([circle.pen / circle.radius for circle in circles]))


def circle_like(ink: np.ndarray, pen: float) -> Circle | None:
    """The circle round what is in a picture, if it is like those learnt.

    Args:
        ink: booleans `[H, W]`.
        pen: of those, see `usual_pen`.
    """
    found = circle_of(ink, MOST)
    if found is None or not pen / FACTOR <= found.pen / found.radius <= FACTOR * pen:
        return None
    return found


def circle_of(ink: np.ndarray, share: float) -> Circle | None:
    """The true circle round all else in a picture; None without one.

    Args:
        ink: booleans `[H, W]`.
        share: of the directions in which it is to be seen.
    """
    labels, count = ndimage.label(ink, structure=TOUCHING)
    sizes = ndimage.sum_labels(ink, labels, np.arange(1, count + 1))
    for number in np.argsort(-sizes)[:3]:
        part = labels == number + 1
        found = _fitted(part, share)
        if found is None:
            continue
        away = found.away(ink.shape)
        within = ink & (away < found.radius - found.pen - 1.5)
        beyond = ink & (away > found.radius + 1.5)
        if within.any() and beyond.sum() < within.sum() / 4:
            return found
    return None


def _fitted(part: np.ndarray, share: float) -> Circle | None:
    """The circle that is the outline of a part, booleans `[H, W]`."""
    rows, columns = np.nonzero(part)
    least = max(RADIUS, SIZE * min(part.shape))
    if min(np.ptp(rows), np.ptp(columns)) < 2 * least - 1:
        return None
    centre = np.array([rows.min() + rows.max(), columns.min() + columns.max()]) / 2
    for _ in range(2):  # once more from where its centre is
        points = centre + _outline(rows - centre[0], columns - centre[1])
        kept = np.ones(len(points), bool)
        for _ in range(FITS):
            row, column, radius = _circle_through(points[kept])
            centre = np.array([row, column])
            off = np.abs(np.hypot(*(points - centre).T) - radius)
            kept = off <= max(float(np.quantile(off, 1 - LEFT_OUT)), EDGE)
    seen = off <= max(TRUE * radius, EDGE)
    if not radius >= least or seen.mean() < share:
        return None
    found = Circle(row, column, radius, 0.0)
    pen = _pen(part, found)
    return found._replace(pen=pen) if pen <= PEN * radius else None


def _outline(down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The outermost pixel in each direction in which there is one, `[n, 2]`."""
    direction = ((np.arctan2(down, right) / (2 * np.pi) + 0.5) * DIRECTIONS).astype(int)
    away = np.hypot(down, right)
    order = np.lexsort((away, direction))
    last = np.flatnonzero(np.diff(direction[order], append=-1))
    found: np.ndarray = np.stack([down, right], axis=1)[order[last]]
    return found


def _circle_through(points: np.ndarray) -> tuple[float, float, float]:
    """Row, column and radius of the circle that is nearest to points `[n, 2]`, by least squares."""
    middle = points.mean(axis=0)
    y, x = (points - middle).T
    terms = np.stack([2 * y, 2 * x, np.ones_like(x)], axis=1)
    a, b, c = np.linalg.lstsq(terms, y * y + x * x, rcond=None)[0]
    radius = float(np.sqrt(max(c + a * a + b * b, 0.0)))
    return float(a + middle[0]), float(b + middle[1]), radius


def _pen(part: np.ndarray, circle: Circle) -> float:
    """How far inwards the line reaches, in most directions."""
    angles = 2 * np.pi * (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS
    steps = np.arange(0, circle.radius, 0.5)
    height, width = part.shape
    along = circle.radius - steps[:, None]
    rows, columns = (
        np.round(middle + along * turn(angles)).astype(int)
        for middle, turn in ((circle.row, np.sin), (circle.column, np.cos))
    )
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    inked = inside & part[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    # From the first ink near the outline to the first paper after it.
    first = inked.argmax(axis=0)
    after = ~inked & (steps[:, None] > steps[first])
    ends = np.where(after.any(axis=0), steps[after.argmax(axis=0)], circle.radius)
    return float(np.median(ends - steps[first]))
