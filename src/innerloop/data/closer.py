"""A second look at drawings that are small in a large picture, such as one on a whole page."""

from __future__ import annotations

import numpy as np

from innerloop.data.frames import box_of
from innerloop.data.ink import LOOKED_AT, Ink, find_ink, looked_at

# Drawings with less of a picture's longer side are looked at again, in pictures so many times as
# large: at 112 pixels their strokes run into each other.
SMALL, TIMES = 0.25, 3
# The part that is looked at reaches beyond the drawing by this share of its longer side, all round.
ROUND = 0.5
# What is found there is the same drawing if its sides differ by no more than so many pixels of the
# first look.
SAME = 1.5


def for_closer(picture: np.ndarray) -> np.ndarray:
    """A grey picture `uint8` `[H, W]` in the size for the second look."""
    return looked_at(picture, TIMES * LOOKED_AT)


def closer(ink: Ink, picture: np.ndarray, dark: bool) -> Ink:
    """What was found in a picture, with finer strokes where the drawing is small in it.

    Args:
        ink: what the first look found.
        picture: what `for_closer` gave, `uint8` `[h, w]`.
        dark: strokes are darker than the paper.

    Returns:
        `ink` itself where the drawing is large, the picture small, or the second look finds
        something else there.
    """
    times = max(picture.shape) / ink.pixels
    if ink.side >= SMALL or times <= 1:
        return ink
    box = _ends(ink.mask) * times
    margin = ROUND * np.diff(box).max() * np.array([-1, 1])
    ends = np.array(picture.shape)[:, None]
    around = np.clip(box + margin, 0, ends).round().astype(int)
    part = picture[slice(*around[0]), slice(*around[1])]
    again = find_ink(part, dark, edges=False)
    if again is None:
        return ink
    found = _ends(again.mask) * max(part.shape) / again.pixels
    if np.abs(found + around[:, :1] - box).max() > SAME * times:
        return ink
    return ink._replace(strokes=again.strokes)


def _ends(mask: np.ndarray) -> np.ndarray:
    """Where a drawing begins and ends along each axis, `[2, 2]`."""
    return np.array([[side.start, side.stop] for side in box_of(mask)])
